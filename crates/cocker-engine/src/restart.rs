//! What happens to a container that has ended by itself: by its policy it is booted again, after a time that doubles from one
//! failure to the next. See docs/design/0011-restart.md.
//!
//! ```text
//!  supervisor ──▶ cocker release ──▶ the supervisor's program, waiting ──▶ cocker boot-again ──▶ booted: the process ends
//!                                                ▲                              │
//!                                                └──────── the boot failed ─────┘
//!  containers/<name>/restart    512 bytes, one line:
//!  stage=waiting failures=2 due=1700000000123 why=exit status 1                         …blanks… \n
//! ```
//!
//! All of that is one process, which executes one program after the other. Whether it is there, and which one it is, the kernel
//! says: it holds the process's lock on the file `restart` (`cocker_sys::lock`), so nobody can take a stale number for it, and
//! killing it is all that it takes to have the container stay stopped. It holds nothing else: who needs a stopped container finds
//! one.
//!
//! Whoever wants the container for something else takes the file's name away and then looks at the stage; the process notes each
//! stage and then looks whether the file still has its name. So one of the two always sees the other.

use crate::container::{Container, is_same_file};
use crate::engine::Engine;
use crate::failure::{EngineError, RestartError};
use crate::release::End;
use crate::request::{Boot, BootRequest};
use crate::state::Standing;
use cocker_sandbox::become_resident;
use cocker_sys::execution::inherited_descriptor;
use cocker_sys::lock::{process_lock_holder, wait_process_lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::{Errno, FdFlags};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::ffi::CString;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In the container's folder.
pub(crate) const FILE: &str = "restart";

const SIZE: usize = 512;

/// The time before the first boot again; it doubles with each failure.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Whoever ran for so long was no failure's next try any more.
const SOUND_RUN: Duration = Duration::from_secs(10);

/// Where its descriptor is, above all that a new program finds something at.
const ABOVE_PLACED: i32 = 64;

/// What the waiting program is given, from 3 on: the `cocker` program, then the container's folder.
const FOLDER: i32 = 4;

/// How long a process that was killed may take to go.
const KILL_TIME: Duration = Duration::from_secs(10);

/// No more is written about boots that failed into a log that nothing turns over.
const MOST_LOG: u64 = 8 << 20;

/// What is done about a container that has ended without being asked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    #[default]
    No,
    /// Booted again where its root process was killed, or exited with another status than 0; with a number at most so often in a
    /// row.
    OnFailure { most: Option<u32> },
    /// Booted again however it ended.
    Always,
}

/// A text is no policy.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no restart policy")]
pub struct BadPolicy {
    text: String,
}

impl RestartPolicy {
    pub(crate) fn is_no(&self) -> bool {
        *self == RestartPolicy::No
    }

    /// Whether an end that nobody asked for is followed by a boot.
    fn wants(self, wait_status: i32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure { .. } => is_failure(wait_status),
            RestartPolicy::Always => true,
        }
    }

    fn is_exhausted(self, failures: u32) -> bool {
        matches!(self, RestartPolicy::OnFailure { most: Some(most) } if failures > most)
    }
}

/// What root inside does by reboot(2) looks like a signal (pid_namespaces(7)): SIGINT is a host that was switched off, which is no
/// failure. Process 1 cannot be killed by that signal otherwise. SIGHUP is one that is to come again.
fn is_failure(wait_status: i32) -> bool {
    const SIGINT: i32 = 2;
    wait_status != 0 && wait_status & 0x7f != SIGINT
}

impl FromStr for RestartPolicy {
    type Err = BadPolicy;

