//! In a booted container: commands, terminals, memory.

use super::{About, Rows, about};
use crate::engines::{Net, s, strs};
use crate::place::Outcome;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

impl Rows<'_> {
    /// A container of each that stays booted: commands, terminals, memory.
    pub(super) fn booted(&mut self) {
        if !["run-true", "attach", "memory"]
            .iter()
            .any(|id| self.plan.wants(id))
        {
            return;
        }
        let mut names: BTreeMap<&str, Outcome<String>> = BTreeMap::new();
        for subject in &self.plan.subjects {
            let boot = || -> Outcome<String> {
                self.engines.can(subject, Net::Host)?;
                let name = self.name();
                self.engines.create(subject, &name, Net::Host)?;
                self.engines.boot(subject, &name, Net::Host)?;
                Ok(name)
            };
            names.insert(subject, boot());
        }
        let begin = |_: &Self, subject: &'static str| {
            names
                .get(subject)
                .cloned()
                .unwrap_or_else(|| Err(s("it is not measured")))
        };
        self.row(
            About {
                note: "floor: setns(2), fork, execution, wait; cocker's command is born inside, of init, and its streams are the client's",
                ..about("run-true", "run true in a booted container", "2 ms, 15 × faster than podman exec and docker exec")
            },
            self.plan.rounds * 2,
            begin,
            |rows, subject, name| rows.engines.run_true(subject, name),
            |_, _, _| {},
        );
        self.row(
            about("attach", "attach until the first prompt of bash", ""),
            self.plan.rounds,
            begin,
            |rows, subject, name| rows.prompt(subject, name),
            |_, _, _| {},
        );
        let row = About {
            unit: "KiB",
            note: "proportional set size of the root process and of what stays outside for it: cocker's supervisor, conmon, containerd-shim, lxc-start, \
                   systemd-nspawn; without dockerd and containerd. The peers' root process is `sleep`, whose C library is in memory once for all",
            ..about("memory", "memory of a booted idle container", "128 KiB")
        };
        self.row(
            row,
            3,
            begin,
            |rows, subject, name| rows.engines.memory(subject, name),
            |_, _, _| {},
        );
        for (subject, name) in &names {
            if let Ok(name) = name {
                self.engines.discard(subject, name);
            }
        }
    }

    /// Milliseconds from the command to the `#` of the shell, on a terminal.
    fn prompt(&self, subject: &str, name: &str) -> Outcome<f64> {
        let words = self
            .engines
            .run_words(subject, name, true, &["/bin/bash"])?;
        let look = || -> Outcome<f64> {
            let problem = |error: rustix::io::Errno| format!("no terminal: {error}");
            let flags = rustix::pty::OpenptFlags::RDWR
                | rustix::pty::OpenptFlags::NOCTTY
                | rustix::pty::OpenptFlags::CLOEXEC;
            let master = rustix::pty::openpt(flags).map_err(problem)?;
            rustix::pty::grantpt(&master).map_err(problem)?;
            rustix::pty::unlockpt(&master).map_err(problem)?;
            let path = rustix::pty::ptsname(&master, Vec::new()).map_err(problem)?;
            let path = path.to_string_lossy().into_owned();
            let other = File::options()
                .read(true)
                .write(true)
                .open(path)
                .map_err(|error| error.to_string())?;
            let handle = || {
                other
                    .try_clone()
                    .map(Stdio::from)
                    .map_err(|error| error.to_string())
            };
            let mut command = self.engines.place.command(&strs(&words))?;
            command
                .stdin(handle()?)
                .stdout(handle()?)
                .stderr(handle()?)
                .env("TERM", "xterm");
            let begun = Instant::now();
            let mut child = command.spawn().map_err(|error| error.to_string())?;
            drop(command);
            drop(other);
            let mut master = File::from(master);
            let (mut shown, mut buffer) = (String::new(), [0; 4096]);
            let mut took = None;
            while begun.elapsed() < Duration::from_secs(20) {
                use rustix::event::{PollFd, PollFlags, Timespec, poll};
                let second = Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                };
                if poll(&mut [PollFd::new(&master, PollFlags::IN)], Some(&second)) == Ok(0) {
                    continue;
                }
                let Ok(length @ 1..) = master.read(&mut buffer) else {
                    break;
                };
                shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
                if shown.contains("# ") {
                    took = Some(begun.elapsed().as_secs_f64() * 1e3);
                    break;
                }
            }
            let _ = master.write_all(b"exit\n");
            // Until the client has seen it; what it still shows is read, so that it can end.
            let until = Instant::now();
            while until.elapsed() < Duration::from_secs(5) && matches!(child.try_wait(), Ok(None)) {
                use rustix::event::{PollFd, PollFlags, Timespec, poll};
                let moment = Timespec {
                    tv_sec: 0,
                    tv_nsec: 10_000_000,
                };
                if poll(&mut [PollFd::new(&master, PollFlags::IN)], Some(&moment)) != Ok(0) {
                    let _ = master.read(&mut buffer);
                }
            }
            let _ = child.kill();
            let _ = child.wait();
            took.ok_or_else(|| {
                format!(
                    "no prompt was seen: {:?}",
                    shown.chars().take(200).collect::<String>()
                )
            })
        };
        if matches!(subject, "crun" | "podman") {
            self.engines.place.aside(look)
        } else {
            look()
        }
    }
}
