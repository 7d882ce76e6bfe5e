//! An ordinary user of the test's host, with ids of its own in /etc/subuid and /etc/subgid, a home folder and a store in it.
//!
//! Who is a user is written into copies of the machine's files, which cover those in the mount namespace of the tests.

use super::outcome::{Outcome, Started};
use super::terminal::Terminal;
use super::{Host, base, here, next_number, words};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

/// What says who is a user, and which ids that one has.
const FILES: [&str; 4] = ["passwd", "group", "subuid", "subgid"];

/// The number of the first test's user, and of the first of the ids that it has besides.
const FIRST: u32 = 40_000;
const FIRST_BESIDES: u32 = 0x5000_0000;
const BESIDES: u32 = 65_536;

/// Whether a user finds ids besides its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    Many,
    /// The administrator has given it none.
    One,
    /// The administrator has given it a hundred.
    Few,
    /// A hundred, and then as many as usual.
    InTwoPieces,
}

/// A user; its processes are ended, and its files removed, by drop.
pub struct User<'a> {
    host: &'a Host,
    id: u32,
    first_besides: u32,
    home: PathBuf,
}

/// Covers the machine's files of users by copies, and the device of tap interfaces by one that everybody may open, as
/// distributions have it.
pub(super) fn cover_files() -> Result<(), String> {
    for name in FILES {
        let (file, cover) = (Path::new("/etc").join(name), cover(name));
        let text = fs::read(&file).unwrap_or_default();
        fs::write(&cover, text).map_err(|why| format!("{}: {why}", cover.display()))?;
        if !file.exists() {
            fs::write(&file, "").map_err(|why| format!("{}: {why}", file.display()))?;
        }
        bind(&cover, &file)?;
    }
    let (tun, cover) = (Path::new("/dev/net/tun"), cover("tun"));
    if tun.exists() {
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        mknodat(CWD, &cover, kind, mode, makedev(10, 200))
            .and_then(|()| rustix::fs::chmod(&cover, mode))
            .map_err(|why| format!("{}: {why}", cover.display()))?;
        bind(&cover, tun)?;
    }
    Ok(())
}

/// Uncovers them again.
pub(super) fn uncover_files() {
    let files = FILES.map(|name| Path::new("/etc").join(name));
    for file in files
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new("/dev/net/tun")])
    {
        let _ = Command::new("umount")
            .arg(file)
            .stderr(std::process::Stdio::null())
            .status();
    }
}

fn cover(name: &str) -> PathBuf {
    base().join(format!("etc-{name}"))
}

fn bind(from: &Path, to: &Path) -> Result<(), String> {
    let mounted = Command::new("mount")
        .arg("--bind")
        .arg(from)
        .arg(to)
        .status();
    match mounted.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err(format!("cannot mount a file on {}", to.display())),
    }
}

impl<'a> User<'a> {
    #[track_caller]
    pub fn new(host: &'a Host, ids: Ids) -> User<'a> {
        let number = next_number();
        let id = FIRST + number;
        let home = base().join(format!("{number}.user"));
        fs::create_dir(&home).expect("the base folder is ours");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("it is ours");
        chown(&home, Some(id), Some(id)).expect("we are root");
        let user = User {
            host,
            id,
            first_besides: FIRST_BESIDES + number * BESIDES,
            home,
        };
        user.write_files(ids);
        user
    }

    fn write_files(&self, ids: Ids) {
        static WRITING: Mutex<()> = Mutex::new(());
        let _writing = WRITING.lock().unwrap_or_else(|test| test.into_inner());
        let (id, home) = (self.id, self.home.display());
        let besides = format!("u{id}:{}:{BESIDES}\n", self.first_besides);
        let mut lines = vec![
            ("passwd", format!("u{id}:x:{id}:{id}::{home}:/bin/sh\n")),
            ("group", format!("u{id}:x:{id}:\n")),
        ];
        let few = format!("u{id}:{}:100\n", FIRST_BESIDES - BESIDES);
        let given = match ids {
            Ids::Many => besides,
            Ids::One => String::new(),
            Ids::Few => few,
            Ids::InTwoPieces => few + &besides,
        };
        lines.extend([("subuid", given.clone()), ("subgid", given)]);
        for (name, line) in lines {
            let file = fs::File::options().append(true).open(cover(name));
            let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
            written.expect("the base folder is ours");
        }
    }

    /// As the host knows the user.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// As the host knows who is `inside` in the user's containers.
    pub fn id_of(&self, inside: u32) -> u32 {
        match inside {
            0 => self.id,
            other => self.first_besides + other - 1,
        }
    }

    /// The user's home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Where its images and containers are.
    pub fn store(&self) -> PathBuf {
        self.home.join(".local/share/cocker")
    }

    /// A program as this user, with a user's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.host.command("setpriv");
        let id = self.id;
        command
            .args([format!("--reuid={id}"), format!("--regid={id}")])
            .args(["--clear-groups", "--inh-caps=-all", "--", program])
            .env_remove("COCKER_HOME")
            .env_remove("COCKER_CGROUP")
            .env("HOME", &self.home)
            .current_dir(&self.home);
        command
    }

