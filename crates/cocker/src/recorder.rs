//! What a command or a session shows, written into files on the host while it happens: the user's own (`--record`) and the
//! one that the administrator wants of each (`[sessions]` of config.toml).
//!
//! A file that cannot be written any more is told of once, at the end, and stops nothing: what runs in the container is no
//! worse for it. It ends with a whole line all the same, so what is there can be played.

use crate::failure::Failure;
use cocker_engine::{IfThere, Recording, Title, WindowSize};
use cocker_recording::{Allowance, Encoder, LAST_LINE, LEAST_ROOM, Room, last_line};
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The longest line, in bytes. A longer piece of output becomes several.
const LINE: usize = 16 * 1024;

/// Where output comes from. Each has an encoder of its own, so that halves of characters meet their other halves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Output,
    Errors,
}

/// The recordings of one command or session; there may be none.
pub struct Recorder {
    files: Vec<RecordingFile>,
    began: Instant,
    encoders: [Encoder; 2],
}

struct RecordingFile {
    file: File,
    path: PathBuf,
    owner: Owner,
    /// Where it lies until the command has started, when it is to replace another.
    staged: Option<PathBuf>,
    /// Bytes of whole lines in it.
    length: u64,
    allowance: Allowance,
    /// Why nothing more can be written.
    fault: Option<io::Error>,
}

#[derive(PartialEq, Eq)]
enum Owner {
    User,
    Administrator,
}

impl Recorder {
    /// Makes the user's file, where one is wanted. The administrator's was made by the engine. `encoder` is one for what is
    /// recorded: [`Encoder::new`] or [`Encoder::of_plain_output`].
    pub fn new(
        encoder: Encoder,
        wanted: Option<(&Path, IfThere)>,
        recording: Option<Recording>,
        title: &Title<'_>,
    ) -> Result<Recorder, Failure> {
        let mut files = Vec::new();
        if let Some((path, if_there)) = wanted {
            let (file, staged) = make(path, if_there)?;
            let file = RecordingFile::new(file, path.into(), Owner::User, u64::MAX);
            files.push(RecordingFile { staged, ..file });
        }
        files.extend(recording.map(|recording| {
            let Recording {
                file,
                path,
                most_bytes,
            } = recording;
            RecordingFile::new(file, path, Owner::Administrator, most_bytes)
        }));
        let mut recorder = Recorder {
            files,
            began: Instant::now(),
            encoders: [encoder; 2],
        };
        if recorder.is_on() {
            recorder.write_line(&title.line());
        }
        Ok(recorder)
    }

    pub fn is_on(&self) -> bool {
        !self.files.is_empty()
    }

    /// What was shown just now.
    pub fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let (mut line, mut rest) = ([0; LINE], bytes);
        while !rest.is_empty() && self.is_on() {
            let micros = self.micros();
            let encoded = self.encoders[stream as usize].output(micros, rest, &mut line);
            self.write_line(&line[..encoded.written]);
            rest = &rest[encoded.consumed..];
        }
    }

    /// The terminal has another size.
    pub fn resize(&mut self, WindowSize { rows, columns }: WindowSize) {
        if !self.is_on() {
            return;
        }
        let mut line = [0; LEAST_ROOM];
        if let Ok(length) = cocker_recording::resize(self.micros(), columns, rows, &mut line) {
            self.write_line(&line[..length]);
        }
    }

    /// The command has started, so what is to be replaced may go.
    pub fn started(&mut self) {
        for file in &mut self.files {
            if let Some(staged) = file.staged.take()
                && let Err(error) = fs::rename(&staged, &file.path)
            {
                let _ = fs::remove_file(staged);
                file.fault = Some(error);
            }
        }
    }

    /// The command did not start, so there is nothing to keep for the user. The administrator sees that it was tried.
    pub fn withdraw(mut self) {
        for file in &self.files {
            if file.owner == Owner::User {
                // Ours: it was not there before.
                let _ = fs::remove_file(file.staged.as_ref().unwrap_or(&file.path));
            }
        }
        self.files.retain(|file| file.owner == Owner::Administrator);
        self.mark(b"it could not be started");
        self.end();
    }

    /// Writes what is still held back, and tells of the files that are not whole.
    pub fn end(mut self) {
        let (mut line, micros) = ([0; LEAST_ROOM], self.micros());
        for index in 0..self.encoders.len() {
            let length = self.encoders[index].end(micros, &mut line);
            self.write_line(&line[..length]);
        }
        for file in self.files {
            if let Some(error) = file.fault {
                let message = format!("cannot write recording `{}`", file.path.display());
                Failure::not_done(message).caused_by(&error).report();
            }
        }
    }

    fn mark(&mut self, label: &[u8]) {
        let mut line = [0; 256];
        if let Ok(length) = cocker_recording::marker(self.micros(), label, &mut line) {
            self.write_line(&line[..length]);
        }
    }

    fn write_line(&mut self, line: &[u8]) {
        let micros = self.micros();
        for file in &mut self.files {
            file.write_line(line, micros);
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl RecordingFile {
    fn new(file: File, path: PathBuf, owner: Owner, most_bytes: u64) -> RecordingFile {
        RecordingFile {
            file,
            path,
            owner,
            staged: None,
            length: 0,
            allowance: Allowance::of(most_bytes),
            fault: None,
        }
    }

    fn write_line(&mut self, line: &[u8], micros: u64) {
        if line.is_empty() {
            return;
        }
        match self.allowance.take(line.len()) {
            Room::ForLine => self.write(line),
            Room::ForLastLine => {
                let mut last = [0; LAST_LINE];
                let length = last_line(micros, &mut last);
                self.write(&last[..length]);
            }
            Room::None => {}
        }
    }

    fn write(&mut self, line: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        match self.file.write_all(line) {
            Ok(()) => self.length += line.len() as u64,
            Err(error) => {
                // Half a line would spoil what is whole.
                let _ = self.file.set_len(self.length);
                self.fault = Some(error);
            }
        }
    }
}

/// A new file that only its owner may read: passwords are shown now and then. Where it is to replace another it lies beside
/// that one at first, and the second value says where.
fn make(path: &Path, if_there: IfThere) -> Result<(File, Option<PathBuf>), Failure> {
    let failed = |error: &(dyn Error + 'static)| {
        Failure::not_done(format!("cannot record into `{}`", path.display())).caused_by(error)
    };
    match (create(path), if_there) {
        (Ok(file), _) => Ok((file, None)),
        (Err(error), IfThere::Replace) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(path).map_err(|error| failed(&error))?;
            // A device or a FIFO stands there for something else.
            if !there.is_file() && !there.is_symlink() {
                return Err(failed(&io::Error::other("it is not a regular file")));
            }
            let name = path.file_name().unwrap_or_default().display();
            let staged = path.with_file_name(format!(".new-{}-{name}", std::process::id()));
            let file = create(&staged).map_err(|error| failed(&error))?;
            Ok((file, Some(staged)))
        }
        (Err(error), IfThere::Refuse) if error.kind() == io::ErrorKind::AlreadyExists => {
            let failure = failed(&io::Error::other("it exists already"));
            Err(failure.hint("say another file, or replace it with --forcely."))
        }
        (Err(error), _) => Err(failed(&error)),
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}
