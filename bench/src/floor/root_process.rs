//! The root process that the floor executes: a program of a few instructions, which writes one byte to descriptor 3 and then waits.
//!
//! As many bytes as cockerinit has are written and executed, so that the kernel copies and maps as much.

const SIZE: usize = 15_664;
const ADDRESS: u64 = 0x40_0000;
const HEADERS: usize = 64 + 56;

/// An ELF file with one segment (elf(5)).
pub fn program() -> Vec<u8> {
    #[rustfmt::skip]
    let code: [u8; 31] = [
        0x6a, 0x72,                         // push 'r'
        0x48, 0x89, 0xe6,                   // mov  rsi, rsp
        0xba, 0x01, 0x00, 0x00, 0x00,       // mov  edx, 1
        0xbf, 0x03, 0x00, 0x00, 0x00,       // mov  edi, 3
        0xb8, 0x01, 0x00, 0x00, 0x00,       // mov  eax, 1      write
        0x0f, 0x05,                         // syscall
        0xb8, 0x22, 0x00, 0x00, 0x00,       // mov  eax, 34     pause
        0x0f, 0x05,                         // syscall
        0xeb, 0xf7,                         // jmp  to the line of pause
    ];
    let mut file = Vec::with_capacity(SIZE);
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend(2u16.to_le_bytes()); // ET_EXEC
    file.extend(62u16.to_le_bytes()); // EM_X86_64
    file.extend(1u32.to_le_bytes());
    for word in [ADDRESS + HEADERS as u64, 64, 0] {
        file.extend(u64::to_le_bytes(word)); // entry, program headers, no sections
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // PT_LOAD
    file.extend(5u32.to_le_bytes()); // readable, executable
    for word in [0, ADDRESS, ADDRESS, SIZE as u64, SIZE as u64, 0x1000] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend(code);
    file.resize(SIZE, 0);
    file
}
