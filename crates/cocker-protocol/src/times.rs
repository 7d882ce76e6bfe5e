//! The times of a log: when what a container wrote to its console was written, as the supervisor keeps it beside the log
//! and `cocker logs` reads it.
//!
//! ```text
//!   0        8          16       24           32
//!   ├ MARK ──┼ inode ───┼ offset ┼ time in ms ┼ offset ┼ time in ms ┼ …        (u64, little endian)
//!   └ of the log that it tells of ┘
//! ```
//!
//! A record says that the log was `offset` bytes long at that time, in milliseconds since the epoch: what follows there
//! was written then, or within the second after. The log is named by its inode and not by its name: both files are
//! renamed, one after the other, and whoever looks in between takes the times of no other log for those of this one.

/// The first eight bytes.
const MARK: u64 = u64::from_le_bytes(*b"ckrtimes");

/// The bytes of the head, and of each record.
pub const RECORD: usize = 16;

/// A later record is made this much later, in milliseconds.
pub const RESOLUTION_MS: u64 = 1000;

/// The head of the times of the log with this inode.
pub fn times_head(inode: u64) -> [u8; RECORD] {
    pair(MARK, inode)
}

/// When the log was so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTime {
    /// Bytes.
    pub offset: u64,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
}

impl LogTime {
    pub fn encode(self) -> [u8; RECORD] {
        pair(self.offset, self.time_ms)
    }

    /// Any bytes are a record; whether it makes sense is for the reader to ask.
    pub fn decode(bytes: &[u8; RECORD]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        Self {
            offset: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            time_ms: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }
}

fn pair(one: u64, other: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&one.to_le_bytes());
    bytes[8..].copy_from_slice(&other.to_le_bytes());
    bytes
}
