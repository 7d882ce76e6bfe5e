//! Errands, run by a process that has one thread, as the harness's are not.

use cocker_sys::errand::{Descriptors, Holder, run};
use cocker_sys::process::{Birth, NewNamespaces, clone_sibling, exit_now};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, kill_process, wait};
use std::fs::{File, read_link};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

fn main() {
    let tests: [(&str, fn()); 7] = [
        ("what_is_answered_is_there", what_is_answered_is_there),
        (
            "descriptors_are_shared_or_are_not",
            descriptors_are_shared_or_are_not,
        ),
        (
            "who_is_killed_answers_nothing",
            who_is_killed_answers_nothing,
        ),
        ("no_child_is_left", no_child_is_left),
        ("a_deep_errand_has_room", a_deep_errand_has_room),
        (
            "a_copy_made_on_the_way_has_its_own_memory",
            a_copy_made_on_the_way_has_its_own_memory,
        ),
        (
            "a_holder_is_there_until_it_is_dropped",
            a_holder_is_there_until_it_is_dropped,
        ),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
}

fn plain<T>(work: impl FnOnce() -> T) -> Option<T> {
    let (answer, _errand) = run(NewNamespaces::default(), Descriptors::Own, work).unwrap();
    answer
}

fn is_open(descriptor: RawFd) -> bool {
    PathBuf::from(format!("/proc/self/fd/{descriptor}"))
        .symlink_metadata()
        .is_ok()
}

fn what_is_answered_is_there() {
    let mut seen = Vec::new();
    let us = getpid();
    let answer = plain(|| {
        seen.push(getppid());
        (getpid(), String::from("from the child"))
    });
    let (child, text) = answer.expect("nobody kills it");
    assert_ne!(child, us);
    assert_eq!(text, "from the child");
    assert_eq!(seen, [Some(us)]);
}

fn descriptors_are_shared_or_are_not() {
    let open = || File::open("/dev/null").unwrap();
    let (file, _errand) = run(NewNamespaces::default(), Descriptors::Shared, open).unwrap();
    assert!(is_open(file.unwrap().as_raw_fd()));
    let number = plain(|| std::mem::ManuallyDrop::new(open()).as_raw_fd());
    assert!(!is_open(number.unwrap()));
}

fn who_is_killed_answers_nothing() {
    let answer = plain(|| {
        kill_process(getpid(), Signal::KILL).unwrap();
        "still here"
    });
    assert_eq!(answer, None);
}

fn no_child_is_left() {
    let answer = wait(rustix::process::WaitOptions::empty());
    assert_eq!(answer.err(), Some(Errno::CHILD));
}

fn a_deep_errand_has_room() {
    fn deep(levels: usize) -> usize {
        let mut here = [levels as u8; 4096];
        std::hint::black_box(&mut here);
        match levels {
            0 => 0,
            _ => deep(levels - 1) + usize::from(here[levels % 4096] == levels as u8),
        }
    }
    assert_eq!(plain(|| deep(200)), Some(200));
}

fn a_copy_made_on_the_way_has_its_own_memory() {
    let mut number = 1;
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let work = || match clone_sibling(NewNamespaces::default(), None).unwrap() {
        Birth::Child => {
            number += 1;
            writer.write_all(&[number]).unwrap();
            exit_now(0)
        }
        Birth::Parent { pid, pidfd } => (pid, pidfd),
    };
    let (born, _errand) = run(NewNamespaces::default(), Descriptors::Shared, work).unwrap();
    let (copy, pidfd) = born.unwrap();
    assert!(is_open(pidfd.as_raw_fd()));
    let (ended, _) = rustix::process::waitpid(Some(copy), rustix::process::WaitOptions::empty())
        .unwrap()
        .expect("it is our child");
    assert_eq!(ended, copy);
    drop(writer);
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut said).unwrap();
    assert_eq!((said, number), (vec![2], 1));
}

fn a_holder_is_there_until_it_is_dropped() {
    let is_root = rustix::process::geteuid().is_root();
    let namespaces = NewNamespaces {
        user: is_root,
        network: is_root,
        ..NewNamespaces::default()
    };
    let holder = Holder::new(namespaces).unwrap();
    let place = PathBuf::from(format!("/proc/{}", holder.pid()));
    for kind in ["user", "net"] {
        let theirs = read_link(place.join("ns").join(kind)).unwrap();
        let ours = read_link(PathBuf::from("/proc/self/ns").join(kind)).unwrap();
        assert_eq!(theirs != ours, is_root, "{kind}");
    }
    drop(holder);
    assert!(!place.exists());
    no_child_is_left();
}
