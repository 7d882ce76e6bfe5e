//! The archive around an image that is written: entries whose names and lengths are known at their ends only.
//!
//! A blob is called after its digest, so its header is left blank, the content written behind it, and the header put
//! in when both are known. Content that is there already is taken back.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;
use tar_core::{EntryType, HEADER_SIZE, Header, HeaderBuilder};

/// From this length on, a ustar header has no room for it.
const LARGEST_USTAR: u64 = 8 * 1024 * 1024 * 1024;
/// The latest time that a ustar header has room for.
const LATEST: u64 = LARGEST_USTAR - 1;

pub(super) struct OuterWriter {
    file: File,
    /// Where the next entry begins.
    end: u64,
    /// Seconds since 1970, of all entries.
    modified: u64,
    names: HashSet<String>,
}

/// An entry whose content is being written.
#[must_use]
pub(super) struct OpenEntry {
    header: u64,
}

impl OuterWriter {
    /// Writes from the file's current place on; the file must not be open for appending.
    pub fn new(mut file: File, modified: SystemTime) -> io::Result<OuterWriter> {
        let since = modified.duration_since(SystemTime::UNIX_EPOCH);
        Ok(OuterWriter {
            end: file.stream_position()?,
            file,
            modified: since.map_or(0, |since| since.as_secs()).min(LATEST),
            names: HashSet::new(),
        })
    }

    pub fn folder(&mut self, name: &str) -> io::Result<()> {
        let header = header(name, EntryType::Directory, 0o755, 0, self.modified)?;
        self.file.write_all(header.as_bytes())?;
        self.end += HEADER_SIZE as u64;
        Ok(())
    }

    /// Writes a whole entry.
    pub fn entry(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let entry = self.begin()?;
        self.file.write_all(content)?;
        self.finish(entry, name, content.len() as u64)
    }

    /// Begins an entry whose content goes to [`content`](Self::content).
    pub fn begin(&mut self) -> io::Result<OpenEntry> {
        self.file.write_all(&[0; HEADER_SIZE])?;
        Ok(OpenEntry { header: self.end })
    }

    /// Where the content of an entry goes; it shares its place with the archive.
    pub fn content(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Ends an entry of which `length` bytes were written.
    pub fn finish(&mut self, entry: OpenEntry, name: &str, length: u64) -> io::Result<()> {
        if !self.names.insert(name.into()) {
            self.file.set_len(entry.header)?;
            self.file.seek(SeekFrom::Start(entry.header))?;
            return Ok(());
        }
        let padding = (length.wrapping_neg() % HEADER_SIZE as u64) as usize;
        self.file.write_all(&[0; HEADER_SIZE][..padding])?;
        let header = header(name, EntryType::Regular, 0o644, length, self.modified)?;
        self.file.write_all_at(header.as_bytes(), entry.header)?;
        self.end = entry.header + HEADER_SIZE as u64 + length + padding as u64;
        Ok(())
    }

    /// Ends the archive.
    pub fn end(mut self) -> io::Result<()> {
        self.file.write_all(&[0; 2 * HEADER_SIZE])?;
        self.file.flush()
    }
}

fn header(
    name: &str,
    entry_type: EntryType,
    mode: u32,
    length: u64,
    modified: u64,
) -> io::Result<Header> {
    let mut header = match length {
        LARGEST_USTAR.. => HeaderBuilder::new_gnu(),
        _ => HeaderBuilder::new_ustar(),
    };
    let mut fill = || -> Result<Header, tar_core::HeaderError> {
        header.path(name)?.mode(mode)?.uid(0)?.gid(0)?;
        header.size(length)?.mtime(modified)?;
        Ok(header.entry_type(entry_type).finish())
    };
    fill().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar_core::parse::{ParseEvent, Parser};

    #[test]
    fn a_length_beyond_8_gib_is_understood() {
        for length in [LARGEST_USTAR - 1, LARGEST_USTAR, 1 << 40] {
            let header = header("a", EntryType::Regular, 0o644, length, 1).unwrap();
            match Parser::with_defaults().parse(header.as_bytes()).unwrap() {
                ParseEvent::Entry { entry, .. } => assert_eq!(entry.size, length),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn content_that_is_there_already_takes_no_room() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = OuterWriter::new(file.try_clone().unwrap(), SystemTime::now()).unwrap();
        writer.entry("a", &[1; 700]).unwrap();
        writer.entry("a", &[1; 700]).unwrap();
        writer.entry("b", b"").unwrap();
        writer.end().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 512 + 1024 + 512 + 1024);
    }
}
