//! Extended attributes of files in a layer: which of them belong to the file, and how they are read and written.
//!
//! What says something about this host (labels and measures of security modules) or about where layers lie
//! (`trusted.overlay.*`) is neither packed nor unpacked; [`OPAQUE`] is asked for by name.

use crate::marks::{self, marks};
use crate::owners::{IdShift, Others};
use cocker_sys::attributes as named;
use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr, removexattr,
    setxattr,
};
use rustix::io::Errno;
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The mark of a folder that hides what lower layers have in it, as archives have it; its value is then `y`.
pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";
pub(crate) const OPAQUE_VALUE: &[u8] = b"y";
/// Set last, since a change of owner takes it away.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";
/// What a folder gives to all that is made in it.
pub(crate) const DEFAULT_ACL: &CStr = c"system.posix_acl_default";
const ACCESS_ACL: &CStr = c"system.posix_acl_access";

/// The kernel's bound on a value and on a list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX).
pub(crate) const LONGEST: usize = 64 * 1024;
/// The kernel's bound on a name (XATTR_NAME_MAX).
pub(crate) const LONGEST_NAME: usize = 255;

/// An open file, or one that cannot be opened, as links, FIFOs and devices: it is known by its folder and its name.
#[derive(Clone, Copy)]
pub(crate) enum File<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a CStr),
    /// Held without being opened (O_PATH); its folder may have another of its name by now.
    Held(BorrowedFd<'a>),
}

/// The name by which the kernel knows the inode that a descriptor of this process holds.
fn path_of(held: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

/// What an attribute means for a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A part of the file.
    Kept,
    /// Says something about the host, or about other layers.
    Foreign,
    /// From a name space that Linux does not have.
    Unknown,
}

/// Tells what the attribute `name` means.
pub(crate) fn kind(name: &[u8]) -> Kind {
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
    // There nobody can write the one, and overlayfs believes the other.
    if marks::are_users() && (name.starts_with(b"trusted.") || name.starts_with(b"user.overlay.")) {
        return Kind::Foreign;
    }
    let kept = [&b"user."[..], b"trusted.", b"security."];
    if is_acl(name)
        || kept
            .iter()
            .any(|space| name.starts_with(space) && name.len() > space.len())
    {
        Kind::Kept
    } else {
        Kind::Unknown
    }
}

/// Whether the attribute is one that any owner of a file may give it.
pub(crate) fn is_users(name: &[u8]) -> bool {
    is_acl(name) || name.starts_with(b"user.")
}

pub(crate) fn is_acl(name: &[u8]) -> bool {
    name == ACCESS_ACL.to_bytes() || name == DEFAULT_ACL.to_bytes()
}

/// An access list (linux/posix_acl_xattr.h: a version, then tag, permissions and id of each entry, little-endian) with other
/// ids. The error is an id that has none.
fn shift_acl(list: &[u8], owners: &IdShift) -> Result<Vec<u8>, u32> {
    const VERSION: usize = 4;
    const ENTRY: usize = 8;
    /// ACL_USER and ACL_GROUP of linux/posix_acl.h: the only entries whose id counts.
    const NAMED: [u16; 2] = [0x02, 0x08];
    let mut shifted = list.to_vec();
    let entries = shifted.get_mut(VERSION..).unwrap_or_default();
    for entry in entries.chunks_exact_mut(ENTRY) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if NAMED.contains(&tag) {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let id = owners.shift(id).ok_or(id)?;
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
    }
    Ok(shifted)
}

/// An attribute of a user's file as the other side has it; none where that has no such. The error is an id that has none.
pub(crate) fn shift_value<'a>(
    name: &[u8],
    value: &'a [u8],
    owners: &IdShift,
) -> Result<Option<Cow<'a, [u8]>>, u32> {
    if owners.is_same() {
        return Ok(Some(value.into()));
    }
    match name {
        CAPABILITY => Ok(shift_capability(value, owners).map(Cow::from)),
        name if is_acl(name) => shift_acl(value, owners).map(|list| Some(list.into())),
        _ => Ok(Some(value.into())),
    }
}

/// File capabilities (linux/capability.h) with another owner: those of revision 2 are root's, those of revision 3 name the root
/// of a user namespace at their end. None where their owner has no place on the other side.
fn shift_capability(value: &[u8], owners: &IdShift) -> Option<Vec<u8>> {
    const REVISION: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    /// Magic, then two pairs of sets; the owner comes behind.
    const SETS: usize = 20;
    let (sets, owner) = value.split_at_checked(SETS)?;
    let magic = u32::from_le_bytes(sets[..4].try_into().expect("four bytes"));
    let owner = match (magic & REVISION, owner.try_into()) {
        // Wherever it comes from, it is root's: of the host, and so of everybody below.
        (REVISION_2, _) if owners.others == Others::Nobody => return Some(value.into()),
        (REVISION_2, _) => 0,
        (REVISION_3, Ok(owner)) => u32::from_le_bytes(owner),
        _ => return None,
    };
    let is_theirs = owner.checked_sub(owners.from)? < owners.count;
    let owner = owners.shift(owner).filter(|_| is_theirs)?;
    let revision = match owner {
        0 => REVISION_2,
        _ => REVISION_3,
    };
    let mut shifted = (magic & !REVISION | revision).to_le_bytes().to_vec();
    shifted.extend(&sets[4..]);
    if owner != 0 {
        shifted.extend(owner.to_le_bytes());
    }
    Some(shifted)
}

