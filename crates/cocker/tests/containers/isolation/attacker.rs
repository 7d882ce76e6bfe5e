//! Asks the kernel for what is said, in a way that no C library would: by number, by any of the machine's three
//! interfaces, with any argument. It is compiled by itself (see `program.rs`) and runs in containers.
//!
//! ```text
//! attacker 64|32|x32 NUMBER [ARGUMENT…]     one system call; prints what it answers
//! attacker open r|w PATH…                   prints each PATH that can be opened
//! attacker capabilities                     prints the sets of this process
//! attacker scan                             prints all that is open, see `scan.rs`
//! ```
//!
//! An ARGUMENT is a number, `s:TEXT` for the address of a text, or `b:LENGTH` for that of so many zero bytes; both lie
//! below 4 GiB, where 32-bit calls find them.

mod scan;

use std::arch::asm;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [interface @ ("64" | "32" | "x32"), number, ref arguments @ ..] => {
            let mut memory = Memory::new();
            let arguments: Vec<usize> = arguments.iter().map(|text| memory.argument(text)).collect();
            let number: usize = number.parse().expect("a number");
            println!("{}", call(interface, number, &arguments));
        }
        ["open", way, ref paths @ ..] => {
            let options = || {
                let mut options = std::fs::File::options();
                options.read(way == "r").write(way == "w").to_owned()
            };
            let opened = paths.iter().filter(|path| options().open(path).is_ok());
            opened.for_each(|path| println!("{path}"));
        }
        ["capabilities"] => {
            let status = std::fs::read_to_string("/proc/self/status").expect("it is ours");
            let sets = status.lines().filter(|line| line.starts_with("Cap"));
            sets.for_each(|line| println!("{line}"));
        }
        ["scan"] => scan::everything(),
        _ => {
            eprintln!("how is said in the source");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// What the kernel answers: a number from 0 on, or a negative errno.
fn call(interface: &str, number: usize, arguments: &[usize]) -> isize {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    match interface {
        "32" => call_32(number, all),
        "x32" => call_64(number | 0x4000_0000, all),
        _ => call_64(number, all),
    }
}

fn call_64(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: nothing of Rust's is behind the addresses that a test says; whatever the kernel does to this process, it is
    // what the test wants to see.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _);
    }
    answer
}

/// As a program of i386 does; the answer is a number of 32 bits.
fn call_32(number: usize, [a, b, c, d, e, _]: [usize; 6]) -> isize {
    let answer: usize;
    // SAFETY: as above; rbx is put back, since the compiler keeps it for itself.
    unsafe {
        asm!("xchg rbx, {a}", "int 0x80", "xchg rbx, {a}", a = inout(reg) a => _,
            inlateout("rax") number => answer, in("rcx") b, in("rdx") c, in("rsi") d, in("rdi") e,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    answer as u32 as i32 as isize
}

/// A page below 4 GiB for what addresses are of.
struct Memory {
    next: usize,
}

impl Memory {
    fn new() -> Memory {
        const READ_WRITE: usize = 3;
        const PRIVATE_ANONYMOUS_32BIT: usize = 0x2 | 0x20 | 0x40;
        const MMAP: usize = 9;
        let page = call_64(MMAP, [0, 65536, READ_WRITE, PRIVATE_ANONYMOUS_32BIT, usize::MAX, 0]);
        assert!(page > 0, "no memory");
        Memory { next: page as usize }
    }

    fn argument(&mut self, text: &str) -> usize {
        match text.split_once(':') {
            Some(("s", text)) => {
                let place = self.take(text.len() + 1);
                // SAFETY: the page is ours alone, zeroed, and has room for the text.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), place as *mut u8, text.len()) };
                place
            }
            Some(("b", length)) => self.take(length.parse().expect("a length")),
            _ => text.parse::<i64>().expect("a number") as usize,
        }
    }

    fn take(&mut self, length: usize) -> usize {
        let place = self.next;
        self.next += length.next_multiple_of(16);
        place
    }
}
