//! Against OpenSSH's own sftp-server, through pipes: what a session can be asked for.

use cocker_sftp::{Entry, Kind, Session, SftpError, SftpErrorKind};
use std::fs;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const SERVER: &str = "/usr/lib/openssh/sftp-server";

/// A session with a server that works in a folder of its own.
struct Served {
    session: Option<Session>,
    server: Child,
    folder: TempDir,
}

impl Served {
    fn new() -> Served {
        Served::with(&[])
    }

    fn with(options: &[&str]) -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(SERVER);
        command.args(options);
        Served::by(command, folder)
    }

    fn by(mut command: Command, folder: TempDir) -> Served {
        assert!(
            Path::new(SERVER).exists(),
            "missing: {SERVER} (package openssh-sftp-server)"
        );
        let mut server = command
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let from = server.stdout.take().expect("piped").into();
        let to = server.stdin.take().expect("piped").into();
        let session = Session::over(from, to, Duration::from_secs(20)).expect("a session");
        Served {
            session: Some(session),
            server,
            folder,
        }
    }

    fn session(&self) -> &Session {
        self.session.as_ref().expect("open")
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Served {
    /// The server ends when its input does.
    fn drop(&mut self) {
        drop(self.session.take());
        let _ = self.server.wait();
    }
}

fn names(session: &Session, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let read = session.read_folder(path, &mut |entry: Entry| {
        names.push(String::from_utf8(entry.name).expect("text"));
        ControlFlow::Continue(())
    });
    read.expect("the folder is read");
    names.sort();
    names
}

/// Bytes that differ everywhere.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(next).collect()
}

fn kind<T>(result: Result<T, SftpError>) -> SftpErrorKind {
    match result {
        Ok(_) => panic!("this was to fail"),
        Err(error) => error.kind,
    }
}

#[test]
fn what_is_uploaded_comes_back_byte_for_byte() {
    let served = Served::new();
    let session = served.session();
    // Not a multiple of any piece, and more than what may be in flight.
    let bytes = pattern(9 * 1024 * 1024 + 4321);

    let handle = session.create_new("file", 0o640).expect("created");
    let mut upload = session.upload(&handle, 0);
    for piece in bytes.chunks(100_003) {
        upload.write_all(piece).expect("written");
        upload.begin_sync().expect("asked for");
    }
    assert!(upload.acknowledged() <= bytes.len() as u64);
    assert_eq!(upload.finish().expect("acknowledged"), bytes.len() as u64);
    session.sync(&handle).expect("synced");
    assert_eq!(
        session.handle_metadata(&handle).expect("fstat").size,
        Some(bytes.len() as u64)
    );
    session.close(handle).expect("closed");
    assert!(fs::read(served.path("file")).expect("there") == bytes);
    assert_eq!(
        served.path("file").metadata().expect("there").mode() & 0o7777,
        0o640 & !umask()
    );

    let handle = session.read("file").expect("opened");
    let mut back = Vec::new();
    session
        .download(&handle, 0, bytes.len() as u64)
        .read_to_end(&mut back)
        .expect("read");
    assert!(back == bytes);
    let mut middle = Vec::new();
    session
        .download(&handle, 777, 5_000_777)
        .read_to_end(&mut middle)
        .expect("read");
    assert!(middle == bytes[777..5_000_777]);
    let mut nothing = Vec::new();
    session
        .download(&handle, 5, 5)
        .read_to_end(&mut nothing)
        .expect("read");
    assert!(nothing.is_empty());
    session.close(handle).expect("closed");
}

fn umask() -> u32 {
    let probe = tempfile::tempdir().expect("a folder");
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(probe.path().join("x"))
        .expect("made");
    0o666
        & !(probe
            .path()
            .join("x")
            .metadata()
            .expect("there")
            .permissions()
            .mode()
            & 0o666)
}

