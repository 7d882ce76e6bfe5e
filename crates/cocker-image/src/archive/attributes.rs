//! Extended attributes of files in a layer: which of them belong to the file, and how they are read and written.
//!
//! What says something about this host (labels and measures of security modules) or about where layers lie
//! (`trusted.overlay.*`) is neither packed nor unpacked; [`OPAQUE`] is asked for by name.

use cocker_sys::attributes as named;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

/// The attribute by which a folder hides what lower layers have in it; its value is then `y`.
pub(super) const OPAQUE: &CStr = c"trusted.overlay.opaque";
pub(super) const OPAQUE_VALUE: &[u8] = b"y";
/// Set last, since a change of owner takes it away.
pub(super) const CAPABILITY: &[u8] = b"security.capability";
/// What a folder gives to all that is made in it.
pub(super) const DEFAULT_ACL: &CStr = c"system.posix_acl_default";
const ACCESS_ACL: &CStr = c"system.posix_acl_access";

/// The kernel's bound on a value and on a list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX).
pub(super) const LONGEST: usize = 64 * 1024;
/// The kernel's bound on a name (XATTR_NAME_MAX).
pub(super) const LONGEST_NAME: usize = 255;

/// An open file, or one that cannot be opened, as links, FIFOs and devices: it is known by its folder and its name.
#[derive(Clone, Copy)]
pub(super) enum File<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a CStr),
}

/// What an attribute means for a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A part of the file.
    Kept,
    /// Says something about the host, or about other layers.
    Foreign,
    /// From a name space that Linux does not have.
    Unknown,
}

/// Tells what the attribute `name` means.
pub(super) fn kind(name: &[u8]) -> Kind {
    const HOST: [&[u8]; 5] = [
        b"security.selinux",
        b"security.apparmor",
        b"security.ima",
        b"security.evm",
        b"security.SMACK64",
    ];
    if name.starts_with(b"trusted.overlay.") || HOST.iter().any(|host| name.starts_with(host)) {
        return Kind::Foreign;
    }
    let kept = [&b"user."[..], b"trusted.", b"security."];
    let is_acl = name == ACCESS_ACL.to_bytes() || name == DEFAULT_ACL.to_bytes();
    if is_acl
        || kept
            .iter()
            .any(|space| name.starts_with(space) && name.len() > space.len())
    {
        Kind::Kept
    } else {
        Kind::Unknown
    }
}

/// Reads attributes with one buffer for names and one for values.
pub(super) struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Attributes {
    pub fn new() -> Attributes {
        Attributes {
            names: vec![0; LONGEST],
            value: vec![0; LONGEST],
        }
    }

    /// The names of all attributes that are kept, sorted.
    pub fn kept(&mut self, file: File<'_>) -> Result<Vec<CString>, Errno> {
        let length = match file {
            File::Open(file) => flistxattr(file, &mut self.names[..]),
            File::Named(folder, file) => named::list(folder, file, &mut self.names),
        };
        let length = match length {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(errno) => return Err(errno),
        };
        let mut kept: Vec<CString> = self.names[..length]
            .split_inclusive(|&byte| byte == 0)
            .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
            .filter(|name| kind(name.to_bytes()) == Kind::Kept)
            .map(CString::from)
            .collect();
        kept.sort_unstable();
        Ok(kept)
    }

    /// The value of one attribute; `None` where the file has no such.
    pub fn value(&mut self, file: File<'_>, name: &CStr) -> Result<Option<&[u8]>, Errno> {
        let length = match file {
            File::Open(file) => fgetxattr(file, name, &mut self.value[..]),
            File::Named(folder, file) => named::get(folder, file, name, &mut self.value),
        };
        match length {
            Ok(length) => Ok(Some(&self.value[..length])),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// Gives a file one attribute.
pub(super) fn set(file: File<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    match file {
        File::Open(file) => fsetxattr(file, name, value, XattrFlags::empty()),
        File::Named(folder, file) => named::set(folder, file, name, value),
    }
}

/// Whether a folder is opaque.
pub(super) fn is_opaque(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0; 2];
    match fgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == OPAQUE_VALUE),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Makes a folder opaque.
pub(super) fn make_opaque(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    fsetxattr(folder, OPAQUE, OPAQUE_VALUE, XattrFlags::empty())
}

/// Whether what is made in a folder gets access lists from it.
pub(super) fn has_default_acl(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    match fgetxattr(folder, DEFAULT_ACL, &mut [0; 1][..]) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes away the access lists that a file got from its folder.
pub(super) fn remove_acls(file: File<'_>) -> Result<(), Errno> {
    remove(file, ACCESS_ACL)?;
    remove(file, DEFAULT_ACL)
}

/// Takes one attribute away; one that is not there is as good as removed.
pub(super) fn remove(file: File<'_>, name: &CStr) -> Result<(), Errno> {
    let removed = match file {
        File::Open(file) => fremovexattr(file, name),
        File::Named(folder, file) => named::remove(folder, file, name),
    };
    match removed {
        // ACCESS: a file that is no folder has no default list to lose.
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_of_the_host_or_of_other_layers_is_foreign() {
        for (name, expected) in [
            (&b"user.a"[..], Kind::Kept),
            (b"trusted.a=b", Kind::Kept),
            (CAPABILITY, Kind::Kept),
            (b"system.posix_acl_access", Kind::Kept),
            (b"trusted.overlay.opaque", Kind::Foreign),
            (b"trusted.overlay.overlay.redirect", Kind::Foreign),
            (b"security.selinux", Kind::Foreign),
            (b"security.SMACK64EXEC", Kind::Foreign),
            (b"system.nfs4_acl", Kind::Unknown),
            (b"user.", Kind::Unknown),
            (b"com.apple.quarantine", Kind::Unknown),
            (b"", Kind::Unknown),
        ] {
            assert_eq!(kind(name), expected, "{}", String::from_utf8_lossy(name));
        }
    }
}
