//! Birth and end of processes: fork, clone3 into new namespaces, and exit without clean-up.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;

/// The new namespaces of a process, see namespaces(7).
///
/// Two are not among them and are made by the child ([`unshare_late_namespaces`]): clone3 would root a cgroup namespace at
/// the cgroup of the parent and not at the one that the child is born in, and would give the message queues of an ipc
/// namespace to the ids that the child has before it takes on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewNamespaces {
    pub user: bool,
    /// Owned by the new user namespace where one is made with it.
    pub network: bool,
    pub mount: bool,
    pub pid: bool,
    pub uts: bool,
}

impl NewNamespaces {
    pub(crate) fn flags(self) -> u64 {
        let chosen = [
            (self.user, libc::CLONE_NEWUSER),
            (self.network, libc::CLONE_NEWNET),
            (self.mount, libc::CLONE_NEWNS),
            (self.pid, libc::CLONE_NEWPID),
            (self.uts, libc::CLONE_NEWUTS),
        ];
        chosen
            .iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |flags, (_, flag)| flags | (*flag as u32 as u64))
    }
}

/// Which side of a birth we are.
pub enum Birth {
    /// In the process that called: the new one's pidfd (close-on-exec) and its pid in our pid namespace.
    Parent { pidfd: OwnedFd, pid: Pid },
    /// In the new process.
    Child,
}

/// The argument of clone3(2), as the kernel lays it out since Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3's flag for "be born in this cgroup"; libc's constant of that name does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a copy of this process in new namespaces and, where given, in the cgroup whose folder `cgroup` is
/// (clone3(2), Linux 5.7).
///
/// The child has copies of all descriptors and of the whole memory, and this thread as its only one.
///
/// # Errors
/// `EDEADLK` when this process has more than one thread: another thread might hold a lock (of the allocator, say)
/// that the child would then wait for forever. Else what the kernel answers.
pub fn clone(namespaces: NewNamespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Birth, Errno> {
    let arguments = CloneArguments {
        flags: namespaces.flags(),
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    clone_with(arguments, cgroup)
}

/// Like [`clone`], but the new process is not our child: it is our parent's, who reaps it and is told of its end by the
/// signal that tells of ours (clone(2), CLONE_PARENT).
///
/// # Errors
/// As for [`clone`]; `EINVAL` in the first process of a pid namespace.
pub fn clone_sibling(
    namespaces: NewNamespaces,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Birth, Errno> {
    let arguments = CloneArguments {
        flags: namespaces.flags() | libc::CLONE_PARENT as u64,
        ..CloneArguments::default()
    };
    clone_with(arguments, cgroup)
}

fn clone_with(
    mut arguments: CloneArguments,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Birth, Errno> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    let mut pidfd: libc::c_int = -1;
    arguments.flags |= libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    if let Some(folder) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = folder.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets its own copy of memory and stack, the argument lives until the call
    // returns, its size is that of the struct, and no other thread exists whose locks the child could inherit.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<CloneArguments>(),
        )
    };
    match answer {
        -1 => Err(last_errno()),
        0 => Ok(Birth::Child),
        pid => {
            let pid = Pid::from_raw(pid as i32).expect("the kernel returns positive pids");
            // SAFETY: the kernel has just put a descriptor there that nobody else knows of.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Birth::Parent { pidfd, pid })
        }
    }
}

/// Ends this process at once: no destructors, no exit handlers, nothing flushed twice after a fork.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no conditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Runs `work` in a mount namespace that nobody else is in and whose mounts reach nobody, then comes back to the present
/// one and to the present working folder.
///
/// # Errors
/// What `work` answers, or what entering and leaving answer (CAP_SYS_ADMIN and CAP_SYS_CHROOT are needed); `EDEADLK` when
/// this process has more than one thread.
pub fn in_private_mount_namespace<T>(work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    use rustix::fs::{CWD, Mode, OFlags};
    use rustix::mount::MountPropagationFlags;
    use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    let here = OFlags::RDONLY | OFlags::CLOEXEC;
    let outside = rustix::fs::openat(CWD, "/proc/self/ns/mnt", here, Mode::empty())?;
    let folder = rustix::fs::openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: the file system context that this stops sharing is shared with no other thread, see above.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    let answer = rustix::mount::mount_change("/", private).and_then(|()| work());
    move_into_link_name_space(outside.as_fd(), Some(LinkNameSpaceType::Mount))?;
    rustix::process::fchdir(&folder)?;
    answer
}

/// Runs `work` with this thread in the network namespace that `namespace` is open on, then comes back: a socket that `work`
/// opens, or a sysfs that it makes, stays of that namespace. Other threads stay where they are.
///
/// Where the kernel does not let us come back, the process is aborted: a caller that goes on in a namespace that it does not
/// know of would do everything else to the wrong network.
///
/// # Errors
/// What entering answers (CAP_SYS_ADMIN is needed, here and over the namespace); `work` has not been run then.
pub fn in_network_namespace<T>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T,
) -> Result<T, Errno> {
    use rustix::fs::{CWD, Mode, OFlags};
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let here = OFlags::RDONLY | OFlags::CLOEXEC;
    let outside = rustix::fs::openat(CWD, "/proc/thread-self/ns/net", here, Mode::empty())?;
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    let _way_back = WayBack(outside);
    Ok(work())
}

