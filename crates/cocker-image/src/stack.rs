//! Stacks: several trees of files looked at as overlayfs would merge them, without mounting anything.
//!
//! ```text
//! a name in a merged folder, asked of its trees from the topmost down
//!   whiteout            ends the search           character device 0/0, or an empty file with the attribute
//!                                                 trusted.overlay.whiteout
//!   file, link, device  is what is seen, where nothing stands above it; ends the search
//!   folder              is merged with those below; marked opaque (`y`) it ends the search
//! ```
//!
//! The trees were written by enemies, and one of them may be written meanwhile: everything goes by descriptors beneath
//! each tree ([`walk`]), no link is followed, no mount is crossed, nothing but regular files and folders is ever opened
//! for reading. What goes away while it is looked at counts as gone. Nothing here knows what a layer or a container is.
//!
//! Overlays of cocker are made without redirects and without files that hold attributes only; where a tree has the mark
//! of one, the answer would be wrong, so it is an error that names the path.

mod compare;
mod diff;
mod entry;
mod error;
#[cfg(test)]
mod tests;
mod walk;
mod whence;
mod whiteouts;

pub use compare::Difference;
pub use diff::{Change, ChangeKind, diff};
pub use entry::FileKind;
pub use error::StackError;
pub use whence::{Found, Standing, Trace, ViewPath, whence};
pub(crate) use whiteouts::fit_whiteouts;

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One tree of a stack: the folder at `path` beneath the open folder `parent`. It is opened when it is needed.
///
/// Two are the same tree when both parts are.
#[derive(Clone, Debug)]
pub struct Tree<'a> {
    parent: BorrowedFd<'a>,
    path: CString,
    label: String,
}

impl<'a> Tree<'a> {
    /// `label` is what it is called in errors, such as "layer `…`".
    pub fn new(parent: BorrowedFd<'a>, path: CString, label: String) -> Tree<'a> {
        Tree {
            parent,
            path,
            label,
        }
    }
}

impl PartialEq for Tree<'_> {
    fn eq(&self, other: &Tree<'_>) -> bool {
        self.parent.as_raw_fd() == other.parent.as_raw_fd() && self.path == other.path
    }
}
