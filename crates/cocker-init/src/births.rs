//! Commands that are being born: each is a process that has not executed its program yet.
//!
//! That may take for ever, and init does not wait for it: the program or the folder may lie on a file system that does not
//! answer, and whoever may signal the process may stop it. So its news comes through a pipe, which ends with the exec.
use core::mem;

use linux_raw_sys::general::{POLLIN, pollfd};

use crate::commands::{Command, MOST};
use crate::raw::{self, Descriptor, Errno, Fd};
use crate::spawn::Failure;

/// How many descriptors are always waited for.
const ALWAYS: usize = 2;

const NOTHING: pollfd = pollfd {
    fd: 0,
    events: 0,
    revents: 0,
};

/// Room for as many as there may be commands.
#[repr(C)]
pub struct Table {
    waited_for: [pollfd; ALWAYS + MOST],
    births: [Birth; MOST],
}

impl Table {
    pub const EMPTY: Self = Self {
        waited_for: [NOTHING; _],
        births: [const { Birth::NONE }; _],
    };
}

pub struct Birth {
    pub command: Command,
    /// Where its news comes from, until it has come.
    news: Option<Descriptor>,
    failure: Option<[u8; Failure::LENGTH]>,
}

impl Birth {
    const NONE: Self = Self {
        command: Command::NONE,
        news: None,
        failure: None,
    };

    /// `news` must not wait where there is none yet.
    pub fn new(command: Command, news: Descriptor) -> Self {
        Self {
            command,
            news: Some(news),
            failure: None,
        }
    }

    /// What has kept it from becoming its program; its end follows, or has come.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.map(Failure::from_bytes)
    }

    /// Takes its news; says whether it has become its program.
    fn take_news(&mut self) -> bool {
        let Some(news) = self.news.take() else {
            return false;
        };
        let mut bytes = [0; Failure::LENGTH];
        match raw::read(news.fd(), &mut bytes) {
            Ok(Failure::LENGTH) => self.failure = Some(bytes),
            Err(Errno::AGAIN | Errno::INTR) => self.news = Some(news),
            _ => return true,
        }
        false
    }
}

pub struct Births {
    table: &'static mut Table,
    count: usize,
}

impl Births {
    /// Begins with none.
    pub fn new(table: &'static mut Table) -> Self {
        Self { table, count: 0 }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The commands that are to come of them.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        let births = self.table.births[..self.count].iter();
        births.map(|birth| &birth.command)
    }

    /// Adds one; one that does not fit is forgotten, so count them before.
    pub fn insert(&mut self, birth: Birth) {
        if let Some(slot) = self.table.births.get_mut(self.count) {
            *slot = birth;
            self.count += 1;
        }
    }

    /// Waits for these descriptors and for news of each birth, with a time as poll(2) takes it. Returns which of these have
    /// something to read or are at their end; after it come those of [`Self::next_born`].
    pub fn wait(&mut self, always: [Fd; ALWAYS], timeout_ms: i32) -> [bool; ALWAYS] {
        let mut alone = [NOTHING; ALWAYS];
        let Table { waited_for, births } = &mut *self.table;
        // An idle init has nothing of the table in memory.
        let waited_for = match self.count {
            0 => &mut alone[..],
            count => &mut waited_for[..ALWAYS + count],
        };
        // A negative number is passed over.
        let news = births[..self.count]
            .iter()
            .map(|birth| birth.news.as_ref().map_or(Fd(-1), Descriptor::fd));
        for (slot, Fd(fd)) in waited_for.iter_mut().zip(always.into_iter().chain(news)) {
            *slot = pollfd {
                fd,
                events: POLLIN as i16,
                revents: 0,
            };
        }
        // An interrupted poll found nothing; the next round does.
        let _ = raw::poll(waited_for, timeout_ms);
        [0, 1].map(|index| waited_for[index].revents != 0)
    }

    /// Takes out a command that has become its program, as the last wait has shown.
    pub fn next_born(&mut self) -> Option<Command> {
        for index in 0..self.count {
            let revents = &mut self.table.waited_for[ALWAYS + index].revents;
            if mem::take(revents) != 0 && self.table.births[index].take_news() {
                return Some(self.take(index).command);
            }
        }
        None
    }

    /// Takes the one out whose process this was, with its news.
    pub fn remove(&mut self, pid: i32) -> Option<Birth> {
        let index = self.commands().position(|command| command.pid == pid)?;
        let mut birth = self.take(index);
        birth.take_news();
        Some(birth)
    }

    fn take(&mut self, index: usize) -> Birth {
        self.count -= 1;
        let Table { waited_for, births } = &mut *self.table;
        waited_for.swap(ALWAYS + index, ALWAYS + self.count);
        births.swap(index, self.count);
        mem::replace(&mut births[self.count], Birth::NONE)
    }
}
