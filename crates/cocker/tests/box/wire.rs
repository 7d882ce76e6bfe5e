//! What the machine says on its second serial line: what the command prints, and how it ended.
//!
//! ```text
//! output <length>\n<bytes>     as they come, standard output and standard error together
//! exit <status>\n              the last: as a shell has it, 128 and the signal for a command that was killed
//! cannot <length>\n<text>      the last: why there was no command
//! ```
//!
//! Lengths and statuses are decimal. The line is raw, so every byte arrives as it was printed.

use std::io::{self, BufRead, Read, Write};

/// No frame holds more bytes.
pub const LONGEST: usize = 16 * 1024;

/// Nor has any a longer first line.
const LONGEST_HEAD: usize = 32;

pub enum Frame {
    Output(Vec<u8>),
    Exit(i32),
    Cannot(String),
}

impl Frame {
    pub fn write(&self, line: &mut impl Write) -> io::Result<()> {
        let bytes = match self {
            Frame::Output(bytes) => {
                [format!("output {}\n", bytes.len()).as_bytes(), bytes].concat()
            }
            Frame::Exit(status) => format!("exit {status}\n").into_bytes(),
            Frame::Cannot(why) => format!("cannot {}\n{why}", why.len()).into_bytes(),
        };
        line.write_all(&bytes)
    }

    /// Waits for the next frame; `None` at the end of the line, also within a frame: then the machine's power was cut.
    pub fn read(line: &mut impl BufRead) -> io::Result<Option<Frame>> {
        let mut head = String::new();
        line.by_ref()
            .take(LONGEST_HEAD as u64)
            .read_line(&mut head)?;
        if !head.ends_with('\n') && head.len() < LONGEST_HEAD {
            return Ok(None);
        }
        let wrong = || io::Error::other(format!("no frame begins with {head:?}"));
        let (kind, number) = head.trim_end().split_once(' ').ok_or_else(wrong)?;
        let mut bytes = || {
            let length: usize = number.parse().map_err(|_| wrong())?;
            if length > LONGEST {
                return Err(wrong());
            }
            let mut bytes = Vec::with_capacity(length);
            line.by_ref().take(length as u64).read_to_end(&mut bytes)?;
            Ok((bytes.len() == length).then_some(bytes))
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match kind {
            "output" => Ok(bytes()?.map(Frame::Output)),
            "exit" => Ok(Some(Frame::Exit(number.parse().map_err(|_| wrong())?))),
            "cannot" => Ok(bytes()?.map(text).map(Frame::Cannot)),
            _ => Err(wrong()),
        }
    }
}
