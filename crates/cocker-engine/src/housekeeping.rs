//! Housekeeping: what takes room, what nobody needs, and whether all is as it should be.
//!
//! ```text
//! prune.rs    takes away what nothing refers to
//! usage.rs    says what takes room, from records alone
//! check.rs    looks at everything, files among it, and changes nothing
//! ```
//!
//! None of them keeps others from working: names are held for milliseconds, files are walked and removed without a lock.

mod check;
mod leftovers;
mod prune;
pub(crate) mod registers;
mod usage;

pub(crate) use check::StoreFindings;
pub use cocker_image::inspection::{Depth, Finding, Grade};
pub use prune::{Kind as PrunedKind, PruneMode, Pruned};
pub use usage::{ContainerUsage, ImageUsage, KindUsage, LayerSizes, Usage};

#[cfg(test)]
mod tests;