/// The network namespace to go back to, whatever happens.
struct WayBack(OwnedFd);

impl Drop for WayBack {
    fn drop(&mut self) {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let network = Some(LinkNameSpaceType::Network);
        if let Err(errno) = move_into_link_name_space(self.0.as_fd(), network) {
            // Whatever this process did next, it would do to the wrong network.
            panic!("cannot leave a container's network namespace: {errno}")
        }
    }
}

/// Moves this process into a user namespace of its own, which has no ids yet, and with a mount namespace that it owns.
/// Who it is outside has every right inside (user_namespaces(7)).
///
/// # Errors
/// `EPERM` or `ENOSPC` where the host lets nobody make one; `EDEADLK` when this process has more than one thread.
pub fn unshare_user_namespace() -> Result<(), Errno> {
    let namespaces = rustix::thread::UnshareFlags::NEWUSER | rustix::thread::UnshareFlags::NEWNS;
    unshare_alone(namespaces)
}

/// Moves this process into a mount namespace of its own.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `EDEADLK` when this process has more than one thread.
pub fn unshare_mount_namespace() -> Result<(), Errno> {
    unshare_alone(rustix::thread::UnshareFlags::NEWNS)
}

fn unshare_alone(namespaces: rustix::thread::UnshareFlags) -> Result<(), Errno> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    // SAFETY: no other thread shares the credentials and the file system context that this parts with.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

/// Makes the cgroup that this process is in the root of a new cgroup namespace (cgroup_namespaces(7)), and a new ipc
/// namespace (ipc_namespaces(7)) that belongs to the ids that this process has.
pub fn unshare_late_namespaces() -> Result<(), Errno> {
    let late = rustix::thread::UnshareFlags::NEWCGROUP | rustix::thread::UnshareFlags::NEWIPC;
    // SAFETY: neither namespace holds anything that memory or descriptors depend on; this process uses no ipc objects.
    unsafe { rustix::thread::unshare_unsafe(late) }
}

/// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Waits until every processor has gone through what the kernel calls a grace period of RCU, some ten milliseconds: what it
/// put off until then is done (membarrier(2), `MEMBARRIER_CMD_GLOBAL`). Where the kernel does not offer that, does not wait.
pub fn wait_for_grace_period() {
    // SAFETY: the call takes numbers only.
    let _ = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
}

/// Says whether this thread is the process's only one: the kernel refuses to take a thread out of company, and does nothing
/// where there is none (unshare(2), CLONE_THREAD).
pub(crate) fn is_single_threaded() -> bool {
    // SAFETY: the call takes a number only, and with this one changes nothing.
    let answer = unsafe { libc::unshare(libc::CLONE_THREAD) };
    answer == 0
}

pub(crate) fn last_errno() -> Errno {
    let code = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(code.expect("a failed system call leaves an errno"))
}

/// Turns the answer of a raw call that returns 0 or -1 into a result.
pub(crate) fn checked(answer: libc::c_long) -> Result<(), Errno> {
    if answer == -1 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_copied() {
        // The test harness runs every test in a thread of its own, so there are at least two.
        let answer = clone(NewNamespaces::default(), None);
        assert_eq!(answer.err(), Some(Errno::DEADLK));
        let answer = clone_sibling(NewNamespaces::default(), None);
        assert_eq!(answer.err(), Some(Errno::DEADLK));
        let answer = in_private_mount_namespace(|| Ok(()));
        assert_eq!(answer, Err(Errno::DEADLK));
    }

    #[test]
    fn work_is_done_in_the_other_network_namespace_and_then_we_are_back() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let here = || std::fs::read_link("/proc/thread-self/ns/net").expect("/proc is mounted");
        let elsewhere = move || {
            let new = rustix::thread::UnshareFlags::NEWNET;
            // SAFETY: a network namespace holds nothing that memory or descriptors depend on.
            unsafe { rustix::thread::unshare_unsafe(new) }.expect("we are root");
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").expect("it is ours");
            (namespace, here())
        };
        // A thread of its own, so that this one has somewhere to come back to.
        let (namespace, there) = std::thread::spawn(elsewhere).join().expect("it ends");
        let before = here();
        let during = in_network_namespace(namespace.as_fd(), here);
        assert_eq!(during, Ok(there));
        assert_eq!(here(), before);
        let panicked = std::panic::catch_unwind(|| {
            in_network_namespace(namespace.as_fd(), || panic!("in the middle of it"))
        });
        assert!(panicked.is_err());
        assert_eq!(here(), before);
        let wrong = std::fs::File::open("/dev/null").expect("it is there");
        let answer = in_network_namespace(wrong.as_fd(), || panic!("not to be run"));
        assert_eq!(answer, Err::<(), _>(Errno::INVAL));
    }
}
