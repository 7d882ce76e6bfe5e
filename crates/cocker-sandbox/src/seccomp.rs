//! Which system calls a sandbox may make: a table or a profile becomes rules, rules become a filter of the kernel's.
//!
//! ```text
//!  table.rs (ours) ──────────────┐
//!  a profile (JSON) ─profile.rs─▶ rules.rs ──compiler.rs──▶ Filter ──installed by init-to-be, right before it executes
//! ```
//!
//! A filter is for life: whoever is born of the root process has it too, and nobody can take it off. Several hold together,
//! and the strictest answer counts. The usual ones are compiled with this crate (build.rs); one from a profile can be kept
//! as bytes.

mod architecture;
mod compiler;
mod profile;
mod rules;
// Compiled by the build script alone, and looked at by tests.
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

pub use profile::{Circumstances, ProfileError};

use cocker_sys::seccomp::Instruction;
use profile::Flags;
use rustix::io::Errno;
use std::fmt;

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// A compiled filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: Flags,
}

impl Filter {
    /// What the table says.
    pub fn usual() -> Filter {
        Filter::of(DEFAULT)
    }

    /// What a hardened sandbox has on top: no user namespaces of its own, only plain kinds of sockets.
    pub fn hardening() -> Filter {
        Filter::of(HARDENING)
    }

    fn of(program: &[Instruction]) -> Filter {
        Filter {
            program: program.to_vec(),
            flags: Flags::default(),
        }
    }

    /// What a profile says (`--seccomp FILE`).
    ///
    /// # Errors
    /// What cannot be understood, with the entry that it stands in.
    pub fn from_profile(json: &[u8], here: &Circumstances) -> Result<Filter, ProfileError> {
        let read = profile::read(json, std::env::consts::ARCH, here)?;
        let program = compiler::compile(&read.rules).map_err(|length| ProfileError::TooLong {
            length,
            most: compiler::MOST_INSTRUCTIONS,
        })?;
        let program = program.into_iter().map(|it| Instruction {
            code: it.code,
            jump_true: it.jump_true,
            jump_false: it.jump_false,
            value: it.value,
        });
        Ok(Filter {
            program: program.collect(),
            flags: read.flags,
        })
    }

    /// To be kept: flags, then eight bytes an instruction.
    pub fn to_bytes(&self) -> Vec<u8> {
        let flags = u8::from(self.flags.log) | u8::from(self.flags.spec_allow) << 1;
        let mut bytes = vec![flags];
        for it in &self.program {
            bytes.extend(it.code.to_le_bytes());
            bytes.extend([it.jump_true, it.jump_false]);
            bytes.extend(it.value.to_le_bytes());
        }
        bytes
    }

    /// `None` where these are not the bytes of a filter. Whether it is a sound one the kernel sees when it is installed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Filter> {
        let (&flags, rest) = bytes.split_first()?;
        let is_whole =
            rest.len() % 8 == 0 && (8..=8 * compiler::MOST_INSTRUCTIONS).contains(&rest.len());
        if flags > 3 || !is_whole {
            return None;
        }
        let program = rest.chunks_exact(8).map(|it| Instruction {
            code: u16::from_le_bytes([it[0], it[1]]),
            jump_true: it[2],
            jump_false: it[3],
            value: u32::from_le_bytes([it[4], it[5], it[6], it[7]]),
        });
        Some(Filter {
            program: program.collect(),
            flags: Flags {
                log: flags & 1 != 0,
                spec_allow: flags & 2 != 0,
            },
        })
    }

    /// How many instructions it has.
    pub fn length(&self) -> usize {
        self.program.len()
    }

    /// Puts this process, and all that will be born of it, under the filter.
    pub(crate) fn install(&self) -> Result<(), Errno> {
        cocker_sys::seccomp::install(&self.program, self.flags.log, self.flags.spec_allow)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({} instructions)", self.program.len())
    }
}
