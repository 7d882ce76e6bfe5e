//! The running commands: which process runs under which number of the supervisor's.
//!
//! The table is as large as it may ever get, but its used part is dense: memory beyond it is never touched, and
//! an idle init holds one page of it at most.
/// The most commands that run or are being born at the same time.
pub const MOST: usize = 4096;

/// Room for all of them.
pub type Table = [Command; MOST];

pub const fn empty_table() -> Table {
    [Command::NONE; MOST]
}

/// A command and the process that leads its session and process group.
#[derive(Clone, Copy)]
pub struct Command {
    pub pid: i32,
    pub id: u32,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pipes,
    Terminal,
    /// Nobody asks for it again, so it is in no table: its end is an orphan's.
    Detached,
}

impl Command {
    pub const NONE: Self = Self {
        pid: 0,
        id: 0,
        kind: Kind::Pipes,
    };
}

pub struct Commands {
    table: &'static mut Table,
    count: usize,
}

impl Commands {
    /// Begins with nothing running.
    pub fn new(table: &'static mut Table) -> Self {
        Self { table, count: 0 }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a command; one that does not fit is forgotten, so count them before.
    pub fn insert(&mut self, command: Command) {
        if let Some(slot) = self.table.get_mut(self.count) {
            *slot = command;
            self.count += 1;
        }
    }

    /// Takes the command out whose process this is.
    pub fn remove(&mut self, pid: i32) -> Option<Command> {
        let index = self
            .running()
            .iter()
            .position(|command| command.pid == pid)?;
        self.table[..self.count].swap(index, self.count - 1);
        self.count -= 1;
        self.table.get(self.count).copied()
    }

    pub fn running(&self) -> &[Command] {
        &self.table[..self.count]
    }
}
