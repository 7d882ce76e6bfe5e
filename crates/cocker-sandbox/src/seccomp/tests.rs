//! The filters, tried by a machine that knows the language as the kernel does, against the rules that they were made of.

use super::architecture::{Architecture, X32_BIT};
use super::compiler::{self, Instruction};
use super::profile::{self, Circumstances, Flags, ProfileError};
use super::rules::{Action, Calls, Comparison, Condition, Rule, Rules, Verdict};
use super::{DEFAULT, Filter, HARDENING, table};
use crate::capabilities::{Capability, CapabilitySet};
use std::collections::{BTreeMap, BTreeSet};

/// A system call as a filter sees it.
#[derive(Clone, Copy, Debug)]
struct Call {
    kind: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, place: u32) -> u32 {
        let argument = |place: u32| self.arguments[place as usize / 8];
        match place {
            0 => self.number,
            4 => self.kind,
            16..64 if place.is_multiple_of(8) => argument(place - 16) as u32,
            16..64 if place.is_multiple_of(4) => (argument(place - 16) >> 32) as u32,
            _ => panic!("the kernel refuses a load from {place}"),
        }
    }
}

/// What a program answers, and after how many steps.
fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut place, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let it = program[place];
        place += 1;
        steps += 1;
        let holds = match it.code {
            compiler::LOAD => {
                accumulator = call.word(it.value);
                continue;
            }
            compiler::AND => {
                accumulator &= it.value;
                continue;
            }
            compiler::JUMP => {
                place += it.value as usize;
                continue;
            }
            compiler::RETURN => return (it.value, steps),
            compiler::JUMP_EQUAL => accumulator == it.value,
            compiler::JUMP_GREATER => accumulator > it.value,
            compiler::JUMP_GREATER_OR_EQUAL => accumulator >= it.value,
            other => panic!("no instruction {other:#x}"),
        };
        place += usize::from(match holds {
            true => it.jump_true,
            false => it.jump_false,
        });
    }
}

/// What the rules say, read word by word.
fn meant(rules: &Rules, call: &Call) -> Action {
    let of_kind = |calls: &&Calls| calls.architecture.audit() == call.kind;
    let is_x32 = call.number >= X32_BIT;
    let found = rules
        .calls
        .iter()
        .filter(of_kind)
        .find(|calls| match calls.architecture {
            Architecture::X32 => is_x32,
            Architecture::X86_64 => !is_x32,
            _ => true,
        });
    let Some(calls) = found else {
        return rules.foreign;
    };
    match calls.by_number.get(&call.number) {
        Some(verdict) => decided(verdict, &call.arguments),
        None if call.number <= calls.last => calls.otherwise,
        None => calls.beyond,
    }
}

fn decided(verdict: &Verdict, arguments: &[u64; 6]) -> Action {
    let holds = |condition: &Condition| {
        let (argument, value) = (arguments[usize::from(condition.argument)], condition.value);
        match condition.comparison {
            Comparison::Equal => argument == value,
            Comparison::NotEqual => argument != value,
            Comparison::Less => argument < value,
            Comparison::LessOrEqual => argument <= value,
            Comparison::Greater => argument > value,
            Comparison::GreaterOrEqual => argument >= value,
            Comparison::MaskedEqual(mask) => argument & mask == value,
        }
    };
    let rule = verdict
        .rules
        .iter()
        .find(|rule| rule.conditions.iter().all(holds));
    rule.map_or(verdict.otherwise, |rule| rule.action)
}

/// A sequence that is the same each time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One that is likely to be near `value`, in one half or both.
    fn near(&mut self, value: u64) -> u64 {
        match self.below(8) {
            0 => value,
            1 => value.wrapping_add(1),
            2 => value.wrapping_sub(1),
            3 => value ^ 1 << 32,
            4 => value ^ 1 << self.below(64),
            5 => value & u64::from(u32::MAX) | self.next() << 32,
            6 => value & !u64::from(u32::MAX) | self.below(1 << 32),
            _ => self.next(),
        }
    }
}

const FAMILIES: [&str; 2] = ["x86_64", "aarch64"];

/// The arguments at which something about a verdict changes, and others.
fn interesting(verdict: Option<&Verdict>, random: &mut Random) -> Vec<[u64; 6]> {
    let conditions = verdict.into_iter().flat_map(|verdict| &verdict.rules);
    let conditions: Vec<&Condition> = conditions.flat_map(|rule| &rule.conditions).collect();
    let rounds = if conditions.is_empty() { 1 } else { 200 };
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    for _ in 0..rounds {
        let mut arguments = [0; 6].map(|_: u64| random.next());
        for condition in &conditions {
            if random.below(4) > 0 {
                arguments[usize::from(condition.argument)] = random.near(condition.value);
            }
        }
        all.push(arguments);
    }
    all
}

