//! From rules to a program of the kernel's packet filter language (Documentation/userspace-api/seccomp_filter.rst).
//!
//! ```text
//!  load architecture ──▶ which of them? ──no──▶ the answer for foreign ones
//!                              │
//!                         load number ──▶ binary search over stretches of numbers that are treated alike
//!                                                  │
//!                                         return, or compare arguments
//! ```
//!
//! A stretch is found by seven comparisons or so, where a list would take hundreds. Numbers that are let through whatever
//! their arguments are cost nothing at all from the second time on: the kernel tries the filter on each number when it is
//! installed, and remembers those (Linux 5.11).
//!
//! This module is compiled into the build script too, which knows no other module of the crate.

use super::architecture::{Architecture, X32_BIT};
use super::rules::{Action, Calls, Comparison, Condition, Rules, Verdict};

/// One instruction (`struct sock_filter` of linux/filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// How many instructions are left out where the comparison holds.
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

/// The kernel's limit (`BPF_MAXINSNS`).
pub const MOST_INSTRUCTIONS: usize = 4096;

// Codes of linux/bpf_common.h.
pub const LOAD: u16 = 0x20;
pub const JUMP: u16 = 0x05;
pub const JUMP_EQUAL: u16 = 0x15;
pub const JUMP_GREATER: u16 = 0x25;
pub const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
pub const AND: u16 = 0x54;
pub const RETURN: u16 = 0x06;

// Places in `struct seccomp_data` of linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program. Its last instruction on every way is a return, as the kernel demands.
///
/// # Errors
/// How many instructions it would have, where those are more than the kernel takes.
pub fn compile(rules: &Rules) -> Result<Vec<Instruction>, usize> {
    // In the order of the rules, so that the native ones are asked for first; two architectures may share a kind.
    let mut kinds: Vec<u32> = Vec::new();
    for calls in &rules.calls {
        let kind = calls.architecture.audit();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut program = vec![load(ARCHITECTURE)];
    for kind in kinds {
        let is_of_kind = |calls: &&Calls| calls.architecture.audit() == kind;
        let calls: Vec<&Calls> = rules.calls.iter().filter(is_of_kind).collect();
        let mut body = vec![load(NUMBER)];
        body.extend(search(&stretches(&calls, rules.foreign)));
        program.extend(unless_equal(kind, body.len()));
        program.extend(body);
    }
    program.push(give(rules.foreign));
    match program.len() {
        length if length > MOST_INSTRUCTIONS => Err(length),
        _ => Ok(program),
    }
}

/// Goes on with the next instructions where the accumulator has `value`, else leaves out `length` of them.
fn unless_equal(value: u32, length: usize) -> Vec<Instruction> {
    match u8::try_from(length) {
        Ok(length) => vec![jump(JUMP_EQUAL, value, 0, length)],
        // The way of a comparison is short, that of a plain jump is not.
        Err(_) => vec![jump(JUMP_EQUAL, value, 1, 0), leave_out(length)],
    }
}

/// A stretch of numbers, up to the next one's start.
struct Stretch {
    start: u32,
    verdict: Verdict,
}

/// The stretches of all numbers from 0 on, of architectures that share their name for the kernel.
fn stretches(calls: &[&Calls], foreign: Action) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut add = |start: u32, verdict: Verdict| match stretches.last_mut() {
        Some(last) if last.verdict == verdict => {}
        Some(last) if last.start == start => last.verdict = verdict,
        _ => stretches.push(Stretch { start, verdict }),
    };
    add(0, Verdict::always(foreign));
    let mut ordered: Vec<&&Calls> = calls.iter().collect();
    ordered.sort_by_key(|calls| calls.architecture);
    for calls in ordered {
        let (first, end) = match calls.architecture {
            Architecture::X32 => (X32_BIT, u32::MAX),
            Architecture::X86_64 => (0, X32_BIT - 1),
            _ => (0, u32::MAX),
        };
        add(first, Verdict::always(calls.otherwise));
        for (&number, verdict) in &calls.by_number {
            add(number, verdict.clone());
            let next = match number >= calls.last {
                true => calls.beyond,
                false => calls.otherwise,
            };
            if !calls.by_number.contains_key(&(number + 1)) {
                add(number + 1, Verdict::always(next));
            }
        }
        let greatest = calls.by_number.keys().next_back();
        if greatest.is_none_or(|&number| number < calls.last) {
            add(calls.last + 1, Verdict::always(calls.beyond));
        }
        if end != u32::MAX {
            add(end + 1, Verdict::always(foreign));
        }
    }
    stretches
}