    /// Types `cocker LINE` as this user.
    #[track_caller]
    pub fn cocker(&self, line: &str) -> Outcome {
        self.start(line).feed(b"").outcome()
    }

    #[track_caller]
    pub fn start(&self, line: &str) -> Started {
        let mut command = self.command("cocker");
        command.args(words(line));
        Started::new(command, line.to_string())
    }

    /// Types a line into this user's shell.
    #[track_caller]
    pub fn shell(&self, line: &str) -> Outcome {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        Started::new(command, line.to_string()).feed(b"").outcome()
    }

    /// What `command` prints in booted container `name`, without the last line's end.
    #[track_caller]
    pub fn inside(&self, name: &str, command: &str) -> String {
        let mut run = self.command("cocker");
        run.args(["run", name, "--", "sh", "-c", command]);
        let outcome = Started::new(run, command.to_string()).feed(b"").outcome();
        outcome.succeeds().stdout().trim_end().to_string()
    }

    /// This user's shell on a terminal.
    #[track_caller]
    pub fn terminal(&self) -> Terminal {
        let id = self.id;
        let home = self.home.display();
        let line = format!(
            "unset COCKER_HOME COCKER_CGROUP; export HOME={home}; cd; PS1='# ' exec setpriv --reuid={id} --regid={id} --clear-groups -- sh -i"
        );
        Terminal::open(self.host, &["sh".into(), "-c".into(), line], "dumb")
    }

    /// Pid of the root process of booted container `name` on the host.
    #[track_caller]
    pub fn root_process(&self, name: &str) -> i32 {
        let listing = self.cocker("-s containers").succeeds().stdout();
        let line = listing
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let status = line.and_then(|line| line.split_whitespace().last());
        let pid = status.and_then(|status| {
            status
                .strip_prefix("RUNNING(")?
                .strip_suffix(')')?
                .parse()
                .ok()
        });
        pid.unwrap_or_else(|| panic!("{name} is not running in\n{listing}"))
    }

    /// The processes of this user and of its containers.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        let all = super::processes().into_iter();
        let ours = all.filter(|process| self.owns(process.pid));
        ours.filter_map(|process| Some((Pid::from_raw(process.pid)?, process.command_line())))
            .collect()
    }

    fn owns(&self, pid: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let uid = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
        uid.is_some_and(|uid| {
            uid == self.id || (self.first_besides..self.first_besides + BESIDES).contains(&uid)
        })
    }

    /// Asserts that no process, container or mount of this user is left.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        let deadline = Instant::now() + here(Duration::from_secs(5));
        loop {
            let mut left: Vec<String> = self
                .processes()
                .iter()
                .map(|it| format!("{it:?}"))
                .collect();
            for folder in ["containers", "ids", "addresses", "transfers"] {
                let entries = fs::read_dir(self.store().join(folder))
                    .into_iter()
                    .flatten();
                left.extend(
                    entries
                        .flatten()
                        .map(|entry| entry.path().display().to_string()),
                );
            }
            if left.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind:\n{}",
                left.join("\n")
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            // Asked again now that the number cannot be given to another process unnoticed.
            if self.owns(pid.as_raw_nonzero().get()) {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}
