//! Capabilities by name, and sets of them (capabilities(7)).

use std::fmt;

/// In the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What root is given among the host's own ids, where it is to be kept from the host: to be root over files and accounts,
/// and nothing of the kernel.
const AMONG_HOST_IDS: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "AUDIT_WRITE",
    "SETFCAP",
    "NET_RAW",
];

/// One capability, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// Reads `NET_ADMIN` or `CAP_NET_ADMIN`, in letters of any size. `None` for what is none.
    pub fn parse(text: &str) -> Option<Capability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name)?;
        Some(Capability(number as u8))
    }

    /// As `NET_ADMIN`.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// Its number for the kernel.
    pub fn number(self) -> u8 {
        self.0
    }

    pub fn all() -> impl Iterator<Item = Capability> {
        (0..NAMES.len() as u8).map(Capability)
    }
}

/// Capabilities, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    pub const NONE: CapabilitySet = CapabilitySet(0);
    /// Every one, also those that later kernels bring.
    pub const ALL: CapabilitySet = CapabilitySet(u64::MAX);

    /// What a sandbox without ids of its own has.
    pub fn among_host_ids() -> CapabilitySet {
        let known = AMONG_HOST_IDS.iter().filter_map(|it| Capability::parse(it));
        known.fold(CapabilitySet::NONE, CapabilitySet::with)
    }

    pub fn with(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 | 1 << capability.0)
    }

    pub fn without(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 & !(1 << capability.0))
    }

    pub fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability.0 != 0
    }

    /// One bit for each, as the kernel numbers them.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Capability::all()
            .filter(|it| self.has(*it))
            .map(Capability::name);
        match names.next() {
            None => f.write_str("none"),
            Some(first) => {
                f.write_str(first)?;
                names.try_for_each(|name| write!(f, ",{name}"))
            }
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        for (text, number) in [
            ("CHOWN", 0),
            ("CAP_NET_ADMIN", 12),
            ("cap_sys_admin", 21),
            ("mknod", 27),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            let capability = Capability::parse(text).expect(text);
            assert_eq!(capability.number(), number, "{text}");
        }
        for odd in ["", "CAP_", "CAP_CAP_CHOWN", "ALL", "SYS ADMIN", "21"] {
            assert_eq!(Capability::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn sets_gain_and_lose_one_at_a_time() {
        let admin = Capability::parse("SYS_ADMIN").expect("a capability");
        assert!(!CapabilitySet::among_host_ids().has(admin));
        assert!(CapabilitySet::among_host_ids().with(admin).has(admin));
        assert!(!CapabilitySet::ALL.without(admin).has(admin));
        assert_eq!(CapabilitySet::among_host_ids().bits().count_ones(), 13);
    }
}
