//! One file there or back, to measure against sftp(1):
//!
//!     transfer SSH HOST put LOCAL REMOTE
//!     transfer SSH HOST get REMOTE LOCAL
//!
//! `SSH` is a program that is called as `ssh` is.

use cocker_sftp::{Prompts, Session, Ssh};
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

/// As much as is read or written of the local file at once.
const PIECE: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ssh, host, direction, from, to] = arguments.as_slice() else {
        return Err("transfer SSH HOST put|get FROM TO".into());
    };
    let session = Session::open(&Ssh {
        program: ssh.into(),
        user: None,
        host: host.clone(),
        port: None,
        prompts: Prompts::Allowed,
        patience: Duration::from_secs(60),
    })?;
    match direction.as_str() {
        "put" => put(&session, from, to),
        "get" => get(&session, from, to),
        other => Err(format!("neither put nor get: {other}").into()),
    }
}

fn put(session: &Session, from: &str, to: &str) -> Result<(), Box<dyn Error>> {
    let handle = session.create_new(to, 0o600)?;
    let mut upload = session.upload(&handle, 0);
    copy(&mut File::open(from)?, &mut upload)?;
    upload.finish()?;
    Ok(session.close(handle)?)
}

fn get(session: &Session, from: &str, to: &str) -> Result<(), Box<dyn Error>> {
    let handle = session.read(from)?;
    let size = session
        .handle_metadata(&handle)?
        .size
        .ok_or("a file of unknown size")?;
    copy(
        &mut session.download(&handle, 0, size),
        &mut File::create(to)?,
    )?;
    Ok(session.close(handle)?)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            bytes => to.write_all(&piece[..bytes])?,
        }
    }
}
