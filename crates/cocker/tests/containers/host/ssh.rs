//! A real sshd on loopback with keys and a configuration of its own, and a way to it that can be cut.
//!
//! ```text
//! <test's folder>/ssh<n>/
//! ├── bin/ssh             what `cocker` finds first in its PATH: the machine's ssh with the configuration below
//! ├── ssh_config, way, id the user's
//! ├── sshd_config, hostkey, log
//! └── home/               where the account's files are
//! ```

use super::outcome::{Outcome, Started};
use super::terminal::Terminal;
use super::{Host, PATH, eventually, next_number};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, thread};

/// What the account may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Everything,
    /// sftp and nothing else, with its home as the root of all files.
    SftpInChroot,
}

/// A server, and the user's configuration of ssh that leads to it. It ends, with all its connections, by drop.
pub struct SshServer {
    folder: PathBuf,
    port: u16,
    access: Access,
    process: Option<Child>,
    is_small: bool,
}

impl SshServer {
    #[track_caller]
    pub fn start(host: &Host, access: Access) -> SshServer {
        let number = next_number();
        let folder = host.folder(&format!("ssh{number}"));
        let mut server = SshServer {
            folder,
            port: port(number),
            access,
            process: None,
            is_small: false,
        };
        server.write_files();
        server.begin(host);
        server
    }

    /// A server whose account has room for 8 MiB.
    #[track_caller]
    pub fn start_on_a_small_disk(host: &Host) -> SshServer {
        let mut server = SshServer::start(host, Access::Everything);
        server.end();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                "size=8M,nr_inodes=64,mode=755",
                "cocker-test",
            ])
            .arg(server.home())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "cannot mount");
        server.is_small = true;
        server.begin(host);
        server
    }

    /// Where the account's images are.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    pub fn address(&self) -> String {
        format!("root@127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file of the user's: `id`, `ssh_config`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where `images`, as the user's ssh knows the server, leads: to this port.
    pub fn lead_to(&self, port: u16) {
        let way = format!(
            "Host images\n HostName 127.0.0.1\n Port {port}\n User root\n HostKeyAlias [127.0.0.1]:{}\n",
            self.port
        );
        fs::write(self.file("way"), way).expect("the folder is ours");
    }

    /// Adds lines to the user's configuration, before those that are there.
    pub fn configure(&self, lines: &str) {
        let path = self.file("ssh_config");
        let old = fs::read_to_string(&path).expect("it was written");
        fs::write(&path, format!("{lines}\n{old}")).expect("the folder is ours");
    }

    /// `cocker LINE` with this user's ssh, not yet started.
    pub fn command(&self, host: &Host, line: &str) -> Command {
        let mut command = host.cocker_command(line);
        command.env("PATH", format!("{}:{PATH}", self.file("bin").display()));
        command
    }

    /// Types `cocker LINE` with this user's ssh.
    #[track_caller]
    pub fn cocker(&self, host: &Host, line: &str) -> Outcome {
        self.start_command(host, line).feed(b"").outcome()
    }

    #[track_caller]
    pub fn start_command(&self, host: &Host, line: &str) -> Started {
        Started::new(self.command(host, line), line.to_string())
    }

    /// The same at a terminal.
    #[track_caller]
    pub fn terminal(&self, host: &Host, line: &str) -> Terminal {
        let bin = self.file("bin");
        let line = format!(
            "PATH={}:$PATH exec {} {line}",
            bin.display(),
            host.program().display()
        );
        let words = ["sh", "-c", &line].map(String::from);
        Terminal::open(host, &words, "dumb")
    }

    /// The names in the account's home, sorted.
    pub fn names(&self) -> Vec<String> {
        super::entries(&self.home())
    }

    /// Waits until nobody is connected any more: what a client that died has sent still arrives for a moment.
    #[track_caller]
    pub fn until_idle(&self) {
        let process = self.process.as_ref().expect("it was begun");
        let namespace = fs::read_link(format!("/proc/{}/ns/pid_for_children", process.id()));
        let namespace = namespace.expect("it runs");
        let is_inside = |process: &super::Process| {
            fs::read_link(format!("/proc/{}/ns/pid", process.pid))
                .is_ok_and(|found| found == namespace)
        };
        eventually("nobody is connected", || {
            super::processes().into_iter().filter(is_inside).count() == 1
        });
    }

    fn write_files(&self) {
        let home = self.home();
        let bin = self.file("bin");
        for folder in [&home, &bin] {
            fs::create_dir_all(folder).expect("the folder is ours");
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder, mode).expect("the folder is ours");
        }
        for key in ["hostkey", "id"] {
            make_key(&self.file(key));
        }
        let public = fs::read_to_string(self.file("hostkey.pub")).expect("it was made");
        let known = format!("[127.0.0.1]:{} {public}", self.port);
        let folder = self.folder.display();
        let confinement = match self.access {
            Access::Everything => {
                format!("Subsystem sftp internal-sftp -d {}", home.display())
            }
            // Where it is mounted for the server alone: above it nobody but root may write.
            Access::SftpInChroot => {
                "Subsystem sftp internal-sftp\nForceCommand internal-sftp\nChrootDirectory /mnt"
                    .into()
            }
        };
        let port = self.port;
        for (name, text) in [
            ("known_hosts", known),
            (
                "sshd_config",
                format!(
                    "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/hostkey\n\
                     AuthorizedKeysFile {folder}/id.pub\nStrictModes no\nPidFile none\nUsePAM no\n\
                     MaxStartups 100\nPasswordAuthentication no\n{confinement}\n"
                ),
            ),
            (
                "ssh_config",
                format!(
                    "Include {folder}/way\nHost *\n IdentityFile {folder}/id\n IdentitiesOnly yes\n\
                     UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile none\n"
                ),
            ),
        ] {
            fs::write(self.file(name), text).expect("the folder is ours");
        }
        self.lead_to(port);
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config \"$@\"\n");
        super::write_program(&bin.join("ssh"), "755", ssh.as_bytes());
    }

    #[track_caller]
    fn begin(&mut self, host: &Host) {
        let folder = self.folder.display();
        // In a namespace of processes of its own: with its first process all connections end.
        // What other tests have mounted is theirs: it would not go while it is mounted here.
        let base = super::base();
        let script = format!(
            "for place in $(cut -d ' ' -f 5 /proc/self/mountinfo | grep -F '{base}/'); do \
             case $place in {folder}/*) ;; *) umount -l $place 2>/dev/null;; esac; done; \
             mount -t tmpfs none /run && mkdir /run/sshd && mount --bind {folder}/home /mnt && \
             exec /usr/sbin/sshd -D -f {folder}/sshd_config -E {folder}/log",
            base = base.display()
        );
        let log = self.file("log");
        let _ = fs::remove_file(&log);
        let process = host
            .command("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "--", "sh", "-c", &script])
            .env_clear()
            .env("PATH", PATH)
            .spawn()
            .expect("`unshare` of package util-linux is there");
        self.process = Some(process);
        eventually(&format!("sshd listens: {}", log.display()), || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("Server listening on "))
        });
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.end();
        if self.is_small {
            let _ = Command::new("umount").arg(self.home()).status();
        }
    }
}

