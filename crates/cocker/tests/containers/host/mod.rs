//! What every test stands on: a host of its own, with a `COCKER_HOME`, a cgroup folder and a cleared environment.
//!
//! ```text
//! $COCKER_TEST_DIR/cocker-test-<pid>/     default: below /var/tmp, which is a disk on most machines
//! ├── bin/cocker                          the program under test, where other users can execute it
//! ├── <n>.user/                           the home of an ordinary user
//! ├── store/                              a store with image `test`, made once
//! └── <n>/                                one test's `COCKER_HOME`: the store's layers as hard links
//! ```

pub mod kept;
mod lab;
mod leftovers;
mod network;
mod outcome;
mod peers;
mod prepared;
mod ssh;
mod terminal;
mod user;

pub use leftovers::{Process, processes};
pub use network::Place;
pub use outcome::{Outcome, Started};
pub use prepared::{Image, size_of_files};
pub use ssh::{Access, SshServer, Way, make_key};
pub use terminal::Terminal;
pub use user::{Ids, User};

use lab::Lab;
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

/// How long anything may take before a test calls it stuck; see [`here`].
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long that is on this machine: `COCKER_TEST_SLOWNESS` times as long, where that is said.
pub fn here(time: Duration) -> Duration {
    time * slowness().expect("it was looked at before the first test")
}

fn slowness() -> Result<u32, String> {
    let said = env::var("COCKER_TEST_SLOWNESS").unwrap_or_else(|_| "1".into());
    match said.parse() {
        Ok(times @ 1..=1000) => Ok(times),
        _ => Err(format!(
            "COCKER_TEST_SLOWNESS is a number from 1 to 1000, not `{said}`"
        )),
    }
}

/// What `PATH` is for every command that a test types, before the folder of `cocker` itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The host's resolvers, and what every test finds there.
const RESOLVERS: &str = "/etc/resolv.conf";
const RESOLVERS_TEXT: &str = "\
nameserver 127.0.0.53
nameserver 10.99.0.2
search lab.example
options ndots:2
";

/// What a running systemd has there.
const SYSTEMD: &str = "/run/systemd";

/// Marks that this process already is in its own namespaces.
const INSIDE: &str = "COCKER_TESTS_INSIDE";

/// Makes a trial of a test that wants a store with image `test`; its name is the module's and the function's.
macro_rules! with_image_test {
    ($($test:ident),* $(,)?) => { vec![$($crate::host::trial(module_path!(), stringify!($test), $crate::host::Stock::ImageTest, $crate::host::Network::OfAllTests, $test)),*] };
}
/// Makes a trial of a test that begins on an empty store.
macro_rules! on_an_empty_store {
    ($($test:ident),* $(,)?) => { vec![$($crate::host::trial(module_path!(), stringify!($test), $crate::host::Stock::Nothing, $crate::host::Network::OfAllTests, $test)),*] };
}
/// Makes a trial of a test that wants image `test` and a network of its own.
macro_rules! in_a_lab {
    ($($test:ident),* $(,)?) => { vec![$($crate::host::trial(module_path!(), stringify!($test), $crate::host::Stock::ImageTest, $crate::host::Network::Lab, $test)),*] };
}
pub(crate) use {in_a_lab, on_an_empty_store, with_image_test};

/// What lies in a test's store when it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    Nothing,
    ImageTest,
}

/// The network that a test's commands run in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The namespace of this process, which has nothing but loopback.
    OfAllTests,
    /// A host with a way out and somebody outside, in namespaces of their own.
    Lab,
}

/// Makes something that is kept, unless it is there.
pub type Keep = fn() -> Result<(), String>;

