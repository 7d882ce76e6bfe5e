//! Through `ssh`: the real one with a real sshd, and programs that stand in its place and do not behave.
//!
//! sshd serves one connection each, on pipes (`-i`, as the client's ProxyCommand), so there is no network, and no port that anybody
//! listens on. Its folder /run/sshd is in a mount namespace of its own.

use cocker_sftp::{ConnectCause, ConnectErrorKind, Prompts, Session, SftpErrorKind, Ssh};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// An account on a server, and a user with the keys to it.
struct Lab {
    folder: TempDir,
}

impl Lab {
    /// `subsystem` as sshd_config(5) has it; `more` are lines of that file.
    fn new(subsystem: &str, more: &str) -> Lab {
        assert!(
            Path::new(SSHD).exists(),
            "missing: {SSHD} (package openssh-server)"
        );
        let lab = Lab {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let root = lab.folder.path().display().to_string();
        for key in ["host", "other", "user"] {
            let made = Command::new("ssh-keygen")
                .args([
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-f",
                    &format!("{root}/{key}"),
                ])
                .status();
            assert!(
                made.expect("missing: ssh-keygen (package openssh-client)")
                    .success()
            );
        }
        fs::copy(format!("{root}/user.pub"), format!("{root}/authorized")).expect("copied");
        lab.trust("host");
        let server = format!(
            "HostKey {root}/host\nAuthorizedKeysFile {root}/authorized\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\n{subsystem}\n{more}\n"
        );
        lab.write("sshd_config", &server);
        lab.script(
            "sshd",
            &format!(
                "exec unshare --mount --propagation private sh -c \
                 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec {SSHD} -i -q -f {root}/sshd_config'"
            ),
        );
        lab.proxy(&format!("{root}/sshd"));
        // What a user may have in ssh_config, and what must not be in the way.
        lab.write(
            "ssh_config",
            &format!(
                "Host *\nInclude {root}/proxy\nIdentityFile {root}/user\nIdentitiesOnly yes\n\
                 UserKnownHostsFile {root}/known\nGlobalKnownHostsFile /dev/null\n\
                 StrictHostKeyChecking yes\nRequestTTY force\nRemoteCommand echo hello\n\
                 LocalForward 1 nowhere.invalid:1\nExitOnForwardFailure yes\n\
                 ControlMaster yes\nControlPersist yes\nControlPath {root}/shared\n"
            ),
        );
        let program = lab.script("ssh", &format!("exec ssh -F {root}/ssh_config \"$@\""));
        assert!(program.exists());
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        script(self.folder.path(), name, text)
    }

    fn proxy(&self, command: &str) {
        self.write("proxy", &format!("ProxyCommand {command}\n"));
    }

    /// The key by which the user knows the server.
    fn trust(&self, key: &str) {
        let public = fs::read_to_string(self.path(&format!("{key}.pub"))).expect("there");
        self.write("known", &format!("lab {public}"));
    }

    fn ssh(&self) -> Ssh {
        ssh(self.path("ssh"))
    }
}

/// Written by a process of its own: what another test's child has open for writing cannot be executed (`ETXTBSY`).
fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("coreutils are there");
    let mut content = install.stdin.take().expect("it is piped");
    write!(content, "#!/bin/sh\n{text}\n").expect("it is read");
    drop(content);
    assert!(install.wait().expect("it is our child").success());
    path
}

fn ssh(program: PathBuf) -> Ssh {
    Ssh {
        program,
        user: Some("root".to_owned()),
        host: "lab".to_owned(),
        port: None,
        prompts: Prompts::Never,
        patience: Duration::from_secs(30),
    }
}

fn refused(ssh: &Ssh) -> (ConnectErrorKind, ConnectCause) {
    let error = Session::open(ssh).err().expect("no session");
    (error.kind(), error.cause)
}

/// What a script in place of ssh says before it ends.
fn said(words: &str) -> (ConnectErrorKind, String) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("words"), words).expect("written");
    let text = format!("cat {}/words >&2; exit 255", folder.path().display());
    let (kind, cause) = refused(&ssh(script(folder.path(), "ssh", &text)));
    let ConnectCause::Ended {
        line, words: all, ..
    } = cause
    else {
        panic!("{cause:?}")
    };
    assert_eq!(all, words.trim());
    (kind, line)
}

/// Our children that are not reaped, by name.
fn children() -> Vec<String> {
    let mut found = Vec::new();
    for thread in fs::read_dir("/proc/self/task").expect("there").flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().map(str::to_owned));
    }
    found
}

