//! The dynamic loader's index of libraries, `/etc/ld.so.cache`, as glibc's ldconfig writes it (sysdeps/generic/dl-cache.h
//! names the fields). All numbers are in the host's byte order.
//!
//! ```text
//! new:  "glibc-ld.so.cache1.1" | count u32 | length of strings u32 | flags u8, padding | extensions u32 | 3 × u32
//!       count × { flags i32, name u32, path u32, version u32, capabilities u64 }   offsets count from the magic
//!       strings, each ended by a zero
//! old:  "ld.so-1.7.0\0" | count u32
//!       count × { flags i32, name u32, path u32 }                                  offsets count from the table's end
//!       strings; or, at the next multiple of eight (four on some 32-bit hosts), a whole cache of the new kind
//! ```
//!
//! A cache that is cut off or damaged gives those entries that can still be read, and never a panic.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;

/// Which file the loader takes for a library's name.
#[derive(Debug, Default)]
pub(super) struct LoaderCache {
    paths: HashMap<OsString, Vec<PathBuf>>,
}

impl LoaderCache {
    /// Reads the content of a cache file; of an unknown format, nothing.
    pub(super) fn parse(content: &[u8]) -> Self {
        let mut cache = Self::default();
        if content.starts_with(NEW_MAGIC) {
            cache.read_new(content);
        } else if content.starts_with(OLD_MAGIC) {
            match embedded(content) {
                Some(new) => cache.read_new(new),
                None => cache.read_old(content),
            }
        }
        cache
    }

    /// Files that were indexed under `name`: those for any processor first, then variants for special ones. They may
    /// be of several architectures.
    pub(super) fn paths(&self, name: &OsStr) -> &[PathBuf] {
        self.paths.get(name).map_or(&[], Vec::as_slice)
    }

    fn read_new(&mut self, content: &[u8]) {
        let count = number(content, NEW_MAGIC.len()).unwrap_or(0);
        let mut special = Vec::new();
        for entry in table(content, NEW_HEADER, NEW_ENTRY, count) {
            let Some((name, path)) = names(entry, content) else {
                continue;
            };
            if entry[16..24] == [0; 8] {
                self.add(name, path);
            } else {
                special.push((name, path));
            }
        }
        for (name, path) in special {
            self.add(name, path);
        }
    }

    fn read_old(&mut self, content: &[u8]) {
        let count = number(content, OLD_MAGIC.len()).unwrap_or(0);
        let strings = old_end(content).and_then(|end| content.get(end..));
        for entry in table(content, OLD_HEADER, OLD_ENTRY, count) {
            if let Some((name, path)) = names(entry, strings.unwrap_or_default()) {
                self.add(name, path);
            }
        }
    }

    fn add(&mut self, name: &OsStr, path: &Path) {
        if path.is_absolute() {
            let paths = self.paths.entry(name.to_os_string()).or_default();
            paths.push(path.to_path_buf());
        }
    }
}

/// The cache of the new kind that stands behind a table of the old one.
fn embedded(content: &[u8]) -> Option<&[u8]> {
    let end = old_end(content)?;
    [8, 4]
        .into_iter()
        .filter_map(|alignment| content.get(end.checked_next_multiple_of(alignment)?..))
        .find(|rest| rest.starts_with(NEW_MAGIC))
}

/// Where the table of the old kind ends.
fn old_end(content: &[u8]) -> Option<usize> {
    let count = number(content, OLD_MAGIC.len())?;
    count.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEADER)
}

/// The whole entries of a table that lie within `content`.
fn table(content: &[u8], start: usize, entry: usize, count: usize) -> impl Iterator<Item = &[u8]> {
    content
        .get(start..)
        .unwrap_or_default()
        .chunks_exact(entry)
        .take(count)
}

/// Name and path of an entry of either kind: their offsets stand at the same places.
fn names<'a>(entry: &[u8], strings: &'a [u8]) -> Option<(&'a OsStr, &'a Path)> {
    let name = string(strings, number(entry, 4)?)?;
    let path = string(strings, number(entry, 8)?)?;
    Some((name, Path::new(path)))
}