/// Executes this program again in mount and network namespaces of its own, unless it is there already.
///
/// Before, while the machine's network is there, it makes what is `wanted` of what is kept from run to run.
/// `unshare` makes them before our first thread, and sets every mount private, so no mount reaches the host.
pub fn enter_namespaces(wanted: &[(bool, Keep, &str)]) -> Result<(), String> {
    slowness()?;
    if env::var_os(INSIDE).is_some() {
        fs::create_dir_all(base().join("bin"))
            .map_err(|why| format!("cannot make {}: {why}", base().display()))?;
        // Loopback is up in a fresh network namespace only when someone says so.
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        if !up.is_ok_and(|status| status.success()) {
            return Err(
                "cannot bring the loopback interface up: `ip` of package iproute2 is needed".into(),
            );
        }
        lab::mount_names().map_err(|why| format!("cannot mount {}: {why}", lab::NAMES))?;
        cover_resolvers()?;
        user::cover_files()?;
        cover_systemd()?;
        let program = base().join("bin/cocker");
        fs::copy(program_under_test(), &program)
            .map_err(|why| format!("cannot copy cocker to {}: {why}", program.display()))?;
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("these tests boot containers and need root: `sudo make test`".into());
    }
    for (is_wanted, keep, what) in wanted {
        if *is_wanted && let Err(why) = keep() {
            eprintln!("The tests on {what} will fail: {why}");
        }
    }
    // In the background, or under nohup(1), whatever the tests start would ignore signals that they send.
    cocker_sys::signal::reset_all().map_err(|why| format!("cannot reset signals: {why}"))?;
    let why = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "--"])
        .arg(env::current_exe().map_err(|why| why.to_string())?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("cannot execute `unshare`: {why}"))
}

/// The program that was built with the tests, or the one that `COCKER_TEST_PROGRAM` names.
pub fn program_under_test() -> PathBuf {
    env::var_os("COCKER_TEST_PROGRAM").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_cocker")),
        PathBuf::from,
    )
}

/// Puts resolvers that are known to every test over those of the machine, in this mount namespace.
///
/// Where the machine has no such file there is nothing to put them over, and only the tests that look at them fail.
fn cover_resolvers() -> Result<(), String> {
    if !Path::new(RESOLVERS).exists() {
        return Ok(());
    }
    let cover = base().join("resolv.conf");
    fs::write(&cover, RESOLVERS_TEXT).map_err(|why| format!("{}: {why}", cover.display()))?;
    let mounted = Command::new("mount")
        .arg("--bind")
        .arg(&cover)
        .arg(RESOLVERS)
        .status();
    if mounted.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err(format!("cannot mount a file on {RESOLVERS}"))
    }
}

/// Hides a systemd of the machine's from the commands, in this mount namespace: they would ask it for units, and the tests would
/// look for their cgroups in vain. cocker on a host with systemd is tested in the box.
fn cover_systemd() -> Result<(), String> {
    if !Path::new(SYSTEMD).join("system").is_dir() {
        return Ok(());
    }
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "none", SYSTEMD])
        .status();
    if mounted.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err(format!("cannot mount a tmpfs on {SYSTEMD}"))
    }
}

/// Removes what all tests shared; says what the host still shows of them.
pub fn clear_away() -> Result<(), String> {
    let _ = Command::new("umount").arg(RESOLVERS).status();
    user::uncover_files();
    let left = leftovers::of_the_whole_run();
    prepared::clear_away();
    let _ = fs::remove_dir_all(base());
    if left.is_empty() {
        Ok(())
    } else {
        Err(left.join("\n"))
    }
}

/// Makes one trial: a fresh host, the test, and the question what is left.
pub fn trial(
    module: &'static str,
    name: &'static str,
    stock: Stock,
    network: Network,
    test: fn(&Host),
) -> Trial {
    let topic = module.split_once("::").map_or(module, |(_, topic)| topic);
    Trial::test(format!("{topic}::{name}"), move || {
        let host = Host::new(stock, network);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            test(&host);
            host.leave();
        }));
        host.clean_up();
        let removed = host.lab.as_ref().map_or(Ok(()), |lab| lab.remove());
        ran.map_err(|panic| {
            let why = panic.downcast_ref::<String>().map(String::as_str);
            why.or(panic.downcast_ref::<&str>().copied())
                .unwrap_or("panicked")
                .to_string()
        })?;
        Ok(removed?)
    })
}

