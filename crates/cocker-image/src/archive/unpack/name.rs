//! The names in an archive, taken apart. What could lead out of a tree never becomes a name.

use super::super::LONGEST_NAME;
use super::super::error::Refusal;
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
            part if part.len() > LONGEST_NAME => return Err(Refusal::LongName),
            part => parts.push(CString::new(part).map_err(|_| Refusal::Nul)?),
        }
        if parts.len() > most {
            return Err(Refusal::Deep(most));
        }
    }
    Ok(parts)
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
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = [b'x'; 256];
        for (name, refusal) in [
            (&b""[..], Refusal::NoName),
            (b"/", Refusal::Absolute),
            (b"/etc/passwd", Refusal::Absolute),
            (b"..", Refusal::DotDot),
            (b"a/../b", Refusal::DotDot),
            (b"./..", Refusal::DotDot),
            (b"a\0b", Refusal::Nul),
            (&long, Refusal::LongName),
            (b"a/b/c/d", Refusal::Deep(3)),
        ] {
            assert_eq!(parts(name, 3), Err(refusal), "{name:?}");
        }
    }
}
