//! The header of an entry: ustar, and pax records before it for what ustar cannot say.

use super::super::{BLOCK, MOST_RECORDS, numbers, padding, records};
use rustix::fs::{Stat, Timespec, major, minor};
use tar_core::{EntryType, Header};

/// The largest numbers that octal digits say in fields of 8 and of 12 bytes.
const MOST_IN_8: u64 = 0o7777777;
const MOST_IN_12: u64 = 0o77777777777;
/// The lengths of the fields for names.
const NAME: usize = 100;
const PREFIX: usize = 155;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    SymbolicLink,
    HardLink,
    Fifo,
    Character,
    Block,
}

/// What one entry says about its file.
pub(super) struct Head {
    kind: Kind,
    /// Folders end with `/`.
    pub path: Vec<u8>,
    /// Of a link.
    pub target: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    /// How many bytes follow.
    pub size: u64,
    /// How long the file is with its holes, if its map stands before what follows.
    pub sparse_size: Option<u64>,
    device: (u32, u32),
    /// Records of extended attributes.
    pub attributes: Vec<u8>,
}

impl Head {
    /// An entry that is root's, from 1970, and closed to all.
    pub fn new(kind: Kind, path: &[u8]) -> Head {
        Head {
            kind,
            path: path.into(),
            target: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            size: 0,
            sparse_size: None,
            device: (0, 0),
            attributes: Vec::new(),
        }
    }

    /// An entry for what the kernel says about a file.
    pub fn of(kind: Kind, path: &[u8], stat: &Stat) -> Head {
        let device = match kind {
            Kind::Character | Kind::Block => (major(stat.st_rdev), minor(stat.st_rdev)),
            _ => (0, 0),
        };
        Head {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec as _,
            },
            device,
            ..Head::new(kind, path)
        }
    }

    /// The blocks before the contents; `None` where there are more records than a reader takes.
    pub fn finish(&self) -> Option<Vec<u8>> {
        let mut header = Header::new_ustar();
        let records = self.fill(&mut header);
        if records.len() > MOST_RECORDS {
            return None;
        }
        let mut blocks = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            blocks.extend_from_slice(self.records_header(records.len()).as_bytes());
            blocks.extend_from_slice(&records);
            blocks.resize(blocks.len() + padding(records.len() as u64), 0);
        }
        blocks.extend_from_slice(header.as_bytes());
        Some(blocks)
    }

    /// Fills a header and returns the records for what it has no room for.
    fn fill(&self, header: &mut Header) -> Vec<u8> {
        let mut records = Vec::new();
        let fields = header.as_ustar_mut();
        match self.sparse_size {
            // Who does not know the format gets a file of another name rather than wrong contents in the right one.
            Some(_) => _ = set_name(header, &[b"GNUSparseFile.0/", self.short_name()].concat()),
            None if self.path.len() <= NAME => {
                fields.name[..self.path.len()].copy_from_slice(&self.path)
            }
            None if set_name(header, &self.path) => {}
            None => {
                records::append(&mut records, b"path", &self.path);
                _ = set_name(header, self.short_name());
            }
        }
        let fields = header.as_ustar_mut();
        let linkname = self.target.len().min(NAME);
        fields.linkname[..linkname].copy_from_slice(&self.target[..linkname]);
        if self.target.len() > NAME {
            records::append(&mut records, b"linkpath", &self.target);
        }
        let mut number = |field: &mut [u8], most: u64, key: &[u8], value: u64| {
            if value > most {
                records::append(&mut records, key, value.to_string().as_bytes());
            }
            // What the record says goes first; a reader without records sees nothing rather than nonsense.
            set_octal(field, if value > most { 0 } else { value });
        };
        number(&mut fields.size, MOST_IN_12, b"size", self.size);
        number(&mut fields.uid, MOST_IN_8, b"uid", self.uid.into());
        number(&mut fields.gid, MOST_IN_8, b"gid", self.gid.into());
        set_octal(&mut fields.mode, self.mode.into());
        set_octal(&mut fields.dev_major, self.device.0.into());
        set_octal(&mut fields.dev_minor, self.device.1.into());
        let seconds = u64::try_from(self.mtime.tv_sec)
            .unwrap_or(0)
            .min(MOST_IN_12);
        set_octal(&mut fields.mtime, seconds);
        if self.mtime.tv_nsec != 0 || seconds as i64 != self.mtime.tv_sec {
            let text = numbers::time_text(self.mtime);
            records::append(&mut records, b"mtime", text.as_bytes());
        }
        fields.typeflag = [self.entry_type().to_byte()];
        records.extend_from_slice(&self.attributes);
        if let Some(size) = self.sparse_size {
            records::append(&mut records, b"GNU.sparse.major", b"1");
            records::append(&mut records, b"GNU.sparse.minor", b"0");
            records::append(&mut records, b"GNU.sparse.name", &self.path);
            records::append(
                &mut records,
                b"GNU.sparse.realsize",
                size.to_string().as_bytes(),
            );
        }
        header.set_checksum();
        records
    }

    /// The header before the records.
    fn records_header(&self, length: usize) -> Header {
        let mut header = Header::new_ustar();
        _ = set_name(&mut header, &[b"PaxHeaders/", self.short_name()].concat());
        let fields = header.as_ustar_mut();
        set_octal(&mut fields.mode, 0o644);
        set_octal(&mut fields.uid, 0);
        set_octal(&mut fields.gid, 0);
        set_octal(&mut fields.size, length as u64);
        set_octal(&mut fields.mtime, 0);
        set_octal(&mut fields.dev_major, 0);
        set_octal(&mut fields.dev_minor, 0);
        fields.typeflag = [EntryType::XHeader.to_byte()];
        header.set_checksum();
        header
    }

    /// The end of the path, for names that only readers without records see.
    fn short_name(&self) -> &[u8] {
        let path = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        &name[..name.len().min(80)]
    }

    fn entry_type(&self) -> EntryType {
        match self.kind {
            Kind::File => EntryType::Regular,
            Kind::Folder => EntryType::Directory,
            Kind::SymbolicLink => EntryType::Symlink,
            Kind::HardLink => EntryType::Link,
            Kind::Fifo => EntryType::Fifo,
            Kind::Character => EntryType::Char,
            Kind::Block => EntryType::Block,
        }
    }
}

