//! What a command's process does between fork and exec: it becomes who and where the request says.
//!
//! Everything is a copy of init's here, and all of it goes away at the exec. Nothing returns from here into init's
//! loop: it ends in an exec or in a failure that is told over the report pipe.
use core::ffi::CStr;
use core::iter;

use cocker_protocol::{Groups, MAX_GROUPS, Spawn, Stage};
use linux_raw_sys::general::{O_NOCTTY, O_NONBLOCK, O_RDWR};

use crate::raw::{self, CURRENT_FOLDER, Descriptor, Errno, Fd, Result, Signals, Table};
use crate::spawn::{Failure, Streams};

/// The longest path that the kernel takes, its NUL included.
const MAX_PATH: usize = 4096;

/// Where names are looked for in an environment without PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Where the report pipe is: in the place of init's socket.
const REPORT: Fd = Fd(3);

/// The first number behind it.
const FIRST_FREE: u32 = 4;

/// Executes the command, or tells init over the pipe what kept it from doing so, and ends.
///
/// Kept out of the caller, so that init's own stack has no room for what only the child needs.
#[inline(never)]
pub fn live(spawn: &Spawn<'_>, streams: &Streams, tables: &mut [usize], report: Descriptor) -> ! {
    if let Err(error) = raw::replace(report.fd(), REPORT) {
        tell(report.fd(), Failure::new(Stage::Fork, error));
    }
    let failure = match become_command(spawn, streams) {
        Ok(()) => Failure::new(Stage::Execute, execute_program(spawn, tables)),
        Err(failure) => failure,
    };
    tell(REPORT, failure)
}

/// Tells what failed, and ends.
fn tell(report: Fd, failure: Failure) -> ! {
    let _ = raw::write(report, &failure.to_bytes());
    raw::exit(127)
}

/// Takes on the command's group or session, streams, identity and folder.
fn become_command(spawn: &Spawn<'_>, streams: &Streams) -> core::result::Result<(), Failure> {
    let at = |stage| move |error| Failure::new(stage, error);

    take_streams(streams)?;
    // However long all else takes, nothing that is init's stays open here.
    raw::close_from(FIRST_FREE);

    // Groups while still root, the user last: after it nothing of this may be changed.
    take_identity(spawn).map_err(at(Stage::Identity))?;

    // The folder is entered with the rights of the command's user.
    if let Err(error) = enter(spawn.directory) {
        if spawn.directory_required {
            return Err(Failure::new(Stage::Directory, error));
        }
        enter(c"/").map_err(at(Stage::Directory))?;
    }

    raw::set_file_mask(0o022);
    // Signals last: one that waits may end the process from here on, as it should.
    raw::block_signals(Signals::NONE);
    Ok(())
}

fn take_streams(streams: &Streams) -> core::result::Result<(), Failure> {
    let at = |stage| move |error| Failure::new(stage, error);

    let nothing;
    let [input, output, error] = match streams {
        Streams::Pipes(pipes) => {
            // A group of its own, by which it is signalled, but no session: a daemon whose parent is process 1 and that
            // leads a session takes itself for started in the background already, and stays in front.
            raw::start_group().map_err(at(Stage::Fork))?;
            [pipes[0].fd(), pipes[1].fd(), pipes[2].fd()]
        }
        Streams::Nothing => {
            raw::start_group().map_err(at(Stage::Fork))?;
            nothing = open_nothing().map_err(at(Stage::Streams))?;
            [nothing.fd(); 3]
        }
        Streams::Terminal(terminal) => {
            // Only the leader of a session can take a controlling terminal.
            raw::start_session().map_err(at(Stage::Fork))?;
            raw::control_terminal(terminal.fd()).map_err(at(Stage::Terminal))?;
            [terminal.fd(); 3]
        }
    };
    for (source, target) in [(input, 0), (output, 1), (error, 2)] {
        raw::duplicate(source, target).map_err(at(Stage::Fork))?;
    }
    Ok(())
}

