//! What a machine did to a disk, write by write, and the disk as a power cut at any moment may have left it.
//!
//! ```text
//! sector 0      magic, version, number of entries (u64 each), bytes in a sector (u32)
//! then each     where, how many sectors, flags, unused (u64 each); in the next sectors what was written
//! ```
//!
//! That is the format of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst), as qemu's driver
//! `blklogwrites` writes it. All numbers are little-endian.
//!
//! A disk may keep what it is given in its cache, and bring it to the medium in any order. Only a flush makes everything that was
//! written before it last. So after a cut all is there up to the last flush, and of what came later any part.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// What a disk writes whole or not at all, in bytes.
const ATOM: u64 = 4096;

/// Everything that was done to a disk.
pub struct Log {
    file: File,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// `length` bytes were written at `offset`; they stand at `place` of the log.
    Write {
        offset: u64,
        length: u64,
        place: u64,
    },
    /// All that was written before was brought to the medium.
    Flush,
}

impl Log {
    pub fn read(path: &Path) -> io::Result<Log> {
        let file = File::open(path)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0)?;
        let sector = u64::from(u32::from_le_bytes(head[24..].try_into().expect("four")));
        if number(&head[..8]) != MAGIC || number(&head[8..16]) != 1 || sector == 0 {
            return Err(io::Error::other("it is no log of writes"));
        }
        let mut entries = Vec::new();
        let mut place = sector;
        for _ in 0..number(&head[16..24]) {
            let mut entry = [0; 24];
            file.read_exact_at(&mut entry, place)?;
            place += sector;
            let [at, count, flags] = [0, 8, 16].map(|from| number(&entry[from..from + 8]));
            let length = count * sector;
            if flags & DISCARD != 0 {
                return Err(io::Error::other("the disk was told not to know discards"));
            }
            if flags & FLUSH != 0 {
                entries.push(Entry::Flush);
            }
            if length > 0 {
                entries.push(Entry::Write {
                    offset: at * sector,
                    length,
                    place,
                });
                place += length;
            }
        }
        Ok(Log { file, entries })
    }

    /// What an entry wrote; nothing where it is a flush.
    pub fn bytes(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let Entry::Write { length, place, .. } = *entry else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; usize::try_from(length).expect("a write fits into memory")];
        self.file.read_exact_at(&mut bytes, place)?;
        Ok(bytes)
    }

    /// Does to a disk what an entry did; of the pieces that a disk writes at once, only those that `lasts` takes.
    pub fn replay(
        &self,
        entry: &Entry,
        disk: &File,
        mut lasts: impl FnMut() -> bool,
    ) -> io::Result<()> {
        let Entry::Write { mut offset, .. } = *entry else {
            return Ok(());
        };
        let bytes = self.bytes(entry)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let to_the_next = usize::try_from(ATOM - offset % ATOM).expect("it is small");
            let (piece, after) = rest.split_at(to_the_next.min(rest.len()));
            if lasts() {
                disk.write_all_at(piece, offset)?;
            }
            offset += piece.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Where the last flush before an entry is; the beginning where there is none.
    pub fn last_flush_before(&self, end: usize) -> usize {
        let flush = self.entries[..end]
            .iter()
            .rposition(|entry| matches!(entry, Entry::Flush));
        flush.unwrap_or(0)
    }
}