/// Numbers around all that the rules name, and far from them.
fn numbers(rules: &Rules) -> BTreeSet<u32> {
    let named = rules
        .calls
        .iter()
        .flat_map(|calls| calls.by_number.keys().copied());
    let around = named.flat_map(|number| [number.wrapping_sub(1), number, number + 1]);
    let far = [
        0x7fff_ffff,
        X32_BIT - 1,
        X32_BIT,
        X32_BIT | 600,
        0x8000_0000,
        u32::MAX,
    ];
    let last = rules
        .calls
        .iter()
        .flat_map(|calls| [calls.last, calls.last + 1]);
    around
        .chain(0..1200)
        .chain(X32_BIT..X32_BIT + 1200)
        .chain(far)
        .chain(last)
        .collect()
}

/// Tries every number on every architecture, with arguments that matter to it.
fn agree(rules: &Rules, random: &mut Random) {
    let program = compiler::compile(rules).expect("it is short enough");
    let kinds = [
        0xc000_003e,
        0x4000_0003,
        0xc000_00b7,
        0x4000_0028,
        0,
        0xc000_0016,
    ];
    for number in numbers(rules) {
        for kind in kinds {
            let found = rules
                .calls
                .iter()
                .filter(|calls| calls.architecture.audit() == kind);
            let verdict = found
                .filter_map(|calls| calls.by_number.get(&number))
                .next();
            for arguments in interesting(verdict, random) {
                let call = Call {
                    kind,
                    number,
                    arguments,
                };
                let (answer, _) = run(&program, &call);
                assert_eq!(answer, meant(rules, &call).code(), "{call:x?}");
            }
        }
    }
}

#[test]
fn every_call_of_every_architecture_stands_in_the_table_once() {
    let verdicts = table::default_verdicts();
    let decided: BTreeSet<&str> = verdicts.iter().map(|(call, _)| *call).collect();
    assert_eq!(decided.len(), verdicts.len(), "one stands there twice");
    let architectures = FAMILIES
        .iter()
        .flat_map(|kernel| Architecture::family(kernel));
    let known: BTreeSet<&str> = architectures
        .flat_map(|it| it.calls())
        .map(|(_, name)| name)
        .collect();
    let undecided: Vec<&&str> = known.difference(&decided).collect();
    assert!(undecided.is_empty(), "not in the table: {undecided:?}");
    let unknown: Vec<&&str> = decided.difference(&known).collect();
    assert!(unknown.is_empty(), "no such call: {unknown:?}");
}

#[test]
fn names_and_numbers_are_each_others() {
    for architecture in FAMILIES
        .iter()
        .flat_map(|kernel| Architecture::family(kernel))
    {
        let calls = architecture.calls();
        assert!(
            calls.len() > 300,
            "{architecture:?} has {} calls",
            calls.len()
        );
        for (number, name) in calls {
            assert_eq!(
                architecture.number(name),
                Some(number),
                "{architecture:?} {name}"
            );
        }
    }
    assert_eq!(Architecture::X86.number("socketcall"), Some(102));
    assert_eq!(Architecture::X32.number("execve"), Some(X32_BIT | 520));
    assert_eq!(Architecture::X32.number("openat"), Some(X32_BIT | 257));
    assert_eq!(Architecture::Aarch64.number("newfstatat"), Some(79));
    assert_eq!(Architecture::Arm.number("set_tls"), Some(0xf_0005));
    assert_eq!(Architecture::Aarch64.number("open"), None);
}

#[test]
fn the_filter_says_of_every_number_what_the_table_says() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for family in FAMILIES.map(Architecture::family) {
        agree(&table::default_rules(family), &mut random);
        agree(&table::hardening_rules(family), &mut random);
    }
}

#[test]
fn no_number_of_x32_reaches_the_kernel() {
    let rules = table::default_rules(Architecture::family("x86_64"));
    // Control: with no rules of x32's own, as a filter is written that looks at what is forbidden by number alone.
    let mut naive = rules.clone();
    let mut of_x32 = naive.calls.iter_mut();
    let of_x32 = of_x32.find(|calls| calls.architecture == Architecture::X32);
    let of_x32 = of_x32.expect("it is one of the family");
    (of_x32.otherwise, of_x32.beyond) = (Action::Allow, Action::Allow);
    let [filter, naive] =
        [&rules, &naive].map(|rules| compiler::compile(rules).expect("it is short enough"));
    let missing = Action::Errno(38).code(); // ENOSYS
    for number in (X32_BIT..X32_BIT + 1200).chain([0x7fff_ffff, 0x8000_0000, u32::MAX]) {
        let call = Call {
            kind: Architecture::X32.audit(),
            number,
            arguments: [7; 6],
        };
        assert_eq!(run(&filter, &call).0, missing, "{number:#x}");
        assert_eq!(run(&naive, &call).0, Action::Allow.code(), "{number:#x}");
    }
}

