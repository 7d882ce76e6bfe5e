//! A command that was typed, and what came of it.

use super::{PATIENCE, here};
use rustix::process::{Pid, Signal};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// A command that runs on three pipes.
pub struct Started {
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
    since: Instant,
}

/// How a command ended and what it wrote. Each assertion gives it back, so they can be chained.
pub struct Outcome {
    line: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

/// What arrives on one pipe, read by a thread so that a full pipe never blocks the command.
struct Stream {
    arriving: Receiver<Vec<u8>>,
    arrived: Vec<u8>,
}

impl Started {
    #[track_caller]
    pub(super) fn new(mut command: Command, line: String) -> Started {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let since = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|why| panic!("cannot start {command:?}: {why}"));
        let stdin = child.stdin.take();
        let stdout = Stream::of(child.stdout.take().expect("it is piped"));
        let stderr = Stream::of(child.stderr.take().expect("it is piped"));
        Started {
            line,
            child,
            stdin,
            stdout,
            stderr,
            since,
        }
    }

    /// Writes `input` and closes the command's standard input, without waiting for it to be read.
    pub fn feed(mut self, input: &[u8]) -> Started {
        if let Some(mut stdin) = self.stdin.take() {
            let input = input.to_vec();
            // A command may end without reading; its closed pipe is no failure of the test.
            thread::spawn(move || stdin.write_all(&input));
        }
        self
    }

    /// Writes `input` to the command's standard input, which stays open.
    #[track_caller]
    pub fn type_in(&mut self, input: &[u8]) {
        let stdin = self.stdin.as_mut().expect("it was not closed yet");
        stdin.write_all(input).expect("the command reads");
    }

    /// Waits until the command has written `text` to standard output.
    #[track_caller]
    pub fn until_prints(&mut self, text: &str) {
        self.stdout.until_has(text, &self.line);
    }

    /// Waits until the command has written `text` to standard error.
    #[track_caller]
    pub fn until_complains(&mut self, text: &str) {
        self.stderr.until_has(text, &self.line);
    }

    /// Whether the command has written `text` to standard output by now.
    pub fn has_printed(&mut self, text: &str) -> bool {
        while self.stdout.wait(Instant::now()) {}
        String::from_utf8_lossy(&self.stdout.arrived).contains(text)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        let child = rustix::process::WaitId::Pid(self.pid());
        let look = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        matches!(rustix::process::waitid(child, look), Ok(None))
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("our own child can be signalled");
    }

    /// Waits for the command's end and the end of both streams.
    #[track_caller]
    pub fn outcome(mut self) -> Outcome {
        drop(self.stdin.take());
        let deadline = Instant::now() + here(PATIENCE);
        while self.stdout.wait(deadline) {}
        while self.stderr.wait(deadline) {}
        let status = wait(&mut self.child, deadline);
        let stderr = String::from_utf8_lossy(&self.stderr.arrived).into_owned();
        let Some(status) = status else {
            panic!(
                "`{}` did not end within {:?}; it said\n{stderr}",
                self.line,
                here(PATIENCE)
            );
        };
        Outcome {
            line: self.line.clone(),
            status,
            stdout: self.stdout.arrived.split_off(0),
            stderr,
            took: self.since.elapsed(),
        }
    }
}

impl Outcome {
    /// It could be done: exit status 0.
    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        self.exits(0)
    }

    /// It printed `OK` and nothing else, anywhere.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.exits(0).prints("OK\n")
    }

    #[track_caller]
    pub fn exits(self, status: i32) -> Outcome {
        assert_eq!(self.status.code(), Some(status), "exit status of {self}");
        self
    }

    /// It was killed by this signal.
    #[track_caller]
    pub fn dies_of(self, signal: Signal) -> Outcome {
        assert_eq!(
            self.status.signal(),
            Some(signal.as_raw()),
            "ending of {self}"
        );
        self
    }

    /// Standard output is exactly this.
    #[track_caller]
    pub fn prints(self, text: &str) -> Outcome {
        assert_eq!(
            String::from_utf8_lossy(&self.stdout),
            text,
            "output of {self}"
        );
        self
    }

    /// Standard error is exactly this.
    #[track_caller]
    pub fn complains(self, text: &str) -> Outcome {
        assert_eq!(self.stderr, text, "standard error of {self}");
        self
    }

    /// It failed with this status, printed nothing, and its error names each of these.
    #[track_caller]
    pub fn fails(self, status: i32, named: &[&str]) -> Outcome {
        let outcome = self.exits(status).prints("");
        assert!(
            outcome.stderr.starts_with("Error: "),
            "no error on standard error of {outcome}"
        );
        for text in named {
            assert!(
                outcome.stderr.contains(text),
                "`{text}` is not named by {outcome}"
            );
        }
        outcome
    }

    /// It failed with status 1 or 2, whichever of both it is, printed nothing, and its error names each of these.
    #[track_caller]
    pub fn refuses(self, named: &[&str]) -> Outcome {
        // What is wrong in itself is wrong usage; what is wrong here and now could not be done.
        let status = if self.status.code() == Some(2) { 2 } else { 1 };
        self.fails(status, named)
    }

    /// It took at most this long, or on a slow machine as much longer as that is slower.
    #[track_caller]
    pub fn within(self, longest: Duration) -> Outcome {
        assert!(
            self.took <= here(longest),
            "{:?} is too long for {self}",
            self.took
        );
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub fn stdout(&self) -> String {
        String::from_utf8(self.stdout.clone())
            .unwrap_or_else(|_| panic!("no UTF-8 printed by {self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
            if bytes.len() > 4096 {
                format!("{text}… ({} bytes)", bytes.len())
            } else {
                text
            }
        };
        write!(
            f,
            "`cocker {}` ({})\n-- stdout\n{}-- stderr\n{}",
            self.line,
            self.status,
            shown(&self.stdout),
            shown(self.stderr.as_bytes())
        )
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Of no effect on a command that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child until `deadline`; `None` when it still runs.
pub(super) fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait().expect("it is our child") {
            Some(status) => return Some(status),
            None if Instant::now() >= deadline => return None,
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

impl Stream {
    #[track_caller]
    fn until_has(&mut self, text: &str, line: &str) {
        let deadline = Instant::now() + here(PATIENCE);
        while !String::from_utf8_lossy(&self.arrived).contains(text) {
            if !self.wait(deadline) {
                let seen = String::from_utf8_lossy(&self.arrived);
                panic!("`{line}` never wrote `{text}`, only `{seen}`");
            }
        }
    }

    fn of(mut pipe: impl Read + Send + 'static) -> Stream {
        let (sender, arriving) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Stream {
            arriving,
            arrived: Vec::new(),
        }
    }

    /// Waits for more; false at the end of the stream or at `deadline`.
    fn wait(&mut self, deadline: Instant) -> bool {
        match self
            .arriving
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(bytes) => {
                self.arrived.extend(bytes);
                true
            }
            Err(_) => false,
        }
    }
}
