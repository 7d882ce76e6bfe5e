//! `--debug`: each step on stderr with its time since the start.

use std::fmt;
use std::io;
use std::time::Instant;
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Begins to show the steps that the engine tells of.
pub fn show_steps(started: Instant) {
    tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_timer(SinceStart(started))
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
}

/// Milliseconds since the start of the process.
struct SinceStart(Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:8.3} ms", self.0.elapsed().as_secs_f64() * 1000.0)
    }
}
