//! A session: what a server can be asked for, one request at a time.

use crate::connection::Connection;
use crate::download::Download;
use crate::error::{ConnectCause, ConnectError, SftpError, SftpErrorKind, Trouble};
use crate::metadata::{Entry, Metadata};
use crate::ssh::{Prompts, Ssh};
use crate::upload::Upload;
use crate::wire::{self, LONGEST_NAME, Limits, Malformed, Packet, Reply, Room, Version};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The largest piece that is read or written at once, in bytes: what OpenSSH takes.
const LARGEST_PIECE: u32 = 255 * 1024;
/// What every server of version 3 takes, in bytes.
const USUAL_PIECE: u32 = 32 * 1024;
/// A server that takes less than this at once is not believed.
const SMALLEST_PIECE: u32 = 1024;

/// A folder has one `.` and one `..`; a server that joins several folders may say them as often.
const MOST_DOTS: usize = 64;

/// A session with an SFTP server. One operation is under way at any time; [`Upload`] and [`Download`] have requests in flight
/// between theirs, so others can come in between.
///
/// Dropping it ends the connection and sees the end of `ssh`, which gets two seconds for it. Once the connection is lost, silent
/// or out of the protocol, every operation says so.
///
/// Paths are relative to where the server starts, mostly the home of the account. They have at most 4096 bytes and no NUL.
pub struct Session {
    connection: Mutex<Connection>,
    server: Version,
    read_piece: u32,
    write_piece: u32,
}

/// A file that is open on the server. It stays open there until [`Session::close`] or the end of the session.
#[derive(Debug)]
#[must_use = "a file stays open on the server until it is closed"]
pub struct Handle {
    name: Vec<u8>,
    path: String,
}

