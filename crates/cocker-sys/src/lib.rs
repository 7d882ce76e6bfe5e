//! All `unsafe` of the std side, behind calls that are safe to make.
//!
//! What rustix offers safely is used directly by the other crates; this crate holds what it lacks or marks unsafe:
//! beginning of a program, birth of processes, errands of children, execution of programs by descriptor, credentials, id-mapped mounts, namespaces, locks of open files, attributes of inodes, lists of devices.
//! It knows nothing of containers. Every error is the kernel's own ([`rustix::io::Errno`]).

pub mod attributes;
pub mod bpf;
pub mod credentials;
pub mod entry;
pub mod errand;
pub mod execution;
pub mod fault;
pub mod landlock;
pub mod lock;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod seccomp;
pub mod shares;
pub mod signal;
pub mod socket;
