//! The host's systemd is asked for the scope that a sandbox's folder in v2 lies in: what is made in its tree without its
//! knowledge, it may remove or move (systemd.io, CGROUP_DELEGATION).
//!
//! A scope begins with a process and ends with its last one, by itself. So one of ours stands in it from the asking until
//! there is a supervisor; it does nothing, and ends with whoever made it.
//!
//! ```text
//!  asking: forks ──▶ stands    StartTransientUnit ──▶ systemd moves it into the scope
//!                              ◀── the job is done
//!          makes scope/supervisor, forks ──▶ stands there; the first one ends
//!          makes scope/sandbox
//!          the supervisor is born in scope/supervisor; the second one ends
//! ```

use super::bus::{Body, Call, Connection, ERROR, Message, RETURN, SIGNAL};
use super::place::{SUPERVISOR, Scope};
use super::{is_populated, open_folder};
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, pidfd_send_signal, waitid,
};
use std::path::Path;
use std::time::Duration;

/// systemd's own socket: root is all that it wants, and no message bus has to be there.
const SOCKET: &str = "/run/systemd/private";

/// The unit that boots containers with the host, and shuts all down.
const SERVICE: &str = "cocker.service";

/// How long systemd may take for all of it. A busy one is slow: it does one thing at a time.
const PATIENCE: Duration = Duration::from_secs(20);

/// The unit of a boot before this one, which is about to go.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// systemd does not give us a scope.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error("cannot ask systemd for unit `{unit}` by `{SOCKET}`")]
    Ask {
        unit: String,
        #[source]
        source: Errno,
    },
    #[error("cannot have unit `{unit}`: systemd says \"{why}\"")]
    Refused { unit: String, why: String },
    #[error("cannot have unit `{unit}`: systemd says that its start is `{result}`")]
    NotStarted { unit: String, result: String },
    #[error("cannot stand in unit `{unit}`")]
    Enter {
        unit: String,
        #[source]
        source: Errno,
    },
}

impl UnitError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            UnitError::Ask {
                source: Errno::TIMEDOUT,
                ..
            } => Some(format!(
                "systemd did not answer within {} s; `systemctl list-jobs` says what it waits for.",
                PATIENCE.as_secs()
            )),
            UnitError::Ask { .. } => None,
            UnitError::Refused { unit, .. }
            | UnitError::NotStarted { unit, .. }
            | UnitError::Enter { unit, .. } => Some(format!(
                "`systemctl status {unit}` and `journalctl -u {unit}` may say more."
            )),
        }
    }
}

/// A scope that systemd was asked for. Where this is dropped, it goes again.
pub(crate) struct Asking {
    scope: Scope,
    connection: Connection,
    stander: Stander,
    /// Of the call that is not answered.
    serial: u32,
}

/// A scope with nobody in it but a process of ours, which ends when this is dropped.
pub(crate) struct OpenScope {
    _stander: Stander,
    /// Where the supervisor is to be born.
    pub supervisor: OwnedFd,
}

impl Asking {
    /// Asks, and does not wait for the answer.
    pub fn begin(scope: &Scope) -> Result<Asking, UnitError> {
        let begin = || {
            let stander = Stander::born(None)?;
            let mut connection = Connection::open(SOCKET, PATIENCE)?;
            let serial = connection.call(&start(scope, stander.pid))?;
            Ok(Asking {
                scope: scope.clone(),
                connection,
                stander,
                serial,
            })
        };
        begin().map_err(|source| UnitError::Ask {
            unit: scope.unit.clone(),
            source,
        })
    }

    /// Waits until the scope is there. `hierarchy` is the root of v2.
    pub fn finish(mut self, hierarchy: BorrowedFd<'_>) -> Result<OpenScope, UnitError> {
        self.wait_until_started(hierarchy)?;
        self.enter(hierarchy).map_err(|source| UnitError::Enter {
            unit: self.scope.unit.clone(),
            source,
        })
    }

    fn wait_until_started(&mut self, hierarchy: BorrowedFd<'_>) -> Result<(), UnitError> {
        loop {
            let answer = self.next(|message, serial| {
                matches!(message.kind, RETURN | ERROR) && message.reply_serial == serial
            })?;
            match (answer.kind, answer.error.as_str()) {
                (ERROR, EXISTS) => self.ask_again_when_it_is_gone(hierarchy)?,
                (ERROR, name) => {
                    let said = answer.texts().into_iter().next();
                    return Err(UnitError::Refused {
                        unit: self.scope.unit.clone(),
                        why: said.unwrap_or_else(|| name.into()),
                    });
                }
                _ => return self.wait_for_job(answer.texts().first().map_or("", |path| path)),
            }
        }
    }

