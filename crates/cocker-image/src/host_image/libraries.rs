//! Where the dynamic loader looks for a library, and in which order (ld.so(8)): search folders of the files that need
//! it, the loader's cache, the default folders. The loader itself is never run, and `LD_LIBRARY_PATH` is not known here.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use object::elf;

use super::{
    elf::{Class, Kind},
    host::Host,
    loader_cache::LoaderCache,
};

/// Bytes of a loader cache that are read at most.
const CACHE_AT_MOST: u64 = 64 << 20;

/// The places that hold for every program of a host.
#[derive(Debug)]
pub(super) struct LibraryFolders {
    cache: LoaderCache,
}

impl LibraryFolders {
    /// Reads the host's loader cache; a host without one has only the default folders.
    pub(super) fn of(host: &Host) -> Self {
        let content = host
            .follow(Path::new("/etc/ld.so.cache"))
            .and_then(|trail| host.read_start(&trail.end, CACHE_AT_MOST))
            .unwrap_or_default();
        Self {
            cache: LoaderCache::parse(&content),
        }
    }

    /// Paths at which the library `name` may stand, best first. They may be missing, or of another architecture.
    pub(super) fn candidates(&self, name: &OsStr, kind: Kind, wished: &[PathBuf]) -> Vec<PathBuf> {
        if name.as_bytes().contains(&b'/') {
            return vec![PathBuf::from(name)];
        }
        let mut paths: Vec<PathBuf> = wished.iter().map(|folder| folder.join(name)).collect();
        paths.extend_from_slice(self.cache.paths(name));
        paths.extend(default_folders(kind).iter().map(|folder| folder.join(name)));
        paths
    }
}

/// Expands a colon-separated list of search folders as it stands in an ELF file whose folder is `origin`.
///
/// `$LIB` has a different value on each distribution, so it gives one folder for each of them. Folders that are not
/// absolute after that would depend on the working folder, and are left out.
pub(super) fn expand(list: &[u8], origin: &Path, kind: Kind) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for entry in list.split(|&byte| byte == b':') {
        let entry = replace(entry, "ORIGIN", origin.as_os_str());
        let entry = replace(&entry, "PLATFORM", OsStr::new(platform(kind)));
        for library_folder in library_folder_names(kind) {
            let folder = PathBuf::from(OsString::from_vec(replace(
                &entry,
                "LIB",
                OsStr::new(&library_folder),
            )));
            if folder.is_absolute() && !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders
}

/// Replaces `$TOKEN` and `${TOKEN}`.
fn replace(text: &[u8], token: &str, value: &OsStr) -> Vec<u8> {
    let braced = format!("${{{token}}}");
    let plain = format!("${token}");
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = [&braced, &plain]
            .iter()
            .find_map(|spelling| rest.strip_prefix(spelling.as_bytes()))
        {
            replaced.extend_from_slice(value.as_bytes());
            rest = after;
        } else {
            replaced.push(byte);
            rest = after;
        }
    }
    replaced
}

/// The folders that loaders search without being told, those of glibc on any distribution and of musl.
fn default_folders(kind: Kind) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for name in library_folder_names(kind) {
        for parent in ["/", "/usr", "/usr/local"] {
            folders.push(Path::new(parent).join(&name));
        }
    }
    folders
}

/// What a distribution may call the folder of libraries of this kind, the most special name first.
fn library_folder_names(kind: Kind) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(triplet) = multiarch_triplet(kind) {
        names.push(format!("lib/{triplet}"));
    }
    names.push(String::from(match kind.class {
        Class::Bits64 => "lib64",
        Class::Bits32 => "lib32",
    }));
    names.push(String::from("lib"));
    names
}

/// Debian's name for the architecture.
fn multiarch_triplet(kind: Kind) -> Option<&'static str> {
    let machine = elf::Machine(kind.machine);
    Some(match (machine, kind.class, kind.is_little_endian) {
        (elf::EM_X86_64, Class::Bits64, true) => "x86_64-linux-gnu",
        (elf::EM_X86_64, Class::Bits32, true) => "x86_64-linux-gnux32",
        (elf::EM_386, Class::Bits32, true) => "i386-linux-gnu",
        (elf::EM_AARCH64, Class::Bits64, true) => "aarch64-linux-gnu",
        (elf::EM_ARM, Class::Bits32, true) => "arm-linux-gnueabihf",
        (elf::EM_RISCV, Class::Bits64, true) => "riscv64-linux-gnu",
        (elf::EM_LOONGARCH, Class::Bits64, true) => "loongarch64-linux-gnu",
        (elf::EM_PPC64, Class::Bits64, true) => "powerpc64le-linux-gnu",
        (elf::EM_S390, Class::Bits64, false) => "s390x-linux-gnu",
        _ => return None,
    })
}

/// The kernel's name for the processor, as the loader learns it.
fn platform(kind: Kind) -> &'static str {
    match elf::Machine(kind.machine) {
        elf::EM_X86_64 => "x86_64",
        elf::EM_386 => "i686",
        elf::EM_AARCH64 => "aarch64",
        elf::EM_ARM => "v7l",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: Kind = Kind {
        class: Class::Bits64,
        is_little_endian: true,
        machine: elf::EM_X86_64.0,
    };

    fn expanded(list: &str) -> Vec<String> {
        expand(list.as_bytes(), Path::new("/opt/tool/bin"), X86_64)
            .iter()
            .map(|folder| folder.display().to_string())
            .collect()
    }

    #[test]
    fn origin_is_the_folder_of_the_file_in_both_spellings() {
        assert_eq!(
            expanded("$ORIGIN/../lib:${ORIGIN}:/usr/lib/x"),
            ["/opt/tool/bin/../lib", "/opt/tool/bin", "/usr/lib/x"]
        );
    }

    #[test]
    fn lib_stands_for_the_name_that_each_distribution_uses() {
        assert_eq!(
            expanded("/opt/$LIB"),
            ["/opt/lib/x86_64-linux-gnu", "/opt/lib64", "/opt/lib"]
        );
    }

    #[test]
    fn platform_is_the_processor() {
        assert_eq!(expanded("/opt/${PLATFORM}"), ["/opt/x86_64"]);
    }

    #[test]
    fn relative_and_empty_folders_are_left_out() {
        assert!(expanded(":lib:./lib:$").is_empty());
    }

    #[test]
    fn a_name_with_a_slash_is_a_path() {
        let folders = LibraryFolders {
            cache: LoaderCache::default(),
        };
        assert_eq!(
            folders.candidates(OsStr::new("/opt/libx.so"), X86_64, &[]),
            [PathBuf::from("/opt/libx.so")]
        );
    }

    #[test]
    fn wished_folders_come_before_the_default_ones() {
        let folders = LibraryFolders {
            cache: LoaderCache::default(),
        };
        let paths = folders.candidates(OsStr::new("libx.so"), X86_64, &[PathBuf::from("/opt")]);
        assert_eq!(paths[0], Path::new("/opt/libx.so"));
        assert_eq!(paths[1], Path::new("/lib/x86_64-linux-gnu/libx.so"));
    }
}
