//! The architectures whose programs a kernel executes side by side, and the numbers that system calls have on each.
//!
//! A filter that knows only the native one is none: a 32-bit program asks for the same things by other numbers.
//!
//! ```text
//!  kernel     executes                    how the kernel tells a filter (linux/audit.h)
//!  x86_64     x86_64, x32, i386           AUDIT_ARCH_X86_64, the same with bit 30 in the number, AUDIT_ARCH_I386
//!  aarch64    aarch64, 32-bit arm         AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM
//! ```
//!
//! This module is compiled into the build script too, which knows no other module of the crate.

use std::str::FromStr;

/// What a program was compiled for, as far as system calls are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    X86_64,
    /// 32-bit pointers on x86_64, told by a bit of the number.
    X32,
    /// i386.
    X86,
    Aarch64,
    Arm,
}

/// The bit that makes a number of x86_64 one of x32 (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

/// x32's calls that differ from those of the same name on x86_64 (arch/x86/entry/syscalls/syscall_64.tbl, from 512 on).
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// Calls that only the 32-bit arm kernel interface has, outside the common table (arch/arm/include/uapi/asm/unistd.h).
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0x0f_0001),
    ("cacheflush", 0x0f_0002),
    ("usr26", 0x0f_0003),
    ("usr32", 0x0f_0004),
    ("set_tls", 0x0f_0005),
    ("get_tls", 0x0f_0006),
];

/// Other names for calls, as profiles have them.
const ALIASES: [(Architecture, &str, &str); 3] = [
    // A word of Rust's own, which the tables have to write in another way.
    (Architecture::X86, "break", "r#break"),
    (Architecture::Aarch64, "newfstatat", "fstatat"),
    (Architecture::Arm, "sync_file_range2", "arm_sync_file_range"),
];

impl Architecture {
    /// All that a kernel of this kind executes, itself first. Empty for a kind that this crate does not know.
    pub fn family(kernel: &str) -> &'static [Architecture] {
        match kernel {
            "x86_64" => &[Architecture::X86_64, Architecture::X32, Architecture::X86],
            "aarch64" => &[Architecture::Aarch64, Architecture::Arm],
            _ => &[],
        }
    }

    /// How the kernel calls it in what a filter reads (linux/audit.h).
    pub fn audit(self) -> u32 {
        match self {
            Architecture::X86_64 | Architecture::X32 => 0xc000_003e,
            Architecture::X86 => 0x4000_0003,
            Architecture::Aarch64 => 0xc000_00b7,
            Architecture::Arm => 0x4000_0028,
        }
    }

    /// The number of a call; `None` where this architecture has none of that name.
    pub fn number(self, name: &str) -> Option<u32> {
        let alias = ALIASES
            .iter()
            .find(|(on, alias, _)| *on == self && *alias == name);
        let name = alias.map_or(name, |(_, _, own)| own);
        let own = |table: &[(&str, u32)]| {
            let found = table.iter().find(|(own, _)| *own == name);
            found.map(|(_, number)| *number)
        };
        match self {
            Architecture::X86_64 => id(syscalls::x86_64::Sysno::from_str(name).map(|it| it.id())),
            Architecture::X32 => own(&X32_OWN)
                .or_else(|| Architecture::X86_64.number(name))
                .map(|number| number | X32_BIT),
            Architecture::X86 => id(syscalls::x86::Sysno::from_str(name).map(|it| it.id())),
            Architecture::Aarch64 => id(syscalls::aarch64::Sysno::from_str(name).map(|it| it.id())),
            Architecture::Arm => own(&ARM_PRIVATE)
                .or_else(|| id(syscalls::arm::Sysno::from_str(name).map(|it| it.id()))),
        }
    }

    /// Every call that the tables know, by number.
    #[cfg(test)]
    pub fn calls(self) -> Vec<(u32, &'static str)> {
        /// Room for tables that have grown.
        const MOST: u32 = 1024;
        let all = |name_of: fn(usize) -> Option<&'static str>| {
            let numbers = 0..MOST;
            let named = numbers.filter_map(|it| {
                let name = name_of(it as usize)?;
                Some((it, name.strip_prefix("r#").unwrap_or(name)))
            });
            named.collect::<Vec<_>>()
        };
        match self {
            Architecture::X86_64 => all(|it| Some(syscalls::x86_64::Sysno::new(it)?.name())),
            Architecture::X32 => {
                let is_own = |name: &str| X32_OWN.iter().any(|(own, _)| *own == name);
                let mut calls = Architecture::X86_64.calls();
                calls.retain(|(_, name)| !is_own(name));
                calls.extend(X32_OWN.map(|(name, number)| (number, name)));
                let calls = calls.into_iter();
                calls
                    .map(|(number, name)| (number | X32_BIT, name))
                    .collect()
            }
            Architecture::X86 => all(|it| Some(syscalls::x86::Sysno::new(it)?.name())),
            Architecture::Aarch64 => all(|it| Some(syscalls::aarch64::Sysno::new(it)?.name())),
            Architecture::Arm => {
                let mut calls = all(|it| Some(syscalls::arm::Sysno::new(it)?.name()));
                calls.extend(ARM_PRIVATE.map(|(name, number)| (number, name)));
                calls
            }
        }
    }
}

fn id(found: Result<i32, ()>) -> Option<u32> {
    u32::try_from(found.ok()?).ok()
}