#[test]
fn what_is_passed_arrives_in_its_order_between_what_is_written() {
    let served = Served::new();
    let session = served.session();
    let bytes = pattern(7 * 1024 * 1024 + 77);
    let handle = session.create_new("file", 0o640).expect("created");
    let mut upload = session.upload(&handle, 0);
    let (mut rest, mut turn) = (bytes.as_slice(), 0);
    while !rest.is_empty() {
        // Shorter than a request, as long as one, and as some; some of none.
        let length = [261_120, 1, 0, 1_000_000, 100_003, 256 * 1024][turn % 6].min(rest.len());
        let (piece, later) = rest.split_at(length);
        match turn / 6 % 2 {
            0 => upload.pass(Arc::new(piece.to_vec())).expect("passed"),
            _ => upload.write_all(piece).expect("written"),
        }
        (rest, turn) = (later, turn + 1);
    }
    assert_eq!(upload.finish().expect("acknowledged"), bytes.len() as u64);
    session.close(handle).expect("closed");
    assert!(fs::read(served.path("file")).expect("there") == bytes);
}

#[test]
fn other_requests_come_between_those_of_an_upload_and_a_download() {
    let served = Served::new();
    let session = served.session();
    let bytes = pattern(5 * 1024 * 1024);
    fs::write(served.path("source"), &bytes).expect("written");
    let source = session.read("source").expect("opened");
    let target = session.create_new("target", 0o600).expect("created");
    let mut download = session.download(&source, 0, bytes.len() as u64);
    let mut upload = session.upload(&target, 0);
    let mut piece = vec![0; 300_000];
    loop {
        let count = download.read(&mut piece).expect("read");
        if count == 0 {
            break;
        }
        upload.write_all(&piece[..count]).expect("written");
        let size = session
            .metadata("source")
            .expect("asked")
            .expect("there")
            .size;
        assert_eq!(size, Some(bytes.len() as u64));
    }
    // What was asked for and is not wanted any more disturbs nobody.
    let mut given_up = session.download(&source, 0, bytes.len() as u64);
    given_up.read_exact(&mut [0; 10]).expect("read");
    drop(given_up);
    upload.finish().expect("acknowledged");
    drop(download);
    session.close(source).expect("closed");
    session.close(target).expect("closed");
    assert!(fs::read(served.path("target")).expect("there") == bytes);
}

#[test]
fn an_upload_goes_on_where_another_one_ended() {
    let served = Served::new();
    let session = served.session();
    let bytes = pattern(1_000_000);
    fs::write(served.path("part"), &bytes[..600_000]).expect("written");
    let handle = session.write("part").expect("opened");
    session.set_size(&handle, 400_000).expect("cut");
    let mut upload = session.upload(&handle, 400_000);
    io::copy(&mut &bytes[400_000..], &mut upload).expect("written");
    upload.flush().expect("acknowledged");
    assert_eq!(upload.acknowledged(), 1_000_000);
    assert_eq!(upload.finish().expect("acknowledged"), 1_000_000);
    session.close(handle).expect("closed");
    assert!(fs::read(served.path("part")).expect("there") == bytes);
}

#[test]
fn a_transfer_goes_on_in_another_thread() {
    let served = Served::new();
    let session = served.session();
    let handle = session.create_new("file", 0o600).expect("created");
    let mut upload = session.upload(&handle, 0);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            upload.write_all(&[7; 700_000])?;
            Ok::<u64, io::Error>(upload.finish()?)
        });
        writer.join().expect("no panic").expect("written")
    });
    assert_eq!(written, 700_000);
    session.close(handle).expect("closed");
}

#[test]
fn a_file_that_ends_early_is_said_to() {
    let served = Served::new();
    let session = served.session();
    fs::write(served.path("short"), [1; 1000]).expect("written");
    let handle = session.read("short").expect("opened");
    let mut download = session.download(&handle, 0, 500_000);
    let mut back = Vec::new();
    let error = download
        .read_to_end(&mut back)
        .expect_err("it is too short");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let kind = SftpError::of(&error).map(|error| error.kind.clone());
    assert_eq!(kind, Some(SftpErrorKind::Ended { at: 1000 }));
    assert_eq!(back, [1; 1000]);
    assert!(download.read(&mut [0]).is_err(), "the error stays");
    drop(download);
    session.close(handle).expect("closed");
}

