//! One command at each of its points.
//!
//! A clean run says which points there are. Then, for each of them, everything is put back as it was, the command is typed
//! again, and at that point it is killed, fails, or waits while another command goes by. Afterwards a user goes on as users
//! do: the same command once more, then others. What must hold is in [`Walk::holds`].

use super::state::{Looking, digest, left_over};
use crate::host::{Host, SshServer, Started, here};
use cocker_sys::fault::{Action, Control, Plan, Point, Side, VARIABLE};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of a step that is done many times in one command, so often it is walked; and the last time.
const TIMES: u32 = 2;

/// What a step fails with: a dying disk, and a full one.
const ERRNOS: [Errno; 2] = [Errno::IO, Errno::NOSPC];

/// How long a command that goes by may be held up by one that waits, before that is let go.
const MOMENT: Duration = Duration::from_millis(60);

/// How many failures are told.
const MOST_TOLD: usize = 12;

/// What is walked.
pub struct Scene {
    /// As it is typed; `{VOLUME}` and `{USER}` are folders of the host, and `{MOUNTED}` is the place for one with mounts.
    pub line: &'static str,
    /// What is there before it, in the store; made once.
    pub before: &'static [&'static str],
    /// What is done each time before it; as booting.
    pub each_time: &'static [&'static str],
    pub kind: Kind,
    /// Where it is two commands in one, the first of them: what that makes may be left.
    pub first: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whoever says that it failed has changed nothing, and whoever says `OK` has done it.
    Whole,
    /// It may be said to have failed though something inside has done it all: a command in a container.
    Inside,
    /// The same, in a terminal.
    Terminal,
    /// As whole, but for the places of mounts, which the first boot makes and which stay however it ends.
    First,
    /// As whole, but that what a dead one was copying counts until the next copy.
    Copying,
    /// As whole, but that it may have been remembered and not done, where it was killed in between.
    Remembering,
}

pub struct Walk<'a> {
    host: &'a Host,
    command: &'a Scene,
    server: Option<&'a SshServer>,
    control: Control,
    control_path: PathBuf,
    kept: PathBuf,
    user: PathBuf,
    volume: PathBuf,
    /// Away from the test's folders, where a mount would be something that was left.
    mounted: PathBuf,
    looking: Looking,
    before: String,
    between: String,
    after: String,
}

/// What came of a walk.
#[derive(Default)]
pub struct Walked {
    pub names: BTreeSet<String>,
    pub cases: usize,
    missed: usize,
    failures: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Prepares what is there before the command, and does it once, without a fault. `None` where the program has no points.
    #[track_caller]
    pub fn begin(
        host: &'a Host,
        command: &'a Scene,
        server: Option<&'a SshServer>,
    ) -> Option<(Walk<'a>, Vec<Point>)> {
        let control_path = host.folder("faults").join("control");
        let mut walk = Walk {
            host,
            command,
            server,
            control: Control::make(&control_path).expect("the folder is ours"),
            control_path,
            kept: host.folder("kept"),
            user: host.folder("user"),
            volume: host.folder("volume"),
            mounted: place_for_mounts(host),
            looking: Looking::default(),
            before: String::new(),
            between: String::new(),
            after: String::new(),
        };
        fs::create_dir_all(walk.volume.join("below")).expect("the folder is ours");
        for file in ["word", "below/other"] {
            fs::write(walk.volume.join(file), "the host's\n").expect("the folder is ours");
        }
        for line in command.before {
            walk.typed(line);
        }
        walk.keep();
        walk.put_back();
        walk.before = walk.look();
        walk.between = walk.before.clone();
        if let Some(first) = command.first {
            walk.typed(first);
            walk.settle();
            walk.between = walk.look();
        }
        walk.put_back();
        walk.control.begin(None);
        let outcome = walk.go();
        assert!(
            outcome.is_success(),
            "without a fault: {}\n{}",
            outcome.how,
            outcome.said
        );
        walk.settle();
        let passed = walk.control.passed();
        assert!(!walk.control.is_cut_off(), "too many points");
        walk.after = walk.look();
        let left = walk.clear();
        assert!(left.is_empty(), "without a fault: {left:?}");
        if passed.is_empty() {
            eprintln!("The program under test has no points: nothing is walked.");
            return None;
        }
        Some((walk, passed))
    }

