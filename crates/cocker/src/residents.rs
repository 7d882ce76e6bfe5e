//! The two resident programs, carried inside `cocker` as bytes: `build.rs` builds them.

/// The container's root process.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cockerinit"));

/// The host-side process of a booted container.
pub const SUPERVISOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cocker-supervisor"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_residents_are_elf_programs() {
        for resident in [INIT, SUPERVISOR] {
            assert!(resident.starts_with(b"\x7fELF"), "not an ELF program");
        }
    }
}