#[test]
fn the_filters_that_are_built_in_are_those_of_the_tables() {
    let family = Architecture::family(std::env::consts::ARCH);
    for (built_in, rules) in [
        (DEFAULT, table::default_rules(family)),
        (HARDENING, table::hardening_rules(family)),
    ] {
        let compiled = compiler::compile(&rules).expect("it is short enough");
        assert_eq!(built_in.len(), compiled.len());
        for (one, other) in built_in.iter().zip(compiled) {
            let one = (one.code, one.jump_true, one.jump_false, one.value);
            assert_eq!(
                one,
                (other.code, other.jump_true, other.jump_false, other.value)
            );
        }
    }
}

#[test]
fn few_steps_lead_to_every_answer() {
    let rules = table::default_rules(Architecture::family("x86_64"));
    let program = compiler::compile(&rules).expect("it is short enough");
    for (number, name) in Architecture::X86_64.calls() {
        let call = Call {
            kind: Architecture::X86_64.audit(),
            number,
            arguments: [7; 6],
        };
        let (_, steps) = run(&program, &call);
        assert!(
            steps <= 32,
            "{name} takes {steps} steps of {}",
            program.len()
        );
    }
}

#[test]
fn the_upper_half_of_an_argument_hides_nothing() {
    let rules = table::default_rules(Architecture::family("x86_64"));
    let program = compiler::compile(&rules).expect("it is short enough");
    let answer = |architecture: Architecture, name: &str, arguments: [u64; 6]| {
        let call = Call {
            kind: architecture.audit(),
            number: architecture.number(name).expect("it has one"),
            arguments,
        };
        run(&program, &call).0
    };
    for upper in [0, 1 << 32, u64::MAX << 32] {
        for architecture in [Architecture::X86_64, Architecture::X86] {
            for request in [0x5412, 0x541c] {
                let arguments = [0, upper | request, 0, 0, 0, 0];
                assert_eq!(
                    answer(architecture, "ioctl", arguments),
                    Action::Errno(1).code()
                );
            }
            for family in [38, 40] {
                let arguments = [upper | family, 0, 0, 0, 0, 0];
                assert_eq!(
                    answer(architecture, "socket", arguments),
                    Action::Errno(97).code()
                );
            }
        }
        let arguments = [upper | 1, 0, 0, 0, 0, 0];
        assert_eq!(
            answer(Architecture::X86, "socketcall", arguments),
            Action::Errno(38).code()
        );
    }
    let plain = [2, 1, 0, 0, 0, 0];
    assert_eq!(
        answer(Architecture::X86_64, "socket", plain),
        Action::Allow.code()
    );
    assert_eq!(
        answer(Architecture::X86, "socketcall", [3, 0, 0, 0, 0, 0]),
        Action::Allow.code()
    );
}

#[test]
fn any_rules_and_their_filter_say_the_same() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    const ACTIONS: [Action; 7] = [
        Action::Allow,
        Action::Errno(1),
        Action::Errno(38),
        Action::KillProcess,
        Action::Trap,
        Action::Trace(7),
        Action::Log,
    ];
    for _ in 0..60 {
        let family = Architecture::family(FAMILIES[random.below(2) as usize]);
        let some = family.iter().filter(|_| random.below(4) > 0);
        let calls: Vec<Architecture> = some.copied().collect();
        let mut action = || ACTIONS[random.below(7) as usize];
        let (foreign, otherwise, beyond) = (action(), action(), action());
        let calls = calls.into_iter().map(|architecture| {
            let first = if architecture == Architecture::X32 {
                X32_BIT
            } else {
                0
            };
            let mut by_number = BTreeMap::new();
            for _ in 0..random.below(150) {
                let number = first + random.below(400) as u32;
                by_number.insert(number, any_verdict(&mut random, &ACTIONS));
            }
            let greatest = by_number.keys().next_back().copied().unwrap_or(first);
            Calls {
                architecture,
                by_number,
                otherwise,
                last: greatest + random.below(3) as u32,
                beyond,
            }
        });
        let calls = calls.collect();
        agree(&Rules { calls, foreign }, &mut random);
    }
}