    /// Walks all points; panics with what did not hold.
    #[track_caller]
    pub fn all(&mut self, passed: &[Point]) -> Walked {
        let checksums = digest(&self.volume);
        let mut walked = Walked::default();
        let mut times: BTreeMap<&Point, u32> = BTreeMap::new();
        for point in passed {
            *times.entry(point).or_default() += 1;
        }
        for (point, &last) in &times {
            walked.names.insert(point.name.clone());
            let some = (1..=last).filter(|&time| time <= TIMES || time == last);
            for time in some {
                for action in actions(point.side, time) {
                    let plan = Plan {
                        point: (*point).clone(),
                        time,
                        action,
                    };
                    walked.cases += 1;
                    let begun = Instant::now();
                    match self.holds(&plan) {
                        Ok(true) => {}
                        Ok(false) => walked.missed += 1,
                        Err(why) => {
                            let why = format!("{}: {why}", told(&plan));
                            eprintln!("`{}`: {why}", self.command.line);
                            walked.failures.push(why);
                        }
                    }
                    if std::env::var_os("COCKER_TEST_TOLD").is_some() {
                        eprintln!(
                            "{}: {} {:?}",
                            self.command.line,
                            told(&plan),
                            begun.elapsed()
                        );
                    }
                    if digest(&self.volume) != checksums {
                        walked
                            .failures
                            .push(format!("{}: the VOLUME changed", told(&plan)));
                    }
                }
            }
        }
        let told: Vec<&str> = walked
            .failures
            .iter()
            .map(String::as_str)
            .take(MOST_TOLD)
            .collect();
        assert!(
            walked.failures.is_empty(),
            "`{}`: {} of {} cases:\n{}",
            self.command.line,
            walked.failures.len(),
            walked.cases,
            told.join("\n")
        );
        // A point may be passed less often when things take another turn; most are passed.
        assert!(
            walked.missed * 10 <= walked.cases,
            "{} of {} cases never came about",
            walked.missed,
            walked.cases
        );
        walked
    }

    /// One case; says whether the point was passed at all.
    fn holds(&mut self, plan: &Plan) -> Result<bool, String> {
        self.put_back();
        self.control.begin(Some(plan));
        let outcome = match plan.action {
            Action::Wait => self.go_while_another_goes_by()?,
            _ => self.go(),
        };
        self.settle();
        let has_happened = self.control.has_happened();
        self.control.begin(None);
        if !has_happened && !outcome.is_success() {
            return Err(format!("it failed by itself: {}", outcome.all()));
        }
        let until = Instant::now() + here(Duration::from_secs(10));
        let (state, is_before, is_after) = loop {
            let state = self.look();
            let is_before =
                state == self.before || state == self.between || self.has_only_remembered(&state);
            let is_after = state == self.after;
            // What a client has asked for before it died may be under way. So may the death of somebody else, by which it was
            // told that it is done: that one holds its lock for a moment longer.
            let is_half = !is_before && !is_after;
            let is_early = outcome.is_success() && !is_after;
            let is_under_way = plan.action == Action::Kill && (is_half || is_early);
            if !is_under_way || Instant::now() > until {
                break (state, is_before, is_after);
            }
            self.settle();
        };
        if !is_before && !is_after {
            return Err(format!(
                "HALF: {}\n{}",
                outcome.all(),
                difference(&self.before, &state)
                    + "\n and from after it:\n"
                    + &difference(&self.after, &state)
            ));
        }
        if outcome.is_success() && !is_after {
            return Err(format!("said OK and did nothing: {}", outcome.all()));
        }
        if outcome.has_failed() {
            if outcome.code() != Some(1) && self.is_whole() {
                return Err(format!("exit status: {}", outcome.all()));
            }
            if !outcome.said.contains("Error: ") {
                return Err(format!("failed without a word: {}", outcome.all()));
            }
            let died = plan.action == Action::Kill;
            // What comes after the deed is told as that.
            let is_told = outcome.said.contains("itself is gone");
            if !is_before && self.is_whole() && !died && !is_told {
                return Err(format!(
                    "said that it failed, and did it: {}",
                    outcome.all()
                ));
            }
        }
        // A user tries again.
        let again = self.go();
        let is_done_already = again.said.contains("Error: ")
            && (is_after || {
                self.settle();
                self.look() == self.after
            });
        if !again.is_success() && !is_done_already {
            return Err(format!(
                "the same again does not work: {}\nafter {}",
                again.all(),
                outcome.all()
            ));
        }
        self.settle();
        let state = self.look();
        if state != self.after {
            return Err(format!(
                "once more, and it is not as it should be: {}\n{}",
                again.all(),
                difference(&self.after, &state)
            ));
        }
        if plan.action == Action::Kill {
            let checked = self.host.cocker("check");
            if !checked.status.success() {
                return Err(format!("check: {checked}"));
            }
        }
        let left = self.clear();
        if !left.is_empty() {
            return Err(format!(
                "LEFT: {}\nafter {}",
                left.join(", "),
                outcome.all()
            ));
        }
        Ok(has_happened)
    }