    fn from_str(text: &str) -> Result<RestartPolicy, BadPolicy> {
        let bad = || BadPolicy {
            text: text.escape_debug().take(80).collect(),
        };
        match text {
            "no" => Ok(RestartPolicy::No),
            "always" => Ok(RestartPolicy::Always),
            "on-failure" => Ok(RestartPolicy::OnFailure { most: None }),
            other => {
                let most = other.strip_prefix("on-failure:").ok_or_else(bad)?;
                let is_plain = most.bytes().all(|byte| byte.is_ascii_digit());
                let most = most.parse().ok().filter(|most| is_plain && *most > 0);
                let most = Some(most.ok_or_else(bad)?);
                Ok(RestartPolicy::OnFailure { most })
            }
        }
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = BadPolicy;

    fn try_from(text: String) -> Result<RestartPolicy, BadPolicy> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> String {
        policy.to_string()
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartPolicy::No => f.write_str("no"),
            RestartPolicy::OnFailure { most: None } => f.write_str("on-failure"),
            RestartPolicy::OnFailure { most: Some(most) } => write!(f, "on-failure:{most}"),
            RestartPolicy::Always => f.write_str("always"),
        }
    }
}

/// How far the process has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// What the container left is being removed.
    #[default]
    Ending,
    Waiting,
    Booting,
    Booted,
    GivenUp,
}

impl Stage {
    const ALL: [(Stage, &'static str); 5] = [
        (Stage::Ending, "ending"),
        (Stage::Waiting, "waiting"),
        (Stage::Booting, "booting"),
        (Stage::Booted, "booted"),
        (Stage::GivenUp, "given-up"),
    ];
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Note {
    stage: Stage,
    /// In a row.
    failures: u32,
    /// When it is booted again, in milliseconds since the epoch: for display. The waiting goes by a clock that nobody sets.
    due_ms: u64,
    /// Of the last failure, in one line.
    why: String,
}

/// What a list shows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarts {
    /// How often in a row it has ended, or could not be booted.
    pub failures: u32,
    /// Why it ended, or was not booted, the last time.
    pub last_failure: String,
    /// How long it is until it is booted again; none where nobody waits for that.
    pub again_in: Option<Duration>,
}

/// Whether somebody was about to boot the container again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Not any more: that was ended.
    Again,
    Nothing,
}

/// The file, locked for this process. Nothing in this process may open it a second time: closing that would give the lock back.
pub(crate) struct Held {
    file: OwnedFd,
    note: Note,
}

impl Held {
    /// Makes the file where it is not there, and waits for who holds it: a process that has just booted the container, and is
    /// about to end. None where somebody took the file's name meanwhile.
    fn take(folder: BorrowedFd<'_>) -> Result<Option<Held>, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(folder, FILE, flags, Mode::RUSR | Mode::WUSR)?;
        let file = rustix::io::fcntl_dupfd_cloexec(&opened, ABOVE_PLACED)?;
        // Before there is a lock that would go with it.
        drop(opened);
        wait_process_lock(&file)?;
        let note = read(file.as_fd())?;
        let held = Held { file, note };
        Ok(held.is_wanted()?.then_some(held))
    }

    /// Takes over what the program before has held.
    fn inherited(number: i32) -> Result<Held, Errno> {
        let file = inherited_descriptor(number)?;
        // No process that is made from here on shall have it.
        rustix::io::fcntl_setfd(&file, FdFlags::CLOEXEC)?;
        let note = read(file.as_fd())?;
        Ok(Held { file, note })
    }

    /// Whether nobody has other plans for the container.
    fn is_wanted(&self) -> Result<bool, Errno> {
        Ok(fstat(&self.file)?.st_nlink > 0)
    }

    /// Notes the stage, and says whether it may begin.
    fn enter(&mut self, stage: Stage) -> Result<bool, Errno> {
        self.note.stage = stage;
        let written = rustix::io::pwrite(&self.file, render(&self.note).as_bytes(), 0)?;
        match written {
            SIZE => self.is_wanted(),
            _ => Err(Errno::NOSPC),
        }
    }