/// Opens /dev/null. Whoever is root in the container may have put something else there, which is not written to.
fn open_nothing() -> Result<Descriptor> {
    // Not waiting for the other end of a FIFO, and not taking a terminal.
    let flags = O_RDWR | O_NONBLOCK | O_NOCTTY;
    let opened = raw::open(CURRENT_FOLDER, c"/dev/null", flags)?;
    if raw::is_null_device(opened.fd()) {
        Ok(opened)
    } else {
        Err(Errno::NODEV)
    }
}

/// Makes this folder the working one. The links in /proc that lead to what a process has open, without being a path to it,
/// are not followed: what is open here is init's, and the command must begin somewhere in the container's own tree.
fn enter(folder: &CStr) -> Result<()> {
    let folder = raw::open_folder(folder)?;
    raw::change_directory(folder.fd())
}

fn take_identity(spawn: &Spawn<'_>) -> Result<()> {
    set_groups(spawn.groups)?;
    raw::set_group_id(spawn.gid)?;
    raw::set_user_id(spawn.uid)
}

fn set_groups(groups: Groups<'_>) -> Result<()> {
    let mut ids = [0; MAX_GROUPS];
    for (slot, group) in ids.iter_mut().zip(groups.iter()) {
        *slot = group;
    }
    raw::set_groups(&ids[..groups.len()])
}

/// Executes the program where it is, or where PATH finds it, as execvp(3) does.
fn execute_program(spawn: &Spawn<'_>, tables: &mut [usize]) -> Errno {
    let (arguments, tables) = match Table::new(tables, spawn.arguments.iter()) {
        Ok(table) => table,
        Err(error) => return error,
    };
    let (environment, tables) = match Table::new(tables, spawn.environment.iter()) {
        Ok(table) => table,
        Err(error) => return error,
    };
    let mut execute = |path: &CStr| match raw::execute(path, &arguments, &environment) {
        Errno::NOEXEC => execute_by_shell(path, spawn, tables, &environment),
        error => error,
    };

    let name = spawn.program.to_bytes();
    if name.is_empty() {
        return Errno::NOENT;
    }
    if name.contains(&b'/') {
        return execute(spawn.program);
    }
    let mut is_forbidden = false;
    for folder in search_path(spawn).split(|&byte| byte == b':') {
        let mut buffer = [0; MAX_PATH];
        let Some(path) = join(&mut buffer, folder, name) else {
            continue;
        };
        match execute(path) {
            Errno::ACCES => is_forbidden = true,
            Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
            error => return error,
        }
    }
    if is_forbidden {
        Errno::ACCES
    } else {
        Errno::NOENT
    }
}

/// Executes a text without `#!` as what it always was: a script of the shell.
fn execute_by_shell(
    script: &CStr,
    spawn: &Spawn<'_>,
    tables: &mut [usize],
    environment: &Table<'_>,
) -> Errno {
    let shell = c"/bin/sh";
    let rest = spawn.arguments.iter().skip(1);
    let arguments = iter::once(shell).chain(iter::once(script)).chain(rest);
    match Table::new(tables, arguments) {
        Ok((arguments, _)) => raw::execute(shell, &arguments, environment),
        Err(error) => error,
    }
}

fn search_path<'a>(spawn: &Spawn<'a>) -> &'a [u8] {
    spawn
        .environment
        .iter()
        .find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH)
}

/// Puts `folder/name` into the buffer; an empty folder is the working one. `None` where it does not fit.
fn join<'b>(buffer: &'b mut [u8; MAX_PATH], folder: &[u8], name: &[u8]) -> Option<&'b CStr> {
    let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    let mut used = 0;
    for part in [folder, slash, name, b"\0"] {
        let end = used + part.len();
        buffer.get_mut(used..end)?.copy_from_slice(part);
        used = end;
    }
    CStr::from_bytes_with_nul(&buffer[..used]).ok()
}
