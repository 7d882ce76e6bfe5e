//! Compiles the usual filters of system calls, so that a boot finds them ready.

// What only the crate itself uses of them is unused here.
#![allow(dead_code)]

#[path = "src/seccomp/architecture.rs"]
mod architecture;
#[path = "src/seccomp/compiler.rs"]
mod compiler;
#[path = "src/seccomp/rules.rs"]
mod rules;
#[path = "src/seccomp/table.rs"]
mod table;

use architecture::Architecture;
use rules::Rules;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let kernel = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let family = Architecture::family(&kernel);
    assert!(!family.is_empty(), "no table of system calls for {kernel}");
    let text = format!(
        "const DEFAULT: &[Instruction] = &{};\nconst HARDENING: &[Instruction] = &{};\n",
        program(&table::default_rules(family)),
        program(&table::hardening_rules(family)),
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("filters.rs"), text).expect("OUT_DIR is ours");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/seccomp");
}

/// As the source of a constant.
fn program(rules: &Rules) -> String {
    let program = compiler::compile(rules).expect("the table is no longer than a filter may be");
    let instructions = program.iter().map(|it| {
        let compiler::Instruction {
            code,
            jump_true,
            jump_false,
            value,
        } = it;
        format!("Instruction {{ code: {code}, jump_true: {jump_true}, jump_false: {jump_false}, value: {value} }}, ")
    });
    format!("[{}]", instructions.collect::<String>())
}
