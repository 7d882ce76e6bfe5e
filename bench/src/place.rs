//! Where everything happens: namespaces of our own, a folder of our own, and programs that are waited for, but not for ever.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const INSIDE: &str = "COCKER_BENCH_INSIDE";
const PLACES: &str = "/var/tmp";
const NAME: &str = "cocker-compare-";
/// Longer than anything that is measured takes, even on a slow machine.
const PATIENCE: i64 = 120;

pub type Outcome<T> = Result<T, String>;

pub struct Place {
    pub folder: PathBuf,
    /// Name of the folder in each cgroup hierarchy.
    pub cgroup: String,
    pub cocker: PathBuf,
    pub floor: PathBuf,
    /// This mount namespace, and one in which cgroup v2 is not mounted beside v1: crun knows one at a time.
    mounts: OwnedFd,
    without_unified: OwnedFd,
}

/// Executes this program again in mount, network and process namespaces of its own, so that whatever it starts ends with it, and
/// whatever an earlier run could not clear away is gone before.
pub fn enter_own_namespaces() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    sweep();
    // The first process reaps orphans, which a shell does. unshare(1) itself takes no notice of TERM, but dies with us.
    let status = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args([
            "--propagation",
            "private",
            "--",
            "bash",
            "-c",
            "\"$0\" \"$@\"; exit $?",
        ])
        .arg(std::env::current_exe().expect("a program has a path"))
        .args(std::env::args_os().skip(1))
        .env(INSIDE, std::process::id().to_string())
        .status();
    match status {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(why) => {
            eprintln!("Error: cannot execute `setpriv`: {why}");
            std::process::exit(1);
        }
    }
}

