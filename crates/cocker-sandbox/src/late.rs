//! A sandbox that is not limited joins its folders in v1 hierarchies while it is already on its way.
//!
//! The kernel moves nobody there before a grace period of RCU has passed: some milliseconds, many where the machine is busy.
//! Whoever is limited, or starts a program of its own, is born there and waits. A sandbox whose root process is the
//! resident init has nothing to be kept from until somebody starts something in it, and then only from having very many
//! processes: a process of ours moves it meanwhile, and is gone when that is done.

use crate::cgroup::Cgroup;
use crate::plan::{Plan, RootProcess};
use cocker_sys::execution::{close_from, inherited_descriptor, place_descriptors};
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Whoever was forked by somebody that had not been moved is moved in the next round.
const ROUNDS: usize = 3;

/// Where the process has the list of members, and the doors behind it.
const MEMBERS: i32 = 3;

/// More v1 hierarchies than there are controllers that could be in one.
const MOST_DOORS: usize = 16;

/// Whether the sandbox may join v1 late. One with the host's ids may not: its cgroup namespace is to begin where it lives.
pub(crate) fn may_join_late(plan: &Plan) -> bool {
    plan.process == RootProcess::Init && plan.limits.is_default() && plan.ids.is_some()
}

/// The process that has made the mover and ends at once, so that the mover is nobody's to reap. Dropping this reaps it.
pub(crate) struct Between(OwnedFd);

impl Drop for Between {
    fn drop(&mut self) {
        let _ = waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Has the root process and what it starts meanwhile moved through `doors`; does not wait for it. None where there is
/// nothing to join.
pub(crate) fn join(
    cgroup: &Cgroup,
    doors: &[OwnedFd],
    root_process: Pid,
) -> Result<Option<Between>, Errno> {
    if doors.is_empty() {
        return Ok(None);
    }
    let members = match cgroup.open_members() {
        // The sandbox could not be assembled, and its supervisor has cleared away already: that is told elsewhere.
        Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
        opened => opened?,
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    let mut placed = Vec::with_capacity(doors.len() + 4);
    for _ in 0..3 {
        placed.push(rustix::io::dup(&null)?);
    }
    placed.push(members);
    for door in doors.iter().take(MOST_DOORS) {
        placed.push(rustix::io::dup(door)?);
    }
    match clone(NewNamespaces::default(), None)? {
        Birth::Parent { pidfd, .. } => Ok(Some(Between(pidfd))),
        Birth::Child => match clone(NewNamespaces::default(), None) {
            Ok(Birth::Child) => mover(placed, root_process),
            Ok(Birth::Parent { .. }) => exit_now(0),
            Err(_) => exit_now(1),
        },
    }
}

/// The host's root, a copy of the client that outlives it for some milliseconds: it holds nothing of the client's, no lock and
/// no stream, and allocates no more.
fn mover(placed: Vec<OwnedFd>, root_process: Pid) -> ! {
    let count = placed.len() as i32;
    let mut digits = [0u8; 12];
    let root_process = written(root_process, &mut digits);
    let _ = rustix::process::setsid();
    let prepared = rustix::process::chdir("/")
        .and_then(|()| place_descriptors(0, placed))
        .and_then(|()| close_from(count, None));
    if prepared.is_err() {
        exit_now(1)
    }
    let Ok(members) = inherited_descriptor(MEMBERS) else {
        exit_now(1)
    };
    let doors: [Option<OwnedFd>; MOST_DOORS] = std::array::from_fn(|number| {
        let place = MEMBERS + 1 + number as i32;
        (place < count)
            .then(|| inherited_descriptor(place).ok())
            .flatten()
    });
    // The number is its own: one that was just given back is given again only after all others.
    move_one(root_process, &doors);
    for _ in 0..ROUNDS {
        if move_members(&members, &doors).is_err() {
            break; // the sandbox has ended
        }
    }
    exit_now(0)
}

/// Through every door; one that cannot be moved has ended.
fn move_one(pid: &[u8], doors: &[Option<OwnedFd>]) {
    for door in doors.iter().flatten() {
        let _ = rustix::io::write(door, pid);
    }
}

fn move_members(members: &OwnedFd, doors: &[Option<OwnedFd>]) -> Result<(), Errno> {
    rustix::fs::seek(members, rustix::fs::SeekFrom::Start(0))?;
    let mut block = [0u8; 4096];
    let mut kept = 0;
    loop {
        let length = rustix::io::read(members, &mut block[kept..])?;
        if length == 0 {
            return Ok(());
        }
        let filled = kept + length;
        let mut start = 0;
        while let Some(end) = block[start..filled].iter().position(|&byte| byte == b'\n') {
            move_one(&block[start..start + end], doors);
            start += end + 1;
        }
        // Half a number: its rest comes next.
        block.copy_within(start..filled, 0);
        kept = filled - start;
    }
}

/// The number in decimal digits.
fn written(pid: Pid, digits: &mut [u8; 12]) -> &[u8] {
    let mut rest = pid.as_raw_nonzero().get().unsigned_abs();
    let mut start = digits.len();
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_in_digits() {
        for pid in [1, 10, 4711, i32::MAX] {
            let mut digits = [0; 12];
            let text = written(Pid::from_raw(pid).expect("a pid"), &mut digits);
            assert_eq!(text, pid.to_string().as_bytes());
        }
    }
}
