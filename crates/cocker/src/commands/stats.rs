//! `stats`: what booted containers use, once or again and again.

use crate::failure::Failure;
use crate::listing::stats::{self, Row};
use crate::options::{OutputForm, Stats};
use crate::output::{self, Reader};
use crate::rates::Rates;
use crate::{environment, terminal};
use cocker_engine::{ContainerFigures, Engine, Watched};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::isatty;
use std::io;
use std::time::{Duration, Instant};

pub fn execute(engine: &Engine, said: &Stats) -> Result<(), Failure> {
    let first = engine.figures(match &said.containers[..] {
        [] => Watched::AllBooted,
        names => Watched::Each(names),
    })?;
    let rows: Vec<Row<'_>> = first.iter().map(Row::since_boot).collect();
    match said.live {
        None => output::print(match said.form {
            OutputForm::Plain => stats::for_people(&rows),
            OutputForm::Json => stats::for_programs(&rows),
        }),
        Some(interval) => {
            let form = Form::of(said.form);
            match output::print_on(form.text(&rows))? {
                Reader::There => go_on(engine, said, interval, form, first),
                Reader::Gone => Ok(()),
            }
        }
    }
}

/// Looks again each `interval`, until nobody reads it any more or none of the named containers is booted.
fn go_on(
    engine: &Engine,
    said: &Stats,
    interval: Duration,
    form: Form,
    mut before: Vec<ContainerFigures>,
) -> Result<(), Failure> {
    let watched = match &said.containers[..] {
        [] => Watched::AllBooted,
        names => Watched::Those(names),
    };
    let mut next = Instant::now();
    loop {
        // A look that took longer than that is followed by the next one at once, and none is made up for.
        next = (next + interval).max(Instant::now());
        if wait_until(next)? == Reader::Gone {
            return Ok(());
        }
        let now = engine.figures(watched)?;
        if now.is_empty() && matches!(watched, Watched::Those(_)) {
            return Ok(());
        }
        let rows: Vec<Row<'_>> = now.iter().map(|now| row(&before, now)).collect();
        if output::print_on(form.text(&rows))? == Reader::Gone {
            return Ok(());
        }
        before = now;
    }
}

/// Over the time since the last look, or since its boot where it was booted after that.
fn row<'a>(before: &[ContainerFigures], now: &'a ContainerFigures) -> Row<'a> {
    let place = before.binary_search_by(|before| before.name.cmp(&now.name));
    let before = place.ok().map(|place| &before[place]);
    match before.filter(|before| before.pid == now.pid) {
        Some(before) => Row {
            now,
            cpu: Rates::between(before, now).cpu,
        },
        None => Row::since_boot(now),
    }
}

/// Stops early where there is nobody any more who reads stdout.
fn wait_until(moment: Instant) -> Result<Reader, Failure> {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: i64::from(u32::MAX),
            tv_nsec: 0,
        });
        let stdout = io::stdout();
        // Nothing is waited for but what is told unasked: the other end is closed.
        match poll(&mut [PollFd::new(&stdout, PollFlags::empty())], Some(&left)) {
            Ok(0) => return Ok(Reader::There),
            Ok(_) => return Ok(Reader::Gone),
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(Failure::not_done("cannot wait for the next look").caused_by(&error));
            }
        }
    }
}

/// How one look of many is printed.
#[derive(Clone, Copy)]
enum Form {
    /// An array a line.
    Json,
    /// One table after the other, an empty line between them.
    Tables,
    /// One table over the other.
    Screen,
}

impl Form {
    fn of(form: OutputForm) -> Form {
        let can_go_back = isatty(io::stdout()) && environment::terminal_type() != "dumb";
        match form {
            OutputForm::Json => Form::Json,
            OutputForm::Plain if can_go_back => Form::Screen,
            OutputForm::Plain => Form::Tables,
        }
    }

    fn text(self, rows: &[Row<'_>]) -> String {
        match self {
            Form::Json => stats::line_for_programs(rows),
            Form::Tables => stats::for_people(rows) + "\n",
            Form::Screen => {
                let size = terminal::size();
                fitted(
                    &stats::for_people(rows),
                    size.rows.into(),
                    size.columns.into(),
                )
            }
        }
    }
}

/// The table from the screen's first line on, cut to what fits: what is longer would push its own beginning away.
fn fitted(table: &str, rows: usize, columns: usize) -> String {
    /// Cursor to the first place, and nothing behind it (ECMA-48, CUP and ED).
    const FROM_THE_TOP: &str = "\x1b[H\x1b[J";
    let mut text = String::from(FROM_THE_TOP);
    // The last line is for what is not shown, and for the cursor.
    let room = rows.saturating_sub(2);
    for line in table.lines().take(room) {
        text.extend(line.chars().take(columns));
        text.push('\n');
    }
    let left = table.lines().count().saturating_sub(room);
    if left > 0 {
        let more = format!("… and {left} more: `cocker top` shows them");
        text.extend(more.chars().take(columns));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::of_test;

    #[test]
    fn a_table_is_cut_to_the_screen() {
        let table = "title\n-----\na 1\nb 2\nc 3\n";
        assert_eq!(fitted(table, 24, 80), format!("\x1b[H\x1b[J{table}"));
        let cut = fitted(table, 5, 4);
        assert_eq!(cut, "\x1b[H\x1b[Jtitl\n----\na 1\n… an\n");
        assert_eq!(fitted(table, 1, 1), "\x1b[H\x1b[J…\n");
        assert_eq!(fitted("", 24, 80), "\x1b[H\x1b[J");
    }

    #[test]
    fn a_container_that_was_booted_anew_is_no_going_on_of_the_old_one() {
        let before = [of_test("a", 10), of_test("b", 50)];
        let mut now = of_test("b", 51);
        now.taken += Duration::from_secs(2);
        assert_eq!(row(&before, &now).cpu, Some(50.0));
        now.pid += 1;
        assert_eq!(row(&before, &now).cpu, Some(50.0));
        now.started = Some(now.taken - Duration::from_secs(51));
        assert_eq!(row(&before, &now).cpu, Some(100.0));
        assert_eq!(row(&[], &of_test("c", 5)).cpu, Some(5.0));
    }
}
