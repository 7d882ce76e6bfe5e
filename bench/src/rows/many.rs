//! Very many containers.

use super::Rows;
use crate::engines::{Engines, Net, pss, s};
use crate::figures::{Cell, Row};
use crate::place::{Outcome, wait};
use std::time::Instant;

impl Rows<'_> {
    /// A thousand containers of cocker's (a hundred in a quick run): one after the other, and sixteen at a time.
    pub(super) fn many(&mut self) {
        if !self.plan.wants("many") {
            return;
        }
        let count = if self.plan.quick { 100 } else { 1000 };
        let engines = self.engines;
        eprintln!("{count} containers");
        let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let mut figures: Vec<(&'static str, String, &'static str, Vec<f64>)> = Vec::new();
        let mut all = || -> Outcome<()> {
            for name in &names {
                engines.create("cocker", name, Net::Host)?;
            }
            let begun = Instant::now();
            let mut each = Vec::new();
            for name in &names {
                each.push(engines.boot("cocker", name, Net::Host)?);
            }
            let total = begun.elapsed().as_secs_f64() * 1e3;
            let tenth = count / 10;
            figures.push((
                "many-each",
                format!("each of {count} boots, one after the other"),
                "ms",
                each.clone(),
            ));
            let mut first = each[..tenth].to_vec();
            figures.push((
                "many-last",
                format!("the last tenth of {count} boots"),
                "ms",
                each[count - tenth..].to_vec(),
            ));
            figures.push((
                "many-total",
                format!("{count} boots, one after the other"),
                "ms",
                vec![total],
            ));
            let root = engines.root_process("cocker", &names[0])?;
            let supervisor = crate::engines::parent_of(root)?;
            figures.push((
                "many-memory",
                format!("memory of one of {count} booted containers"),
                "KiB",
                vec![pss(root)? + pss(supervisor)?],
            ));
            let words = engines.list_words("cocker")?;
            let mut lists = Vec::new();
            for _ in 0..10 {
                lists.push(engines.go(&words)?);
            }
            figures.push((
                "many-list",
                format!("list containers, {count} booted"),
                "ms",
                lists,
            ));
            figures.push((
                "many-shutdown",
                format!("shutdown of {count}, 16 at a time"),
                "ms",
                vec![engines_in_parallel(engines, "shutdown", &names)?],
            ));
            // Once more, there being no others again: a machine that has become slower or faster meanwhile is told from many.
            for name in &names[..tenth] {
                first.push(engines.boot("cocker", name, Net::Host)?);
            }
            for name in &names[..tenth] {
                engines.shutdown("cocker", name, Net::Host)?;
            }
            let title = format!("the first tenth of {count} boots, before and after");
            figures.insert(1, ("many-first", title, "ms", first));
            figures.push((
                "many-parallel",
                format!("{count} boots, 16 at a time"),
                "ms",
                vec![engines_in_parallel(engines, "boot", &names)?],
            ));
            Ok(())
        };
        if let Err(why) = all() {
            eprintln!("    {why}");
        }
        for name in &names {
            engines.discard("cocker", name);
        }
        for (id, title, unit, samples) in figures {
            let target = match id {
                "many-last" => "1.3 × the first",
                "many-memory" => "128 KiB",
                "many-list" => "15 ms",
                _ => "",
            };
            eprintln!(
                "    {title}: {:.2} {unit}",
                crate::figures::spread(&samples).map_or(f64::NAN, |spread| spread.median)
            );
            let cells = [("cocker", Cell::Samples(samples))].into_iter().collect();
            self.done.push(Row {
                id: s(id),
                title,
                unit: s(unit),
                target: s(target),
                note: String::new(),
                higher_is_better: false,
                cells,
            });
        }
    }
}

/// One command for each name, sixteen at a time; milliseconds of all.
fn engines_in_parallel(engines: &Engines, command: &str, names: &[String]) -> Outcome<f64> {
    let begun = Instant::now();
    let mut running = std::collections::VecDeque::new();
    for name in names {
        if running.len() == 16 {
            let child = running.pop_front().expect("sixteen are there");
            if !wait(child)? {
                return Err(engines.place.complaint(&["cocker"]));
            }
        }
        let cocker = engines.cocker();
        running.push_back(
            engines
                .place
                .command(&[&cocker, command, name])?
                .spawn()
                .map_err(|error| error.to_string())?,
        );
    }
    for child in running {
        if !wait(child)? {
            return Err(engines.place.complaint(&["cocker"]));
        }
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
