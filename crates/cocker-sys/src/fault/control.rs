//! The file by which a test and the processes of a command have to do with each other.
//!
//! ```text
//! 0      planned: the name of a point, which side, which time it is passed, what happens, with which errno
//! 76     how often that point was passed; what has come of it; how many records follow
//! 88     records of 64 bytes: side, name
//! ```
//!
//! Every field is an atomic number, so whoever has it mapped may look and write at any time.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Signal, getpid, kill_process};
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What a program finds the path of that file in; only the command reads it, and hands it down.
pub const VARIABLE: &str = "COCKER_FAULTS";

/// The longest name of a point, in bytes.
const LONGEST: usize = 60;

/// How many passed points are recorded; those of a longer command are cut off.
const MOST: usize = 16 * 1024;

/// On which side of its step a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Before,
    After,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process dies as by SIGKILL.
    Kill,
    /// The step fails; of no effect after it.
    Fail(Errno),
    /// The process waits until it is let go.
    Wait,
}

/// One side of one step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    pub name: String,
    pub side: Side,
}

/// What happens when a point is passed for the `time`th time, from 1 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub point: Point,
    pub time: u32,
    pub action: Action,
}

#[repr(C)]
struct Record {
    side: AtomicU32,
    name: [AtomicU8; LONGEST],
}

#[repr(C)]
struct Shared {
    planned: Record,
    time: AtomicU32,
    action: AtomicU32,
    errno: AtomicU32,
    passed: AtomicU32,
    outcome: AtomicU32,
    count: AtomicU32,
    records: [Record; MOST],
}

/// Values of `action`.
const NOTHING: u32 = 0;
const KILL: u32 = 1;
const FAIL: u32 = 2;
const WAIT: u32 = 3;

/// Values of `outcome`.
const HAPPENED: u32 = 1;
const WAITING: u32 = 2;
const LET_GO: u32 = 3;

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());
static PATH: OnceLock<OsString> = OnceLock::new();

/// Lets the file at `path` decide what happens at the points of this process and of those that it forks.
///
/// # Errors
/// What opening or mapping it answers.
pub fn install(path: &Path) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let shared = map(&file)?;
    let _ = PATH.set(path.into());
    SHARED.store(std::ptr::from_ref(shared).cast_mut(), SeqCst);
    Ok(())
}

/// The path of that file, for a program that is executed and shall have it too.
pub fn control_path() -> Option<OsString> {
    PATH.get().cloned()
}

fn map(file: &OwnedFd) -> Result<&'static Shared, Errno> {
    let size = size_of::<Shared>();
    if rustix::fs::fstat(file)?.st_size != size as i64 {
        return Err(Errno::INVAL);
    }
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses where, so nothing that is mapped already goes.
    let place = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            size,
            access,
            MapFlags::SHARED,
            file,
            0,
        )
    }?;
    // SAFETY: the mapping is as long as the struct, page-aligned and never unmapped; every bit pattern is an atomic number,
    // and others that have it mapped write by such numbers as well.
    Ok(unsafe { &*place.cast::<Shared>() })
}