fn any_verdict(random: &mut Random, actions: &[Action; 7]) -> Verdict {
    let count = match random.below(3) {
        0 => random.below(4),
        _ => 0,
    };
    let rules = (0..count).map(|_| Rule {
        conditions: (0..1 + random.below(3))
            .map(|_| any_condition(random))
            .collect(),
        action: actions[random.below(7) as usize],
    });
    let rules = rules.collect();
    Verdict {
        rules,
        otherwise: actions[random.below(7) as usize],
    }
}

fn any_condition(random: &mut Random) -> Condition {
    let comparison = match random.below(7) {
        0 => Comparison::Equal,
        1 => Comparison::NotEqual,
        2 => Comparison::Less,
        3 => Comparison::LessOrEqual,
        4 => Comparison::Greater,
        5 => Comparison::GreaterOrEqual,
        _ => Comparison::MaskedEqual(random.near(0xffff_ffff)),
    };
    let value = [
        0,
        1,
        40,
        0xffff_ffff,
        1 << 32,
        u64::MAX,
        0x1234_5678_9abc_def0,
    ];
    let value = value[random.below(7) as usize];
    Condition {
        argument: random.below(6) as u8,
        comparison,
        value: match comparison {
            Comparison::MaskedEqual(mask) => value & mask,
            _ => value,
        },
    }
}

fn here() -> Circumstances {
    Circumstances {
        capabilities: CapabilitySet::among_host_ids(),
        kernel: (6, 1),
    }
}

/// What a profile makes of a call of x86_64.
fn by_profile(json: &str, here: &Circumstances, name: &str, arguments: [u64; 6]) -> Action {
    let read = profile::read(json.as_bytes(), "x86_64", here).expect("it is sound");
    let call = Call {
        kind: Architecture::X86_64.audit(),
        number: Architecture::X86_64.number(name).expect("it has one"),
        arguments,
    };
    meant(&read.rules, &call)
}

