//! The attributes by which overlayfs keeps what it knows of a layer, as they are called on the disks of this process.
//!
//! The host's root has them under `trusted.`, which nobody else can write. Who is root of a user namespace only has them under
//! `user.` (Documentation/filesystems/overlayfs.rst, "userxattr"): what comes from outside must not bring such names along.

use std::ffi::CStr;
use std::sync::OnceLock;

pub(crate) struct Marks {
    /// A folder that hides what lower layers have in it; its value is then `y`.
    pub opaque: &'static CStr,
    /// An empty file that removes what lower layers have under its name.
    pub whiteout: &'static CStr,
    /// What would move what is seen to another place.
    pub elsewhere: [(&'static CStr, &'static str); 2],
    /// Overlayfs keeps these to itself, but for those of an overlay inside, which it shows with one `overlay.` less.
    pub private: &'static [u8],
    pub private_inside: &'static [u8],
}

const OF_THE_HOST: Marks = Marks {
    opaque: c"trusted.overlay.opaque",
    whiteout: c"trusted.overlay.whiteout",
    elsewhere: [
        (c"trusted.overlay.redirect", "trusted.overlay.redirect"),
        (c"trusted.overlay.metacopy", "trusted.overlay.metacopy"),
    ],
    private: b"trusted.overlay.",
    private_inside: b"trusted.overlay.overlay.",
};

const OF_USERS: Marks = Marks {
    opaque: c"user.overlay.opaque",
    whiteout: c"user.overlay.whiteout",
    elsewhere: [
        (c"user.overlay.redirect", "user.overlay.redirect"),
        (c"user.overlay.metacopy", "user.overlay.metacopy"),
    ],
    private: b"user.overlay.",
    private_inside: b"user.overlay.overlay.",
};

/// Those of this process, which stays where it is from its first look at a layer on.
pub(crate) fn marks() -> &'static Marks {
    match are_users() {
        true => &OF_USERS,
        false => &OF_THE_HOST,
    }
}

/// Whether they are under `user.`; then nothing under `trusted.` can be written either.
pub(crate) fn are_users() -> bool {
    static ARE_USERS: OnceLock<bool> = OnceLock::new();
    *ARE_USERS.get_or_init(cocker_sys::namespace::is_below_the_host)
}
