//! Who this thread acts as.
//!
//! The calls here are the raw ones: they change this thread alone, where the C library's would signal all threads.

use crate::process::checked;
use rustix::io::Errno;
use rustix::thread::CapabilitiesSecureBits;

/// Becomes `uid`:`gid` for good, with no supplementary groups.
///
/// # Errors
/// `EINVAL` when an id is not mapped in our user namespace, `EPERM` without the right to.
pub fn become_user(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: an empty list is not read.
    let answer = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) };
    checked(answer)?;
    // SAFETY: the call takes numbers only.
    let answer = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    checked(answer)?;
    // SAFETY: the call takes numbers only.
    let answer = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    checked(answer)
}

/// Leaves to whatever is executed next no capabilities but those of `allowed`, one bit each: the others leave the bounding
/// set, and none is inherited or ambient. What this thread holds itself it keeps until then (capabilities(7)).
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn limit_capabilities(allowed: u64) -> Result<(), Errno> {
    for capability in (0..64).filter(|number| allowed & 1 << number == 0) {
        // SAFETY: the operation takes a number only.
        let answer =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
        match checked(answer.into()) {
            // The kernel has no more of them.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let sets = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(
        None,
        rustix::thread::CapabilitySets {
            inheritable: rustix::thread::CapabilitySet::empty(),
            ..sets
        },
    )
}

/// `KEYCTL_JOIN_SESSION_KEYRING` of linux/keyctl.h.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Lets go of the keys of whoever started this process: it gets a session keyring of its own, empty and without a name.
///
/// # Errors
/// `ENOSYS` where the kernel has no keys, `EDQUOT` where this user may have no more of them.
pub fn leave_keyring() -> Result<(), Errno> {
    // SAFETY: without a name the call reads no memory.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    checked(answer)
}

/// While it lives, this thread makes files as `uid`:`gid` and still holds every capability.
///
/// The kernel otherwise takes the file capabilities away from a thread whose fsuid is not 0;
/// SECBIT_NO_SETUID_FIXUP (capabilities(7)) keeps them.
pub struct ActingAs {
    bits: CapabilitiesSecureBits,
}

impl ActingAs {
    /// # Errors
    /// `EPERM` without CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
    pub fn new(uid: u32, gid: u32) -> Result<ActingAs, Errno> {
        let bits = rustix::thread::capabilities_secure_bits()?;
        rustix::thread::set_capabilities_secure_bits(
            bits | CapabilitiesSecureBits::NO_SETUID_FIXUP,
        )?;
        let acting = ActingAs { bits };
        // Group first: with a foreign fsuid only the kept capabilities allow it, before it nothing special is needed.
        set_file_ids(uid, gid)?;
        Ok(acting)
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        let back = set_file_ids(
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        debug_assert!(
            back.is_ok(),
            "a thread may always take its own effective ids"
        );
        let _ = rustix::thread::set_capabilities_secure_bits(self.bits);
    }
}

/// While it lives, what this thread makes is counted as `uid`'s and belongs to it, such as a user namespace
/// (user_namespaces(7)); every capability stays.
pub struct EffectiveUser {
    bits: CapabilitiesSecureBits,
    before: u32,
}

impl EffectiveUser {
    /// # Errors
    /// `EPERM` without CAP_SETUID and CAP_SETPCAP.
    pub fn new(uid: u32) -> Result<EffectiveUser, Errno> {
        let bits = rustix::thread::capabilities_secure_bits()?;
        rustix::thread::set_capabilities_secure_bits(
            bits | CapabilitiesSecureBits::NO_SETUID_FIXUP,
        )?;
        let before = rustix::process::geteuid().as_raw();
        let effective = EffectiveUser { bits, before };
        set_effective_user(uid)?;
        Ok(effective)
    }
}

impl Drop for EffectiveUser {
    fn drop(&mut self) {
        let back = set_effective_user(self.before);
        debug_assert!(
            back.is_ok(),
            "it is the real one, which may always be taken"
        );
        let _ = rustix::thread::set_capabilities_secure_bits(self.bits);
    }
}

fn set_effective_user(uid: u32) -> Result<(), Errno> {
    const AS_IT_IS: u32 = u32::MAX;
    // SAFETY: the call takes numbers only.
    let answer = unsafe { libc::syscall(libc::SYS_setresuid, AS_IT_IS, uid, AS_IT_IS) };
    checked(answer)
}

fn set_file_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: the call takes a number only.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    // SAFETY: the call takes a number only.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    // These two never report failure; asked for an impossible id they answer what is in force.
    // SAFETY: the call takes a number only.
    let gid_now = unsafe { libc::syscall(libc::SYS_setfsgid, u32::MAX) };
    // SAFETY: the call takes a number only.
    let uid_now = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    if gid_now as u32 == gid && uid_now as u32 == uid {
        Ok(())
    } else {
        Err(Errno::PERM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_effective_user_holds_every_right_and_is_root_again_afterwards() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let rights = || rustix::thread::capabilities(None).unwrap().effective;
        let before = rights();
        {
            let _effective = EffectiveUser::new(4711).unwrap();
            assert_eq!(rustix::process::geteuid().as_raw(), 4711);
            assert_eq!(rights(), before);
        }
        assert!(rustix::process::geteuid().is_root());
        assert_eq!(rights(), before);
    }

    #[test]
    fn files_made_while_acting_belong_to_others_and_no_right_is_lost() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let closed = folder.path().join("closed");
        std::fs::write(&closed, "").unwrap();
        rustix::fs::chmod(&closed, rustix::fs::Mode::empty()).unwrap();
        let made = folder.path().join("made");
        {
            let _acting = ActingAs::new(4711, 4712).unwrap();
            std::fs::write(&made, "").unwrap();
            // A stranger could not: the capability to pass over modes is still there.
            std::fs::read(&closed).unwrap();
        }
        let owner = std::fs::metadata(&made).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (4711, 4712));
        let after = folder.path().join("after");
        std::fs::write(&after, "").unwrap();
        assert_eq!(std::fs::metadata(&after).unwrap().uid(), 0);
    }
}
