//! What a session and a command carry, beside a terminal and a pipe of the kernel's with nothing in between.
//!
//! Needs root and the program `unshare`. Rounds alternate, so that a machine that is slow for a while is slow for all; each
//! figure is the median of them.
#![forbid(unsafe_code)]

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

const INSIDE: &str = "COCKER_BENCH_INSIDE";
const ROUNDS: usize = 5;
/// What is shown by `cat`, in bytes.
const SHOWN: u64 = 300_000_000;
/// What goes through a pipe, in bytes.
const PIPED: u64 = 4_000_000_000;
const KEYS: usize = 300;
const RUNS: usize = 200;

fn main() {
    if env::args().any(|argument| argument == "--test") {
        return; // asked for by a run of all tests, which wants no figures
    }
    if env::var_os(INSIDE).is_none() {
        let why = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "--"])
            .arg(env::current_exe().expect("a program has a path"))
            .env(INSIDE, "1")
            .exec();
        panic!("cannot execute `unshare`: {why}");
    }
    let bench = Bench::new();
    println!("| what | cocker | nothing in between | |\n|---|---|---|---|");
    bench.screens();
    bench.keys();
    bench.pipes();
    bench.lines();
}

struct Bench {
    home: PathBuf,
    cgroup: String,
    text: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let name = format!("cocker-bench-{}", std::process::id());
        let home = PathBuf::from("/var/tmp").join(&name);
        fs::create_dir(&home).expect("a new folder");
        let mut bench = Bench {
            home,
            cgroup: name,
            text: PathBuf::new(),
        };
        bench.quietly("install-test");
        bench.quietly("create -m test -c web");
        bench.quietly("boot web");
        let line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let script = format!("yes {line} | head -c {SHOWN} > /text");
        let made = bench.cocker(&["run", "web", "--cmd", &script]).status();
        assert!(made.expect("cocker starts").success());
        let root = bench.cocker(&["root", "web"]).output().expect("it starts");
        let root = String::from_utf8(root.stdout).expect("a path");
        bench.text = PathBuf::from(root.trim_end()).join("text");
        bench
    }

    fn cocker(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocker"));
        command
            .args(words)
            .env("COCKER_HOME", &self.home)
            .env("COCKER_CGROUP", &self.cgroup)
            .env("TERM", "dumb");
        command
    }

    fn quietly(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let status = self.cocker(&words).stdout(Stdio::null()).status();
        assert!(status.expect("cocker starts").success(), "cocker {line}");
    }

    /// Megabytes a second of `cat`. Through a session and onto the user's terminal it crosses two terminals, where it crosses
    /// one with nothing in between; with standard output elsewhere it crosses one, too.
    fn screens(&self) {
        let [onto_terminal, elsewhere, plain] = medians(|| {
            let mut session = Terminal::of(self.cocker(&["attach", "web", "--new"]));
            session.until(b"/root] ");
            let start = Instant::now();
            session.type_keys("cat /text; exit\r");
            session.drain();
            let onto_terminal = start.elapsed();

            let inside = ["run", "web", "--tty", "--", "cat", "/text"];
            let mut command = self.cocker(&inside);
            command.stdout(Stdio::null());
            let start = Instant::now();
            let mut session = Terminal::with_output(command, true);
            session.drain();
            let elsewhere = start.elapsed();

            let mut cat = Command::new("cat");
            cat.arg(&self.text);
            let start = Instant::now();
            let mut terminal = Terminal::of(cat);
            terminal.drain();
            [onto_terminal, elsewhere, start.elapsed()]
        });
        let speed = |time: Duration| SHOWN as f64 / 1e6 / time.as_secs_f64();
        row(
            "`cat` onto a terminal, MB/s",
            speed(onto_terminal),
            speed(plain),
        );
        row("`cat` into /dev/null, MB/s", speed(elsewhere), speed(plain));
    }

    /// How long a key takes to `cat` and back.
    fn keys(&self) {
        let inside = [
            "run",
            "web",
            "--tty",
            "--",
            "sh",
            "-c",
            "stty raw -echo; echo ready; cat",
        ];
        let mut session = Terminal::of(self.cocker(&inside));
        let mut plain = Command::new("sh");
        plain.args(["-c", "stty raw -echo; echo ready; cat"]);
        let mut plain = Terminal::of(plain);
        session.until(b"ready");
        plain.until(b"ready");
        session.drain_for(Duration::from_millis(50));
        plain.drain_for(Duration::from_millis(50));
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..KEYS {
            for (terminal, times) in [&mut session, &mut plain].into_iter().zip(&mut times) {
                let start = Instant::now();
                terminal.type_keys("x");
                terminal.until(b"x");
                times.push(start.elapsed());
            }
        }
        let [ours, plain] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e6
        });
        row("a key to a program and back, µs", ours, plain);
    }

    /// Gigabytes a second through standard output.
    fn pipes(&self) {
        let count = PIPED.to_string();
        let drained = |mut command: Command| {
            let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
            let mut sink = Command::new("dd");
            sink.args(["of=/dev/null", "bs=1M", "status=none"])
                .stdin(child.stdout.take().expect("a pipe"));
            let start = Instant::now();
            assert!(sink.status().expect("dd starts").success());
            assert!(child.wait().expect("it is ours").success());
            start.elapsed()
        };
        let [ours, plain] = medians(|| {
            let ours =
                drained(self.cocker(&["run", "web", "--", "head", "-c", &count, "/dev/zero"]));
            let mut head = Command::new("head");
            head.args(["-c", &count, "/dev/zero"]);
            [ours, drained(head)]
        });
        let speed = |time: Duration| PIPED as f64 / 1e9 / time.as_secs_f64();
        row("`run` through a pipe, GB/s", speed(ours), speed(plain));
    }

    /// How long the shortest line of a shell takes.
    fn lines(&self) {
        let timed = |mut command: Command| {
            let start = Instant::now();
            assert!(command.status().expect("it starts").success());
            start.elapsed()
        };
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            times[0].push(timed(self.cocker(&["run", "web", "--cmd", "true"])));
            let mut shell = Command::new("sh");
            shell.args(["-c", "true"]);
            times[1].push(timed(shell));
        }
        let [ours, plain] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e3
        });
        row("`run --cmd true` beside `sh -c true`, ms", ours, plain);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.quietly("destroy web --shutdown");
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn row(what: &str, ours: f64, plain: f64) {
    println!(
        "| {what} | {ours:.2} | {plain:.2} | {:.2} × |",
        ours / plain
    );
}