/// What passing a point means. Allowed after a fork.
pub(super) fn pass(name: &'static str, side: Side) -> Result<(), Errno> {
    let shared = SHARED.load(SeqCst);
    // SAFETY: it is null, or what `install` has mapped for ever.
    let Some(shared) = (unsafe { shared.as_ref() }) else {
        return Ok(());
    };
    let place = shared.count.fetch_add(1, SeqCst) as usize;
    if let Some(record) = shared.records.get(place) {
        record.write(name, side);
    }
    let action = shared.action.load(SeqCst);
    if action == NOTHING || !shared.planned.is(name, side) {
        return Ok(());
    }
    if shared.passed.fetch_add(1, SeqCst) + 1 != shared.time.load(SeqCst) {
        return Ok(());
    }
    match action {
        KILL => {
            shared.outcome.store(HAPPENED, SeqCst);
            die()
        }
        FAIL if side == Side::Before => {
            shared.outcome.store(HAPPENED, SeqCst);
            Err(Errno::from_raw_os_error(shared.errno.load(SeqCst) as i32))
        }
        WAIT => {
            shared.outcome.store(WAITING, SeqCst);
            while shared.outcome.load(SeqCst) == WAITING {
                wait_for_change(&shared.outcome, WAITING);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// No destructor runs and nothing is written: as when the kernel kills it. It does not where this is the first process of a
/// pid namespace, which no signal from inside reaches.
fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    super::super::process::exit_now(137)
}

/// Sleeps until the number is woken, unless it is something else already (futex(2)).
fn wait_for_change(number: &AtomicU32, seen: u32) {
    // SAFETY: the number lives as long as the mapping; without a time there is nothing else that the call reads.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_futex,
            number.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            std::ptr::null::<libc::timespec>(),
        )
    };
}

fn wake(number: &AtomicU32) {
    // SAFETY: the number lives as long as the mapping, and nothing else is read.
    let _ = unsafe { libc::syscall(libc::SYS_futex, number.as_ptr(), libc::FUTEX_WAKE, 1) };
}

impl Record {
    fn write(&self, name: &str, side: Side) {
        let bytes = name.bytes().chain(std::iter::repeat(0));
        self.name
            .iter()
            .zip(bytes)
            .for_each(|(place, byte)| place.store(byte, SeqCst));
        // Last: it says that the rest is there.
        self.side.store(side as u32 + 1, SeqCst);
    }

    fn is(&self, name: &str, side: Side) -> bool {
        let bytes = name.bytes().chain(std::iter::repeat(0));
        self.side.load(SeqCst) == side as u32 + 1
            && self
                .name
                .iter()
                .zip(bytes)
                .all(|(place, byte)| place.load(SeqCst) == byte)
    }

    fn point(&self) -> Option<Point> {
        let side = match self.side.load(SeqCst) {
            1 => Side::Before,
            2 => Side::After,
            _ => return None,
        };
        let bytes = self.name.iter().map(|place| place.load(SeqCst));
        let name = bytes.take_while(|&byte| byte != 0).collect();
        let name = String::from_utf8(name).ok()?;
        Some(Point { name, side })
    }
}

/// The file, as a test has it.
pub struct Control {
    shared: &'static Shared,
}

impl Control {
    /// Makes the file at `path`, in place of one that may be there.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn make(path: &Path) -> Result<Control, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ftruncate(&file, size_of::<Shared>() as u64)?;
        Ok(Control {
            shared: map(&file)?,
        })
    }

    /// Forgets what was passed, and lets `plan` happen from now on.
    pub fn begin(&self, plan: Option<&Plan>) {
        let shared = self.shared;
        shared.action.store(NOTHING, SeqCst);
        let recorded = shared.count.swap(0, SeqCst) as usize;
        let records = shared.records.iter().take(recorded);
        records.for_each(|record| record.side.store(0, SeqCst));
        shared.passed.store(0, SeqCst);
        shared.outcome.store(0, SeqCst);
        let Some(Plan {
            point,
            time,
            action,
        }) = plan
        else {
            return;
        };
        shared.planned.write(&point.name, point.side);
        shared.time.store(*time, SeqCst);
        let action = match action {
            Action::Kill => KILL,
            Action::Wait => WAIT,
            Action::Fail(errno) => {
                shared.errno.store(errno.raw_os_error() as u32, SeqCst);
                FAIL
            }
        };
        shared.action.store(action, SeqCst);
    }

    /// The points that were passed, in their order.
    pub fn passed(&self) -> Vec<Point> {
        let recorded = self.shared.count.load(SeqCst) as usize;
        let records = self.shared.records.iter().take(recorded);
        records.filter_map(Record::point).collect()
    }

    /// Whether more was passed than could be recorded.
    pub fn is_cut_off(&self) -> bool {
        self.shared.count.load(SeqCst) as usize > MOST
    }

    /// Whether what was planned has happened.
    pub fn has_happened(&self) -> bool {
        self.shared.outcome.load(SeqCst) != 0
    }

    /// Waits until a process waits at the planned point; false where none does within `most`.
    pub fn is_waited_at(&self, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        while self.shared.outcome.load(SeqCst) != WAITING {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Lets the process that waits go on.
    pub fn let_go(&self) {
        self.shared.outcome.store(LET_GO, SeqCst);
        wake(&self.shared.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{after, before, step};
    use super::*;

    // One test, since points are those of the whole process.
    #[test]
    fn a_plan_happens_at_its_point_and_its_time_only() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("control");
        assert_eq!(install(&path), Err(Errno::NOENT));
        let control = Control::make(&path).expect("the folder is ours");
        assert_eq!(before("a"), Ok(()), "nothing is installed");
        install(&path).expect("it is a control file");
        assert_eq!(control_path(), Some(path.into_os_string()));

        let point = |name: &str, side| Point {
            name: name.into(),
            side,
        };
        control.begin(Some(&Plan {
            point: point("a", Side::Before),
            time: 2,
            action: Action::Fail(Errno::NOSPC),
        }));
        let mut done = Vec::new();
        let mut walk = |name| {
            step(name, || -> Result<(), Errno> {
                done.push(name);
                Ok(())
            })
        };
        assert_eq!(walk("a"), Ok(()));
        assert_eq!(walk("ab"), Ok(()));
        assert!(!control.has_happened());
        assert_eq!(walk("a"), Err(Errno::NOSPC));
        assert!(control.has_happened());
        assert_eq!(walk("a"), Ok(()), "once");
        assert_eq!(done, ["a", "ab", "a"]);
        let passed: Vec<String> = control
            .passed()
            .into_iter()
            .map(|point| format!("{:?} {}", point.side, point.name))
            .collect();
        let expected = [
            "Before a",
            "After a",
            "Before ab",
            "After ab",
            "Before a",
            "Before a",
            "After a",
        ];
        assert_eq!(passed, expected);

        control.begin(Some(&Plan {
            point: point("a", Side::After),
            time: 1,
            action: Action::Wait,
        }));
        assert!(control.passed().is_empty());
        let waiting = std::thread::spawn(|| after("a"));
        assert!(control.is_waited_at(Duration::from_secs(30)));
        assert!(!waiting.is_finished());
        control.let_go();
        waiting.join().expect("it goes on");
        control.begin(None);
        assert_eq!(before("a"), Ok(()));
    }
}