#[test]
fn folders_are_made_read_and_removed() {
    let served = Served::new();
    let session = served.session();
    session.make_folder("a", 0o700).expect("made");
    assert_eq!(
        kind(session.make_folder("a", 0o700)),
        SftpErrorKind::AlreadyExists
    );
    for number in 0..1000 {
        fs::write(served.path("a").join(number.to_string()), "x").expect("written");
    }
    assert_eq!(names(session, "a").len(), 1000);
    let mut seen = 0;
    let read = session.read_folder("a", &mut |_| {
        seen += 1;
        if seen == 7 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    read.expect("read");
    assert_eq!(seen, 7);
    assert!(matches!(
        kind(session.remove_folder("a")),
        SftpErrorKind::Failure(_)
    ));
    for number in 0..1000 {
        session
            .remove_file(&format!("a/{number}"))
            .expect("removed");
    }
    session.remove_folder("a").expect("removed");
    assert_eq!(
        kind(session.read_folder("a", &mut |_| ControlFlow::Continue(()))),
        SftpErrorKind::NoSuchFile
    );
    assert!(names(session, ".").is_empty());
}

#[test]
fn names_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let served = Served::new();
    let name = b"a\xff\x1b[2J".as_slice();
    fs::write(
        served.folder.path().join(std::ffi::OsStr::from_bytes(name)),
        "",
    )
    .expect("written");
    let mut seen = Vec::new();
    let read = served.session().read_folder(".", &mut |entry| {
        seen.push(entry.name);
        ControlFlow::Continue(())
    });
    read.expect("read");
    assert_eq!(seen, [name]);
}

#[test]
fn metadata_says_what_lies_there_and_follows_no_link() {
    let served = Served::new();
    let session = served.session();
    fs::write(served.path("file"), "12345").expect("written");
    fs::set_permissions(served.path("file"), fs::Permissions::from_mode(0o4751)).expect("set");
    std::os::unix::fs::symlink("file", served.path("link")).expect("made");
    let file = session.metadata("file").expect("asked").expect("there");
    assert_eq!(
        (file.kind, file.size, file.mode),
        (Kind::File, Some(5), Some(0o4751))
    );
    let modified = served.path("file").metadata().expect("there").mtime();
    assert_eq!(file.modified.map(i64::from), Some(modified));
    assert_eq!(
        session
            .metadata("link")
            .expect("asked")
            .expect("there")
            .kind,
        Kind::Link
    );
    assert_eq!(
        session.metadata(".").expect("asked").expect("there").kind,
        Kind::Folder
    );
    assert_eq!(
        session
            .metadata("/dev/null")
            .expect("asked")
            .expect("there")
            .kind,
        Kind::Other
    );
    assert_eq!(session.metadata("nothing").expect("asked"), None);
    let real = session.real_path("link").expect("found");
    assert_eq!(
        Path::new(&real),
        served.path("file").canonicalize().expect("there")
    );
}

#[test]
fn nothing_that_is_there_is_overwritten_unless_it_is_replaced() {
    let served = Served::new();
    let session = served.session();
    fs::write(served.path("old"), "old").expect("written");
    fs::write(served.path("new"), "new").expect("written");
    assert_eq!(
        kind(session.create_new("old", 0o600)),
        SftpErrorKind::AlreadyExists
    );
    assert_eq!(
        kind(session.rename_new("new", "old")),
        SftpErrorKind::AlreadyExists
    );
    assert_eq!(fs::read(served.path("old")).expect("there"), b"old");
    session.rename_new("new", "newer").expect("renamed");
    session.replace("newer", "old").expect("replaced");
    assert_eq!(fs::read(served.path("old")).expect("there"), b"new");
    assert_eq!(names(session, "."), ["old"]);
    assert_eq!(
        kind(session.rename_new("nothing", "x")),
        SftpErrorKind::NoSuchFile
    );
    assert_eq!(kind(session.read("nothing")), SftpErrorKind::NoSuchFile);
    assert_eq!(kind(session.write("nothing")), SftpErrorKind::NoSuchFile);
    assert_eq!(
        kind(session.read("a\0b")),
        SftpErrorKind::BadPath("the path has a NUL in it")
    );
    assert_eq!(
        kind(session.metadata("")),
        SftpErrorKind::BadPath("the path is empty")
    );
}

#[test]
fn what_does_not_get_to_the_disk_in_the_middle_fails_the_upload() {
    let served = Served::new();
    let session = served.session();
    // What it takes it has no disk for: EINVAL of fsync(2).
    let handle = session.write("/dev/null").expect("opened");
    let mut upload = session.upload(&handle, 0);
    upload.write_all(&pattern(1000)).expect("written");
    // Here, or where it is waited for.
    let asked = upload.begin_sync();
    let failed = asked.and_then(|()| upload.finish().map(drop));
    assert!(matches!(kind(failed), SftpErrorKind::Failure { .. }));
}

#[test]
fn a_server_without_extensions_does_as_well() {
    let denied =
        "posix-rename,statvfs,fstatvfs,fsync,limits,hardlink,lsetstat,expand-path,copy-data";
    let served = Served::with(&["-P", denied]);
    let session = served.session();
    assert_eq!(session.room(".").expect("asked"), None);
    fs::write(served.path("old"), "old").expect("written");
    let bytes = pattern(3_000_001);
    let handle = session.create_new("new", 0o600).expect("created");
    let mut upload = session.upload(&handle, 0);
    upload.write_all(&bytes).expect("written");
    upload.begin_sync().expect("nothing to do");
    assert_eq!(upload.finish().expect("acknowledged"), 3_000_001);
    session.sync(&handle).expect("nothing to do");
    session.close(handle).expect("closed");
    assert_eq!(
        kind(session.rename_new("new", "old")),
        SftpErrorKind::AlreadyExists
    );
    assert_eq!(
        kind(session.replace("nothing", "old")),
        SftpErrorKind::NoSuchFile
    );
    assert_eq!(fs::read(served.path("old")).expect("kept"), b"old");
    session.replace("new", "old").expect("replaced");
    let handle = session.read("old").expect("opened");
    let mut back = Vec::new();
    session
        .download(&handle, 0, 3_000_001)
        .read_to_end(&mut back)
        .expect("read");
    assert!(back == bytes);
    session.close(handle).expect("closed");
}

#[test]
fn what_a_server_forbids_is_no_permission() {
    let served = Served::with(&["-R"]);
    let session = served.session();
    let error = session
        .create_new("x\x1b", 0o600)
        .expect_err("it is read-only");
    assert_eq!(error.kind, SftpErrorKind::PermissionDenied);
    assert_eq!(error.to_string(), "cannot create `x\\u{1b}` on the server");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert_eq!(cause, "permission denied");
}

#[test]
fn a_full_file_system_is_called_that() {
    let folder = tempfile::tempdir().expect("a folder");
    // In a mount namespace of its own, which ends with the server.
    let mut command = Command::new("unshare");
    let script =
        format!("mount -t tmpfs -o size=1m,nr_inodes=4 none . && cd \"$PWD\" && exec {SERVER}");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let served = Served::by(command, folder);
    let session = served.session();
    let room = session.room(".").expect("asked").expect("it can tell");
    assert!(room <= 1024 * 1024, "{room}");
    let handle = session.create_new("file", 0o600).expect("created");
    let mut upload = session.upload(&handle, 0);
    let error = upload
        .write_all(&[1; 8 * 1024 * 1024])
        .and_then(|()| upload.flush());
    let error = error.expect_err("it does not fit");
    assert_eq!(
        SftpError::of(&error).map(|e| e.kind.clone()),
        Some(SftpErrorKind::NoRoom)
    );
    assert!(upload.acknowledged() <= 1024 * 1024);
    let again = upload.finish().expect_err("the first error stays");
    assert_eq!(again.kind, SftpErrorKind::NoRoom);
    assert_eq!(
        session
            .handle_metadata(&handle)
            .expect("the session goes on")
            .kind,
        Kind::File
    );
    session.close(handle).expect("closed");
    session.remove_file("file").expect("removed");
}

#[test]
fn a_server_that_is_killed_is_a_lost_connection() {
    let mut served = Served::new();
    let handle = served.session().create_new("file", 0o600).expect("created");
    served.server.kill().expect("killed");
    served.server.wait().expect("gone");
    let session = served.session();
    let mut upload = session.upload(&handle, 0);
    let written = upload
        .write_all(&[1; 8 * 1024 * 1024])
        .and_then(|()| upload.flush());
    let error = written.expect_err("nobody takes it");
    let lost = SftpErrorKind::ConnectionLost {
        words: String::new(),
    };
    assert_eq!(SftpError::of(&error).map(|e| e.kind.clone()), Some(lost));
    assert_eq!(upload.acknowledged(), 0);
}
