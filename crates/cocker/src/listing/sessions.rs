//! The listing of sessions.

use super::{Column, json, table as columns};
use crate::local_time::Clock;
use crate::options::ListingForm;
use cocker_engine::SessionEntry;
use serde::Serialize;

const COLUMNS: [Column; 7] = [
    ("session", 8),
    ("name", 16),
    ("who", 16),
    ("since", 19),
    ("command", 20),
    ("size", 9),
    ("lookers", 7),
];
const DASHES: usize = 101;

pub fn table(sessions: &[SessionEntry], form: ListingForm) -> String {
    let clock = Clock::local();
    match form {
        ListingForm::Table => {
            let row = |session: &SessionEntry| {
                [
                    session.number.to_string(),
                    session.name.clone().unwrap_or_else(|| "-".into()),
                    session.who.clone(),
                    clock.show(session.since),
                    session.command.clone(),
                    format!("{}x{}", session.size.columns, session.size.rows),
                    session.lookers.to_string(),
                ]
            };
            columns(&COLUMNS, DASHES, 0, sessions.iter().map(row).collect())
        }
        ListingForm::Names => sessions.iter().fold(String::new(), |numbers, session| {
            numbers + &session.number.to_string() + "\n"
        }),
        ListingForm::Json => {
            let entries = sessions.iter().map(|session| Entry::of(session, &clock));
            json(entries.collect::<Vec<_>>())
        }
    }
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct Entry<'a> {
    session: u32,
    name: Option<&'a str>,
    who: &'a str,
    since: String,
    command: &'a str,
    columns: u16,
    rows: u16,
    lookers: u32,
}

impl<'a> Entry<'a> {
    fn of(session: &'a SessionEntry, clock: &Clock) -> Entry<'a> {
        Entry {
            session: session.number,
            name: session.name.as_deref(),
            who: &session.who,
            since: clock.show_with_offset(session.since),
            command: &session.command,
            columns: session.size.columns,
            rows: session.size.rows,
            lookers: session.lookers,
        }
    }
}