#[test]
fn a_session_with_the_real_server_carries_files_both_ways() {
    for subsystem in [
        "Subsystem sftp /usr/lib/openssh/sftp-server",
        "Subsystem sftp internal-sftp",
    ] {
        let lab = Lab::new(subsystem, "");
        for prompts in [Prompts::Never, Prompts::Allowed] {
            let session = Session::open(&Ssh {
                prompts,
                ..lab.ssh()
            })
            .expect("a session");
            let target = lab.path("target").display().to_string();
            let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
            let handle = session.create_new(&target, 0o600).expect("created");
            let mut upload = session.upload(&handle, 0);
            upload.write_all(&bytes).expect("written");
            upload.finish().expect("acknowledged");
            session.close(handle).expect("closed");
            assert!(fs::read(&target).expect("there") == bytes);
            let handle = session.read(&target).expect("opened");
            let mut back = Vec::new();
            let mut download = session.download(&handle, 0, bytes.len() as u64);
            download.read_to_end(&mut back).expect("read");
            assert!(back == bytes);
            drop(download);
            session.close(handle).expect("closed");
            session.remove_file(&target).expect("removed");
            assert_eq!(session.words(), "");
            assert!(
                !lab.path("shared").exists(),
                "something of ssh outlives the session"
            );
        }
    }
}

#[test]
fn an_account_in_a_chroot_sees_nothing_else() {
    // sshd wants every folder above to be root's alone.
    let jail = tempfile::Builder::new()
        .prefix("cocker-sftp-")
        .tempdir_in("/var/lib")
        .expect("a folder");
    fs::set_permissions(jail.path(), fs::Permissions::from_mode(0o755)).expect("set");
    fs::create_dir(jail.path().join("images")).expect("made");
    let more = format!(
        "ChrootDirectory {}\nForceCommand internal-sftp",
        jail.path().display()
    );
    let lab = Lab::new("Subsystem sftp internal-sftp", &more);
    let session = Session::open(&lab.ssh()).expect("a session");
    assert_eq!(session.metadata("/etc/passwd").expect("asked"), None);
    session.make_folder("/images/x", 0o755).expect("made");
    assert!(jail.path().join("images/x").is_dir());
    assert!(
        session
            .room("/images")
            .expect("asked")
            .expect("it can tell")
            > 0
    );
    assert_eq!(
        session.real_path("images/../images/x").expect("found"),
        "/images/x"
    );
}

#[test]
fn what_keeps_ssh_from_the_server_is_recognised() {
    let lab = Lab::new("Subsystem other /bin/true", "");
    let (kind, cause) = refused(&lab.ssh());
    assert_eq!(kind, ConnectErrorKind::NoSubsystem, "{cause:?}");
    assert!(
        cause.to_string().starts_with("subsystem request failed"),
        "{cause}"
    );

    lab.write("authorized", "");
    let (kind, cause) = refused(&lab.ssh());
    assert_eq!(kind, ConnectErrorKind::Authentication, "{cause:?}");
    assert!(
        cause.to_string().contains("Permission denied (publickey)"),
        "{cause}"
    );

    lab.trust("other");
    let (kind, cause) = refused(&lab.ssh());
    assert_eq!(kind, ConnectErrorKind::HostKey, "{cause:?}");
    lab.write("known", "");
    let (kind, cause) = refused(&lab.ssh());
    assert_eq!(kind, ConnectErrorKind::HostKey, "{cause:?}");

    lab.write("proxy", "HostName 127.0.0.1\n");
    let (kind, cause) = refused(&Ssh {
        port: Some(1),
        ..lab.ssh()
    });
    assert_eq!(kind, ConnectErrorKind::Unreachable, "{cause:?}");
    // No resolver asks anybody for a name that no host can have.
    lab.write("proxy", &format!("HostName {}\n", "x".repeat(70)));
    let (kind, cause) = refused(&lab.ssh());
    assert_eq!(kind, ConnectErrorKind::Unreachable, "{cause:?}");
}

#[test]
fn words_of_ssh_are_recognised() {
    use ConnectErrorKind::{Authentication, HostKey, Other, Unreachable};
    let cases = [
        (
            "ssh: connect to host a port 22: No route to host\n",
            Unreachable,
        ),
        (
            "ssh: connect to host a port 22: Connection timed out\r\n",
            Unreachable,
        ),
        (
            "me@a: Permission denied (publickey,password).\nConnection closed by UNKNOWN port 65535\n",
            Authentication,
        ),
        (
            "Host key verification failed.\nConnection closed\n",
            HostKey,
        ),
        (
            "kex_exchange_identification: read: Connection reset by peer\n",
            Other,
        ),
        ("something\nquite else\n\n", Other),
    ];
    for (words, expected) in cases {
        assert_eq!(said(words).0, expected, "{words:?}");
    }
    assert_eq!(
        said("me@a: Permission denied (x).\nConnection closed\n").1,
        "me@a: Permission denied (x)."
    );
    assert_eq!(said("something\nquite else\n\n").1, "quite else");
    assert_eq!(said("").1, "ssh ended without a word (exit status: 255)");
}