/// Reads attributes with one buffer for names and one for values.
pub(crate) struct Attributes {
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
            File::Held(file) => listxattr(path_of(file), &mut self.names[..]),
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
            File::Held(file) => getxattr(path_of(file), name, &mut self.value[..]),
        };
        match length {
            Ok(length) => Ok(Some(&self.value[..length])),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// Gives a file one attribute.
pub(crate) fn set(file: File<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    match file {
        File::Open(file) => fsetxattr(file, name, value, XattrFlags::empty()),
        File::Named(folder, file) => named::set(folder, file, name, value),
        File::Held(file) => setxattr(path_of(file), name, value, XattrFlags::empty()),
    }
}

/// Whether a folder is opaque.
pub(crate) fn is_opaque(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0; 2];
    match fgetxattr(folder, marks().opaque, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == OPAQUE_VALUE),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Makes a folder opaque.
pub(crate) fn make_opaque(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    fsetxattr(folder, marks().opaque, OPAQUE_VALUE, XattrFlags::empty())
}

/// Takes the mark away.
pub(crate) fn make_transparent(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    remove(File::Open(folder), marks().opaque)
}

/// Whether what is made in a folder gets access lists from it.
pub(crate) fn has_default_acl(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    match fgetxattr(folder, DEFAULT_ACL, &mut [0; 1][..]) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes away the access lists that a file got from its folder.
pub(crate) fn remove_acls(file: File<'_>) -> Result<(), Errno> {
    remove(file, ACCESS_ACL)?;
    remove(file, DEFAULT_ACL)
}

/// Takes one attribute away; one that is not there is as good as removed.
pub(crate) fn remove(file: File<'_>, name: &CStr) -> Result<(), Errno> {
    let removed = match file {
        File::Open(file) => fremovexattr(file, name),
        File::Named(folder, file) => named::remove(folder, file, name),
        File::Held(file) => removexattr(path_of(file), name),
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
    fn the_ids_of_named_users_and_groups_in_a_list_are_shifted() {
        let entry = |tag: u16, id: u32| {
            let mut entry = tag.to_le_bytes().to_vec();
            entry.extend([4, 0]);
            entry.extend(id.to_le_bytes());
            entry
        };
        let list = |ids: [u32; 3]| {
            let mut list = vec![2, 0, 0, 0];
            list.extend(entry(0x01, u32::MAX));
            list.extend(entry(0x02, ids[0]));
            list.extend(entry(0x08, ids[1]));
            list.extend(entry(0x20, ids[2]));
            list
        };
        let owners = IdShift {
            from: 0,
            to: 1000,
            count: 10,
            others: crate::Others::Refused,
        };
        let none = u32::MAX;
        assert_eq!(
            shift_acl(&list([7, 9, none]), &owners),
            Ok(list([1007, 1009, none]))
        );
        assert_eq!(shift_acl(&list([7, 10, none]), &owners), Err(10));
        assert_eq!(shift_acl(b"odd", &owners), Ok(b"odd".to_vec()));
    }

    #[test]
    fn capabilities_of_root_become_those_of_another_root_and_back() {
        let into = IdShift {
            from: 0,
            to: 1000,
            count: 10,
            others: Others::Refused,
        };
        let out = IdShift {
            from: 1000,
            to: 0,
            count: 10,
            others: Others::Nobody,
        };
        let sets = [0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let roots = [&[1, 0, 0, 2][..], &sets].concat();
        let others = [&[1, 0, 0, 3][..], &sets, &1000u32.to_le_bytes()].concat();
        assert_eq!(shift_capability(&roots, &into), Some(others.clone()));
        assert_eq!(shift_capability(&others, &out), Some(roots.clone()));
        assert_eq!(shift_capability(&roots, &out), Some(roots.clone()));
        assert_eq!(shift_capability(&roots, &IdShift::SAME), Some(roots));
        assert_eq!(shift_capability(&others, &into), None);
        let strangers = [&[1, 0, 0, 3][..], &sets, &7u32.to_le_bytes()].concat();
        assert_eq!(shift_capability(&strangers, &out), None);
        assert_eq!(shift_capability(b"odd", &into), None);
    }

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
