//! A folder with keys, and OpenSSH's programs to compare with.

use cocker_image::signature::{
    AllowedSigners, Passphrase, SignatureError, SigningKey, WrittenTime,
};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Who signs, for ssh-keygen, which wants to be told.
pub const WHO: &str = "who@example.com";
/// What is signed.
pub const MESSAGE: &[u8] =
    b"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03  web:1.0.0\n";
/// When both look, in seconds since 1970: 2026-07-01 12:00:00 in UTC.
const NOW: u64 = 1_782_907_200;
const NOW_WRITTEN: &str = "20260701120000Z";
/// How far the clock of the lab is ahead of UTC, and how POSIX says that.
const AHEAD: Duration = Duration::from_secs(3 * 3600);
const ZONE: &str = "LAB-3";

pub struct Lab {
    folder: TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        Lab {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// Makes a key with `ssh-keygen -t`, and whatever else is said.
    pub fn key(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut command = self.command("ssh-keygen");
        command
            .args(["-q", "-C", "made for a test", "-f"])
            .arg(&path);
        if !arguments.contains(&"-N") {
            command.args(["-N", ""]);
        }
        succeeds(command.arg("-t").args(arguments));
        path
    }

    /// `KEYTYPE BASE64` of a key.
    pub fn public(&self, key: &Path) -> String {
        let text = fs::read_to_string(public_path(key)).expect("ssh-keygen wrote it");
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// A program that knows no agent and nothing of the user, in the lab's time zone.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.folder.path())
            .env("TZ", ZONE)
            .current_dir(self.folder.path());
        command
    }

    /// A signature as ssh-keygen makes it.
    pub fn theirs(&self, key: &Path, namespace: &str) -> String {
        let mut command = self.command("ssh-keygen");
        command.args(["-Y", "sign", "-n", namespace, "-f"]).arg(key);
        let output = feed(&mut command, MESSAGE);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("armour is ASCII")
    }

    /// A signature as it is made here.
    pub fn ours(&self, key: &Path) -> String {
        let mut key = SigningKey::open(key, None, &mut nobody).expect("a key");
        key.sign(MESSAGE).expect("signed")
    }

    /// Whether ssh-keygen accepts it.
    pub fn they_accept(&self, allowed: &Path, message: &[u8], armoured: &str) -> bool {
        let signature = self.write("signature-to-check", armoured);
        let mut command = self.command("ssh-keygen");
        command
            .args(["-Y", "verify", "-I", WHO, "-n", "cocker-image"])
            .arg(format!("-Overify-time={NOW_WRITTEN}"))
            .arg("-f")
            .arg(allowed)
            .arg("-s")
            .arg(signature);
        feed(&mut command, message).status.success()
    }

    /// Who it is here.
    pub fn we_say(
        &self,
        allowed: &Path,
        message: &[u8],
        armoured: &str,
    ) -> Result<String, SignatureError> {
        AllowedSigners::open(allowed, &local)?.verify(message, armoured, now())
    }
}

pub fn public_path(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push(".pub");
    path.into()
}

pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// When the lab's clock shows it; the lab knows two months.
pub fn local(written: WrittenTime) -> Option<SystemTime> {
    let ((year, month, day), (hour, minute, second)) = (written.date, written.time);
    let days_before_july = match (year, month) {
        (2026, 7) => 0,
        (2026, 1) => 181,
        unknown => panic!("{unknown:?} is not in the lab's calendar"),
    };
    let into_month = Duration::from_secs(
        (u64::from(day) - 1) * 86_400
            + u64::from(hour) * 3600
            + u64::from(minute) * 60
            + u64::from(second),
    );
    let july = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - 12 * 3600);
    Some(july - Duration::from_secs(days_before_july * 86_400) + into_month - AHEAD)
}

/// For keys that need no passphrase.
pub fn nobody(path: &Path) -> Option<Passphrase> {
    panic!("{} needs no passphrase", path.display());
}

pub fn allow_others_to_read(key: &Path) {
    fs::set_permissions(key, Permissions::from_mode(0o640)).expect("it is ours");
}

pub fn succeeds(command: &mut Command) {
    let output = command.output().expect("OpenSSH is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Runs it with this input.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("OpenSSH is installed");
    let mut stdin: ChildStdin = child.stdin.take().expect("a pipe");
    // Who refuses the arguments reads nothing.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// An agent of the test's own; it ends with the value.
pub struct TheirAgent {
    process: Child,
    pub socket: PathBuf,
}

impl TheirAgent {
    /// Starts it; who must confirm a signature declines.
    pub fn start(lab: &Lab) -> TheirAgent {
        let socket = lab.path("agent");
        let mut process = lab
            .command("ssh-agent")
            .env("SSH_ASKPASS", "/bin/false")
            .env("DISPLAY", ":none")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .expect("OpenSSH is installed");
        // It says where it listens when it does.
        let stdout: ChildStdout = process.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it speaks");
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        TheirAgent { process, socket }
    }

    pub fn add(&self, lab: &Lab, key: &Path, options: &[&str]) {
        succeeds(
            lab.command("ssh-add")
                .env("SSH_AUTH_SOCK", &self.socket)
                .arg("-q")
                .args(options)
                .arg(key)
                .stderr(Stdio::null()),
        );
    }
}

impl Drop for TheirAgent {
    fn drop(&mut self) {
        // By its own handle, and waited for: nothing is left.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
