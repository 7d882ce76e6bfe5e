//! The parts of a sparse file that hold something; between them are holes.
//!
//! ```text
//! map of format GNU 1.0, before the contents:  NUMBER\n  OFFSET\n LENGTH\n  OFFSET\n LENGTH\n …  zeros to the border of a block
//! ```

use super::{BLOCK, MOST_SEGMENTS, padding};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The parts of an open file of `size` bytes that are no holes; `None` where saying so would not make an archive smaller.
///
/// A file with more parts than can be remembered keeps its first ones; the rest then counts as one.
pub(super) fn find(file: BorrowedFd<'_>, size: u64) -> Result<Option<Vec<Segment>>, Errno> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut position = 0;
    while position < size {
        let Some(start) = seek_to(file, SeekFrom::Data(position))?.filter(|&start| start < size)
        else {
            break;
        };
        let end = if segments.len() + 2 < MOST_SEGMENTS {
            seek_to(file, SeekFrom::Hole(start))?
                .unwrap_or(size)
                .min(size)
        } else {
            size
        };
        if end <= start {
            break;
        }
        segments.push(Segment {
            offset: start,
            length: end - start,
        });
        position = end;
    }
    // A part of no length at the end says how long the file is to readers that look at nothing else.
    if segments
        .last()
        .is_none_or(|last| last.offset + last.length < size)
    {
        segments.push(Segment {
            offset: size,
            length: 0,
        });
    }
    let stored = stored(&segments) + map_length(&segments);
    let plain = size + padding(size) as u64;
    Ok((stored + (padding(stored) as u64) < plain).then_some(segments))
}

/// Where the next data or hole begins; `None` when there is none before the end.
fn seek_to(file: BorrowedFd<'_>, to: SeekFrom) -> Result<Option<u64>, Errno> {
    match seek(file, to) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// How many bytes all parts have.
pub(super) fn stored(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.length).sum()
}

/// The map as text, padded.
pub(super) fn map(segments: &[Segment]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len()).into_bytes();
    for segment in segments {
        text.extend_from_slice(format!("{}\n{}\n", segment.offset, segment.length).as_bytes());
    }
    text.resize(text.len() + padding(text.len() as u64), 0);
    text
}

fn map_length(segments: &[Segment]) -> u64 {
    let line = |number: u64| u64::from(number.checked_ilog10().unwrap_or(0)) + 2;
    let lines = segments
        .iter()
        .map(|segment| line(segment.offset) + line(segment.length));
    let length = line(segments.len() as u64) + lines.sum::<u64>();
    length.next_multiple_of(BLOCK as u64)
}

/// Whether parts come one after the other within a file of `size` bytes and hold `stored` bytes together.
pub(super) fn are_sound(segments: &[Segment], size: u64, stored: u64) -> bool {
    let mut position = 0;
    let mut sum = 0;
    for segment in segments {
        let Some(end) = segment.offset.checked_add(segment.length) else {
            return false;
        };
        if segment.offset < position || end > size {
            return false;
        }
        position = end;
        sum += segment.length;
    }
    sum == stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    const fn part(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn holes_are_left_out_where_that_saves_something() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"x", 65536).unwrap();
        let found = find(file.as_fd(), 1 << 20).unwrap().unwrap();
        assert_eq!(found.last(), Some(&part(1 << 20, 0)));
        assert!(stored(&found) >= 1 && stored(&found) < 1 << 18, "{found:?}");
        assert_eq!(map(&found).len() as u64, map_length(&found));
        let full = tempfile::tempfile().unwrap();
        full.write_all_at(&[1; 10_000], 0).unwrap();
        assert_eq!(find(full.as_fd(), 10_000).unwrap(), None);
        let short: File = tempfile::tempfile().unwrap();
        short.set_len(512).unwrap();
        assert_eq!(
            find(short.as_fd(), 512).unwrap(),
            None,
            "the map is as long as the file"
        );
    }

    #[test]
    fn parts_must_be_in_order_and_within_the_file() {
        assert!(are_sound(&[part(0, 5), part(5, 1), part(9, 0)], 9, 6));
        assert!(are_sound(&[], 9, 0));
        assert!(!are_sound(&[part(0, 5), part(4, 1)], 9, 6), "overlap");
        assert!(!are_sound(&[part(5, 5)], 9, 5), "beyond the end");
        assert!(!are_sound(&[part(u64::MAX, 2)], u64::MAX, 2), "overflow");
        assert!(!are_sound(&[part(0, 5)], 9, 6), "other sum");
    }

    #[test]
    fn the_map_is_text_with_one_number_in_a_line() {
        let map = map(&[part(0, 512), part(4096, 0)]);
        assert_eq!(map.len(), 512);
        assert!(map.starts_with(b"2\n0\n512\n4096\n0\n\0"));
    }
}