    fn is_whole(&self) -> bool {
        !matches!(self.command.kind, Kind::Inside | Kind::Terminal)
    }

    /// What a boot was told holds at the next one too, and is written before the container runs.
    fn has_only_remembered(&self, state: &str) -> bool {
        let limits = r#""limits":{"mem_limit":67108864},"#;
        self.command.kind == Kind::Remembering && state.replacen(limits, "", 1) == self.before
    }

    /// The first command waits at its point until another one, which looks for what dead ones have left, has gone by.
    fn go_while_another_goes_by(&self) -> Result<Ended, String> {
        let started = self.start();
        let begun = Instant::now();
        while !self.control.is_waited_at(Duration::from_millis(2)) {
            if started.has_ended() || begun.elapsed() > here(Duration::from_secs(10)) {
                return Ok(started.ended());
            }
        }
        let another = self.host.start("create -m test -c another").feed(b"");
        let until = Instant::now() + here(MOMENT);
        while another.is_running() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.control.let_go();
        let ended = started.ended();
        let another = another.outcome();
        if !another.status.success() {
            return Err(format!("while it waited: {another}"));
        }
        if !ended.is_success() {
            return Err(format!("another has disturbed it: {}", ended.all()));
        }
        self.host.cocker("destroy another").succeeds();
        Ok(ended)
    }

    fn start(&self) -> Running {
        let line = self.filled(self.command.line);
        if self.command.kind == Kind::Terminal {
            let line = format!(
                "{VARIABLE}={} exec cocker {line}",
                self.control_path.display()
            );
            return Running::Terminal(Box::new(self.host.terminal_of_words(&["sh", "-c", &line])));
        }
        let mut command = match self.server {
            Some(server) => server.command(self.host, &line),
            None => self.host.cocker_command(&line),
        };
        command
            .env(VARIABLE, &self.control_path)
            .current_dir(&self.user);
        Running::Piped(self.host.started(command, line).feed(b""))
    }

    fn go(&self) -> Ended {
        self.start().ended()
    }

    fn filled(&self, line: &str) -> String {
        line.replace("{VOLUME}", &self.volume.display().to_string())
            .replace("{USER}", &self.user.display().to_string())
            .replace("{MOUNTED}", &self.mounted.display().to_string())
    }

    /// Types a line that has nothing to do with faults, but that what it starts can be told of them later.
    #[track_caller]
    fn typed(&self, line: &str) {
        let line = self.filled(line);
        if let Some(script) = line.strip_prefix("! ") {
            let home = self.host.home().display();
            self.host
                .shell(&format!("cd {home} && {script}"))
                .succeeds();
            return;
        }
        let mut command = match self.server {
            Some(server) => server.command(self.host, &line),
            None => self.host.cocker_command(&line),
        };
        command
            .env(VARIABLE, &self.control_path)
            .current_dir(&self.user);
        self.host
            .started(command, line)
            .feed(b"")
            .outcome()
            .succeeds();
    }

