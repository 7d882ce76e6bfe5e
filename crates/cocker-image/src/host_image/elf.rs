//! What the dynamic loader would read in an ELF file: its kind, its loader, the libraries it needs and where it wants
//! them looked for. Only these parts of the file are read, and nothing in it is trusted to be well-formed.

use std::{ffi::OsString, fs::File, os::unix::ffi::OsStringExt as _, path::PathBuf};

use object::{
    elf::{self, FileHeader32, FileHeader64},
    endian::{Endian as _, Endianness},
    read::{
        FileKind, ReadCache, ReadRef, StringTable,
        elf::{Dyn as _, FileHeader, ProgramHeader as _},
    },
};

/// Longest loader path that is believed, in bytes with its final zero.
const INTERPRETER_AT_MOST: u64 = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elf {
    pub kind: Kind,
    /// Path of the dynamic loader; programs have one, libraries mostly not.
    pub interpreter: Option<PathBuf>,
    /// Names of the libraries that are loaded with it.
    pub needed: Vec<OsString>,
    pub soname: Option<OsString>,
    /// Search folders that also hold for the libraries it needs (DT_RPATH), as written in the file.
    pub inherited_search: Option<Vec<u8>>,
    /// Search folders for its own needs only (DT_RUNPATH); where there are some, the inherited kind is void.
    pub own_search: Option<Vec<u8>>,
}

/// What must be equal for two ELF files to be loaded into one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub class: Class,
    pub is_little_endian: bool,
    /// `e_machine` of the ELF header.
    pub machine: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Bits32,
    Bits64,
}

/// Why a file is no use as a program or library.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("cannot make sense of its ELF headers")]
    Malformed(#[source] object::read::Error),
    #[error("cannot use a file that is neither ELF nor a script")]
    OtherFormat,
}

impl Elf {
    /// Reads the headers of `file`.
    pub(super) fn read(file: File) -> Result<Self, ElfError> {
        let data = &ReadCache::new(file);
        match FileKind::parse(data) {
            Ok(FileKind::Elf32) => read_headers::<FileHeader32<Endianness>, _>(data, Class::Bits32),
            Ok(FileKind::Elf64) => read_headers::<FileHeader64<Endianness>, _>(data, Class::Bits64),
            Ok(_) | Err(_) => return Err(ElfError::OtherFormat),
        }
        .map_err(ElfError::Malformed)
    }
}

fn read_headers<'data, Header: FileHeader, Data: ReadRef<'data>>(
    data: Data,
    class: Class,
) -> object::read::Result<Elf> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let mut elf = Elf {
        kind: Kind {
            class,
            is_little_endian: endian.is_little_endian(),
            machine: header.e_machine(endian).0,
        },
        interpreter: None,
        needed: Vec::new(),
        soname: None,
        inherited_search: None,
        own_search: None,
    };
    for segment in segments {
        if segment.p_type(endian) == elf::PT_INTERP
            && segment.p_filesz(endian).into() > INTERPRETER_AT_MOST
        {
            continue;
        }
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            elf.interpreter = Some(OsString::from_vec(interpreter.to_vec()).into());
        }
        if let Some(dynamic) = segment.dynamic(endian, data)? {
            read_dynamic::<Header, _>(&mut elf, dynamic, segments, endian, data)?;
        }
    }
    Ok(elf)
}

fn read_dynamic<'data, Header: FileHeader, Data: ReadRef<'data>>(
    elf: &mut Elf,
    dynamic: &[Header::Dyn],
    segments: &[Header::ProgramHeader],
    endian: Header::Endian,
    data: Data,
) -> object::read::Result<()> {
    let strings = dynamic_strings::<Header, _>(dynamic, segments, endian, data);
    for entry in dynamic {
        let tag = entry.tag(endian);
        if tag == elf::DT_NULL {
            break;
        }
        if ![
            elf::DT_NEEDED,
            elf::DT_SONAME,
            elf::DT_RPATH,
            elf::DT_RUNPATH,
        ]
        .contains(&tag)
        {
            continue;
        }
        let text = entry.string(endian, strings)?.to_vec();
        match tag {
            elf::DT_NEEDED => elf.needed.push(OsString::from_vec(text)),
            elf::DT_SONAME => elf.soname = Some(OsString::from_vec(text)),
            elf::DT_RPATH => elf.inherited_search = Some(text),
            _ => elf.own_search = Some(text),
        }
    }
    Ok(())
}

/// Finds the dynamic section's strings. The section names them by address, as the loader maps it, and the segments say
/// which place of the file that is; section headers may be stripped. Without strings every look-up fails by itself.
fn dynamic_strings<'data, Header: FileHeader, Data: ReadRef<'data>>(
    dynamic: &[Header::Dyn],
    segments: &[Header::ProgramHeader],
    endian: Header::Endian,
    data: Data,
) -> StringTable<'data, Data> {
    let value = |wanted| {
        dynamic
            .iter()
            .find(|entry| entry.tag(endian) == wanted)
            .map(|entry| entry.val(endian))
    };
    let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
        return StringTable::default();
    };
    segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .find_map(|segment| {
            let inside = address.checked_sub(segment.p_vaddr(endian).into())?;
            let (offset, length) = segment.file_range(endian);
            if inside >= length {
                return None;
            }
            let start = offset.checked_add(inside)?;
            Some(StringTable::new(data, start, start.checked_add(size)?))
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_hosts_shell_is_read() {
        let elf = Elf::read(File::open("/bin/sh").unwrap()).unwrap();
        assert_eq!(
            elf.kind.class == Class::Bits64,
            cfg!(target_pointer_width = "64")
        );
        assert_eq!(elf.kind.is_little_endian, cfg!(target_endian = "little"));
        if cfg!(target_arch = "x86_64") {
            assert_eq!(elf.kind.machine, elf::EM_X86_64.0);
        }
        if let Some(interpreter) = elf.interpreter {
            assert!(interpreter.exists(), "{interpreter:?}");
            assert!(!elf.needed.is_empty());
        }
    }

    #[test]
    fn truncated_and_damaged_files_are_errors_or_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged");
        let whole = fs::read("/bin/sh").unwrap();
        for length in [0, 1, 4, 16, 40, 63, 64, 65, 200, 700, 4096] {
            fs::write(&path, &whole[..length.min(whole.len())]).unwrap();
            let _ = Elf::read(File::open(&path).unwrap());
        }
        for place in 0..1024.min(whole.len()) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0xff;
            fs::write(&path, &damaged).unwrap();
            let _ = Elf::read(File::open(&path).unwrap());
        }
    }

    #[test]
    fn text_is_not_elf() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(
            &path,
            "just words, and quite a lot of them, so that headers would fit in",
        )
        .unwrap();
        assert!(matches!(
            Elf::read(File::open(&path).unwrap()),
            Err(ElfError::OtherFormat)
        ));
    }
}