fn number(content: &[u8], offset: usize) -> Option<usize> {
    let bytes = content.get(offset..offset.checked_add(4)?)?;
    usize::try_from(u32::from_ne_bytes(bytes.try_into().ok()?)).ok()
}

fn string(strings: &[u8], offset: usize) -> Option<&OsStr> {
    let rest = strings.get(offset..)?;
    let length = rest.iter().position(|&byte| byte == 0)?;
    Some(OsStr::from_bytes(&rest[..length]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, path, capabilities.
    type Line<'a> = (&'a str, &'a str, u64);

    fn new_cache(lines: &[Line<'_>]) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut strings = Vec::new();
        let base = NEW_HEADER + lines.len() * NEW_ENTRY;
        for (name, path, capabilities) in lines {
            entries.extend(0x0303_i32.to_ne_bytes());
            for text in [name, path] {
                entries.extend(((base + strings.len()) as u32).to_ne_bytes());
                strings.extend(text.bytes().chain([0]));
            }
            entries.extend(0_u32.to_ne_bytes());
            entries.extend(capabilities.to_ne_bytes());
        }
        let mut content = NEW_MAGIC.to_vec();
        content.extend((lines.len() as u32).to_ne_bytes());
        content.extend((strings.len() as u32).to_ne_bytes());
        content.resize(NEW_HEADER, 0);
        content.extend(entries);
        content.extend(strings);
        content
    }

    fn old_cache(lines: &[Line<'_>]) -> Vec<u8> {
        let mut content = OLD_MAGIC.to_vec();
        content.extend((lines.len() as u32).to_ne_bytes());
        let mut strings = Vec::new();
        for (name, path, _) in lines {
            content.extend(3_i32.to_ne_bytes());
            for text in [name, path] {
                content.extend((strings.len() as u32).to_ne_bytes());
                strings.extend(text.bytes().chain([0]));
            }
        }
        content.extend(strings);
        content
    }

    const LINES: [Line<'_>; 3] = [
        ("libc.so.6", "/lib/fast/libc.so.6", 1 << 62),
        ("libc.so.6", "/lib/libc.so.6", 0),
        ("libm.so.6", "/lib/libm.so.6", 0),
    ];

    fn found(cache: &LoaderCache, name: &str) -> Vec<String> {
        cache
            .paths(OsStr::new(name))
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn the_new_format_puts_common_processors_first() {
        let cache = LoaderCache::parse(&new_cache(&LINES));
        assert_eq!(
            found(&cache, "libc.so.6"),
            ["/lib/libc.so.6", "/lib/fast/libc.so.6"]
        );
        assert_eq!(found(&cache, "libm.so.6"), ["/lib/libm.so.6"]);
        assert!(found(&cache, "libz.so.1").is_empty());
    }

    #[test]
    fn the_old_format_is_read() {
        let cache = LoaderCache::parse(&old_cache(&LINES));
        assert_eq!(found(&cache, "libm.so.6"), ["/lib/libm.so.6"]);
    }

    #[test]
    fn a_new_cache_behind_an_old_table_wins() {
        let mut content = OLD_MAGIC.to_vec();
        content.extend(1_u32.to_ne_bytes());
        content.extend([0; OLD_ENTRY]);
        content.resize(content.len().next_multiple_of(8), 0);
        content.extend(new_cache(&LINES));
        let cache = LoaderCache::parse(&content);
        assert_eq!(found(&cache, "libm.so.6"), ["/lib/libm.so.6"]);
    }

    #[test]
    fn every_truncation_and_garbage_is_survived() {
        for content in [new_cache(&LINES), old_cache(&LINES)] {
            for length in 0..content.len() {
                LoaderCache::parse(&content[..length]);
            }
            for place in 0..content.len() {
                let mut damaged = content.clone();
                damaged[place] = 0xff;
                LoaderCache::parse(&damaged);
            }
        }
        assert!(found(&LoaderCache::parse(b"garbage"), "libc.so.6").is_empty());
    }

    #[test]
    fn the_hosts_own_cache_names_the_c_library() {
        let Ok(content) = std::fs::read("/etc/ld.so.cache") else {
            return;
        };
        assert!(!found(&LoaderCache::parse(&content), "libc.so.6").is_empty());
    }
}
