//! A passphrase, typed at the user's terminal and shown nowhere.

use super::{is_there, raw_mode};
use crate::escape::escape;
use crate::output;
use cocker_engine::Passphrase;
use rustix::io::{read, retry_on_intr};
use rustix::stdio::stdin;
use std::path::Path;

/// Longer ones nobody types.
const LONGEST: usize = 1024;
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const KILL_LINE: u8 = 0x15;

/// Asks for the passphrase of a key; `None` where nobody can be asked, or where who was asked wants to break off.
pub fn ask(key: &Path) -> Option<Passphrase> {
    if !is_there() {
        return None;
    }
    let name = key.display().to_string();
    // First nothing is shown, then it is asked.
    let raw = raw_mode::enter().ok()?;
    output::complain(&format!("Passphrase of `{}`: ", escape(&name)));
    let typed = typed();
    drop(raw);
    output::complain("\n");
    typed.map(Passphrase::new)
}

fn typed() -> Option<Vec<u8>> {
    // All at once: what grows is copied, and leaves its old self behind.
    let mut typed = Vec::with_capacity(LONGEST);
    loop {
        let mut key = [0];
        match retry_on_intr(|| read(stdin(), &mut key)) {
            Ok(1) => {}
            _ => return None,
        }
        match key[0] {
            b'\r' | b'\n' => return Some(typed),
            INTERRUPT | END => return None,
            KILL_LINE => typed.clear(),
            key if BACKSPACE.contains(&key) => erase_character(&mut typed),
            key if typed.len() < LONGEST => typed.push(key),
            _ => {}
        }
    }
}

/// Takes the last character away, all bytes of it.
fn erase_character(typed: &mut Vec<u8>) {
    while let Some(byte) = typed.pop() {
        // What goes on with a character in UTF-8 begins with these bits.
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::erase_character;

    #[test]
    fn a_character_is_erased_whole() {
        let mut typed = "aé€".as_bytes().to_vec();
        for left in ["aé", "a", "", ""] {
            erase_character(&mut typed);
            assert_eq!(typed, left.as_bytes());
        }
    }
}