    /// Keeps what there is now, to be put back before each case.
    fn keep(&self) {
        copy_store(self.host.home(), &self.kept.join("home"));
        copy(&self.user, &self.kept.join("user"), Sharing::Nothing);
    }

    fn put_back(&self) {
        // The store goes without a word to those who have something outside of it.
        self.host.unpin_all();
        empty(self.host.home());
        empty(&self.user);
        copy_store(&self.kept.join("home"), self.host.home());
        copy(&self.kept.join("user"), &self.user, Sharing::Nothing);
        self.control.begin(None);
        for line in self.command.each_time {
            self.typed(line);
        }
    }

    #[track_caller]
    fn look(&mut self) -> String {
        let state = self.looking.at(self.host, &self.user);
        let is_left_out = |line: &&str| match self.command.kind {
            // A shell writes down what was typed.
            Kind::Terminal | Kind::First => line.starts_with("  files"),
            // A convenience, kept when all else is done.
            _ => self.server.is_some() && line.starts_with("repository"),
        };
        let lines = state.lines().filter(|line| !is_left_out(line));
        let lines = lines.map(|line| match self.command.kind {
            Kind::Copying | Kind::First => without_size(line),
            _ => line.into(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until every container is booted with all that belongs to it, or stopped with nothing left.
    #[track_caller]
    fn settle(&self) {
        self.host.all_settle();
    }

    /// Ends and forgets all containers that are booted, and says what is left then.
    #[track_caller]
    fn clear(&mut self) -> Vec<String> {
        // Takes the lock on names, with which whatever dead ones left is swept.
        self.host.cocker("create -m test -c sweeper").succeeds();
        self.host.kill_all();
        let until = Instant::now() + here(Duration::from_secs(5));
        loop {
            let mut left = left_over(self.host, &self.user);
            // What came of a pull is kept until it is whole, and then until `prune` where its client was killed in between.
            left.retain(|line| self.server.is_none() || !line.starts_with("transfers/"));
            if left.is_empty() || Instant::now() > until {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        if self.mounted.exists() {
            let below = self.mounted.join("below");
            let _ = rustix::mount::unmount(below, rustix::mount::UnmountFlags::DETACH);
            let _ = fs::remove_dir_all(&self.mounted);
        }
    }
}

/// Of this test alone.
fn place_for_mounts(host: &Host) -> PathBuf {
    let home = host.home();
    let names = [home.parent(), Some(home)].into_iter().flatten();
    let names = names.filter_map(|folder| folder.file_name()?.to_str());
    Path::new("/run").join(names.collect::<Vec<_>>().join("-") + ".mounted")
}

fn told(plan: &Plan) -> String {
    let Plan {
        point: Point { name, side },
        time,
        action,
    } = plan;
    let action = match action {
        Action::Kill => "killed".into(),
        Action::Wait => "waiting".into(),
        Action::Fail(errno) => format!("{errno}"),
    };
    let side = match side {
        Side::Before => "before",
        Side::After => "after",
    };
    format!("{action} {side} `{name}`, time {time}")
}

/// After a step nothing fails by it, so there only death and waiting make a difference.
fn actions(side: Side, time: u32) -> Vec<Action> {
    let mut actions = vec![Action::Kill];
    match side {
        Side::Before => actions.extend(ERRNOS.map(Action::Fail)),
        Side::After if time == 1 => actions.push(Action::Wait),
        Side::After => {}
    }
    actions
}

enum Running {
    Piped(Started),
    Terminal(Box<crate::host::Terminal>),
}

/// How a command ended.
struct Ended {
    status: std::process::ExitStatus,
    how: String,
    said: String,
}

impl Running {
    fn has_ended(&self) -> bool {
        match self {
            Running::Piped(started) => !started.is_running(),
            Running::Terminal(_) => false,
        }
    }

    fn ended(self) -> Ended {
        match self {
            Running::Piped(started) => {
                let outcome = started.outcome();
                Ended {
                    status: outcome.status,
                    how: outcome.status.to_string(),
                    said: outcome.stderr,
                }
            }
            Running::Terminal(mut terminal) => {
                terminal.type_line("exit");
                let status = terminal.end();
                Ended {
                    status,
                    how: status.to_string(),
                    said: terminal.screen(),
                }
            }
        }
    }
}

impl Ended {
    fn is_success(&self) -> bool {
        self.status.success()
    }

    /// It was not killed, and says that it could not be done.
    fn has_failed(&self) -> bool {
        self.status.signal().is_none() && !self.status.success()
    }

    fn code(&self) -> Option<i32> {
        self.status.code()
    }

    fn all(&self) -> String {
        format!("{} {}", self.how, self.said.trim_end().replace('\n', " | "))
    }
}

/// A listed container, but for how much its files are.
fn without_size(line: &str) -> String {
    match line.split_once("\"size\":") {
        Some((head, rest)) => format!(
            "{head}{}",
            rest.trim_start_matches(|c: char| c.is_ascii_digit())
        ),
        None => line.into(),
    }
}

/// The lines that only one of both has.
fn difference(expected: &str, found: &str) -> String {
    let (one, other): (BTreeSet<&str>, BTreeSet<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let gone = one.difference(&other).map(|line| format!("- {line}"));
    let come = other.difference(&one).map(|line| format!("+ {line}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

/// Whether files are copied or get a second name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Nothing,
    Files,
}

/// Copies a store; the files of layers and the records of images never change, and are shared.
fn copy_store(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is ours");
    for entry in fs::read_dir(from).expect("the store is ours").flatten() {
        let name = entry.file_name();
        let sharing = match name == "layers" || name == "images" {
            true => Sharing::Files,
            false => Sharing::Nothing,
        };
        copy(&entry.path(), &to.join(name), sharing);
    }
}

fn copy(from: &Path, to: &Path, sharing: Sharing) {
    let found = fs::symlink_metadata(from).expect("nobody else is here");
    if found.is_dir() {
        fs::create_dir_all(to).expect("the folder is ours");
        lchown(to, Some(found.uid()), Some(found.gid())).expect("the folder is ours");
        fs::set_permissions(to, found.permissions()).expect("the folder is ours");
        for entry in fs::read_dir(from).expect("it is ours").flatten() {
            copy(&entry.path(), &to.join(entry.file_name()), sharing);
        }
        // They are in an image's file.
        let times = FileTimes::new().set_modified(found.modified().expect("it has one"));
        let folder = File::open(to).expect("the folder is ours");
        folder.set_times(times).expect("the folder is ours");
        return;
    }
    let copied = match sharing {
        Sharing::Files => fs::hard_link(from, to),
        Sharing::Nothing if found.is_symlink() => {
            let target = fs::read_link(from).expect("it is a link");
            std::os::unix::fs::symlink(target, to)
        }
        Sharing::Nothing => fs::copy(from, to).map(drop),
    };
    copied.unwrap_or_else(|why| panic!("{}: {why}", from.display()));
    // What has a second name is the same file, and who gives it an owner takes rights from it (chown(2)).
    if sharing == Sharing::Nothing && (found.uid(), found.gid()) != (0, 0) {
        lchown(to, Some(found.uid()), Some(found.gid())).expect("the folder is ours");
    }
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).expect("it is ours").flatten() {
        let path = entry.path();
        let removed = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

/// The names of all points that are written in the sources of the crates, and how often each is.
pub fn names_in_the_sources() -> BTreeMap<String, usize> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in `crates/`");
    let mut names = BTreeMap::new();
    let mut folders: Vec<PathBuf> = fs::read_dir(crates)
        .expect("the sources are there")
        .flatten()
        .map(|entry| entry.path().join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                add_names(&text, &mut names);
            }
        }
    }
    names
}

fn add_names(text: &str, names: &mut BTreeMap<String, usize>) {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let text = code.collect::<Vec<_>>().join("\n");
    for call in ["fault::step(", "fault::before(", "fault::after("] {
        for (at, _) in text.match_indices(call) {
            let rest = text[at + call.len()..].trim_start();
            if let Some(name) = rest
                .strip_prefix('"')
                .and_then(|rest| rest.split('"').next())
            {
                // One that is not one call has both of them.
                let is_new = call != "fault::after(";
                *names.entry(name.into()).or_default() += usize::from(is_new);
            }
        }
    }
}