impl Handle {
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl Session {
    /// Starts `ssh` and waits until the server answers. With [`Prompts::Allowed`] ssh may ask on the terminal (/dev/tty).
    ///
    /// ssh inherits the environment, and of the descriptors only its three streams: all others of this process from 3 on are marked
    /// close-on-exec.
    pub fn open(ssh: &Ssh) -> Result<Session, ConnectError> {
        let destination = crate::words::quoted(&ssh.destination());
        let opened = ssh.start().and_then(|started| {
            let errors = Some(started.errors);
            Connection::new(
                started.from,
                started.to,
                errors,
                Some(started.process),
                ssh.patience,
            )
            .map_err(|errno| ConnectCause::Pipe {
                source: errno.into(),
            })
            .and_then(|connection| Session::greet(connection, ssh.prompts == Prompts::Allowed))
        });
        opened.map_err(|cause| ConnectError { destination, cause })
    }

    /// For tests and other transports: requests go to `to`, answers come from `from`. Both are made non-blocking, which others
    /// that share their open file description will see, and are closed with the session.
    pub fn over(from: OwnedFd, to: OwnedFd, patience: Duration) -> Result<Session, ConnectError> {
        Connection::new(from, to, None, None, patience)
            .map_err(|errno| ConnectCause::Pipe {
                source: errno.into(),
            })
            .and_then(|connection| Session::greet(connection, false))
            .map_err(|cause| ConnectError {
                destination: "the other end".to_owned(),
                cause,
            })
    }

    /// What the server makes of a path: absolute, and without links where it follows them.
    pub fn real_path(&self, path: &str) -> Result<String, SftpError> {
        self.about("find", path, || {
            let reply = self.ask(Packet::new(wire::REALPATH).string(fit(path)?))?;
            let Reply::Names(names) = reply else {
                return Err(self.unexpected(reply));
            };
            let [entry] = <[Entry; 1]>::try_from(names)
                .map_err(|_| self.broken("a path has more or less than one real name"))?;
            String::from_utf8(entry.name).map_err(|_| {
                SftpErrorKind::BadPath("its real name on the server is no UTF-8").into()
            })
        })
    }

    /// What the server says of a path; the last link is not followed (lstat). `None`: no such file.
    pub fn metadata(&self, path: &str) -> Result<Option<Metadata>, SftpError> {
        self.about("look at", path, || self.look(path))
    }

    /// The bytes that this user can still write where `path` is; `None` where the server cannot tell (statvfs@openssh.com).
    pub fn room(&self, path: &str) -> Result<Option<u64>, SftpError> {
        self.about("measure the room at", path, || {
            fit(path)?;
            Ok(self.statvfs(path)?.map(|room| room.free))
        })
    }

    /// Opens a file for reading. A link is followed.
    pub fn read(&self, path: &str) -> Result<Handle, SftpError> {
        self.about("open", path, || self.open_file(path, wire::TO_READ, None))
    }

    /// Makes a new file with these permission bits, of which the server takes its umask away, and opens it for writing.
    pub fn create_new(&self, path: &str, mode: u32) -> Result<Handle, SftpError> {
        self.about("create", path, || {
            let flags = wire::TO_WRITE | wire::TO_CREATE | wire::TO_BE_NEW;
            self.open_file(path, flags, Some(mode))
                .map_err(|trouble| self.or_exists(trouble, path))
        })
    }

    /// Opens a file that is there for writing, with what it has.
    pub fn write(&self, path: &str) -> Result<Handle, SftpError> {
        self.about("open for writing", path, || {
            self.open_file(path, wire::TO_WRITE, None)
        })
    }

    /// What the server says of an open file (fstat).
    pub fn handle_metadata(&self, handle: &Handle) -> Result<Metadata, SftpError> {
        self.about("look at", &handle.path, || {
            match self.ask(Packet::new(wire::FSTAT).string(&handle.name))? {
                Reply::Attributes(metadata) => Ok(metadata),
                other => Err(self.unexpected(other)),
            }
        })
    }

    /// Cuts an open file off at so many bytes, or makes it as long with zeros.
    pub fn set_size(&self, handle: &Handle, size: u64) -> Result<(), SftpError> {
        self.about("set the size of", &handle.path, || {
            self.command(Packet::new(wire::FSETSTAT).string(&handle.name).size(size))
        })
    }

    /// Waits until what was written is on the server's disk; does nothing where the server cannot (fsync@openssh.com).
    pub fn sync(&self, handle: &Handle) -> Result<(), SftpError> {
        let Some(packet) = self.sync_packet(handle) else {
            return Ok(());
        };
        self.about("sync", &handle.path, || {
            self.command(packet)
                .map_err(|trouble| self.or_no_room(trouble, handle, 0))
        })
    }

    /// What asks for it, where the server can.
    pub(crate) fn sync_packet(&self, handle: &Handle) -> Option<Packet> {
        let packet = || Packet::extended("fsync@openssh.com").string(&handle.name);
        self.server.fsync.then(packet)
    }

    /// Closes a file. An error may be one of writing; the file is closed all the same.
    pub fn close(&self, handle: Handle) -> Result<(), SftpError> {
        self.about("close", &handle.path, || {
            self.command(Packet::new(wire::CLOSE).string(&handle.name))
        })
    }

    /// Entries of a folder as the server says them, `.` and `..` left out, in its order; ends early where `each` says Break.
    ///
    /// A server may say as many as it likes: it is for `each` to have a bound. A name with a `/` in it ends the session.
    pub fn read_folder(
        &self,
        path: &str,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), SftpError> {
        self.about("read the folder", path, || {
            let name = self.open_handle(Packet::new(wire::OPENDIR).string(fit(path)?))?;
            let read = self.read_entries(&name, each);
            let closed = self.command(Packet::new(wire::CLOSE).string(&name));
            read.and(closed)
        })
    }

    /// Gives a file another name; refuses where `to` exists.
    ///
    /// SSH_FXP_RENAME of version 3. OpenSSH's server makes a link and removes the old name, or looks first where the file system
    /// has no links.
    pub fn rename_new(&self, from: &str, to: &str) -> Result<(), SftpError> {
        self.about("rename to", to, || {
            let request = Packet::new(wire::RENAME)
                .string(fit(from)?)
                .string(fit(to)?);
            self.command(request)
                .map_err(|trouble| self.or_exists(trouble, to))
        })
    }

    /// Gives a file another name, in place of what has it (posix-rename@openssh.com). Without the extension `to` is removed
    /// first, and for a moment nothing has the name.
    pub fn replace(&self, from: &str, to: &str) -> Result<(), SftpError> {
        self.about("replace", to, || {
            let (old, new) = (fit(from)?, fit(to)?);
            if self.server.posix_rename {
                let request = Packet::extended("posix-rename@openssh.com");
                return self.command(request.string(old).string(new));
            }
            // What is not there cannot take the place of anything, so nothing is removed for it.
            if self.look(from)?.is_none() {
                return Err(SftpErrorKind::NoSuchFile.into());
            }
            match self.command(Packet::new(wire::REMOVE).string(new)) {
                Err(trouble) if trouble.kind != SftpErrorKind::NoSuchFile => Err(trouble),
                _ => self.command(Packet::new(wire::RENAME).string(old).string(new)),
            }
        })
    }

    pub fn remove_file(&self, path: &str) -> Result<(), SftpError> {
        self.about("remove", path, || {
            self.command(Packet::new(wire::REMOVE).string(fit(path)?))
        })
    }

    /// Makes a folder with these permission bits, of which the server takes its umask away.
    pub fn make_folder(&self, path: &str, mode: u32) -> Result<(), SftpError> {
        self.about("make the folder", path, || {
            self.command(Packet::new(wire::MKDIR).string(fit(path)?).mode(mode))
                .map_err(|trouble| self.or_exists(trouble, path))
        })
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, path: &str) -> Result<(), SftpError> {
        self.about("remove the folder", path, || {
            self.command(Packet::new(wire::RMDIR).string(fit(path)?))
        })
    }

    /// Writes from byte `offset` on, with many requests in flight; what is written is acknowledged later.
    pub fn upload<'s>(&'s self, handle: &'s Handle, offset: u64) -> Upload<'s> {
        Upload::new(self, handle, offset, self.write_piece)
    }

    /// Reads the bytes `offset..end`, with many requests in flight.
    pub fn download<'s>(&'s self, handle: &'s Handle, offset: u64, end: u64) -> Download<'s> {
        Download::new(self, handle, offset..end, self.read_piece)
    }

    /// What ssh and the server said on stderr so far: the last 4 KiB in lines, without other control characters.
    pub fn words(&self) -> String {
        self.connection().words()
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        // Whoever panicked with it left it as it is between two turns of the loop.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session: the server broke the protocol.
    pub(crate) fn broken(&self, what: &str) -> Trouble {
        let trouble = Trouble::protocol(what);
        self.connection().break_off(&trouble);
        trouble
    }

    /// What a reply means that is not the one asked for: a refusal, or the end of the session.
    pub(crate) fn unexpected(&self, reply: Reply) -> Trouble {
        match reply {
            Reply::Status { code: 0, .. } => self.broken("success without what was asked for"),
            Reply::Status { code, words } => Trouble::refused(code, words),
            _ => self.broken("a reply to something else"),
        }
    }

    /// What the failure of a write means: the file system is asked whether it has room for so many bytes.
    pub(crate) fn or_no_room(&self, trouble: Trouble, handle: &Handle, bytes: u64) -> Trouble {
        let room = match trouble.kind {
            SftpErrorKind::Failure(_) if self.server.fstatvfs => {
                let request = Packet::extended("fstatvfs@openssh.com").string(&handle.name);
                self.ask(request).and_then(|reply| self.room_of(reply)).ok()
            }
            SftpErrorKind::Failure(_) => self.statvfs(&handle.path).ok().flatten(),
            _ => None,
        };
        match room {
            Some(room) if room.free < room.block.max(bytes) => Trouble {
                kind: SftpErrorKind::NoRoom,
                ..trouble
            },
            _ => trouble,
        }
    }

    fn greet(mut connection: Connection, unbounded: bool) -> Result<Session, ConnectCause> {
        let server = connection.greet(unbounded)?;
        tracing::debug!(?server, "the server has answered");
        if server.number != 3 {
            return Err(ConnectCause::Version {
                version: server.number,
            });
        }
        let mut session = Session {
            connection: Mutex::new(connection),
            server,
            read_piece: USUAL_PIECE,
            write_piece: USUAL_PIECE,
        };
        if session.server.limits {
            session.learn_limits()?;
        }
        Ok(session)
    }

    fn learn_limits(&mut self) -> Result<(), ConnectCause> {
        let limits = match self.ask(Packet::extended("limits@openssh.com")) {
            Ok(Reply::Extended(body)) => {
                Limits::parse(&body).map_err(|Malformed(what)| Trouble::protocol(what))
            }
            // It names the extension and refuses it: then the usual pieces do.
            Ok(Reply::Status { code, .. }) if code != 0 => return Ok(()),
            Ok(_) => Err(Trouble::protocol(
                "the answer to limits@openssh.com is something else",
            )),
            Err(trouble) => Err(trouble),
        };
        let limits = limits.map_err(|trouble| match trouble.kind {
            SftpErrorKind::ConnectionLost { words } => ConnectCause::ended(words, None),
            SftpErrorKind::Silent { seconds } => ConnectCause::Silent {
                seconds,
                words: self.words(),
            },
            SftpErrorKind::Protocol(what) => ConnectCause::Protocol(what),
            other => ConnectCause::Protocol(other.to_string()),
        })?;
        let piece = |limit: u64| match limit {
            0 => USUAL_PIECE,
            limit => u32::try_from(limit)
                .unwrap_or(LARGEST_PIECE)
                .clamp(SMALLEST_PIECE, LARGEST_PIECE),
        };
        self.read_piece = piece(limits.read);
        self.write_piece = piece(limits.write);
        Ok(())
    }

    /// Names the operation and its object in what goes wrong.
    pub(crate) fn about<T>(
        &self,
        action: &'static str,
        object: &str,
        work: impl FnOnce() -> Result<T, Trouble>,
    ) -> Result<T, SftpError> {
        work().map_err(|trouble| SftpError::new(action, object, trouble))
    }

    fn ask(&self, request: Packet) -> Result<Reply, Trouble> {
        let mut connection = self.connection();
        let id = connection.submit(request);
        connection.wait(id)
    }

    fn command(&self, request: Packet) -> Result<(), Trouble> {
        match self.ask(request)? {
            Reply::Status { code: 0, .. } => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    fn open_handle(&self, request: Packet) -> Result<Vec<u8>, Trouble> {
        match self.ask(request)? {
            Reply::Handle(name) => Ok(name),
            other => Err(self.unexpected(other)),
        }
    }

    fn open_file(&self, path: &str, flags: u32, mode: Option<u32>) -> Result<Handle, Trouble> {
        let request = Packet::new(wire::OPEN).string(fit(path)?).u32(flags);
        let request = match mode {
            Some(mode) => request.mode(mode),
            None => request.no_attributes(),
        };
        Ok(Handle {
            name: self.open_handle(request)?,
            path: path.to_owned(),
        })
    }

    fn look(&self, path: &str) -> Result<Option<Metadata>, Trouble> {
        match self.ask(Packet::new(wire::LSTAT).string(fit(path)?))? {
            Reply::Attributes(metadata) => Ok(Some(metadata)),
            other => match self.unexpected(other) {
                Trouble {
                    kind: SftpErrorKind::NoSuchFile,
                    ..
                } => Ok(None),
                trouble => Err(trouble),
            },
        }
    }

    fn statvfs(&self, path: &str) -> Result<Option<Room>, Trouble> {
        if !self.server.statvfs {
            return Ok(None);
        }
        let request = Packet::extended("statvfs@openssh.com").string(path.as_bytes());
        self.room_of(self.ask(request)?).map(Some)
    }

    fn room_of(&self, reply: Reply) -> Result<Room, Trouble> {
        match reply {
            Reply::Extended(body) => {
                Room::parse(&body).map_err(|Malformed(what)| self.broken(what))
            }
            other => Err(self.unexpected(other)),
        }
    }

    /// Version 3 has one status for all failures: the target is looked at, and then the room for it.
    fn or_exists(&self, trouble: Trouble, path: &str) -> Trouble {
        if !matches!(trouble.kind, SftpErrorKind::Failure(_)) {
            return trouble;
        }
        if matches!(self.look(path), Ok(Some(_))) {
            return Trouble {
                kind: SftpErrorKind::AlreadyExists,
                ..trouble
            };
        }
        let folder = match path.trim_end_matches('/').rsplit_once('/') {
            Some(("", _)) => "/",
            Some((folder, _)) => folder,
            None => ".",
        };
        match self.statvfs(folder) {
            Ok(Some(room)) if room.free < room.block => Trouble {
                kind: SftpErrorKind::NoRoom,
                ..trouble
            },
            _ => trouble,
        }
    }

    fn read_entries(
        &self,
        name: &[u8],
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), Trouble> {
        let mut dots = 0;
        loop {
            let entries = match self.ask(Packet::new(wire::READDIR).string(name))? {
                Reply::Names(entries) => entries,
                Reply::Status { code: 1, .. } => return Ok(()),
                other => return Err(self.unexpected(other)),
            };
            // A server that goes on with nothing would never end.
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                if entry.name.contains(&b'/') {
                    return Err(self.broken("a name in a folder has a slash in it"));
                }
                if entry.name == b"." || entry.name == b".." {
                    // `each` does not see them, so it is no bound of these.
                    dots += 1;
                    if dots > MOST_DOTS {
                        return Err(self.broken("a folder names itself again and again"));
                    }
                    continue;
                }
                if each(entry).is_break() {
                    return Ok(());
                }
            }
        }
    }
}

fn fit(path: &str) -> Result<&[u8], Trouble> {
    let why = if path.is_empty() {
        "the path is empty"
    } else if path.len() > LONGEST_NAME {
        "the path is longer than 4096 bytes"
    } else if path.contains('\0') {
        "the path has a NUL in it"
    } else {
        return Ok(path.as_bytes());
    };
    Err(SftpErrorKind::BadPath(why).into())
}
