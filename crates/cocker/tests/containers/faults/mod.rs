//! Faults: commands that die, fail or wait at every named point of what they do, and processes that are killed at any time.
//!
//! ```text
//! walk.rs       one command at each of its points: what was done before, what happens there, what must hold afterwards
//! state.rs      what a user sees of a store, as text; what is left of a command that died
//! commands.rs   the commands that are walked
//! kills.rs      clients, supervisors and inits that are killed at random times over the whole life cycle
//! ```
//!
//! The points are in the program under test, where that was built with debug assertions: docs/design/0010-faults.md.

mod commands;
mod kills;
mod state;
mod walk;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [commands::trials(), kills::trials()]
        .into_iter()
        .flatten()
        .collect()
}