    fn fail(&mut self, why: &str) {
        self.note.failures = self.note.failures.saturating_add(1);
        self.note.why = one_line(why);
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Engine {
    /// Decides, before anybody can see that the container has ended, whether it is to be booted again.
    pub(crate) fn expect_boot(
        &self,
        container: &Container,
        end: &End,
    ) -> Result<Option<Held>, Errno> {
        if end.was_asked_for {
            forget(container)?;
        }
        let policy = container.settings.restart;
        // Where the boot is not over yet, its client is told why, and decides.
        let is_run = end.boot == Boot::Done;
        if !is_run || end.was_asked_for || !policy.wants(end.wait_status) {
            return Ok(None);
        }
        let Some(mut held) = Held::take(container.folder.as_fd())? else {
            return Ok(None);
        };
        if end.ran >= SOUND_RUN {
            held.note.failures = 0;
        }
        held.fail(&format!(
            "the root process ended: {}",
            crate::boot::how_ended(end.wait_status)
        ));
        let stage = match policy.is_exhausted(held.note.failures) {
            true => Stage::GivenUp,
            false => Stage::Ending,
        };
        let goes_on = held.enter(stage)?;
        if stage == Stage::GivenUp {
            log(container.folder.as_fd(), &held.note, None);
        }
        Ok((goes_on && stage == Stage::Ending).then_some(held))
    }

    /// Becomes the process that waits; returns where nobody wants that any more, or it cannot be. `folder` is the container's: all
    /// else that was open may be closed by now.
    pub(crate) fn wait_for_boot(
        &self,
        container: &Container,
        folder: BorrowedFd<'_>,
        mut held: Held,
    ) -> Result<(), RestartError> {
        let delay = delay(held.note.failures);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let due = since_epoch.unwrap_or_default() + delay;
        held.note.due_ms = u64::try_from(due.as_millis()).unwrap_or(u64::MAX);
        let noted = held.enter(Stage::Waiting);
        if !noted.map_err(|source| RestartError::Note { source })? {
            return Ok(());
        }
        log(folder, &held.note, Some(delay));
        if let Err(error) = self.cgroup_of(container).wait_elsewhere() {
            tracing::warn!("going on: {error}");
        }
        let waiting = |source| RestartError::Wait { source };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let cocker = rustix::fs::open("/proc/self/exe", flags, Mode::empty()).map_err(waiting)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(folder, ".", flags, Mode::empty()).map_err(waiting)?;
        let name = container.name.as_str();
        let arguments = [
            "cocker-supervisor".into(),
            name.to_owned(),
            "wait".into(),
            delay.as_millis().to_string(),
            held.file.as_raw_fd().to_string(),
        ];
        let arguments = arguments.map(|word| CString::new(word).expect("no part has a NUL"));
        let environment = self
            .supervisors_environment()
            .map_err(|_| RestartError::Wait {
                source: Errno::INVAL,
            })?;
        let errno = become_resident(
            self.settings.supervisor,
            &arguments,
            &environment,
            vec![cocker, folder],
            held.file.as_fd(),
        );
        Err(waiting(errno))
    }

    /// The time is over: boots the container whose folder and whose lock were handed over, unless somebody has done so, or does
    /// not want it any more. Where that fails, waits again.
    pub fn boot_again(&self, lock: i32) -> Result<(), EngineError> {
        let failed = |what| move |source| EngineError::BootAgain { what, source };
        let mut held = Held::inherited(lock).map_err(failed("no lock was handed over"))?;
        let folder = inherited_descriptor(FOLDER).map_err(failed("no folder was handed over"))?;
        let name = self.named(&folder)?.name;
        let (mut container, work) = Container::open_for_work(&self.store, &name)?;
        // Another one may have the name by now.
        let policy = container.settings.restart;
        if !is_same_file(&container.folder, &folder) || policy.is_no() {
            return Ok(());
        }
        let noting = failed("cannot note how far it is");
        if !held.enter(Stage::Booting).map_err(noting)? {
            return Ok(());
        }
        let booted = self.boot_held(&mut container, &BootRequest::default());
        let error = match booted {
            Ok(_warnings) => {
                held.note.due_ms = 0;
                return match held.enter(Stage::Booted) {
                    Ok(_) => Ok(()),
                    Err(source) => Err(failed("cannot note how far it is")(source)),
                };
            }
            Err(error) => error,
        };
        if matches!(container.state.standing(), Ok((Standing::Booted { .. }, _))) {
            return Ok(());
        }
        held.fail(&chain(&error));
        if policy.is_exhausted(held.note.failures) {
            held.enter(Stage::GivenUp).map_err(noting_again)?;
            log(container.folder.as_fd(), &held.note, None);
            return Ok(());
        }
        // Who needs the container stopped may have it meanwhile.
        drop(work);
        self.wait_for_boot(&container, container.folder.as_fd(), held)
            .map_err(|source| EngineError::Restart {
                container: name,
                source,
            })
    }

    /// Has nobody boot the container again, now or later; says whether somebody was about to. A process that was at it already
    /// is gone when this returns, and may have left a booted container.
    pub(crate) fn expect_nothing(&self, container: &Container) -> Result<Expected, RestartError> {
        end_waiting(container)
    }
}

fn end_waiting(container: &Container) -> Result<Expected, RestartError> {
    let noting = |source| RestartError::Note { source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(&container.folder, FILE, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Expected::Nothing),
        Err(source) => return Err(noting(source)),
    };
    forget(container).map_err(noting)?;
    let Some(pid) = process_lock_holder(&file).map_err(noting)? else {
        return Ok(Expected::Nothing);
    };
    let stage = read(file.as_fd()).map_err(noting)?.stage;
    match stage {
        // It looks for the file's name before it goes on.
        Stage::Ending => return Ok(Expected::Again),
        Stage::Booted | Stage::GivenUp => return Ok(Expected::Nothing),
        Stage::Waiting | Stage::Booting => {}
    }
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(Expected::Again);
    };
    // While it holds the lock the number is its own, so the descriptor is of that process and no other.
    if process_lock_holder(&file).map_err(noting)? == Some(pid) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        let mut gone = [PollFd::new(&pidfd, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: KILL_TIME.as_secs() as i64,
            tv_nsec: 0,
        };
        if rustix::io::retry_on_intr(|| poll(&mut gone, Some(&limit))) == Ok(0) {
            return Err(RestartError::Stuck {
                pid: pid.as_raw_nonzero().get(),
                seconds: KILL_TIME.as_secs(),
            });
        }
    }
    Ok(Expected::Again)
}

/// What is known of it; none where it was not booted again, and has not failed, since somebody has said how it should be.
pub(crate) fn restarts(container: &Container) -> Option<Restarts> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&container.folder, FILE, flags, Mode::empty()).ok()?;
    let note = read(file.as_fd()).ok()?;
    let is_held = matches!(process_lock_holder(&file), Ok(Some(_)));
    let again_in = match note.stage {
        Stage::Waiting => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let due = Duration::from_millis(note.due_ms);
            Some(due.saturating_sub(now.unwrap_or_default()))
        }
        Stage::Ending | Stage::Booting => Some(Duration::ZERO),
        Stage::Booted | Stage::GivenUp => None,
    };
    Some(Restarts {
        failures: note.failures,
        last_failure: note.why,
        // Whoever was killed does not come back.
        again_in: again_in.filter(|_| is_held),
    })
}