    /// The container is ours alone, so what is there is of a boot that is over, and ends by itself where somebody still lives
    /// in it.
    fn ask_again_when_it_is_gone(&mut self, hierarchy: BorrowedFd<'_>) -> Result<(), UnitError> {
        let unit = self.scope.unit.clone();
        tracing::debug!("unit `{unit}` is still there");
        if !is_lived_in(hierarchy, &self.scope) {
            let stopped = self.connection.call(&stop(&unit));
            stopped.map_err(|source| self.asking(source))?;
        }
        self.next(|message, _| is_removal(message, &unit))?;
        let call = start(&self.scope, self.stander.pid);
        self.serial = self
            .connection
            .call(&call)
            .map_err(|source| self.asking(source))?;
        Ok(())
    }

    /// JobRemoved(id, job, unit, result): the end of a job, however it ended.
    fn wait_for_job(&mut self, job: &str) -> Result<(), UnitError> {
        let ended = self.next(|message, _| {
            is_signal(message, "JobRemoved")
                && message.texts().get(1).is_some_and(|path| path == job)
        })?;
        let result = ended.texts().into_iter().nth(3).unwrap_or_default();
        match result.as_str() {
            "done" => Ok(()),
            _ => Err(UnitError::NotStarted {
                unit: self.scope.unit.clone(),
                result,
            }),
        }
    }

    fn next(&mut self, is_wanted: impl Fn(&Message, u32) -> bool) -> Result<Message, UnitError> {
        loop {
            let message = self
                .connection
                .next()
                .map_err(|source| self.asking(source))?;
            if is_wanted(&message, self.serial) {
                return Ok(message);
            }
        }
    }

    /// The second process is born where it belongs: moving the first there would wait for a grace period of RCU.
    fn enter(&self, hierarchy: BorrowedFd<'_>) -> Result<OpenScope, Errno> {
        let scope = open_folder(hierarchy, &self.scope.folder())?;
        rustix::fs::mkdirat(&scope, SUPERVISOR, Mode::from_raw_mode(0o755))?;
        let supervisor = open_folder(scope.as_fd(), Path::new(SUPERVISOR))?;
        Ok(OpenScope {
            _stander: Stander::born(Some(supervisor.as_fd()))?,
            supervisor,
        })
    }

    fn asking(&self, source: Errno) -> UnitError {
        UnitError::Ask {
            unit: self.scope.unit.clone(),
            source,
        }
    }
}

/// Has systemd move this process into a scope of its own; waits until it is there. A process that is there stays.
pub(super) fn move_to(scope: &Scope) -> Result<(), UnitError> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if own.lines().any(|line| line.ends_with(&scope.unit)) {
        return Ok(());
    }
    let failed = |source| UnitError::Ask {
        unit: scope.unit.clone(),
        source,
    };
    let mut connection = Connection::open(SOCKET, PATIENCE).map_err(failed)?;
    let mut serial = connection.call(&start(scope, getpid())).map_err(failed)?;
    let mut is_taken = false;
    let mut job = None;
    loop {
        let message = connection.next().map_err(failed)?;
        let is_answer = message.reply_serial == serial;
        if is_taken && is_removal(&message, &scope.unit) {
            is_taken = false;
            serial = connection.call(&start(scope, getpid())).map_err(failed)?;
            continue;
        }
        match message.kind {
            // Of whoever waited before, and has just ended.
            ERROR if is_answer && message.error == EXISTS => is_taken = true,
            ERROR if is_answer => {
                return Err(UnitError::Refused {
                    unit: scope.unit.clone(),
                    why: message.texts().into_iter().next().unwrap_or(message.error),
                });
            }
            RETURN if is_answer => job = message.texts().into_iter().next(),
            _ => {}
        }
        let texts = message.texts();
        if is_signal(&message, "JobRemoved") && job.is_some() && texts.get(1) == job.as_ref() {
            return match texts.into_iter().nth(3).unwrap_or_default() {
                result if result == "done" => Ok(()),
                result => Err(UnitError::NotStarted {
                    unit: scope.unit.clone(),
                    result,
                }),
            };
        }
    }
}