/// Writes a program that the tests execute, with `mode` (chmod(1)), by a process of its own.
///
/// What a test opens for writing, a child that another test's thread has just forked has open too, and then it cannot be
/// executed (`ETXTBSY` of execve(2)).
#[track_caller]
pub fn write_program(path: &Path, mode: &str, content: &[u8]) {
    let mut install = Command::new("install");
    install.args(["-m", mode, "/dev/stdin"]).arg(path);
    let what = format!("install {}", path.display());
    Started::new(install, what)
        .feed(content)
        .outcome()
        .succeeds();
}

/// The same, of a program that is there.
#[track_caller]
pub fn copy_program(from: &Path, to: &Path, mode: &str) {
    let content = fs::read(from).expect("the program is there");
    write_program(to, mode, &content);
}

/// Waits until `holds`; fails with `what` when it does not come true.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < here(PATIENCE),
            "waited {:?} in vain until {what}",
            begun.elapsed()
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Calls `round` with ever longer times, after which it kills a command, until the command was done before its time
/// three times in a row: however busy the machine is, every moment of the command is then among them. `round` says
/// whether the command was killed.
#[track_caller]
pub fn at_every_moment(mut round: impl FnMut(Duration) -> bool) {
    const MOST: u64 = 400;
    let mut was_done = 0;
    let mut was_killed = false;
    let mut step = 0;
    for _ in 0..MOST {
        // In small steps at first; on a busy machine a command may take long.
        let was_in_time = round(Duration::from_micros(100 * step + 10 * step * step));
        was_killed |= was_in_time;
        was_done = if was_in_time { 0 } else { was_done + 1 };
        // A busy machine may wake us too late from even the shortest waits: then they are taken again.
        step = if was_killed { step + 1 } else { 0 };
        if was_killed && was_done == 3 {
            return;
        }
    }
    assert!(was_killed, "no command was ever killed");
    panic!("no command was ever done within {MOST} steps");
}

