//! The maps of sparse files that stand outside of records: before the contents (GNU 1.0), and in headers of GNU's own format.

use super::super::error::UnpackError;
use super::super::segments::Segment;
use super::super::{BLOCK, MOST_SEGMENTS, numbers};
use super::stream::Stream;
use std::ops::Range;
use tar_core::Header;

/// Where the parts of a sparse file stand in a header of GNU's own format, and how many bytes a further block has of them.
const PARTS: Range<usize> = 386..482;
const MORE_PARTS: usize = 504;
/// An offset and a length, 12 bytes each.
const PART: usize = 24;
/// The digits of the largest number.
const MOST_DIGITS: usize = 20;

/// Reads a map before contents of `stored` bytes; tells its length with its padding. `None` where it cannot be read.
pub(super) fn before_contents(
    stream: &mut Stream<'_>,
    stored: u64,
) -> Result<Option<(Vec<Segment>, u64)>, UnpackError> {
    let start = stream.offset();
    let end = start.saturating_add(stored);
    let number = line(stream, end)?.filter(|&number| number <= MOST_SEGMENTS as u64);
    let Some(number) = number else {
        return Ok(None);
    };
    let mut segments = Vec::new();
    for _ in 0..number {
        let (Some(offset), Some(length)) = (line(stream, end)?, line(stream, end)?) else {
            return Ok(None);
        };
        segments.push(Segment { offset, length });
    }
    let length = (stream.offset() - start).next_multiple_of(BLOCK as u64);
    if length > stored {
        return Ok(None);
    }
    stream.skip(start + length - stream.offset())?;
    Ok(Some((segments, length)))
}

/// A number and the end of its line, before the offset `end`.
fn line(stream: &mut Stream<'_>, end: u64) -> Result<Option<u64>, UnpackError> {
    let mut digits = Vec::with_capacity(MOST_DIGITS);
    while stream.offset() < end {
        match stream.byte()? {
            b'\n' => return Ok(numbers::decimal(&digits)),
            _ if digits.len() == MOST_DIGITS => break,
            digit => digits.push(digit),
        }
    }
    Ok(None)
}

/// Reads the map in a header of GNU's own format and in the blocks that follow it, and the file's size.
pub(super) fn in_header(
    stream: &mut Stream<'_>,
    header: &Header,
) -> Result<Option<(Vec<Segment>, u64)>, UnpackError> {
    let Some(fields) = header.try_as_gnu() else {
        return Ok(None);
    };
    let mut segments = Vec::new();
    let mut is_sound = add_parts(&mut segments, &header.as_bytes()[PARTS]);
    let mut is_extended = fields.isextended[0] != 0;
    while is_extended && is_sound {
        let block = stream.block()?;
        is_sound = add_parts(&mut segments, &block[..MORE_PARTS]);
        is_extended = block[MORE_PARTS] != 0;
    }
    let size = numbers::unsigned(&fields.realsize).filter(|_| is_sound);
    Ok(size.map(|size| (segments, size)))
}

/// Adds parts up to the first empty one; false where one cannot be read or there are too many.
fn add_parts(segments: &mut Vec<Segment>, parts: &[u8]) -> bool {
    for part in parts.chunks_exact(PART) {
        let (offset, length) = part.split_at(PART / 2);
        if length[0] == 0 {
            break;
        }
        match (numbers::unsigned(offset), numbers::unsigned(length)) {
            (Some(offset), Some(length)) => segments.push(Segment { offset, length }),
            _ => return false,
        }
    }
    segments.len() <= MOST_SEGMENTS
}
