//! Which devices may be used inside: whoever makes a node of another one, or finds one, cannot open it.
//!
//! In v2 the kernel asks a small program each time (Documentation/admin-guide/cgroup-v2.rst, "Device controller"); where it
//! has none, the devices controller of v1 keeps a list.

use super::Cgroup;
use super::layout::{Controller, Legacy};
use crate::devices;
use cocker_sys::bpf::{Instruction, attach_device_program, load_device_program};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fmt;

/// Devices that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub kind: DeviceKind,
    pub major: u32,
    /// None: all of this major number.
    pub minor: Option<u32>,
    pub usage: DeviceUse,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceUse {
    pub read: bool,
    pub write: bool,
    /// Another node of it may be made.
    pub make: bool,
}

impl DeviceUse {
    pub const ALL: DeviceUse = DeviceUse {
        read: true,
        write: true,
        make: true,
    };

    /// Reads `rwm` or a part of it, each letter at most once.
    pub fn parse(text: &str) -> Option<DeviceUse> {
        let has = |letter| text.contains(letter);
        let usage = DeviceUse {
            read: has('r'),
            write: has('w'),
            make: has('m'),
        };
        (!text.is_empty() && usage.to_string().len() == text.len()).then_some(usage)
    }
}

impl fmt::Display for DeviceUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.make, "m")];
        let mut letters = letters.iter().filter(|(has, _)| *has);
        letters.try_for_each(|(_, letter)| f.write_str(letter))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Character,
    Block,
}

/// What is in every sandbox's `/dev`, and nothing else: no disk, no memory, no loop device, no fuse.
pub fn usual_devices() -> Vec<DeviceRule> {
    /// Both sides of terminals (Documentation/admin-guide/devices.txt): `/dev/ptmx`, and all of `/dev/pts`.
    const TERMINALS: [(u32, Option<u32>); 2] = [(5, Some(2)), (136, None)];
    let nodes = devices::NODES.iter();
    nodes
        .map(|&(_, major, minor)| (major, Some(minor)))
        .chain(TERMINALS)
        .map(|(major, minor)| DeviceRule {
            kind: DeviceKind::Character,
            major,
            minor,
            usage: DeviceUse::ALL,
        })
        .collect()
}

impl Cgroup {
    /// Lets what lives here, and below, use no devices but these. `folder` is its own in v2. Where the list is kept by v1,
    /// returns the file into which a process writes `0` to be under it.
    pub(crate) fn list_devices(
        &self,
        folder: Option<BorrowedFd<'_>>,
        rules: &[DeviceRule],
    ) -> Result<Option<OwnedFd>, Errno> {
        let attached = folder.ok_or(Errno::NOSYS).and_then(|folder| {
            let program = load_device_program(&program(rules))?;
            attach_device_program(folder, program.as_fd())
        });
        let Err(errno) = attached else {
            return Ok(None);
        };
        let Some(legacy) = self.hierarchies.legacy(Controller::Devices) else {
            return Err(errno);
        };
        tracing::debug!("no program for devices ({errno}): the controller of v1 keeps the list");
        self.list_devices_in(legacy, rules).map(Some)
    }

    fn list_devices_in(&self, legacy: &Legacy, rules: &[DeviceRule]) -> Result<OwnedFd, Errno> {
        let folder = self.open_or_make_legacy(legacy)?;
        super::write_file(folder.as_fd(), "devices.deny", "a")?;
        for rule in rules {
            super::write_file(folder.as_fd(), "devices.allow", &legacy_line(rule))?;
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, super::LEGACY_DOOR, flags, Mode::empty())
    }
}

/// As the v1 controller reads it (Documentation/admin-guide/cgroup-v1/devices.rst).
fn legacy_line(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        DeviceKind::Character => 'c',
        DeviceKind::Block => 'b',
    };
    let minor = rule.minor.map_or("*".into(), |minor| minor.to_string());
    format!("{kind} {}:{minor} {}", rule.major, rule.usage)
}

/// Says 1 for what is on the list and 0 for everything else.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    /// Where the registers of the program have what.
    const ANSWER: u8 = 0;
    const CONTEXT: u8 = 1;
    const KIND: u8 = 2;
    const MAJOR: u8 = 3;
    const MINOR: u8 = 4;
    const USE: u8 = 5;
    let mut program = vec![
        load(KIND, CONTEXT, 0),
        // The upper half says what is to be done with the device.
        and(KIND, 0xffff),
        load(MAJOR, CONTEXT, 4),
        load(MINOR, CONTEXT, 8),
    ];
    for rule in rules {
        let kind = match rule.kind {
            DeviceKind::Block => 1,
            DeviceKind::Character => 2,
        };
        let mut tests = vec![(KIND, kind), (MAJOR, rule.major)];
        tests.extend(rule.minor.map(|minor| (MINOR, minor)));
        let of_use = match rule.usage {
            DeviceUse::ALL => Vec::new(),
            // What is not allowed is not asked for.
            usage => vec![load(USE, CONTEXT, 0), and(USE, forbidden(usage))],
        };
        let behind = match of_use.len() {
            0 => 0,
            length => length + 1,
        };
        let count = tests.len();
        for (number, (register, value)) in tests.into_iter().enumerate() {
            // Over the tests that are left and the two instructions of the answer.
            let to_next_rule = (count - number - 1 + behind + 2) as i16;
            program.push(jump_unless_equal(register, value, to_next_rule));
        }
        if behind > 0 {
            program.extend(of_use);
            program.push(jump_unless_equal(USE, 0, 2));
        }
        program.extend([set(ANSWER, 1), EXIT]);
    }
    program.extend([set(ANSWER, 0), EXIT]);
    program
}