/// Medians of alternating rounds.
fn medians<const N: usize>(mut round: impl FnMut() -> [Duration; N]) -> [Duration; N] {
    let rounds: Vec<[Duration; N]> = (0..ROUNDS).map(|_| round()).collect();
    std::array::from_fn(|which| {
        let mut times: Vec<Duration> = rounds.iter().map(|times| times[which]).collect();
        times.sort();
        times[times.len() / 2]
    })
}

/// A command on a terminal of its own.
struct Terminal {
    master: File,
    child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    fn of(command: Command) -> Terminal {
        Terminal::with_output(command, false)
    }

    fn with_output(mut command: Command, goes_elsewhere: bool) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&name, flags, Mode::empty()).expect("its other end");
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("it has a size");
        let copy = || Stdio::from(slave.try_clone().expect("a descriptor"));
        command.stdin(copy()).stderr(copy());
        // The command may say otherwise.
        if !goes_elsewhere {
            command.stdout(copy());
        }
        let child = command.spawn().expect("it starts");
        Terminal {
            master: master.into(),
            child,
            seen: Vec::new(),
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("it is taken");
    }

    /// Reads up to and with `text`.
    fn until(&mut self, text: &[u8]) {
        let mut buffer = [0; 4096];
        loop {
            let found = self
                .seen
                .windows(text.len())
                .position(|there| there == text);
            if let Some(at) = found {
                self.seen.drain(..at + text.len());
                return;
            }
            let count = self.master.read(&mut buffer).expect("it shows something");
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads what comes within a time in which nothing need come.
    fn drain_for(&mut self, time: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec::try_from(time).expect("a short time");
        let mut buffer = [0; 4096];
        loop {
            let mut polled = [PollFd::new(&self.master, PollFlags::IN)];
            if poll(&mut polled, Some(&timeout)) != Ok(1) {
                self.seen.clear();
                return;
            }
            let _ = self.master.read(&mut buffer);
        }
    }

    /// Reads until the last program has closed it.
    fn drain(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        while self.master.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