/// Makes a key without a passphrase.
pub fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "cannot make a key"
    );
}

/// A way to a server that ends after so many bytes, and counts those that pass.
pub struct Way {
    port: u16,
    passed: Arc<AtomicU64>,
    is_over: Arc<AtomicU64>,
}

impl Way {
    /// `most`: after so many bytes in both directions together every connection is cut, and no other accepted.
    pub fn to(server: &SshServer, most: u64) -> Way {
        let port = port(next_number());
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the namespace is ours");
        let way = Way {
            port,
            passed: Arc::default(),
            is_over: Arc::default(),
        };
        let (passed, is_over, to) = (way.passed.clone(), way.is_over.clone(), server.port);
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if is_over.load(Ordering::SeqCst) == 1 || passed.load(Ordering::SeqCst) >= most {
                    return;
                }
                let far = TcpStream::connect(("127.0.0.1", to)).expect("the server listens");
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let from = from.try_clone().expect("a socket can be copied");
                    let into = into.try_clone().expect("a socket can be copied");
                    let passed = passed.clone();
                    thread::spawn(move || carry(from, into, &passed, most));
                }
            }
        });
        way
    }

    /// How many bytes have passed.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.is_over.store(1, Ordering::SeqCst);
        // Wakes who waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn carry(mut from: TcpStream, mut into: TcpStream, passed: &AtomicU64, most: u64) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let before = passed.fetch_add(length as u64, Ordering::SeqCst);
        let left = usize::try_from(most.saturating_sub(before)).unwrap_or(usize::MAX);
        if into.write_all(&bytes[..length.min(left)]).is_err() || left <= length {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = into.shutdown(Shutdown::Both);
}

/// Of one number nobody else in this run has the port.
fn port(number: u32) -> u16 {
    let number = u16::try_from(number % 20_000).expect("it is small");
    20_000 + number
}
