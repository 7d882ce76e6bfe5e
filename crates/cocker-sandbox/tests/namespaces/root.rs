//! The root file system: what its overlay is told, whatever the host's defaults are.

use crate::Test;
use crate::booted::{Booted, Stock};
use cocker_sandbox::NetworkNamespace;
use rustix::io::Errno;
use std::fs;
use std::path::Path;

pub const TESTS: &[Test] = crate::tests![no_layer_is_told_where_another_lies];

/// A parameter of the kernel's overlayfs, for the whole host.
fn is_on_by_default(parameter: &str) -> bool {
    let path = Path::new("/sys/module/overlay/parameters").join(parameter);
    fs::read_to_string(path).is_ok_and(|value| value.trim() == "Y")
}

fn no_layer_is_told_where_another_lies() {
    let stock = Stock::new(|layer| {
        fs::create_dir_all(layer.join("folder/below")).expect("the layer is ours");
    });
    let booted = Booted::new(stock.plan(NetworkNamespace::New));
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", booted.pid)).expect("it waits");
    let root = mounts.lines().find(|line| line.contains(" - overlay "));
    let options = root.and_then(|line| line.rsplit(' ').next());
    let options: Vec<&str> = options.expect("the root is one").split(',').collect();
    // The kernel shows what differs from the host's defaults.
    let is_default =
        !is_on_by_default("redirect_dir") && !is_on_by_default("redirect_always_follow");
    assert_eq!(
        options.contains(&"redirect_dir=nofollow"),
        !is_default,
        "{options:?}"
    );
    for option in ["metacopy", "index"] {
        let off = format!("{option}=off");
        assert_eq!(
            options.contains(&&*off),
            is_on_by_default(option),
            "{options:?}"
        );
        let on = format!("{option}=on");
        assert!(!options.contains(&&*on), "{options:?}");
    }

    // mv(1) copies when it is told so.
    let renamed = fs::rename(booted.path("/folder"), booted.path("/renamed"));
    let answer = renamed.expect_err("a folder of a layer stays where it is");
    assert_eq!(Errno::from_io_error(&answer), Some(Errno::XDEV));
    for name in ["folder", "renamed"] {
        let mark = rustix::fs::lgetxattr(
            stock.upper().join(name),
            "trusted.overlay.redirect",
            &mut [0; 256],
        );
        assert!(
            matches!(mark, Err(Errno::NOENT | Errno::NODATA)),
            "{mark:?}"
        );
    }
}
