//! What [`Namespaces`] makes and opens, and what it refuses.

use crate::Test;
use crate::booted::{RANGE, identity};
use cocker_sandbox::{Namespaces, SandboxError};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::path::{Path, PathBuf};

pub const TESTS: &[Test] = crate::tests![
    nothing_is_made_where_nothing_is_wanted,
    the_user_namespace_owns_the_network_that_is_made_with_it,
    a_pin_leads_to_both_namespaces,
    a_pin_that_the_hosts_own_ids_own_is_for_privileged_sandboxes_only,
    what_is_no_network_namespace_is_refused_by_name,
];

/// A path that leads to an open namespace, as a pin does.
pub fn pin(namespace: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", namespace.as_raw_fd()).into()
}

fn nothing_is_made_where_nothing_is_wanted() {
    let namespaces = Namespaces::make(None, false).expect("nothing can fail");
    assert!(namespaces.user().is_none());
    assert!(namespaces.network().is_none());
}

fn the_user_namespace_owns_the_network_that_is_made_with_it() {
    let namespaces = Namespaces::make(Some(RANGE), true).expect("we are root");
    let network = namespaces.network().expect("it was asked for");
    let owner = cocker_sys::namespace::owner(network).expect("it is below us");
    assert_eq!(
        identity(&owner),
        identity(namespaces.user().expect("it was asked for"))
    );
    let without = Namespaces::make(Some(RANGE), false).expect("we are root");
    assert!(without.user().is_some());
    assert!(without.network().is_none());
}

fn a_pin_leads_to_both_namespaces() {
    let made = Namespaces::make(Some(RANGE), true).expect("we are root");
    let network = made.network().expect("it was asked for");
    let pinned = Namespaces::pinned(&pin(network), Some(RANGE)).expect("it is a pin");
    let both = |namespaces: &Namespaces| {
        [namespaces.user(), namespaces.network()].map(|fd| identity(fd.expect("it is there")))
    };
    assert_eq!(both(&pinned), both(&made));
    let privileged = Namespaces::pinned(&pin(network), None).expect("it is a pin");
    assert!(privileged.user().is_none());
    assert!(privileged.network().is_some());
}

fn a_pin_that_the_hosts_own_ids_own_is_for_privileged_sandboxes_only() {
    let made = Namespaces::make(None, true).expect("we are root");
    assert!(made.user().is_none());
    let path = pin(made.network().expect("it was asked for"));
    let refused = Namespaces::pinned(&path, Some(RANGE)).expect_err("the host owns it");
    assert!(matches!(refused, SandboxError::NetworkOfHost { .. }));
    assert!(Namespaces::pinned(&path, None).is_ok());
}

fn what_is_no_network_namespace_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("the folder is ours");
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("the folder is ours");
    let others = ["/proc/self/ns/uts", "/proc/self/ns/user", "/dev/tty"];
    for path in [file, fifo]
        .iter()
        .map(PathBuf::as_path)
        .chain(others.map(Path::new))
    {
        for ids in [None, Some(RANGE)] {
            let refused = Namespaces::pinned(path, ids).expect_err("it is no network");
            let name = format!("`{}`", path.display());
            assert!(refused.to_string().contains(&name), "{refused}");
        }
    }
    let missing = Namespaces::pinned(&folder.path().join("missing"), None);
    assert!(matches!(missing, Err(SandboxError::OpenNetwork { .. })));
}
