//! The shortest commands once more: again and again, with nothing else and no rest between, as a script has them. In turns with
//! seven other engines each finds its memory and the processors' caches taken by others.

use super::{About, Rows, about};
use crate::engines::{Net, s};
use crate::figures::spread;
use crate::place::Outcome;

const HOW_OFTEN: usize = 30;
const NOTE: &str =
    "a sample is the median of 30 in a row, without rest and without other engines in between";

impl Rows<'_> {
    pub(super) fn again(&mut self) {
        let rounds = self.plan.rounds.div_ceil(2);
        let can = |rows: &Self, subject: &'static str| match subject {
            "floor" | "cocker" => rows.engines.can(subject, Net::Host),
            _ => Err(s("here beside the floor; the others are in the rows above")),
        };
        self.row(
            About {
                note: NOTE,
                ..about(
                    "again-list",
                    "list containers, there being none, again and again",
                    "1 ms",
                )
            },
            rounds,
            |rows, subject| can(rows, subject).and_then(|()| rows.engines.list_words(subject)),
            |rows, subject, words| median(|| rows.engines.go_as(subject, words)),
            |_, _, _| {},
        );
        self.row(
            About {
                note: NOTE,
                ..about(
                    "again-boot",
                    "boot to ready, the host's network, again and again",
                    "5 ms, 1.5 × floor",
                )
            },
            rounds,
            |rows, subject| {
                can(rows, subject)?;
                let name = rows.name();
                rows.engines.create(subject, &name, Net::Host)?;
                Ok(name)
            },
            |rows, subject, name| {
                median(|| {
                    let took = rows.engines.boot(subject, name, Net::Host)?;
                    rows.engines.shutdown(subject, name, Net::Host)?;
                    Ok(took)
                })
            },
            |rows, subject, name| rows.engines.discard(subject, &name),
        );
        self.row(
            About {
                note: NOTE,
                ..about(
                    "again-run",
                    "run true in a booted container, again and again",
                    "2 ms",
                )
            },
            rounds,
            |rows, subject| {
                can(rows, subject)?;
                let name = rows.name();
                rows.engines.create(subject, &name, Net::Host)?;
                rows.engines.boot(subject, &name, Net::Host)?;
                Ok(name)
            },
            |rows, subject, name| median(|| rows.engines.run_true(subject, name)),
            |rows, subject, name| rows.engines.discard(subject, &name),
        );
    }
}

fn median(once: impl Fn() -> Outcome<f64>) -> Outcome<f64> {
    let samples = (0..HOW_OFTEN)
        .map(|_| once())
        .collect::<Outcome<Vec<_>>>()?;
    spread(&samples)
        .map(|spread| spread.median)
        .ok_or_else(|| s("nothing was measured"))
}