/// Takes the file's name away; whoever holds it sees that.
pub(crate) fn forget(container: &Container) -> Result<(), Errno> {
    match unlinkat(&container.folder, FILE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn noting_again(source: Errno) -> EngineError {
    EngineError::BootAgain {
        what: "cannot note that it is not tried again",
        source,
    }
}

fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_DELAY * (1 << doublings)).min(LONGEST_DELAY)
}

/// Says it where the user looks for what a container has said. What cannot be written is left out.
fn log(folder: BorrowedFd<'_>, note: &Note, delay: Option<Duration>) {
    let what = match delay {
        Some(delay) => format!("it is booted again in {:.1} s", delay.as_secs_f64()),
        None => "it is not booted again".into(),
    };
    let line = format!(
        "cocker: {} ({} in a row); {what}\r\n",
        note.why, note.failures
    );
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) = openat(folder, crate::console_log::LOG, flags, mode)
        && fstat(&file).is_ok_and(|found| (found.st_size as u64) < MOST_LOG)
    {
        let _ = rustix::io::write(&file, line.as_bytes());
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn render(note: &Note) -> String {
    let Note {
        stage,
        failures,
        due_ms,
        why,
    } = note;
    let stage = Stage::ALL.iter().find(|(known, _)| known == stage);
    let stage = stage.map_or("", |(_, word)| word);
    let mut line = format!("stage={stage} failures={failures} due={due_ms} why={why}");
    let mut end = line.len().min(SIZE - 1);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line.extend(std::iter::repeat_n(' ', SIZE - 1 - end));
    line.push('\n');
    line
}

fn read(file: BorrowedFd<'_>) -> Result<Note, Errno> {
    let mut bytes = [0u8; SIZE];
    let length = rustix::io::pread(file, &mut bytes, 0)?;
    Ok(parse(&bytes[..length]))
}

/// What cannot be read counts as the first stage, without a failure: the note decides nothing that the lock does not.
fn parse(bytes: &[u8]) -> Note {
    let text = String::from_utf8_lossy(bytes);
    let (head, why) = text.split_once(" why=").unwrap_or((&text, ""));
    let field = |key: &str| {
        head.split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let stage = Stage::ALL
        .iter()
        .find(|(_, word)| field("stage") == Some(word));
    Note {
        stage: stage.map_or(Stage::Ending, |(stage, _)| *stage),
        failures: field("failures")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0),
        due_ms: field("due").and_then(|it| it.parse().ok()).unwrap_or(0),
        why: why.trim_end().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_shown() {
        for text in [
            "no",
            "always",
            "on-failure",
            "on-failure:1",
            "on-failure:4000000000",
        ] {
            let policy: RestartPolicy = text.parse().expect(text);
            assert_eq!(policy.to_string(), text);
            let json = serde_json::to_string(&policy).expect("plain data");
            assert_eq!(json, format!("\"{text}\""));
            let read: RestartPolicy = serde_json::from_str(&json).expect("just written");
            assert_eq!(read, policy);
        }
        for bad in [
            "",
            "yes",
            "Always",
            "on-failure:",
            "on-failure:0",
            "on-failure:+1",
            "on-failure:-1",
            "on-failure: 1",
            "on-failure:5000000000",
            "unless-stopped",
        ] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_failure_is_a_status_or_a_signal_but_not_a_host_switched_off() {
        let on_failure = RestartPolicy::OnFailure { most: None };
        let (killed, reboot, off) = (9, 1, 2);
        for status in [1 << 8, 255 << 8, killed, killed | 0x80, reboot] {
            assert!(on_failure.wants(status), "{status:#x}");
        }
        for status in [0, off] {
            assert!(!on_failure.wants(status), "{status:#x}");
            assert!(RestartPolicy::Always.wants(status), "{status:#x}");
            assert!(!RestartPolicy::No.wants(status), "{status:#x}");
        }
    }

    #[test]
    fn the_time_doubles_up_to_a_minute() {
        let milliseconds = |failures| delay(failures).as_millis();
        let first: Vec<u128> = (1..=4).map(milliseconds).collect();
        assert_eq!(first, [100, 200, 400, 800]);
        assert_eq!(milliseconds(10), 51_200);
        for many in [11, 17, 1000, u32::MAX] {
            assert_eq!(milliseconds(many), 60_000);
        }
        assert_eq!(milliseconds(0), 100);
    }

    #[test]
    fn a_note_comes_back_as_it_was_written() {
        for (stage, _) in Stage::ALL {
            let note = Note {
                stage,
                failures: u32::MAX,
                due_ms: u64::MAX,
                why: "cannot boot: port 80 is taken: why=x".into(),
            };
            let line = render(&note);
            assert_eq!(line.len(), SIZE);
            assert_eq!(parse(line.as_bytes()), note);
        }
        let long = Note {
            why: "ä".repeat(SIZE),
            ..Note::default()
        };
        assert_eq!(render(&long).len(), SIZE);
        assert!(long.why.starts_with(&parse(render(&long).as_bytes()).why));
        assert_eq!(parse(b"\xff stage=x due=-1"), Note::default());
    }
}
