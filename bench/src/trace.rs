//! Commands under strace(1): which calls, of how many processes, how long each.

use crate::place::{Outcome, Place, wait};
use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

pub struct Trace {
    text: String,
}

/// One call, by one process. Of a call that others interrupt in the listing, this is its end.
pub struct Call<'a> {
    pub pid: &'a str,
    /// With its arguments, as far as strace shows them.
    pub text: &'a str,
    /// Seconds; none where it did not return.
    pub took: Option<f64>,
}

/// Runs a command of cocker's, and traces whatever comes of it to its end; `then` makes it end, where it leaves a container behind.
pub fn trace(place: &Place, words: &[&str], then: impl FnOnce() -> Outcome<()>) -> Outcome<Trace> {
    let file = place.path("trace");
    let cocker = place.cocker.to_string_lossy().into_owned();
    let words = [&["strace", "-f", "-qq", "-T", "-o", &file, &cocker], words].concat();
    let mut child = place
        .command(&words)?
        .spawn()
        .map_err(|error| format!("strace: {error}"))?;
    let ended = answered(place, &mut child)?;
    let complaint = || place.complaint(&words);
    match ended {
        Some(false) => return Err(complaint()),
        Some(true) => then()?,
        None => {
            then()?;
            if !wait(child)? {
                return Err(complaint());
            }
        }
    }
    let text = fs::read(&file).map_err(|error| error.to_string())?;
    Ok(Trace {
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Waits until the command has said something: a tracer stays as long as what was left behind. Where it has ended by then, whether
/// it succeeded.
fn answered(place: &Place, child: &mut Child) -> Outcome<Option<bool>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(Some(status.success()));
        }
        if !place.said().is_empty() {
            return Ok(None);
        }
        if begun.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            return Err("strace: the command says nothing".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Trace {
    pub fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        self.text.lines().filter_map(|line| {
            let (pid, text) = line.split_once(' ')?;
            let text = text.trim_start();
            if text.starts_with("---")
                || text.starts_with("+++")
                || text.ends_with("<unfinished ...>")
            {
                return None;
            }
            let took = text
                .rsplit_once('<')
                .and_then(|(_, end)| end.strip_suffix('>')?.parse().ok());
            Some(Call { pid, text, took })
        })
    }

    pub fn processes(&self) -> usize {
        let pids: BTreeSet<&str> = self.calls().map(|call| call.pid).collect();
        pids.len()
    }

    /// Bytes of a program that the command carries inside it and writes to a file in memory of that name.
    pub fn carried(&self, name: &str) -> Option<usize> {
        let made = format!("memfd_create(\"{name}\"");
        // Each may be told in two halves, with calls of other processes in between.
        let mut lines = self.text.lines().filter_map(|line| {
            let (pid, text) = line.split_once(' ')?;
            Some((pid, text.trim_start()))
        });
        let (maker, _) = lines.find(|(_, text)| text.starts_with(&made))?;
        let (_, write) = lines.find(|(pid, text)| {
            let is_whole = text.starts_with("write(") && !text.ends_with("<unfinished ...>");
            *pid == maker && (is_whole || text.starts_with("<... write resumed>"))
        })?;
        let answer = write.rsplit_once(" = ")?.1;
        answer.split(' ').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_calls_count_once_and_signals_never() {
        let trace = Trace {
            text: "7 read(3,  <unfinished ...>\n8  close(1) = 0 <0.000010>\n7 <... read resumed>\"\", 1) = 0 <0.000258>\n\
                   7 --- SIGCHLD {} ---\n8 memfd_create(\"cockerinit\", 0) = 4 <0.1>\n8 write(4, \"\\177ELF\"..., 15664) = 15664 <0.000019>\n\
                   8 +++ exited with 0 +++\n"
                .into(),
        };
        assert_eq!(trace.calls().count(), 4);
        assert_eq!(trace.processes(), 2);
        assert_eq!(trace.calls().next().unwrap().took, Some(0.000_010));
        assert_eq!(trace.carried("cockerinit"), Some(15664));
        assert_eq!(trace.carried("cocker-supervisor"), None);
        let trace = Trace {
            text: "9 memfd_create(\"cocker-supervisor\", 0 <unfinished ...>\n8 write(2, \"g\", 1) = 1 <0.1>\n9 <... memfd_create resumed>) = 4 <0.1>\n\
                   9 write(4, \"\\177ELF\"..., 47104 <unfinished ...>\n8 write(2, \"g\", 1) = 1 <0.1>\n9 <... write resumed>) = 47104 <0.1>\n"
                .into(),
        };
        assert_eq!(trace.carried("cocker-supervisor"), Some(47104));
    }
}