/// Removes folders of runs that were killed: their processes ended with them.
fn sweep() {
    for entry in fs::read_dir(PLACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(Ok(pid)) = name.strip_prefix(NAME).map(str::parse::<u32>) else {
            continue;
        };
        if !fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
            remove_cgroups(&name);
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Place {
    /// What programs keep in places that no option moves goes with the namespace.
    pub fn new(cocker: &Path, floor: &Path) -> Outcome<Place> {
        // Pids inside are others; this one is nobody else's while we run.
        let name = format!(
            "{NAME}{}",
            std::env::var(INSIDE).map_err(|error| error.to_string())?
        );
        let folder = PathBuf::from(PLACES).join(&name);
        for hidden in ["/run", "/dev/shm", "/var/lib", "/var/log"] {
            let kind = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", hidden, "tmpfs", kind, None)
                .map_err(|error| format!("cannot hide {hidden}: {error}"))?;
        }
        for made in [&folder, &folder.join("home"), Path::new("/run/netns")] {
            fs::create_dir(made)
                .map_err(|error| format!("cannot make {}: {error}", made.display()))?;
        }
        fs::set_permissions(
            folder.join("home"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .map_err(|error| error.to_string())?;
        // As an installation does it: what a linker has written piece by piece lies in memory in small pieces, and each is a fault.
        let installed = |program: &Path, name: &str| {
            let copy = folder.join(name);
            fs::copy(program, &copy)
                .map(|_| copy)
                .map_err(|error| format!("cannot copy {}: {error}", program.display()))
        };
        let here = || {
            File::open("/proc/self/ns/mnt")
                .map(OwnedFd::from)
                .map_err(|error| error.to_string())
        };
        let place = Place {
            cgroup: name,
            cocker: installed(cocker, "cocker")?,
            floor: installed(floor, "floor")?,
            mounts: here()?,
            without_unified: here()?,
            folder,
        };
        place.shell(
            "ip link set lo up
             ip link add eth0 type veth peer name far
             ip addr add 10.99.0.1/24 dev eth0
             ip link set eth0 up
             ip link set far up
             ip route add default via 10.99.0.2",
        )?;
        Ok(place)
    }

    /// Another namespace as this one is now, for what is mounted by then; `run` finds its way there.
    pub fn copy_without_unified(&mut self) -> Outcome<()> {
        let script = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; echo; exec sleep 60";
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut byte = [0];
        if let Some(output) = child.stdout.as_mut() {
            io::Read::read_exact(output, &mut byte)
                .map_err(|error| format!("cannot take cgroup v2 off: {error}"))?;
        }
        let file =
            File::open(format!("/proc/{}/ns/mnt", child.id())).map_err(|error| error.to_string());
        let _ = child.kill();
        let _ = child.wait();
        self.without_unified = OwnedFd::from(file?);
        Ok(())
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// A command that asks nothing, and whose words are kept in files: a pipe would be held by what it leaves behind.
    pub fn command(&self, words: &[&str]) -> Outcome<Command> {
        let (program, arguments) = words.split_first().expect("a command has a word");
        let file =
            |name: &str| File::create(self.folder.join(name)).map_err(|error| error.to_string());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file("said")?)
            .stderr(file("complaints")?)
            .env("COCKER_HOME", self.folder.join("home"))
            .env("COCKER_CGROUP", &self.cgroup)
            .env_remove(INSIDE);
        Ok(command)
    }

    /// Runs a command to its end; how long that took, in milliseconds.
    pub fn run(&self, words: &[&str]) -> Outcome<f64> {
        let mut command = self.command(words)?;
        let begun = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| format!("{}: {error}", words[0]))?;
        let status = wait(child)?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        if status {
            return Ok(took);
        }
        Err(self.complaint(words))
    }

    /// The last thing that a command complained of.
    pub fn complaint(&self, words: &[&str]) -> String {
        let complaints = fs::read_to_string(self.folder.join("complaints")).unwrap_or_default();
        let last = complaints
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it failed without a word");
        let last: String = last.chars().take(300).collect();
        let program = words[0].rsplit('/').next().unwrap_or(words[0]);
        format!(
            "{program}: {}",
            last.replace('|', "\\|")
                .replace(&*self.folder.to_string_lossy(), "…")
        )
    }

    /// What the last command printed.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("said"))
            .unwrap_or_default()
            .trim()
            .to_string()
    }

    pub fn shell(&self, script: &str) -> Outcome<()> {
        self.run(&["sh", "-euc", script]).map(drop)
    }

    /// Does something where cgroup v2 is not mounted, if it is not the only one.
    pub fn aside<T>(&self, what: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let go = |to: &OwnedFd| {
            move_into_link_name_space(to.as_fd(), Some(LinkNameSpaceType::Mount))
                .map_err(|error| format!("cannot change namespaces: {error}"))
        };
        go(&self.without_unified)?;
        let outcome = what();
        go(&self.mounts)?;
        outcome
    }

    /// Removes what is left, whatever it is: processes in our cgroup, its folders, the data.
    pub fn clear_away(&self) {
        for procs in cgroup_folders(&self.cgroup)
            .iter()
            .flat_map(|folder| below(folder))
            .map(|folder| folder.join("cgroup.procs"))
        {
            for pid in fs::read_to_string(procs)
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.parse().ok())
            {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
        let begun = Instant::now();
        while !remove_cgroups(&self.cgroup) && begun.elapsed() < Duration::from_secs(5) {
            rest();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for target in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(4))
        {
            if Path::new(target).starts_with(&self.folder) {
                let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("Warning: {} is left: {error}", self.folder.display());
        }
    }
}

/// In every hierarchy, the folder of that name.
fn cgroup_folders(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    hierarchies
        .chain([top.to_path_buf()])
        .map(|path| path.join(name))
        .filter(|path| path.is_dir())
        .collect()
}

/// Whether they are gone.
fn remove_cgroups(name: &str) -> bool {
    for folder in cgroup_folders(name).iter().flat_map(|folder| below(folder)) {
        let _ = fs::remove_dir(folder);
    }
    cgroup_folders(name).is_empty()
}

/// A folder and those below it, the deepest first.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| below(&entry.path()))
        .collect();
    all.push(folder.to_path_buf());
    all
}

/// Whether it succeeded. One that does not end is ended.
pub fn wait(mut child: Child) -> Outcome<bool> {
    let pid = Pid::from_child(&child);
    let pidfd =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("pidfd_open: {error}"))?;
    let patience = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)) == Ok(0) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it did not end within {PATIENCE} s"));
    }
    child
        .wait()
        .map(|status| status.success())
        .map_err(|error| error.to_string())
}

/// Between samples: what the kernel still frees of the last one (grace periods of RCU) is not the next one's.
pub fn rest() {
    std::thread::sleep(Duration::from_millis(25));
}
