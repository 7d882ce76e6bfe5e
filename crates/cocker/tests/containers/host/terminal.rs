//! A user at a terminal: a pty whose slave is the controlling terminal of one command.

use super::{Host, PATIENCE, here, outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Instant;

/// The user's end: what is typed goes in, what the screen shows comes out.
pub struct Terminal {
    master: OwnedFd,
    child: Child,
    /// All that was shown since the start.
    shown: Vec<u8>,
    /// How much of it the expectations have passed.
    passed: usize,
    /// What a terminal makes of it.
    display: vt100::Parser,
}

impl Terminal {
    /// Starts a command on a fresh terminal of 24 rows and 200 columns. A dumb one has no colours and no bracketed paste, so
    /// that the screen can be compared word for word.
    #[track_caller]
    pub(super) fn open(host: &Host, words: &[String], kind: &str) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pty can be had");
        grantpt(&master).expect("the pty is ours");
        unlockpt(&master).expect("the pty is ours");
        let name = ptsname(&master, Vec::new()).expect("the pty has a name");
        let slave = rustix::fs::open(
            &name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .expect("the pty's other end can be opened");
        tcsetwinsize(&master, size(24, 200)).expect("a pty has a size");

        // `setsid --ctty` makes the pty its controlling terminal and executes the command in the same process.
        let mut command = host.command("setsid");
        command.arg("--ctty").args(words);
        command.env("TERM", kind);
        let copy = || Stdio::from(slave.try_clone().expect("a descriptor can be had"));
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let child = command
            .spawn()
            .unwrap_or_else(|why| panic!("cannot start {command:?}: {why}"));
        Terminal {
            master,
            child,
            shown: Vec::new(),
            passed: 0,
            display: vt100::Parser::new(side(24), side(200), 0),
        }
    }

    /// Starts the host's own interactive shell on a terminal.
    #[track_caller]
    pub fn of_a_shell(host: &Host) -> Terminal {
        Terminal::open(host, &["sh".into(), "-i".into()], "dumb")
    }

    /// Types a line and Return.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        self.type_keys(&format!("{line}\r"));
    }

    /// Types keys as they are.
    #[track_caller]
    pub fn type_keys(&mut self, keys: &str) {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            let written =
                rustix::io::write(&self.master, rest).expect("the terminal takes what is typed");
            rest = &rest[written..];
        }
    }

    /// Waits until the screen shows `text` after what was expected before; returns what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + here(PATIENCE);
        let mut searched = 0;
        loop {
            let unseen = &self.shown[self.passed..];
            let found = unseen[searched..]
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found.map(|at| searched + at) {
                let before = String::from_utf8_lossy(&unseen[..at]).into_owned();
                self.passed += at + text.len();
                return before;
            }
            // What is found next may begin in what is here.
            searched = unseen.len().saturating_sub(text.len() - 1);
            assert!(
                self.read(deadline),
                "`{text}` was never shown; the whole screen:\n{}",
                self.screen()
            );
        }
    }

    /// Waits for the command's end; returns its status.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + here(PATIENCE);
        while self.read(deadline) {}
        let status = outcome::wait(&mut self.child, deadline);
        status.unwrap_or_else(|| {
            panic!(
                "the command does not end; the whole screen:\n{}",
                self.screen()
            )
        })
    }

    /// Waits for the command's end and asserts its exit status.
    #[track_caller]
    pub fn exits(&mut self, status: i32) {
        let ended = self.end();
        assert_eq!(
            ended.code(),
            Some(status),
            "exit status ({ended}); the whole screen:\n{}",
            self.screen()
        );
    }

    /// Closes the terminal's window: the kernel hangs up, and the command must end by it.
    #[track_caller]
    pub fn close_window(mut self) {
        let nothing = std::fs::File::open("/dev/null").expect("every machine has one");
        // The master is closed by being replaced.
        self.master = nothing.into();
        let ended = outcome::wait(&mut self.child, Instant::now() + here(PATIENCE));
        assert!(ended.is_some(), "the command outlives its terminal");
    }

    /// Sends a signal to the command.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("our own child can be signalled");
    }

    /// Kills the command at once and waits for its end.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.end().signal(), Some(Signal::KILL.as_raw()));
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Changes the window's size, of which the command is told.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.display.set_size(side(rows), side(columns));
        tcsetwinsize(&self.master, size(rows, columns)).expect("a pty has a size");
    }

    /// The line discipline's settings, to be compared.
    pub fn settings(&self) -> String {
        // The kernel answers for the other end when the master is asked.
        format!("{:?}", tcgetattr(&self.master).expect("a pty has settings"))
    }

    /// All that was shown since the start.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// All that was shown since the start, as it came.
    pub fn shown(&self) -> &[u8] {
        &self.shown
    }

    /// Waits until what stands on the screen is as it should be; `what` says how.
    #[track_caller]
    pub fn until_drawn(&mut self, what: &str, is_so: impl Fn(&vt100::Screen) -> bool) {
        let deadline = Instant::now() + here(PATIENCE);
        while !is_so(self.display.screen()) {
            assert!(
                self.read(deadline),
                "never drawn: {what}; what stands on the screen:\n{}",
                self.display.screen().contents()
            );
        }
    }

    /// What stands on the screen.
    pub fn drawn(&self) -> &vt100::Screen {
        self.display.screen()
    }

    /// Reads what has come; false at `deadline` or when nobody is at the other end.
    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        match poll(&mut ready, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return true,
            Err(why) => panic!("cannot wait for a terminal: {why}"),
        }
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => false,
            Ok(length) => {
                self.shown.extend_from_slice(&buffer[..length]);
                self.display.process(&buffer[..length]);
                true
            }
            Err(why) => panic!("cannot read a terminal: {why}"),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Of no effect on a command that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn side(length: u16) -> NonZeroU16 {
    NonZeroU16::new(length).expect("a screen has a size")
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
