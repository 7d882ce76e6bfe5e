//! `stats` and `top`: whose figures, and how often.

use super::meaning::{Command, OutputForm, name};
use super::said;
use crate::failure::Failure;
use cocker_engine::Name;
use std::time::Duration;

/// How long it is from one look to the next where nothing is said.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(86_400);

/// `stats`.
#[derive(Debug, PartialEq, Eq)]
pub struct Stats {
    /// None: all that are booted.
    pub containers: Vec<Name>,
    /// How long it is from one look to the next; none: one look.
    pub live: Option<Duration>,
    pub form: OutputForm,
}

pub fn stats(said: &said::Stats, form: OutputForm) -> Result<Stats, Failure> {
    let words = said.containers.iter().chain(&said.container);
    let live = match (said.live, &said.interval) {
        (false, None) => None,
        (false, Some(_)) => {
            return Err(Failure::usage(
                "`--interval` means nothing without `--live`",
            ));
        }
        (true, said) => Some(interval(said.as_deref())?),
    };
    Ok(Stats {
        containers: words.map(|word| name(word)).collect::<Result<_, _>>()?,
        live,
        form,
    })
}

pub fn top(said: &said::Top) -> Result<Command, Failure> {
    Ok(Command::Top(interval(said.interval.as_deref())?))
}

/// `1`, `0.5`.
fn interval(text: Option<&str>) -> Result<Duration, Failure> {
    let Some(text) = text else {
        return Ok(DEFAULT_INTERVAL);
    };
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|_| text.bytes().all(is_plain));
    let interval = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    interval
        .filter(|interval| (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(interval))
        .ok_or_else(|| {
            Failure::usage(format!(
                "`--interval {text}` is not a number of seconds from 0.1 to 86400"
            ))
        })
}