/// The folder of this run.
fn base() -> PathBuf {
    let parent =
        env::var_os("COCKER_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    parent.join(format!("cocker-test-{}", process::id()))
}

/// One test's machine, as far as cocker sees it.
pub struct Host {
    home: PathBuf,
    cgroup: String,
    lab: Option<Arc<Lab>>,
    /// Names of its containers' network namespaces, as far as they were listed.
    pins: Mutex<BTreeSet<String>>,
    other_store: OnceLock<Box<Host>>,
}

impl Host {
    fn new(stock: Stock, network: Network) -> Host {
        let n = next_number();
        let lab = (network == Network::Lab).then(|| Arc::new(Lab::new(n)));
        Host::with_store(stock, n, lab)
    }

    fn with_store(stock: Stock, n: u32, lab: Option<Arc<Lab>>) -> Host {
        let host = Host {
            home: base().join(n.to_string()),
            cgroup: format!("cocker-test-{}-{n}", process::id()),
            lab,
            pins: Mutex::default(),
            other_store: OnceLock::new(),
        };
        fs::create_dir_all(&host.home).expect("the base folder is ours");
        fs::set_permissions(&host.home, fs::Permissions::from_mode(0o700))
            .expect("the home is ours");
        if stock == Stock::ImageTest {
            prepared::link_image_test(&host.home);
        }
        host
    }

    /// A second `COCKER_HOME` with image `test` on the same machine and in the same network; made when first asked for.
    pub fn other_store(&self) -> &Host {
        self.other_store.get_or_init(|| {
            let host = Host::with_store(Stock::ImageTest, next_number(), self.lab.clone());
            Box::new(host)
        })
    }

    /// `COCKER_HOME`.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A folder for a test's own files, outside the store and gone with the test.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.home.with_extension("files").join(name);
        fs::create_dir_all(&folder).expect("the base folder is ours");
        folder
    }

    /// The program under test, where every user may execute it.
    pub fn program(&self) -> PathBuf {
        base().join("bin/cocker")
    }

    /// A program in the environment that a test's commands get: `PATH`, and where cocker's things are.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.lab {
            Some(lab) => self.command_in(&lab.namespace("host"), program),
            None => Command::new(program),
        };
        self.set_surroundings(&mut command);
        command
    }

    /// The same in another network namespace. `nsenter` executes the program in its own place, so the pid is the program's.
    fn command_in(&self, namespace: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut net = OsString::from("--net=");
        net.push(namespace);
        let mut command = Command::new("nsenter");
        command.arg(net).arg("--").arg(program);
        self.set_surroundings(&mut command);
        command
    }

    fn set_surroundings(&self, command: &mut Command) {
        command.env_clear();
        command.env("PATH", format!("{}:{PATH}", base().join("bin").display()));
        command
            .env("COCKER_HOME", &self.home)
            .env("COCKER_CGROUP", &self.cgroup);
        command.current_dir("/").stdin(Stdio::null());
    }

    /// `cocker` with the words of `line`, not yet started.
    pub fn cocker_command(&self, line: &str) -> Command {
        let mut command = self.command(self.program());
        command.args(words(line));
        command
    }

    /// Types `cocker LINE` with nothing on standard input, and waits for its end. Quotes work as in a shell.
    #[track_caller]
    pub fn cocker(&self, line: &str) -> Outcome {
        self.start(line).feed(b"").outcome()
    }

    /// Types `cocker` with these words, none of which is touched.
    #[track_caller]
    pub fn cocker_words(&self, words: &[&str]) -> Outcome {
        let mut command = self.command(self.program());
        command.args(words);
        Started::new(command, format!("{words:?}"))
            .feed(b"")
            .outcome()
    }

    /// Starts `cocker LINE` on three pipes.
    #[track_caller]
    pub fn start(&self, line: &str) -> Started {
        Started::new(self.cocker_command(line), line.to_string())
    }

    /// Starts another program of the host on three pipes, with the words of `line`.
    #[track_caller]
    pub fn start_program(&self, program: &Path, line: &str) -> Started {
        let mut command = self.command(program);
        command.args(words(line));
        Started::new(command, format!("{} {line}", program.display()))
    }

    /// Starts a command on three pipes; `line` is what it is called where it fails.
    #[track_caller]
    pub fn started(&self, command: Command, line: String) -> Started {
        Started::new(command, line)
    }

    /// Types a line into the host's shell, where `cocker` is in the `PATH`.
    #[track_caller]
    pub fn shell(&self, line: &str) -> Outcome {
        let mut command = self.command("sh");
        command.arg("-c").arg(line);
        Started::new(command, line.to_string()).feed(b"").outcome()
    }

    /// Types `cocker LINE` in a terminal of its own.
    #[track_caller]
    pub fn terminal(&self, line: &str) -> Terminal {
        self.terminal_of(line, "dumb")
    }

    /// The same at a terminal of another kind, a name of terminfo(5).
    #[track_caller]
    pub fn terminal_of(&self, line: &str, kind: &str) -> Terminal {
        let mut words = words(line);
        words.insert(0, self.program().to_string_lossy().into_owned());
        Terminal::open(self, &words, kind)
    }

    /// Types a program and its words in a dumb terminal of its own.
    #[track_caller]
    pub fn terminal_of_words(&self, words: &[&str]) -> Terminal {
        let words: Vec<String> = words.iter().map(|&word| word.into()).collect();
        Terminal::open(self, &words, "dumb")
    }

    /// Creates container `name` from image `test` and boots it.
    #[track_caller]
    pub fn booted(&self, name: &str) {
        self.cocker_words(&["create", "-m", "test", "-c", name])
            .ok();
        self.cocker_words(&["boot", name]).ok();
    }

    /// What `command` prints in booted container `name`, without the last line's end.
    #[track_caller]
    pub fn inside(&self, name: &str, command: &str) -> String {
        self.cocker_words(&["-a", "run", "-c", name, "--cmd", command])
            .succeeds()
            .stdout()
            .trim_end()
            .to_string()
    }

    /// `name version` of every image, as the listing has it.
    #[track_caller]
    pub fn images(&self) -> Vec<String> {
        let listing = self.cocker("images").succeeds().stdout();
        let words = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            words.join(" ")
        };
        listing.lines().skip(2).map(words).collect()
    }

    /// The names in a folder of the store, sorted.
    pub fn entries(&self, folder: &str) -> Vec<String> {
        entries(&self.home.join(folder))
    }

    /// How many layers the store has, needed or not.
    pub fn layers(&self) -> usize {
        self.entries("layers").len()
    }

    /// The folder with the files of an image's own layer.
    #[track_caller]
    pub fn tree_of(&self, image: &str, version: &str) -> PathBuf {
        let record = format!("images/{image}/{version}/image.json");
        let text = fs::read(self.home.join(record)).expect("the image is there");
        let record: serde_json::Value = serde_json::from_slice(&text).expect("a record is JSON");
        let layer = record["own_layer"].as_str().expect("a layer has an id");
        self.home.join("layers").join(layer).join("tree")
    }

    /// The status column of container `name`, without what it says of its isolation.
    #[track_caller]
    pub fn status(&self, name: &str) -> String {
        let listing = self.cocker("-s containers").succeeds().stdout();
        let line = listing
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no container {name} in\n{listing}"));
        line.split_whitespace()
            .rfind(|&word| word != "PRIVILEGED")
            .expect("a line of a listing has words")
            .to_string()
    }

    /// Pid of the root process of booted container `name`, as its listing says.
    #[track_caller]
    pub fn root_process(&self, name: &str) -> i32 {
        let status = self.status(name);
        let pid = status
            .strip_prefix("RUNNING(")
            .and_then(|rest| rest.strip_suffix(')'));
        pid.and_then(|pid| pid.parse().ok())
            .unwrap_or_else(|| panic!("{name} is {status}, not running"))
    }

    /// Pid of the supervisor of booted container `name`: its root process's parent.
    #[track_caller]
    pub fn supervisor(&self, name: &str) -> i32 {
        parent_of(self.root_process(name))
    }

    /// The same of one that is paused.
    #[track_caller]
    pub fn supervisor_of_paused(&self, name: &str) -> i32 {
        let status = self.status(name);
        let pid = status.strip_prefix("PAUSED(");
        let pid = pid.and_then(|rest| rest.strip_suffix(')')?.parse().ok());
        parent_of(pid.unwrap_or_else(|| panic!("{name} is {status}, not paused")))
    }

    /// Every process in this test's cgroups: those of its containers.
    pub fn contained(&self) -> Vec<Process> {
        processes()
            .into_iter()
            .filter(|process| process.is_in_cgroup(&self.cgroup))
            .collect()
    }

    /// How many cgroup folders this test's containers have, in all hierarchies.
    pub fn cgroups(&self) -> usize {
        leftovers::cgroups_of(&self.cgroup)
    }

    /// Waits until a process of that name runs in one of this test's containers; returns its pid on the host.
    #[track_caller]
    pub fn until_inside_runs(&self, name: &str) -> i32 {
        let mut pid = 0;
        eventually(&format!("`{name}` runs in a container"), || {
            let found = self
                .contained()
                .into_iter()
                .find(|process| process.name() == name);
            pid = found.map_or(0, |process| process.pid);
            pid != 0
        });
        pid
    }

    /// Waits until no process of that name runs in one of this test's containers.
    #[track_caller]
    pub fn until_inside_is_gone(&self, name: &str) {
        eventually(&format!("`{name}` is gone from the container"), || {
            !self
                .contained()
                .iter()
                // One that has ended and is not waited for by its parent has its name still, but no command line.
                .any(|process| process.name() == name && !process.command_line().is_empty())
        });
    }

    /// Starts a command and kills it when a time has passed; says whether it was killed before its end.
    #[track_caller]
    pub fn killed_after(&self, line: &str, time: Duration) -> bool {
        let moment = Instant::now() + time;
        let command = self.start(line);
        // A sleep could not be this short.
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        command.signal(rustix::process::Signal::KILL);
        command.outcome().status.code().is_none()
    }

    /// Waits until a container whose boot was broken off is booted with all that belongs to it, or stopped with nothing
    /// left; then it is shut down.
    #[track_caller]
    pub fn settles(&self, name: &str) {
        let is_booted = || self.status(name).starts_with("RUNNING(");
        // A listing calls a container stopped also while it is being booted.
        let is_stopped = || {
            self.status(name) == "STOPPED" && !self.is_locked(name) && self.contained().is_empty()
        };
        eventually("a settled container", || is_booted() || is_stopped());
        if is_booted() {
            eventually("a shutdown", || {
                let line = format!("-a shutdown -c {name} -f");
                self.cocker(&line).status.success()
            });
        }
    }

    /// Removes everything from the store and from the test's folders, and begins with image `test` alone.
    pub fn begin_anew(&self) {
        for folder in [self.home.clone(), self.home.with_extension("files")] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        prepared::link_image_test(&self.home);
    }

    /// Pid of the root process of container `name`, where it is there and booted.
    #[track_caller]
    pub fn booted_pid(&self, name: &str) -> Option<i32> {
        let standings = self.standings();
        let (_, pid) = standings.into_iter().find(|(found, _)| found == name)?;
        pid
    }

    /// Pid of a process's parent, where it runs.
    pub fn parent(&self, pid: i32) -> Option<i32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent?.trim().parse().ok()
    }

    /// Waits until every container is stopped with its supervisor gone, or booted with a root process of its own.
    #[track_caller]
    pub fn all_settle(&self) {
        eventually("all containers settle", || {
            self.standings().into_iter().all(|(name, pid)| match pid {
                // Until it is executed it is a copy of the client, whose end would be its own.
                Some(pid) => Process { pid }.name() != "cocker",
                None => !self.is_locked(&name),
            })
        });
    }

    /// Kills every container that is booted and waits until its supervisor is gone.
    #[track_caller]
    pub fn kill_all(&self) {
        for (name, pid) in self.standings() {
            if pid.is_some() {
                self.cocker_words(&["kill", &name, "-f"]).succeeds();
            }
        }
        self.all_settle();
    }

    /// The containers, with the pids of their root processes where they are booted.
    #[track_caller]
    fn standings(&self) -> Vec<(String, Option<i32>)> {
        // As a listing does it, but nothing is done for those that have died.
        let containers = self.home.join("containers");
        // A store that no command has opened yet has none.
        let names = match containers.exists() {
            true => entries(&containers),
            false => Vec::new(),
        };
        let names = names.into_iter().filter(|name| !name.starts_with('.'));
        let pid = |name: &String| {
            let record = self.home.join("containers").join(name).join("lock");
            let record = fs::read_to_string(record).unwrap_or_default();
            let word = record.split(' ').find_map(|word| word.strip_prefix("pid="));
            let is_ending = record.contains(" ending=1");
            let pid = word.and_then(|pid| pid.parse().ok());
            pid.filter(|&pid| pid != 0 && !is_ending && self.is_locked(name))
        };
        names.map(|name| (name.clone(), pid(&name))).collect()
    }

    /// Remembers the network namespace of a container that was listed; whether it is still pinned is asked when the test ends.
    pub fn note_pin(&self, name: &str) {
        if !name.is_empty() {
            let mut pins = self.pins.lock().expect("no test panics with it");
            pins.insert(name.into());
        }
    }

    /// Removes what is pinned of containers that were listed, and forgets them.
    pub fn unpin_all(&self) {
        let mut pins = self.pins.lock().unwrap_or_else(|test| test.into_inner());
        let pinned = |pin: &&String| fs::symlink_metadata(Path::new(lab::NAMES).join(pin)).is_ok();
        pins.iter().filter(pinned).for_each(|pin| lab::unpin(pin));
        pins.clear();
    }

    /// The names of all containers, as they are listed.
    #[track_caller]
    pub fn container_names(&self) -> Vec<String> {
        let containers = self.note_pins().into_iter();
        containers.map(|(name, _)| name).collect()
    }

    /// Whether a network namespace of this name was listed with one of this test's containers.
    pub fn has_been_pinned(&self, name: &str) -> bool {
        let pins = self.pins.lock().unwrap_or_else(|test| test.into_inner());
        pins.contains(name)
    }

    /// Whether the kernel knows a lock on the file by which container `name` is booted. (`/proc/locks` does not say it
    /// reliably: it is read in pieces, and a lock released in between hides another.)
    fn is_locked(&self, name: &str) -> bool {
        let lock = self.home.join("containers").join(name).join("lock");
        // A container that was destroyed meanwhile has none.
        let Ok(lock) = fs::File::open(lock) else {
            return false;
        };
        cocker_sys::lock::is_locked(&lock).expect("a lock can be asked for")
    }

    /// Puts a handmade image of one layer into the store.
    pub fn add_image(&self, name: &str, fill: impl FnOnce(&Path)) -> Image {
        prepared::add_image(&self.home, name, fill)
    }

    /// Puts an image of `count` layers into the store, the lowest ones those of image `test`.
    pub fn add_image_of_many_layers(&self, name: &str, count: usize) {
        prepared::add_image_of_many_layers(&self.home, name, count);
    }

    /// Puts image `debian` into the store: a root file system as debootstrap leaves it.
    pub fn add_image_debian(&self) {
        prepared::add_image_debian(&self.home, &kept::debian());
    }

    /// The same with `dnf`.
    pub fn add_image_debian_with_dnf(&self) {
        prepared::add_image_debian(&self.home, &kept::debian_with_dnf());
    }

    /// Removes the test's containers as a user would, and asserts that nothing is left of them.
    #[track_caller]
    fn leave(&self) {
        // The network has only things of all stores together, so it is asked when both are empty.
        let other = self.other_store.get();
        other.into_iter().for_each(|other| other.destroy_all());
        self.destroy_all();
        other.into_iter().for_each(|other| other.nothing_is_left());
        self.nothing_is_left();
    }

    #[track_caller]
    fn destroy_all(&self) {
        for (container, _) in self.note_pins() {
            self.cocker_words(&["-a", "destroy", "-h", "-c", &container])
                .ok();
        }
    }

    /// Asserts that the kernel and the store know no container of this test any more.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        // A process that was killed is still listed for the moment its parent needs to take notice.
        let deadline = Instant::now() + here(PATIENCE);
        loop {
            let left = self.what_is_left();
            if left.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind:\n{}",
                left.join("\n")
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// One line for each thing of this test that the kernel or the store knows.
    pub fn what_is_left(&self) -> Vec<String> {
        let mut left = leftovers::of_one_test(&self.home, &self.cgroup);
        left.extend(self.what_is_left_of_the_network());
        left
    }

    /// Ends and removes what the test left, whatever happened to it.
    fn clean_up(&self) {
        self.other_store
            .get()
            .into_iter()
            .for_each(|other| other.clean_up());
        leftovers::end_processes(&self.home, &self.cgroup);
        leftovers::remove_cgroups(&self.cgroup);
        let _ = fs::remove_dir_all(self.home.with_extension("files"));
        let _ = fs::remove_dir_all(&self.home);
        let pins = self.pins.lock().unwrap_or_else(|test| test.into_inner());
        for pin in pins
            .iter()
            .filter(|pin| Path::new(lab::NAMES).join(pin).exists())
        {
            lab::unpin(pin);
        }
    }
}

fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.and_then(|pid| pid.trim().parse().ok());
    parent.expect("every process has a parent")
}

/// The names in a folder, sorted.
pub fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is ours");
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.expect("the folder is ours").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A number that no other store and no other lab of this run has.
fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Splits a line into words as a shell does: at blanks, with single and double quotes around what belongs together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed in: {line}");
    words.extend(word);
    words
}
