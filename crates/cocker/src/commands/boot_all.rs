//! `boot --all-enabled`: what is to be up when the host is, in its order. Whatever cannot be booted keeps nobody else from it.

use super::several::{self, Ended};
use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Name};

pub fn execute(engine: &Engine) -> Result<(), Failure> {
    let order = engine.boot_order()?;
    let mut problems = 0;
    let mut tell = |failure: Failure| {
        failure.report();
        problems += 1;
    };
    for (container, before) in &order.missing {
        let text =
            format!("container `{container}` is to come after `{before}`, which is not there");
        tell(Failure::not_done(text).hint(format!(
            "`cocker enable {container} --after …` says anew what it comes after."
        )));
    }
    if !order.in_a_circle.is_empty() {
        let named: Vec<String> = order
            .in_a_circle
            .iter()
            .map(|it| format!("`{it}`"))
            .collect();
        let text = format!(
            "no order is known of {}, which wait for each other",
            named.join(", ")
        );
        tell(Failure::not_done(text));
    }
    for error in &order.unreadable {
        tell(Failure::not_done(error.to_string()));
    }
    for rank in &order.ranks {
        let is_down = |name: &&Name| !engine.is_booted(name);
        let rank: Vec<Name> = rank.iter().filter(is_down).cloned().collect();
        let ended = several::at_once(&["boot"], &rank, several::PATIENCE)?;
        for (container, ended) in rank.iter().zip(ended) {
            match ended {
                Ended::Well => {}
                // It has said why.
                Ended::Badly => problems += 1,
                Ended::NotYet => {
                    let seconds = several::PATIENCE.as_secs();
                    let text = format!(
                        "container `{container}` is not booted after {seconds} s; going on"
                    );
                    Failure::not_done(text).report();
                    problems += 1;
                }
            }
        }
    }
    match problems {
        0 => output::print_ok(),
        1 => Err(Failure::not_done("not all is as it was to be: 1 problem")),
        count => {
            let text = format!("not all is as it was to be: {count} problems");
            Err(Failure::not_done(text))
        }
    }
}