/// The uses that a rule does not allow, as the kernel asks for them (`BPF_DEVCG_ACC_*` of linux/bpf.h, in the upper half).
fn forbidden(usage: DeviceUse) -> i32 {
    let bits = [(usage.make, 1), (usage.read, 2), (usage.write, 4)];
    let forbidden = bits.iter().filter(|(allowed, _)| !allowed);
    forbidden.fold(0, |mask, (_, bit)| mask | bit << 16)
}

const EXIT: Instruction = Instruction {
    code: 0x95,
    registers: 0,
    offset: 0,
    immediate: 0,
};

/// 32 bits of what `source` points at.
fn load(destination: u8, source: u8, offset: i16) -> Instruction {
    Instruction {
        code: 0x61,
        registers: source << 4 | destination,
        offset,
        immediate: 0,
    }
}

fn and(register: u8, value: i32) -> Instruction {
    Instruction {
        code: 0x54,
        registers: register,
        offset: 0,
        immediate: value,
    }
}

fn set(register: u8, value: i32) -> Instruction {
    Instruction {
        code: 0xb7,
        registers: register,
        offset: 0,
        immediate: value,
    }
}

fn jump_unless_equal(register: u8, value: u32, offset: i16) -> Instruction {
    Instruction {
        code: 0x55,
        registers: register,
        offset,
        immediate: value as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, by a machine that knows its five instructions.
    fn answer(program: &[Instruction], context: [u32; 3]) -> i32 {
        let mut registers = [0u32; 6];
        let mut place = 0;
        loop {
            let Instruction {
                code,
                registers: names,
                offset,
                immediate,
            } = program[place];
            let destination = usize::from(names & 0xf);
            place += 1;
            match code {
                0x61 => registers[destination] = context[offset as usize / 4],
                0x54 => registers[destination] &= immediate as u32,
                0xb7 => registers[destination] = immediate as u32,
                0x55 if registers[destination] != immediate as u32 => place += offset as usize,
                0x55 => {}
                0x95 => return registers[0] as i32,
                other => panic!("it has no instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn what_is_on_the_list_may_be_used_and_nothing_else() {
        const CHARACTER: u32 = 2;
        const BLOCK: u32 = 1;
        let program = program(&usual_devices());
        for access in [1, 2, 4, 7] {
            for (kind, major, minor, expected) in [
                (CHARACTER, 1, 3, 1),
                (CHARACTER, 1, 9, 1),
                (CHARACTER, 5, 0, 1),
                (CHARACTER, 5, 2, 1),
                (CHARACTER, 136, 77, 1),
                (BLOCK, 1, 3, 0),
                (BLOCK, 8, 0, 0),
                (BLOCK, 136, 77, 0),
                (CHARACTER, 1, 1, 0),
                (CHARACTER, 1, 2, 0),
                (CHARACTER, 5, 1, 0),
                (CHARACTER, 10, 200, 0),
                (CHARACTER, 10, 229, 0),
                (CHARACTER, 0, 0, 0),
            ] {
                let got = answer(&program, [access << 16 | kind, major, minor]);
                assert_eq!(got, expected, "{kind} {major}:{minor}");
            }
        }
    }

    #[test]
    fn a_device_is_used_as_it_may_be_and_not_otherwise() {
        const BLOCK: u32 = 1;
        let (make, read, write) = (1, 2, 4);
        for (text, allowed) in [
            ("r", read),
            ("rw", read | write),
            ("wm", write | make),
            ("rwm", 7),
        ] {
            let usage = DeviceUse::parse(text).expect(text);
            let rule = DeviceRule {
                kind: DeviceKind::Block,
                major: 8,
                minor: Some(1),
                usage,
            };
            let rules = [&[rule][..], &usual_devices()].concat();
            let program = program(&rules);
            for asked in 1..8 {
                let expected = i32::from(asked & !allowed == 0);
                assert_eq!(
                    answer(&program, [asked << 16 | BLOCK, 8, 1]),
                    expected,
                    "{text} {asked}"
                );
                assert_eq!(answer(&program, [asked << 16 | BLOCK, 8, 2]), 0);
                assert_eq!(answer(&program, [asked << 16 | 2, 1, 3]), 1);
            }
            assert_eq!(legacy_line(&rule), format!("b 8:1 {text}"));
        }
        for odd in ["", "x", "rr", "rwmr", "r w", "RW"] {
            assert_eq!(DeviceUse::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn in_v1_the_list_has_lines() {
        let lines: Vec<String> = usual_devices().iter().map(legacy_line).collect();
        assert!(lines.contains(&"c 1:3 rwm".into()), "{lines:?}");
        assert!(lines.contains(&"c 136:* rwm".into()), "{lines:?}");
        assert_eq!(lines.len(), 8);
    }
}