#[test]
fn a_shell_that_greets_is_called_that() {
    let lab = Lab::new(
        "Subsystem sftp echo Welcome home; echo More; exec /usr/lib/openssh/sftp-server",
        "",
    );
    let (_, cause) = refused(&lab.ssh());
    let ConnectCause::NotSftp { first_line } = cause else {
        panic!("{cause:?}")
    };
    assert_eq!(first_line, "Welcome home");
    let lab = Lab::new(
        "Subsystem sftp echo This account is not available; exit 1",
        "",
    );
    let (_, cause) = refused(&lab.ssh());
    let ConnectCause::NotSftp { first_line } = cause else {
        panic!("{cause:?}")
    };
    assert_eq!(first_line, "This account is not available");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Session::open(&ssh("/nowhere/ssh".into()))
        .err()
        .expect("no session");
    assert!(
        matches!(error.cause, ConnectCause::NoProgram { .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "cannot open an SFTP session with `root@lab`"
    );
    let error = Session::open(&ssh("/etc/passwd".into()))
        .err()
        .expect("no session");
    assert!(
        matches!(error.cause, ConnectCause::Start { .. }),
        "{error:?}"
    );
}

#[test]
fn nothing_is_run_for_a_host_that_is_an_option() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("touch {}/ran", folder.path().display());
    let program = script(folder.path(), "ssh", &text);
    for host in ["-oProxyCommand=x", "", "a b"] {
        let error = Session::open(&Ssh {
            host: host.to_owned(),
            ..ssh(program.clone())
        });
        let error = error.err().expect("no session");
        assert!(
            matches!(error.cause, ConnectCause::Refused { .. }),
            "{error:?}"
        );
    }
    assert!(!folder.path().join("ran").exists());
}

#[test]
fn ssh_gets_its_three_streams_and_no_other_descriptor() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = fs::File::open("/dev/null").expect("open");
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).expect("inheritable");
    let program = script(folder.path(), "ssh", "exec ls /proc/self/fd >&2");
    let (_, cause) = refused(&ssh(program));
    let ConnectCause::Ended { words, .. } = cause else {
        panic!("{cause:?}")
    };
    // The last one is the folder that is being listed.
    assert_eq!(words, "0\n1\n2\n3");
}

#[test]
fn ssh_ends_with_the_session_even_if_it_does_not_want_to() {
    let folder = tempfile::tempdir().expect("a folder");
    // It greets as a server does, and then neither reads nor ends.
    let text = r"trap '' TERM HUP PIPE; echo $$ > pid; printf '\000\000\000\005\002\000\000\000\003'; exec sleep 1000";
    let text = format!("cd {}; {text}", folder.path().display());
    let program = script(folder.path(), "ssh", &text);
    let session = Session::open(&ssh(program)).expect("a session");
    let pid = fs::read_to_string(folder.path().join("pid")).expect("written");
    assert!(children().contains(&pid.trim().to_owned()));
    let began = Instant::now();
    drop(session);
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(
        !children().contains(&pid.trim().to_owned()),
        "it runs or is a zombie"
    );
}

#[test]
fn words_without_an_end_are_bounded_and_no_sign_of_life() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = script(folder.path(), "ssh", "exec yes 'words \x1b[2J' 3>&1 >&2");
    let patience = Duration::from_secs(5);
    let began = Instant::now();
    let (_, cause) = refused(&Ssh {
        patience,
        ..ssh(program)
    });
    let ConnectCause::Silent { words, .. } = cause else {
        panic!("{cause:?}")
    };
    assert!(
        words.len() <= 4096 && words.contains("\nwords \\u{1b}[2J\n"),
        "{words:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn whoever_may_be_typing_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    // The greeting comes when the patience is long over; only then, so the wait itself is what is tested.
    let text = format!(
        r"sleep 2; printf '\000\000\000\005\002\000\000\000\003'; exec cat 3>&1 > {}/heard",
        folder.path().display()
    );
    let program = script(folder.path(), "ssh", &text);
    let patience = Duration::from_millis(500);
    let typing = Ssh {
        prompts: Prompts::Allowed,
        patience,
        ..ssh(program)
    };
    let session = Session::open(&typing).expect("a session");
    let error = session.metadata("x").expect_err("it says nothing more");
    assert_eq!(error.kind, SftpErrorKind::Silent { seconds: 0 });
    // Nobody else is.
    let program = script(folder.path(), "silent", "exec sleep 1000");
    let (_, cause) = refused(&Ssh {
        patience,
        ..ssh(program)
    });
    assert!(matches!(cause, ConnectCause::Silent { .. }), "{cause:?}");
}

#[test]
fn a_connection_that_breaks_is_lost_with_the_last_words() {
    let folder = tempfile::tempdir().expect("a folder");
    // It greets, takes the first request, says why it goes, and is gone.
    let text = r"printf '\000\000\000\005\002\000\000\000\003'; head -c 12 > /dev/null
        echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255";
    let session = Session::open(&ssh(script(folder.path(), "ssh", text))).expect("a session");
    let error = session.metadata("x").expect_err("lost");
    let words = "client_loop: send disconnect: Broken pipe".to_owned();
    assert_eq!(error.kind, SftpErrorKind::ConnectionLost { words });
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert_eq!(
        cause,
        "the connection was lost; the last words were: client_loop: send disconnect: Broken pipe"
    );
    assert_eq!(
        session.metadata("x").expect_err("still lost").kind,
        error.kind
    );
}
