//! One file as its header and its extended headers describe it; what both say, the extended ones say better.

use super::super::LONGEST_TARGET;
use super::super::attributes::{self, Kind};
use super::super::entry::Device;
use super::super::error::{Malformation, Refusal, UnpackError, shown};
use super::super::numbers;
use super::extensions::Said;
use rustix::fs::Timespec;
use tar_core::Header;

/// No user or group has this id; chown(2) takes it for "unchanged".
const NOBODY: u32 = u32::MAX;

pub(super) struct Described<'a> {
    pub header: &'a Header,
    pub said: Said,
    pub name: Vec<u8>,
    /// Where its headers begin.
    pub offset: u64,
}

pub(super) type NamesAndValues = Vec<(Vec<u8>, Vec<u8>)>;

impl<'a> Described<'a> {
    pub fn new(header: &'a Header, mut said: Said, offset: u64) -> Described<'a> {
        let name = said.name.take();
        Described {
            header,
            said,
            name: name.unwrap_or_else(|| header_name(header)),
            offset,
        }
    }

    /// How many bytes follow the headers.
    pub fn size(&self) -> Result<u64, UnpackError> {
        self.said_or(self.said.size, &self.header.as_ustar().size)
    }

    pub fn mode(&self) -> Result<u32, UnpackError> {
        Ok((self.number(&self.header.as_ustar().mode)? & 0o7777) as u32)
    }

    pub fn owner(&self) -> Result<(u32, u32), UnpackError> {
        let fields = self.header.as_ustar();
        let id = |said, field: &[u8]| {
            let id = u32::try_from(self.said_or(said, field)?);
            let id = id.ok().filter(|&id| id != NOBODY);
            id.ok_or_else(|| self.refused(Refusal::Owner))
        };
        Ok((
            id(self.said.uid, &fields.uid)?,
            id(self.said.gid, &fields.gid)?,
        ))
    }

    pub fn mtime(&self) -> Result<Timespec, UnpackError> {
        if let Some(mtime) = self.said.mtime {
            return Ok(mtime);
        }
        let seconds = numbers::signed(&self.header.as_ustar().mtime);
        let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
        Ok(Timespec {
            tv_sec: seconds.ok_or_else(|| self.malformed(Malformation::Number))?,
            tv_nsec: 0,
        })
    }

    pub fn device(&self) -> Result<Device, UnpackError> {
        let fields = self.header.as_ustar();
        let part = |field: &[u8]| {
            u32::try_from(self.number(field)?).map_err(|_| self.refused(Refusal::Device))
        };
        Ok(Device {
            major: part(&fields.dev_major)?,
            minor: part(&fields.dev_minor)?,
        })
    }

    /// What a link leads to.
    pub fn target(&self) -> Result<Vec<u8>, UnpackError> {
        let target = match &self.said.target {
            Some(target) => target.as_slice(),
            None => self.header.link_name_bytes(),
        };
        if target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0) {
            return Err(self.refused(Refusal::BadTarget));
        }
        Ok(target.to_vec())
    }

    /// The attributes that a layer takes from an archive; tells besides whether the entry is marked as opaque.
    pub fn attributes(&mut self) -> Result<(NamesAndValues, bool), UnpackError> {
        let mut kept = Vec::new();
        let mut is_opaque = false;
        for (attribute, value) in std::mem::take(&mut self.said.attributes) {
            if attribute.is_empty()
                || attribute.len() > attributes::LONGEST_NAME
                || attribute.contains(&0)
            {
                return Err(self.refused(Refusal::AttributeName));
            }
            if value.len() > attributes::LONGEST {
                return Err(self.refused(Refusal::AttributeValue));
            }
            match attributes::kind(&attribute) {
                Kind::Kept => kept.push((attribute, value)),
                Kind::Foreign if attribute == attributes::OPAQUE.to_bytes() => {
                    is_opaque = value == attributes::OPAQUE_VALUE;
                }
                Kind::Foreign => {}
                Kind::Unknown => tracing::warn!(
                    name = %shown(&self.name),
                    attribute = %shown(&attribute),
                    "left out an extended attribute that Linux does not know"
                ),
            }
        }
        Ok((kept, is_opaque))
    }

    pub fn refused(&self, reason: Refusal) -> UnpackError {
        UnpackError::refused(&self.name, self.offset, reason)
    }

    pub fn malformed(&self, problem: Malformation) -> UnpackError {
        UnpackError::Malformed {
            offset: self.offset,
            problem,
        }
    }

    fn said_or(&self, said: Option<u64>, field: &[u8]) -> Result<u64, UnpackError> {
        said.map_or_else(|| self.number(field), Ok)
    }

    fn number(&self, field: &[u8]) -> Result<u64, UnpackError> {
        numbers::unsigned(field).ok_or_else(|| self.malformed(Malformation::Number))
    }
}

/// The name in a header: in ustar with the prefix before it.
fn header_name(header: &Header) -> Vec<u8> {
    let fields = header.as_ustar();
    if fields.magic != *b"ustar\0" {
        return header.path_bytes().to_vec();
    }
    // The program star keeps times where others have the end of the prefix, and says so in the last bytes.
    let is_star = header.as_bytes().ends_with(b"tar\0");
    let prefix = &fields.prefix[..if is_star { 131 } else { 155 }];
    let prefix = prefix.split(|&byte| byte == 0).next().unwrap_or(b"");
    match prefix {
        b"" => header.path_bytes().to_vec(),
        prefix => [prefix, b"/", header.path_bytes()].concat(),
    }
}
