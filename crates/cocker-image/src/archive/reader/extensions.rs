//! What stands in the headers before an entry's own: long names of GNU tar, and records of pax.

use super::super::error::{Malformation, UnpackError};
use super::super::records::{self, Records};
use super::super::segments::Segment;
use super::super::{MOST_RECORDS, MOST_SEGMENTS, numbers};
use rustix::fs::Timespec;

/// The extended headers of one entry, as they stand.
#[derive(Default)]
pub(super) struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    records: Option<Vec<u8>>,
}

/// Records that hold for all entries that follow.
#[derive(Default)]
pub(super) struct Global(Vec<u8>);

/// What extended headers say; it goes before what the entry's own header says.
#[derive(Default)]
pub(super) struct Said {
    pub name: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timespec>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
}

/// A sparse file as pax records describe it.
pub(super) struct Sparse {
    pub size: u64,
    /// `None` where the map stands before the contents.
    pub segments: Option<Vec<Segment>>,
}

impl Extensions {
    pub fn are_empty(&self) -> bool {
        self.name.is_none() && self.target.is_none() && self.records.is_none()
    }

    pub fn set_name(&mut self, name: Vec<u8>, offset: u64) -> Result<(), UnpackError> {
        set(&mut self.name, until_nul(name), offset)
    }

    pub fn set_target(&mut self, target: Vec<u8>, offset: u64) -> Result<(), UnpackError> {
        set(&mut self.target, until_nul(target), offset)
    }

    pub fn set_records(&mut self, records: Vec<u8>, offset: u64) -> Result<(), UnpackError> {
        set(&mut self.records, records, offset)
    }

    /// Reads the records, those of `global` first, so that the entry's own win.
    pub fn resolve(self, global: &Global, offset: u64) -> Result<Said, UnpackError> {
        let mut said = Said {
            name: self.name,
            target: self.target,
            ..Said::default()
        };
        let mut sparse = SparseRecords::default();
        let own = self.records.unwrap_or_default();
        for record in Records::new(&global.0).chain(Records::new(&own)) {
            let (key, value) = record.map_err(|_| malformed(offset, Malformation::Records))?;
            said.take(key, value)
                .and_then(|taken| {
                    if taken {
                        Some(())
                    } else {
                        sparse.take(key, value)
                    }
                })
                .ok_or_else(|| malformed(offset, Malformation::Records))?;
        }
        if sparse.is_meant {
            if sparse.name.is_some() {
                said.name = sparse.name.take();
            }
            said.sparse = Some(
                sparse
                    .finish()
                    .ok_or_else(|| malformed(offset, Malformation::SparseMap))?,
            );
        }
        Ok(said)
    }
}

impl Global {
    /// Adds the records of one more global header.
    pub fn add(&mut self, records: &[u8], offset: u64) -> Result<(), UnpackError> {
        for record in Records::new(records) {
            let (key, _) = record.map_err(|_| malformed(offset, Malformation::Records))?;
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                return Err(malformed(offset, Malformation::Global));
            }
        }
        if self.0.len() + records.len() > MOST_RECORDS {
            return Err(malformed(offset, Malformation::LongRecords));
        }
        self.0.extend_from_slice(records);
        Ok(())
    }
}

impl Said {
    /// Takes one record; true when it was one of these, `None` when its value cannot be read.
    /// An empty value takes back what an earlier record said (pax(1)), except that an attribute may be empty.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let number = || match value {
            b"" => Some(None),
            value => numbers::decimal(value).map(Some),
        };
        match key {
            b"path" => self.name = some(value),
            b"linkpath" => self.target = some(value),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(numbers::time(value)?),
            key => match records::attribute_name(key) {
                Some(name) => self.attributes.push((name, value.to_vec())),
                None => return Some(false),
            },
        }
        Some(true)
    }
}

/// The records of formats GNU 0.0, 0.1 and 1.0, which share most of their keys.
#[derive(Default)]
struct SparseRecords {
    is_meant: bool,
    name: Option<Vec<u8>>,
    version: (Option<u64>, Option<u64>),
    size: Option<u64>,
    segments: Option<Vec<Segment>>,
    offset: Option<u64>,
}

impl SparseRecords {
    /// Takes one record; whatever is no sparse file's is passed over. `None` where its value cannot be read.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let Some(key) = key.strip_prefix(b"GNU.sparse.") else {
            return Some(());
        };
        self.is_meant = true;
        match key {
            b"major" => self.version.0 = Some(numbers::decimal(value)?),
            b"minor" => self.version.1 = Some(numbers::decimal(value)?),
            b"name" => self.name = some(value),
            b"size" | b"realsize" => self.size = Some(numbers::decimal(value)?),
            b"offset" if self.offset.is_none() => self.offset = Some(numbers::decimal(value)?),
            b"numbytes" => {
                let (offset, length) = (self.offset.take()?, numbers::decimal(value)?);
                self.push(Segment { offset, length })?;
            }
            b"map" => {
                let mut numbers = value.split(|&byte| byte == b',').map(numbers::decimal);
                while let Some(offset) = numbers.next() {
                    let length = numbers.next()??;
                    self.push(Segment {
                        offset: offset?,
                        length,
                    })?;
                }
            }
            // How many parts there are is seen from the parts.
            b"numblocks" => {}
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, segment: Segment) -> Option<()> {
        let segments = self.segments.get_or_insert_default();
        segments.push(segment);
        (segments.len() <= MOST_SEGMENTS).then_some(())
    }

    fn finish(self) -> Option<Sparse> {
        let segments = match self.version {
            (Some(1), Some(0)) if self.segments.is_none() => None,
            (None, None) | (Some(0), Some(0 | 1)) => Some(self.segments?),
            _ => return None,
        };
        if self.offset.is_some() {
            return None;
        }
        Some(Sparse {
            size: self.size?,
            segments,
        })
    }
}

fn set(place: &mut Option<Vec<u8>>, value: Vec<u8>, offset: u64) -> Result<(), UnpackError> {
    if place.is_some() {
        return Err(malformed(offset, Malformation::Twice));
    }
    *place = Some(value);
    Ok(())
}

fn malformed(offset: u64, problem: Malformation) -> UnpackError {
    UnpackError::Malformed { offset, problem }
}

/// Long names of GNU tar end with NUL.
fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|&byte| byte == 0);
    name.truncate(end.unwrap_or(name.len()));
    name
}

fn some(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}
