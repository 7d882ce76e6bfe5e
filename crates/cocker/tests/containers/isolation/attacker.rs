//! Asks the kernel for what is said, in a way that no C library would: by number, by any of the machine's three
//! interfaces, with any argument. It is compiled by itself (see `program.rs`) and runs in containers.
//!
//! ```text
//! attacker 64|32|x32 NUMBER [ARGUMENT…]     one system call; prints what it answers
//! attacker open r|w PATH…                   prints each PATH that can be opened
//! attacker capabilities                     prints the sets of this process
//! attacker become WORD                      becomes the user that strtoul(3) takes the word for; prints who that is
//! attacker listen NAME | connect NAME       an abstract unix socket: makes one, or prints what came of connecting to it
//! attacker scan                             prints all that is open, see `scan.rs`
//! ```
//!
//! An ARGUMENT is a number, `s:TEXT` for the address of a text, or `b:LENGTH` for that of so many zero bytes; both lie
//! below 4 GiB, where 32-bit calls find them.

mod scan;

use std::arch::asm;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
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
        ["become", word] => println!("{}", become_user(word)),
        ["listen", name] => listen(name),
        ["connect", name] => println!("{}", connect(name)),
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

/// What programs have done who read ids as C does: no look at what is left, nor at what is too large.
fn become_user(word: &str) -> isize {
    unsafe extern "C" {
        fn strtoul(text: *const std::ffi::c_char, end: *mut *mut std::ffi::c_char, base: i32) -> u64;
    }
    const SETRESUID: usize = 117;
    const GETUID: usize = 102;
    let word = std::ffi::CString::new(word).expect("an argument");
    // SAFETY: the text ends with a zero, and nobody wants to know where the number ended.
    let id = unsafe { strtoul(word.as_ptr(), std::ptr::null_mut(), 0) } as u32 as usize;
    assert_eq!(call_64(SETRESUID, [id, id, id, 0, 0, 0]), 0, "cannot become {id}");
    call_64(GETUID, [0; 6])
}

/// Until whoever started this closes its input.
fn listen(name: &str) {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("nobody else has it");
    println!("listens");
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// 0, or a negative errno.
fn connect(name: &str) -> i32 {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    match UnixStream::connect_addr(&address) {
        Ok(_) => 0,
        Err(why) => -why.raw_os_error().expect("the kernel says it"),
    }
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
