//! Named points around the steps that change something on disk or in the kernel, at which a test lets cocker die, fail or wait.
//!
//! ```text
//!   fault::step("change.rename", || renameat(…))?
//!        before ── the step ── after            each side is a point; only before it the step can fail
//! ```
//!
//! What shall happen, and what was passed, stands in a file that a test makes and all processes of a command map ([`Control`]): it
//! outlives forks, changed roots and closed descriptors, and points are counted over all of them. Passing one allocates nothing
//! and takes no lock, so it is allowed after a fork. See docs/design/0010-faults.md.
//!
//! Only builds with debug assertions have any of it. In others a step is its closure, and its name is nowhere.

use rustix::io::Errno;

#[cfg(debug_assertions)]
mod control;
#[cfg(debug_assertions)]
pub use control::{Action, Control, Plan, Point, Side, VARIABLE, control_path, install};

/// Does one step, between its two points.
///
/// # Errors
/// What the step fails with, or what a test has it fail with, undone.
#[inline(always)]
pub fn step<T, E: From<Errno>>(
    name: &'static str,
    step: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    before(name)?;
    let done = step()?;
    after(name);
    Ok(done)
}

/// The point before a step, where that is not one call: what it answers is the step's error, and the step is not to be done.
#[inline(always)]
pub fn before(name: &'static str) -> Result<(), Errno> {
    #[cfg(debug_assertions)]
    return control::pass(name, Side::Before);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        Ok(())
    }
}

/// The point after a step that was done.
#[inline(always)]
pub fn after(name: &'static str) {
    #[cfg(debug_assertions)]
    let _ = control::pass(name, Side::After);
    #[cfg(not(debug_assertions))]
    let _ = name;
}