/// A binary search for the number in the accumulator.
fn search(stretches: &[Stretch]) -> Vec<Instruction> {
    match stretches {
        [] => Vec::new(),
        [only] => decide(&only.verdict),
        _ => {
            let (lower, upper) = stretches.split_at(stretches.len() / 2);
            let (start, lower, upper) = (upper[0].start, search(lower), search(upper));
            let mut program = match u8::try_from(lower.len()) {
                Ok(length) => vec![jump(JUMP_GREATER_OR_EQUAL, start, length, 0)],
                Err(_) => vec![
                    jump(JUMP_GREATER_OR_EQUAL, start, 0, 1),
                    leave_out(lower.len()),
                ],
            };
            program.extend(lower);
            program.extend(upper);
            program
        }
    }
}

/// Ends with a return on every way. The number is not needed any more, so the accumulator is free.
fn decide(verdict: &Verdict) -> Vec<Instruction> {
    let mut program = Vec::new();
    for rule in &verdict.rules {
        let mut tests: Vec<Instruction> = Vec::new();
        // From the last one forward: each has to know how far it is behind the rule's return.
        for condition in rule.conditions.iter().rev() {
            let mut test = compare(condition, tests.len() + 1);
            test.extend(tests);
            tests = test;
        }
        program.extend(tests);
        program.push(give(rule.action));
        if rule.conditions.is_empty() {
            return program; // nothing behind it is ever reached
        }
    }
    program.push(give(verdict.otherwise));
    program
}

/// Goes on where the condition holds, else leaves out `rest` instructions behind it.
///
/// # Panics
/// Never: six arguments, each compared a few times, are far below 200 instructions; `Rules` of profiles are bounded.
fn compare(condition: &Condition, rest: usize) -> Vec<Instruction> {
    let Condition {
        argument,
        comparison,
        value,
    } = *condition;
    let low_place = ARGUMENTS + 8 * u32::from(argument);
    let (low, high) = (value as u32, (value >> 32) as u32);
    let words = Words {
        low_place,
        low,
        high,
        rest: u8::try_from(rest).expect("conditions of one rule are few"),
    };
    match comparison {
        Comparison::Equal => words.masked(u64::MAX),
        Comparison::MaskedEqual(mask) => words.masked(mask),
        Comparison::NotEqual => words.not_equal(),
        Comparison::Greater => words.ordered(JUMP_GREATER, true),
        Comparison::GreaterOrEqual => words.ordered(JUMP_GREATER_OR_EQUAL, true),
        Comparison::Less => words.ordered(JUMP_GREATER_OR_EQUAL, false),
        Comparison::LessOrEqual => words.ordered(JUMP_GREATER, false),
    }
}

/// An argument of 64 bits, which is compared half by half (both kinds of machine are little-endian).
struct Words {
    low_place: u32,
    low: u32,
    high: u32,
    rest: u8,
}

impl Words {
    fn masked(&self, mask: u64) -> Vec<Instruction> {
        let (mask_low, mask_high) = (mask as u32, (mask >> 32) as u32);
        let low = half(self.low_place, mask_low, self.low, self.rest);
        let over_low = self.rest + low.len() as u8;
        let mut program = half(self.low_place + 4, mask_high, self.high, over_low);
        program.extend(low);
        program
    }

    fn not_equal(&self) -> Vec<Instruction> {
        vec![
            load(self.low_place + 4),
            jump(JUMP_EQUAL, self.high, 0, 2),
            load(self.low_place),
            jump(JUMP_EQUAL, self.low, self.rest, 0),
        ]
    }

    /// `test` on the low half decides where the high halves are equal; `wanted` is its answer where the condition holds.
    fn ordered(&self, test: u16, wanted: bool) -> Vec<Instruction> {
        let (low_true, low_false) = match wanted {
            true => (0, self.rest),
            false => (self.rest, 0),
        };
        // A greater high half decides alone.
        let (greater, smaller) = match wanted {
            true => (3, self.rest + 2),
            false => (self.rest + 3, 2),
        };
        vec![
            load(self.low_place + 4),
            jump(JUMP_GREATER, self.high, greater, 0),
            jump(JUMP_EQUAL, self.high, 0, smaller),
            load(self.low_place),
            jump(test, self.low, low_true, low_false),
        ]
    }
}

/// One half of an argument equals `value` under `mask`; with an empty mask only an empty value does.
fn half(place: u32, mask: u32, value: u32, rest: u8) -> Vec<Instruction> {
    match mask {
        0 if value == 0 => Vec::new(),
        u32::MAX => vec![load(place), jump(JUMP_EQUAL, value, 0, rest)],
        _ => vec![
            load(place),
            Instruction {
                code: AND,
                jump_true: 0,
                jump_false: 0,
                value: mask,
            },
            jump(JUMP_EQUAL, value, 0, rest),
        ],
    }
}

fn load(place: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        value: place,
    }
}

fn jump(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        value,
    }
}

fn leave_out(length: usize) -> Instruction {
    Instruction {
        code: JUMP,
        jump_true: 0,
        jump_false: 0,
        value: length as u32,
    }
}

fn give(action: Action) -> Instruction {
    Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        value: action.code(),
    }
}