#[test]
fn a_profile_means_what_it_means_to_others() {
    let json = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]}
        ],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [
            {"names": ["read", "write", "s390_pci_mmio_read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "",
             "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": null, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["set_tls"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"name": "personality", "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 4294967295, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errno": "EINVAL",
             "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_LT"}, {"index": 0, "value": 40, "op": "SCMP_CMP_GT"}]},
            {"names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["close"], "action": "SCMP_ACT_KILL_PROCESS"}
        ]}"#;
    let (here, none) = (here(), [0; 6]);
    let answer = |name, arguments| by_profile(json, &here, name, arguments);
    assert_eq!(answer("read", none), Action::Allow);
    assert_eq!(answer("open", none), Action::Errno(38));
    assert_eq!(answer("mount", none), Action::Errno(1));
    let admin = Circumstances {
        capabilities: CapabilitySet::ALL,
        ..here
    };
    assert_eq!(by_profile(json, &admin, "mount", none), Action::Allow);
    assert_eq!(answer("ptrace", none), Action::Allow);
    assert_eq!(answer("kcmp", none), Action::Errno(38));
    assert_eq!(answer("arch_prctl", none), Action::Allow);
    assert_eq!(answer("personality", [8, 0, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(
        answer("personality", [0xffff_ffff, 0, 0, 0, 0, 0]),
        Action::Log
    );
    assert_eq!(answer("personality", none), Action::Errno(38));
    assert_eq!(answer("clone", [17, 0, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(
        answer("clone", [0x1000_0011, 0, 0, 0, 0, 0]),
        Action::Errno(38)
    );
    assert_eq!(answer("socket", [16, 3, 9, 0, 0, 0]), Action::Errno(22));
    assert_eq!(answer("socket", [16, 3, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(answer("socket", [41, 3, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(answer("socket", [40, 3, 0, 0, 0, 0]), Action::Errno(38));
    // What says the default is left out, so the next one counts.
    assert_eq!(answer("close", none), Action::KillProcess);

    let read = profile::read(json.as_bytes(), "x86_64", &here).expect("it is sound");
    assert!(read.flags.log && !read.flags.spec_allow);
    let architectures: Vec<Architecture> =
        read.rules.calls.iter().map(|it| it.architecture).collect();
    assert_eq!(architectures, Architecture::family("x86_64"));
    agree(&read.rules, &mut Random(77));
}

#[test]
fn what_a_profile_cannot_know_is_missing_and_what_it_does_not_name_kills() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "statx"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let answer = |name| by_profile(json, &here(), name, [0; 6]);
    assert_eq!(answer("read"), Action::Allow);
    assert_eq!(answer("open"), Action::Errno(1));
    assert_eq!(answer("clone3"), Action::Errno(38));
    let read = profile::read(json.as_bytes(), "x86_64", &here()).expect("it is sound");
    for (kind, number) in [(0x4000_0003, 3), (0xc000_003e, X32_BIT), (0xc000_00b7, 63)] {
        let call = Call {
            kind,
            number,
            arguments: [0; 6],
        };
        assert_eq!(meant(&read.rules, &call), Action::KillProcess, "{call:x?}");
    }
}

#[test]
fn a_bad_profile_is_refused_with_the_entry_that_is_bad() {
    let one = |entry: &str| {
        let good = r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#;
        format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{good}, {entry}]}}"#)
    };
    let refused = |json: &str| {
        let error = profile::read(json.as_bytes(), "x86_64", &here()).expect_err(json);
        error.to_string()
    };
    for (entry, expected) in [
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_PERMIT"}"#,
            "entry 2 (mount) has action `SCMP_ACT_PERMIT`",
        ),
        (
            r#"{"names": ["mount"]}"#,
            "entry 2 (mount) is not as it should be: missing field `action`",
        ),
        (
            r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#,
            "entry 2 () names no system call",
        ),
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "arguments": []}"#,
            "unknown field `arguments`",
        ),
        (
            r#"{"names": ["a", "b", "c", "d"], "action": "?"}"#,
            "entry 2 (a, b, c, …) has action `?`",
        ),
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            "entry 2 (mount) compares argument 6",
        ),
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "EQ"}]}"#,
            "entry 2 (mount) compares by `EQ`",
        ),
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_ROOT"]}}"#,
            "entry 2 (mount) names capability `CAP_ROOT`",
        ),
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}"#,
            "entry 2 (mount) has minKernel `new`",
        ),
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#,
            "entry 2 (mount) answers `4096`, which is no error",
        ),
        (
            r#"{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}"#,
            "it asks a program outside what to do (entry 2)",
        ),
    ] {
        let text = refused(&one(entry));
        assert!(text.contains(expected), "{text}");
    }
    assert!(refused(r#"{"defaultAction": "ALLOW"}"#).contains("defaultAction is `ALLOW`"));
    assert!(refused(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#).contains("(defaultAction)"));
    let listener = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}"#;
    assert!(refused(listener).contains("listenerPath"));
    let flag = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#;
    assert!(refused(flag).contains("its flags is"));
    let odd = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}"#;
    assert!(refused(odd).contains("architectures is `SCMP_ARCH_VAX`"));
    assert_eq!(refused("[]"), "it is no profile of system calls");
    assert_eq!(refused(""), "it is no profile of system calls");
}

#[test]
fn a_slip_of_the_pen_that_would_forbid_nothing_is_refused() {
    let profile_with = |default: &str, action: &str| {
        format!(
            r#"{{"defaultAction": "{default}", "syscalls": [{{"names": ["mout"], "action": "{action}"}}]}}"#
        )
    };
    let read = |json: String| profile::read(json.as_bytes(), "x86_64", &here());
    let refused =
        read(profile_with("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO")).expect_err("it forbids nothing");
    assert!(
        matches!(refused, ProfileError::Entry { number: 1, .. }),
        "{refused}"
    );
    assert!(read(profile_with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW")).is_ok());
    assert!(read(profile_with("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")).is_ok());
}

#[test]
fn a_filter_comes_back_as_it_was_kept() {
    let filter = Filter {
        flags: Flags {
            log: true,
            spec_allow: false,
        },
        ..Filter::usual()
    };
    let bytes = filter.to_bytes();
    assert_eq!(Filter::from_bytes(&bytes), Some(filter));
    for bad in [&bytes[..0], &bytes[..1], &bytes[..bytes.len() - 1]] {
        assert_eq!(Filter::from_bytes(bad), None);
    }
    assert_eq!(Filter::from_bytes(&[&[4], &bytes[1..]].concat()), None);
    assert!(
        Filter::usual().length() < 1024,
        "{}",
        Filter::usual().length()
    );
}

#[test]
fn capabilities_decide_as_they_are_named() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["statx"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}}]}"#;
    let chroot = Capability::parse("SYS_CHROOT").expect("a capability");
    let without = Circumstances {
        capabilities: here().capabilities.without(chroot),
        ..here()
    };
    assert_eq!(by_profile(json, &here(), "chroot", [0; 6]), Action::Allow);
    assert_eq!(
        by_profile(json, &without, "chroot", [0; 6]),
        Action::Errno(1)
    );
}
