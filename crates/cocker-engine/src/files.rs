//! A container's files from outside: whatever links it holds, and whatever its processes do to them meanwhile.

mod root;

pub(crate) use root::{ContainerFiles, Purpose, open_booted_root};
