//! What a C runtime would bring: the entry, and what the compiler calls by name.
//!
//! The memory routines are written in assembly, since a loop in Rust may be compiled into a call of the very routine that it is.
use core::arch::global_asm;

/// Makes `$start`, an `extern "C" fn(*const usize) -> !`, the place where the program begins; it is called with the stack as
/// the kernel laid it out.
#[macro_export]
macro_rules! entry {
    ($start:path) => {
        core::arch::global_asm!(
            // The kernel enters with the arguments on the stack and no return address.
            ".section .text._start,\"ax\",@progbits",
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {start}",
            "ud2",
            start = sym $start,
        );
    };
}

global_asm!(
    // The library's unwind tables name the unwinder's routine. A panic exits, so it is never called.
    ".globl rust_eh_personality",
    "rust_eh_personality:",
    "ud2",
);

global_asm!(
    ".section .text.memory,\"ax\",@progbits",
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".globl memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    // As unsigned numbers: a destination below the source gives a large difference, and goes forward too.
    "cmp r8, rdx",
    "jb 2f",
    "rep movsb",
    "ret",
    "2:",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".globl memcmp",
    ".globl bcmp",
    "memcmp:",
    "bcmp:",
    "mov rcx, rdx",
    // Clears eax and sets the zero flag, which the comparison of nothing leaves as it is.
    "xor eax, eax",
    "repe cmpsb",
    "je 3f",
    "movzx eax, byte ptr [rdi - 1]",
    "movzx ecx, byte ptr [rsi - 1]",
    "sub eax, ecx",
    "3:",
    "ret",
    ".globl strlen",
    "strlen:",
    "xor eax, eax",
    "4:",
    "cmp byte ptr [rdi + rax], 0",
    "je 5f",
    "inc rax",
    "jmp 4b",
    "5:",
    "ret",
    ".text",
);
