//! Executing programs: by path, and by descriptor without any path.

use crate::namespace::stands_for_a_user;
use crate::process::{checked, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Executes `path` in this process; returns only when that failed (execve(2)).
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let arguments = Pointers::to(arguments);
    let environment = Pointers::to(environment);
    // SAFETY: the path ends with NUL, and both tables are null-terminated arrays of such strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.0.as_ptr(), environment.0.as_ptr()) };
    last_errno()
}

/// Executes the program that `program` is open on; returns only when that failed (execveat(2), AT_EMPTY_PATH).
pub fn execute_descriptor(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> Errno {
    let arguments = Pointers::to(arguments);
    let environment = Pointers::to(environment);
    // SAFETY: the empty path ends with NUL, and both tables are null-terminated arrays of such strings that outlive
    // the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.0.as_ptr(),
            environment.0.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Has a program started as the user that root of this user namespace is outside: with that one's own ids and no rights of root
/// here, as programs expect that look their user up. Where this process does not stand for a user, nothing is changed.
pub fn as_outside(command: &mut Command) -> Result<(), Errno> {
    if !stands_for_a_user() {
        return Ok(());
    }
    let (Some(uid), Some(gid)) = (outside("uid_map")?, outside("gid_map")?) else {
        return Ok(());
    };
    let maps = [
        // Who is to have one group only must give up the call first (user_namespaces(7)).
        (c"/proc/self/setgroups", "deny".to_owned()),
        (c"/proc/self/uid_map", format!("{uid} 0 1\n")),
        (c"/proc/self/gid_map", format!("{gid} 0 1\n")),
    ];
    let enter = move || {
        let answered = unshare_user().and_then(|()| {
            maps.iter()
                .try_for_each(|(path, text)| write_to(path, text))
        });
        answered.map_err(std::io::Error::from)
    };
    // SAFETY: between fork and execution the closure makes system calls with what was prepared before, and takes no memory.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

/// Has a program killed when this process ends, for as long as it has not gone into the background (PR_SET_PDEATHSIG of prctl(2);
/// a fork does not hand it on).
pub fn dies_with_us(command: &mut Command) {
    let us = rustix::process::getpid();
    let tie = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before.
        match rustix::process::getppid() == Some(us) {
            true => Ok(()),
            false => Err(std::io::Error::from(Errno::CHILD)),
        }
    };
    // SAFETY: between fork and execution the closure makes system calls only.
    unsafe { command.pre_exec(tie) };
}

fn unshare_user() -> Result<(), Errno> {
    // SAFETY: the call takes a number, and a process that was just forked has one thread.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())
}

fn write_to(path: &CStr, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// The id that is 0 here, as it is one level above; none in the host's own namespace.
fn outside(map: &str) -> Result<Option<u32>, Errno> {
    let text = std::fs::read_to_string(format!("/proc/self/{map}"));
    let text = text.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut fields = text.split_whitespace().map(str::parse::<u32>);
    Ok(match (fields.next(), fields.next(), fields.next()) {
        (Some(Ok(0)), Some(Ok(above)), Some(Ok(count))) if count != u32::MAX => Some(above),
        _ => None,
    })
}

/// A null-terminated table of pointers to strings that the caller keeps.
struct Pointers(Vec<*const libc::c_char>);

impl Pointers {
    fn to(strings: &[CString]) -> Pointers {
        let ends = std::iter::once(std::ptr::null());
        Pointers(strings.iter().map(|s| s.as_ptr()).chain(ends).collect())
    }
}

/// Marks every open descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
pub fn close_on_exec_from(first: i32) -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    range(first as libc::c_uint, libc::c_uint::MAX, flags)
}

/// Closes every open descriptor from `first` on but `kept`.
///
/// Meant for a process whose further life uses only descriptors below `first`: owners of the others must not be
/// dropped or used any more, which holds where this is followed by an execution or the end of the process.
pub fn close_from(first: i32, kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut first = first as libc::c_uint;
    let mut kept: Vec<libc::c_uint> = kept.iter().map(|fd| fd.as_raw_fd() as _).collect();
    kept.sort_unstable();
    for kept in kept {
        if first < kept {
            range(first, kept - 1, 0)?;
        }
        first = first.max(kept + 1);
    }
    range(first, libc::c_uint::MAX, 0)
}

fn range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the call touches no memory; what closing does to owned descriptors is said in `close_from`.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    crate::process::checked(answer)
}

/// Puts `placed[i]` at descriptor number `first + i`, open across executions; whatever stood there is closed.
///
/// # Errors
/// What dup3(2) or fcntl(2) answer; the process should then end.
pub fn place_descriptors(first: i32, placed: Vec<OwnedFd>) -> Result<(), Errno> {
    // A source may itself stand where another one goes, so all are lifted out of the way first.
    let above = first + placed.len() as i32;
    let lifted: Vec<OwnedFd> = placed
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, above.max(64)))
        .collect::<Result<_, _>>()?;
    // The originals may stand in the places about to be filled: closing them later would close what was put there.
    for fd in placed {
        let _ = fd.into_raw_fd();
    }
    for (offset, fd) in lifted.iter().enumerate() {
        // SAFETY: dup2 touches no memory; the descriptor that it replaces has no owner any more, see above.
        let answer = unsafe { libc::dup2(fd.as_raw_fd(), first + offset as i32) };
        crate::process::checked(answer.into())?;
    }
    Ok(())
}

/// Takes over descriptor `number`, which the program that executed us has left open for us.
///
/// # Errors
/// `EBADF` when nothing is open there.
pub fn inherited_descriptor(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: borrowed for the length of this call only, to ask whether it is open.
    let candidate = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(candidate)?;
    // SAFETY: it is open, and by the convention between the two programs it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_not_open_is_not_taken_over() {
        assert_eq!(inherited_descriptor(1_000_000).err(), Some(Errno::BADF));
    }
}
