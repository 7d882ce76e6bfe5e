//! A client of SFTP version 3 (draft-ietf-secsh-filexfer-02), through the user's own `ssh`.
//!
//! ```text
//!  Session ── requests ──▶ to   ─┐
//!     ▲                          ├─ ssh ══ network ══ sshd ── sftp-server
//!     └────── replies ─── from  ─┤
//!     words ◀─────────── stderr ─┘
//! ```
//!
//! A [`Session`] sends requests and finds replies by their ids, so [`Upload`] and [`Download`] keep many in flight. There is no
//! thread: whoever waits turns one loop of poll(2) over the three streams. Extensions of OpenSSH are used where the server
//! names them, and none is needed.
//!
//! The server is not trusted. A packet is at most 257 KiB, a number in it reserves no memory, and a reply that nobody asked for
//! ends the session. This crate knows nothing of images, and prints nothing.
//!
//! The process is to ignore SIGPIPE, as Rust's runtime has it: a server that goes away is then an error.
#![forbid(unsafe_code)]

mod connection;
mod download;
mod error;
mod metadata;
mod session;
mod ssh;
mod upload;
mod wire;
mod words;

pub use download::Download;
pub use error::{ConnectCause, ConnectError, ConnectErrorKind, SftpError, SftpErrorKind};
pub use metadata::{Entry, Kind, Metadata};
pub use session::{Handle, Session};
pub use ssh::{Prompts, Ssh};
pub use upload::Upload;
