//! Signals to this process as a readable descriptor, so that a poll loop can wait for them beside its streams.
//!
//! No thread: the handlers write to a socket of this process.

use crate::failure::Failure;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The taken signals that have not been looked at yet.
pub struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Takes the given signals from here on, but for those that our parent had ignored: `nohup` means it.
    pub fn take(signals: &[i32]) -> Result<Signals, Failure> {
        let wanted = not_ignored(signals);
        let taken = UnixStream::pair()
            .and_then(|(read, write)| SignalDelivery::with_pipe(read, write, SignalOnly, wanted));
        match taken {
            Ok(delivery) => Ok(Signals(delivery)),
            Err(error) => Err(Failure::not_done("cannot wait for signals").caused_by(&error)),
        }
    }

    /// The signals that came since the last call, each once.
    pub fn arrived(&mut self) -> impl Iterator<Item = i32> + use<> {
        self.0.pending()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// Those of the given signals that our parent had not ignored.
pub fn not_ignored(signals: &[i32]) -> impl Iterator<Item = i32> {
    let ignored = ignored_from_the_start();
    let signals = signals.iter().copied();
    signals.filter(move |signal| ignored & (1 << (signal - 1)) == 0)
}

/// Whether the signal asks a process to end.
pub fn asks_to_end(signal: i32) -> bool {
    matches!(signal, SIGINT | SIGTERM | SIGHUP | SIGQUIT)
}

/// The exit code of a process that ended for `signal`.
pub fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// One bit a signal, the lowest for signal 1. Read before any handler is set.
fn ignored_from_the_start() -> u64 {
    // The kernel says no size, and all of it fits: one read.
    let mut status = Vec::with_capacity(4096);
    let read = File::open("/proc/self/status").and_then(|mut file| file.read_to_end(&mut status));
    let status = read.is_ok().then(|| String::from_utf8_lossy(&status));
    status.and_then(|status| ignored_in(&status)).unwrap_or(0)
}

/// proc_pid_status(5): a line `SigIgn:` with sixteen hexadecimal digits.
fn ignored_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_from_the_status() {
        assert_eq!(
            ignored_in("Name:\tx\nSigIgn:\t0000000000001001\n"),
            Some(0x1001)
        );
        assert_eq!(ignored_in("Name:\tx\n"), None);
    }

    #[test]
    fn a_taken_signal_makes_the_descriptor_readable() {
        let mut signals = Signals::take(&[signal_hook::consts::SIGUSR2]).unwrap();
        assert_eq!(signals.arrived().count(), 0);
        signal_hook::low_level::raise(signal_hook::consts::SIGUSR2).unwrap();
        assert_eq!(
            signals.arrived().collect::<Vec<_>>(),
            [signal_hook::consts::SIGUSR2]
        );
    }
}