/// Puts a path into the fields for name and prefix, cut at a `/`; false where it does not fit.
fn set_name(header: &mut Header, path: &[u8]) -> bool {
    let fields = header.as_ustar_mut();
    if path.len() <= NAME {
        fields.name[..path.len()].copy_from_slice(path);
        return true;
    }
    if path.len() > NAME + 1 + PREFIX {
        return false;
    }
    // The first cut that leaves a name short enough; neither half may be empty.
    let earliest = path.len() - NAME - 1;
    let latest = PREFIX.min(path.len() - 2);
    let slash = (earliest.max(1)..=latest).find(|&place| path[place] == b'/');
    let Some(slash) = slash else {
        return false;
    };
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    fields.prefix[..prefix.len()].copy_from_slice(prefix);
    fields.name[..name.len()].copy_from_slice(name);
    true
}

/// Writes octal digits that fill the field but for the NUL at its end.
fn set_octal(field: &mut [u8], value: u64) {
    let (end, digits) = field.split_last_mut().expect("no field is empty");
    *end = 0;
    let mut value = value;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_and_prefix(path: &[u8]) -> (Vec<u8>, Vec<u8>, bool) {
        let bytes = Head::new(Kind::File, path).finish().unwrap();
        let block: [u8; BLOCK] = bytes[bytes.len() - BLOCK..].try_into().unwrap();
        let header = Header::from_bytes(&block);
        header.verify_checksum().unwrap();
        (
            header.path_bytes().to_vec(),
            header.prefix().unwrap().to_vec(),
            bytes.len() > BLOCK,
        )
    }

    #[test]
    fn long_paths_go_into_the_prefix_and_longer_ones_into_records() {
        let name = vec![b'n'; 100];
        assert_eq!(name_and_prefix(&name), (name.clone(), vec![], false));
        let split = [&[b'p'; 155][..], b"/", &name].concat();
        assert_eq!(
            name_and_prefix(&split),
            (name.clone(), vec![b'p'; 155], false)
        );
        let unsplit = vec![b'u'; 101];
        assert_eq!(name_and_prefix(&unsplit), (vec![b'u'; 80], vec![], true));
        let folder = [&[b'p'; 101][..], b"/"].concat();
        assert!(name_and_prefix(&folder).2, "an empty name is no name");
    }
}