/// Has systemd end a scope that nobody lives in; waits until that is done. Most end by themselves. Not one whose process had
/// ended just before systemd put it there: then nothing tells systemd that it is empty.
pub(super) fn end_empty(hierarchy: BorrowedFd<'_>, scope: &Scope) -> Result<(), UnitError> {
    let is_there = open_folder(hierarchy, &scope.folder()).is_ok();
    if !is_there || is_lived_in(hierarchy, scope) {
        return Ok(());
    }
    let end = || {
        let mut connection = Connection::open(SOCKET, PATIENCE)?;
        let serial = connection.call(&stop(&scope.unit))?;
        loop {
            let message = connection.next()?;
            let is_refused = message.kind == ERROR && message.reply_serial == serial;
            // It had ended meanwhile.
            if is_refused || is_removal(&message, &scope.unit) {
                return Ok(());
            }
        }
    };
    end().map_err(|source| UnitError::Ask {
        unit: scope.unit.clone(),
        source,
    })
}

fn is_lived_in(hierarchy: BorrowedFd<'_>, scope: &Scope) -> bool {
    let populated =
        open_folder(hierarchy, &scope.folder()).and_then(|folder| is_populated(folder.as_fd()));
    populated.unwrap_or(false)
}

/// UnitRemoved(unit, object).
fn is_removal(message: &Message, unit: &str) -> bool {
    is_signal(message, "UnitRemoved") && message.texts().first().is_some_and(|it| it == unit)
}

fn is_signal(message: &Message, member: &str) -> bool {
    message.kind == SIGNAL && message.member == member
}

/// StartTransientUnit(name, mode, properties, auxiliary units) of org.freedesktop.systemd1(5).
fn start(scope: &Scope, stander: Pid) -> Call<'static> {
    let mut body = Body::default();
    body.text(&scope.unit);
    body.text("fail");
    body.array(8, |properties| {
        let mut property = |name: &str, kind: &str, fill: &dyn Fn(&mut Body)| {
            properties.entry(|entry| {
                entry.text(name);
                entry.signature(kind);
                fill(entry);
            });
        };
        property("Description", "s", &|it| it.text(&scope.description));
        property("Slice", "s", &|it| it.text(&scope.slice));
        // When the host ends, what stops all containers in their order comes before systemd stops each.
        property("Before", "as", &|it| {
            it.array(4, |units| units.text(SERVICE));
        });
        // Controllers, and the say about everything below.
        property("Delegate", "b", &|it| it.number(1));
        // How many there may be is our own limit's to say.
        property("TasksMax", "t", &|it| it.large_number(u64::MAX));
        // Gone when it has ended, however that was.
        property("CollectMode", "s", &|it| it.text("inactive-or-failed"));
        property("PIDs", "au", &|it| {
            it.array(4, |pids| {
                pids.number(stander.as_raw_nonzero().get().unsigned_abs())
            });
        });
    });
    body.array(8, |_| {});
    call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
}

/// StopUnit(name, mode).
fn stop(unit: &str) -> Call<'static> {
    let mut body = Body::default();
    body.text(unit);
    body.text("replace");
    call("StopUnit", "ss", body)
}

fn call(method: &'static str, signature: &'static str, body: Body) -> Call<'static> {
    Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        method,
        signature,
        body,
    }
}

/// A process that keeps a cgroup from being empty. It ends when this is dropped, and when whoever made it ends.
struct Stander {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Stander {
    fn born(cgroup: Option<BorrowedFd<'_>>) -> Result<Stander, Errno> {
        let parent = getpid();
        match clone(NewNamespaces::default(), cgroup)? {
            Birth::Parent { pidfd, pid } => Ok(Stander { pid, pidfd }),
            Birth::Child => stand(parent),
        }
    }
}

impl Drop for Stander {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// A copy of the client that holds nothing of it, no lock and no stream, and hears no terminal.
fn stand(parent: Pid) -> ! {
    let _ = rustix::process::setsid();
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let is_alone = getppid() != Some(parent);
    let closed = cocker_sys::execution::close_from(0, &[]);
    if tied.is_err() || is_alone || closed.is_err() {
        exit_now(1)
    }
    loop {
        rustix::event::pause();
    }
}
