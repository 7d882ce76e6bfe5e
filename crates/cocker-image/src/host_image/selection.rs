//! Which programs go into the image: all that the host has, as far as there is room.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use super::{
    HostImageError, Skipped,
    closure::{Collector, Program, Unavailable},
    plan::Plan,
    programs::{
        LIBRARIES_AT_RUN_TIME, Rank, SHELLS, SPACE_OF_ITS_OWN, companions, stand_ins, wishes,
    },
};

/// Where the image keeps its own names for programs that the search path would not lead to.
const ALIASES: &str = "/usr/local/bin";

/// What was decided.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub installed: Vec<String>,
    pub skipped: Vec<Skipped>,
}

/// Adds a shell and as many of the wished programs to `plan` as fit into `limit` bytes on disk.
pub(super) fn choose(
    collector: &mut Collector<'_>,
    plan: &mut Plan,
    limit: u64,
) -> Result<Selection, HostImageError> {
    let mut selection = Selection::default();
    selection.choose_shells(collector, plan, limit)?;
    let mut found = Vec::new();
    for (rank, name) in wishes() {
        match program_or_stand_in(collector, name) {
            Ok(program) => found.push((rank, program.plan.space(), name, program)),
            Err(reason) => selection.skip(name, &reason),
        }
    }
    // Small programs first, so that what is left out where room is short are the largest, and as few as possible.
    found.sort_by_key(|(rank, space, name, _): &(Rank, u64, &str, Program)| (*rank, *space, *name));
    for (_, _, name, program) in found {
        match add(name, program, plan, limit) {
            Ok(()) => selection.installed.push(name.to_owned()),
            Err(reason) => selection.skip(name, &reason),
        }
    }
    selection.installed.sort();
    selection.skipped.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(selection)
}

impl Selection {
    fn choose_shells(
        &mut self,
        collector: &mut Collector<'_>,
        plan: &mut Plan,
        limit: u64,
    ) -> Result<(), HostImageError> {
        let [bash, sh] = SHELLS.map(|name| choose_shell(collector, name, plan, limit));
        for (name, shell) in SHELLS.into_iter().zip([&bash, &sh]) {
            match shell {
                Ok(_) => self.installed.push(name.to_owned()),
                Err(reason) => self.skip(name, reason),
            }
        }
        let shell = match (bash, sh) {
            (Err(_), Err(source)) => return Err(HostImageError::NoShell { source }),
            (Ok(bash), Err(_)) => {
                plan.add_link(plan.place(Path::new("/bin/sh")), &bash);
                bash
            }
            (Ok(shell), Ok(_)) | (Err(_), Ok(shell)) => shell,
        };
        for name in LIBRARIES_AT_RUN_TIME {
            match collector.library(&shell, name) {
                Ok(library) => plan.merge(library),
                Err(reason) => tracing::debug!(name, %reason, "library left out"),
            }
        }
        Ok(())
    }

    fn skip(&mut self, name: &str, reason: &Unavailable) {
        let reason = chain(reason);
        tracing::debug!(name, reason, "program left out");
        self.skipped.push(Skipped {
            name: name.to_owned(),
            reason,
        });
    }
}

/// Adds the shell `name` and says its physical place.
///
/// Scripts and account entries name shells by their place in /bin, so it is looked for there first, and given that name
/// where the host has it elsewhere.
fn choose_shell(
    collector: &mut Collector<'_>,
    name: &str,
    plan: &mut Plan,
    limit: u64,
) -> Result<PathBuf, Unavailable> {
    let place_in_bin = Path::new("/bin").join(name);
    let shell = collector
        .program_at(&place_in_bin)
        .unwrap_or_else(|| collector.program(name))?;
    let (found, end) = (shell.found.clone(), shell.end.clone());
    add(name, shell, plan, limit)?;
    if found != place_in_bin {
        plan.add_link(plan.place(&place_in_bin), &end);
    }
    Ok(end)
}

/// Collects the program `name`, or where it is missing or very large, the smallest of those that can stand in for it.
fn program_or_stand_in(collector: &mut Collector<'_>, name: &str) -> Result<Program, Unavailable> {
    let mut program = match collector.program(name) {
        Ok(own) if own.plan.space() <= SPACE_OF_ITS_OWN => own,
        own => match (own, smallest_stand_in(collector, name)) {
            (Ok(own), Some(other)) if own.plan.space() <= other.plan.space() => own,
            (own, None) => own?,
            (_, Some(other)) => other,
        },
    };
    for companion in companions(name) {
        if let Ok(trail) = collector.host().follow(Path::new(companion)) {
            program.plan.add_trail(&trail);
        }
    }
    Ok(program)
}

fn smallest_stand_in(collector: &mut Collector<'_>, name: &str) -> Option<Program> {
    let program = stand_ins(name)
        .iter()
        .filter_map(|stand_in| collector.program(stand_in).ok())
        .min_by_key(|program| program.plan.space())?;
    Some(Program {
        // The search path does not lead to it under the name that it stands in for.
        is_reachable: false,
        ..program
    })
}

/// Adds `program` to `plan` under `name`, if it fits.
fn add(name: &str, program: Program, plan: &mut Plan, limit: u64) -> Result<(), Unavailable> {
    let needed = program.plan.space_beside(plan);
    let left = limit.saturating_sub(plan.space());
    if needed > left {
        return Err(Unavailable::TooLarge { needed, left });
    }
    plan.merge(program.plan);
    if !program.is_reachable {
        plan.add_link(plan.place(&Path::new(ALIASES).join(name)), program.end);
    }
    Ok(())
}

/// The text of an error and of all its sources.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
