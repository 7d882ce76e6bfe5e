//! The names in an archive, taken apart. What could lead out of a tree never becomes a name.

use super::super::error::Refusal;
use super::super::{LONGEST_NAME, WHITEOUT_PREFIX};
use std::ffi::CString;

/// The folders on the way to a file and the file itself; empty for the top folder (`./`).
///
/// `.` and empty parts mean nothing and are left out; a name that begins with `/` or has `..` in it is refused.
pub(super) fn parts(name: &[u8], most: usize) -> Result<Vec<CString>, Refusal> {
    match name.first() {
        None => return Err(Refusal::NoName),
        Some(b'/') => return Err(Refusal::Absolute),
        Some(_) => {}
    }
    let mut parts = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Refusal::DotDot),
            part if length(part) > LONGEST_NAME => return Err(Refusal::LongName),
            part => parts.push(CString::new(part).map_err(|_| Refusal::Nul)?),
        }
        if parts.len() > most {
            return Err(Refusal::Deep(most));
        }
    }
    Ok(parts)
}

/// How long the name of a file may become: what hides the longest name has a still longer one, and makes no file of it.
fn length(part: &[u8]) -> usize {
    part.strip_prefix(WHITEOUT_PREFIX).unwrap_or(part).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_is_between_slashes() {
        let named = |name: &[u8]| {
            let parts = parts(name, 3).unwrap();
            parts
                .into_iter()
                .map(CString::into_bytes)
                .collect::<Vec<_>>()
        };
        assert_eq!(named(b"a/\xff\n/..c"), [&b"a"[..], b"\xff\n", b"..c"]);
        assert_eq!(named(b"./a//./b/"), [b"a", b"b"]);
        assert!(named(b"./").is_empty());
        assert!(named(b".").is_empty());
        let longest = [&b".wh."[..], &[b'x'; 255]].concat();
        assert_eq!(named(&longest).concat(), longest);
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = [b'x'; 256];
        let hidden = [&b".wh."[..], &long].concat();
        for (name, refusal) in [
            (&b""[..], Refusal::NoName),
            (b"/", Refusal::Absolute),
            (b"/etc/passwd", Refusal::Absolute),
            (b"..", Refusal::DotDot),
            (b"a/../b", Refusal::DotDot),
            (b"./..", Refusal::DotDot),
            (b"a\0b", Refusal::Nul),
            (&long, Refusal::LongName),
            (&hidden, Refusal::LongName),
            (b"a/b/c/d", Refusal::Deep(3)),
        ] {
            assert_eq!(parts(name, 3), Err(refusal), "{name:?}");
        }
    }
}
