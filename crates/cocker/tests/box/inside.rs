//! The machine's init: from a bare kernel to the command, and off again.
//!
//! It runs as process 1 of the initramfs, with every right. The order matters: the disk's driver is a module, the console of
//! the tests is there before anything can fail, and the initramfs is left before the command, since its root cannot be
//! given to `pivot_root`.
//!
//! Where systemd is to be the machine's process 1, it executes that in its own place as soon as the disk is there, and is
//! started once more as a unit, which runs the command.

use crate::wire::{Frame, LONGEST};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{WaitOptions, WaitStatus, chroot, wait};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Among the arguments of this program where it is the machine's init. The kernel adds what it does not know itself.
pub const WORD: &str = "init-of-the-box";

/// Where the initramfs has what was sent along: modules in the order in which they are loaded, the command, and variables of its
/// environment, one a line.
pub const MODULES: &str = "/modules";
pub const COMMAND: &str = "/command";
pub const ENVIRONMENT: &str = "/environment";

/// There where systemd is to be process 1.
pub const SYSTEMD: &str = "/systemd";

/// The first argument of this program where it is the unit that runs the command.
const UNIT_WORD: &str = "unit-of-the-box";

/// The first argument of this program where it is an attacker's: it restarts the machine, or whatever the kernel takes for it.
pub const RESTART_WORD: &str = "restart-the-machine";

/// Where it finds the command and the environment.
const HANDED_ON: &str = "/run/box";

/// The unit, and what wants it.
const UNIT: &str = "/run/systemd/system/box.service";
const WANTED_BY: &str = "/run/systemd/system/multi-user.target.wants";
const UNIT_TEXT: &str = "\
[Unit]
Description=The command of the box
[Service]
ExecStart=/box/tests unit-of-the-box
";

/// Where the disk is mounted before it becomes the root.
pub const ROOT: &str = "/root";

/// The second serial line.
const WIRE: &str = "/dev/ttyS1";

/// Type, place, options. Those before the first disk are moved into it.
const BEFORE: [(&str, &str, &CStr); 3] = [
    ("devtmpfs", "/dev", c""),
    ("proc", "/proc", c""),
    ("sysfs", "/sys", c""),
];
const AFTER: [(&str, &str, &CStr); 5] = [
    RUN,
    ("cgroup2", "/sys/fs/cgroup", c""),
    ("devpts", "/dev/pts", c"gid=5,mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", c"mode=1777"),
    ("tmpfs", "/tmp", c"mode=1777"),
];
/// systemd mounts all others itself.
const RUN: (&str, &str, &CStr) = ("tmpfs", "/run", c"mode=755");

/// What the kernel does not make in a devtmpfs.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "fd/0"),
    ("/dev/stdout", "fd/1"),
    ("/dev/stderr", "fd/2"),
];

/// Whether this program is the machine's init.
pub fn is_wanted() -> bool {
    rustix::process::getpid().is_init() && std::env::args().any(|word| word == WORD)
}

/// Whether this program is the unit of a machine whose process 1 is systemd.
pub fn is_unit() -> bool {
    std::env::args()
        .nth(1)
        .is_some_and(|word| word == UNIT_WORD)
}

/// Whether this program is to restart the machine that it runs on.
pub fn is_restart() -> bool {
    std::env::args()
        .nth(1)
        .is_some_and(|word| word == RESTART_WORD)
}

/// Restarts it.
pub fn restart() -> ! {
    let restarted = reboot(RebootCommand::Restart);
    panic!("cannot restart the machine: {restarted:?}");
}

/// Runs the command, says how it ended and turns the machine off. Only for process 1.
pub fn init() -> ! {
    let mounted = BEFORE
        .iter()
        .try_for_each(|(kind, place, options)| mount_new(kind, place, options));
    turn_off(mounted.and_then(|()| serve(run_as_init)))
}

/// The same as a unit of systemd's.
pub fn unit() -> ! {
    turn_off(serve(run_as_unit))
}

fn turn_off(served: Result<(), String>) -> ! {
    if let Err(why) = served {
        eprintln!("the box: {why}");
    }
    // Nothing is lost by it, and the disk may be looked at by the next boot.
    rustix::fs::sync();
    let off = reboot(RebootCommand::PowerOff);
    panic!("cannot turn the machine off: {off:?}");
}

fn serve(run: fn(&File) -> Result<i32, String>) -> Result<(), String> {
    let wire = open_wire().map_err(|why| format!("cannot open {WIRE}: {why}"))?;
    let last = match run(&wire) {
        Ok(status) => {
            rustix::fs::sync();
            Frame::Exit(status)
        }
        Err(why) => Frame::Cannot(why),
    };
    let said = last.write(&mut &wire);
    said.and_then(|()| rustix::termios::tcdrain(&wire).map_err(Into::into))
        .map_err(|why| format!("cannot write to {WIRE}: {why}"))
}

fn run_as_init(wire: &File) -> Result<i32, String> {
    let command = text(COMMAND)?;
    let environment = text(ENVIRONMENT)?;
    let is_for_systemd = Path::new(SYSTEMD).exists();
    load_modules()?;
    change_root()?;
    if is_for_systemd {
        mount_new(RUN.0, RUN.1, RUN.2)?;
        return Err(become_systemd(&command, &environment));
    }
    for (kind, place, options) in AFTER {
        mount_new(kind, place, options)?;
    }
    for (name, target) in LINKS {
        symlink(target, name).map_err(|why| format!("cannot make {name}: {why}"))?;
    }
    rustix::system::sethostname(b"box").map_err(|why| format!("cannot name the machine: {why}"))?;
    run(&command, &environment, wire)
}

/// Returns only why that failed.
fn become_systemd(command: &str, environment: &str) -> String {
    let prepared = fs::create_dir_all(HANDED_ON)
        .and_then(|()| fs::write(format!("{HANDED_ON}{COMMAND}"), command))
        .and_then(|()| fs::write(format!("{HANDED_ON}{ENVIRONMENT}"), environment))
        .and_then(|()| fs::create_dir_all(WANTED_BY))
        .and_then(|()| fs::write(UNIT, UNIT_TEXT))
        .and_then(|()| symlink(UNIT, format!("{WANTED_BY}/box.service")));
    if let Err(why) = prepared {
        return format!("cannot write down what is for the unit: {why}");
    }
    let mut init = Command::new("/sbin/init");
    let why = init
        .env_clear()
        .env("HOME", "/")
        .env("TERM", "linux")
        .exec();
    format!("cannot execute /sbin/init: {why}")
}

fn run_as_unit(wire: &File) -> Result<i32, String> {
    let command = text(&format!("{HANDED_ON}{COMMAND}"))?;
    let environment = text(&format!("{HANDED_ON}{ENVIRONMENT}"))?;
    run(&command, &environment, wire)
}

fn run(command: &str, environment: &str, wire: &File) -> Result<i32, String> {
    let environment = environment.lines().filter_map(|line| line.split_once('='));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env_clear().envs(environment);
    shell.current_dir("/").stdin(Stdio::null());
    watch(shell, wire)
}

/// Raw: no byte is changed, and what arrives is not echoed.
fn open_wire() -> io::Result<File> {
    let wire = File::options().read(true).write(true).open(WIRE)?;
    let mut settings = tcgetattr(&wire)?;
    settings.make_raw();
    tcsetattr(&wire, OptionalActions::Now, &settings)?;
    Ok(wire)
}

/// Loads them one by one, as their names are sorted: each after those it needs.
fn load_modules() -> Result<(), String> {
    let entries = fs::read_dir(MODULES).map_err(|why| format!("cannot read {MODULES}: {why}"))?;
    let mut modules: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    for module in modules {
        let loaded =
            File::open(&module).and_then(|file| Ok(rustix::system::finit_module(file, c"", 0)?));
        loaded.map_err(|why| format!("cannot load {}: {why}", module.display()))?;
    }
    Ok(())
}

/// The first disk becomes the root of this process and of all that it starts.
fn change_root() -> Result<(), String> {
    mount("/dev/vda", ROOT, "ext4", MountFlags::empty(), None)
        .map_err(|why| format!("cannot mount /dev/vda: {why}"))?;
    for (_, place, _) in BEFORE {
        mount_move(place, format!("{ROOT}{place}"))
            .map_err(|why| format!("cannot move {place} to the disk: {why}"))?;
    }
    let moved = std::env::set_current_dir(ROOT)
        .and_then(|()| Ok(mount_move(".", "/")?))
        .and_then(|()| Ok(chroot(".")?))
        .and_then(|()| std::env::set_current_dir("/"));
    moved.map_err(|why| format!("cannot make the disk the root: {why}"))
}

fn mount_new(kind: &str, place: &str, options: &CStr) -> Result<(), String> {
    let made = match Path::new(place).is_dir() {
        true => Ok(()),
        false => fs::create_dir(place),
    };
    made.and_then(|()| Ok(mount(kind, place, kind, MountFlags::NOSUID, options)?))
        .map_err(|why| format!("cannot mount {kind} on {place}: {why}"))
}

/// Runs the command while what it prints goes over the wire; returns its status when it has ended, whatever it left behind.
fn watch(mut command: Command, wire: &File) -> Result<i32, String> {
    let cannot = |why: io::Error| format!("cannot start the command: {why}");
    let (printed, stdout) = io::pipe().map_err(cannot)?;
    let stderr = stdout.try_clone().map_err(cannot)?;
    // Closed when the command has ended; its own pipe may be held by what it left behind.
    let (ended, running) = io::pipe().map_err(cannot)?;
    rustix::io::ioctl_fionbio(&printed, true).map_err(|why| cannot(why.into()))?;
    let child = command
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(cannot)?;
    drop(command);
    thread::scope(|scope| {
        let printing = scope.spawn(|| pump(printed, ended, wire));
        let status = reap_until(child.id());
        drop(running);
        printing
            .join()
            .expect("it does not panic")
            .map_err(|why| format!("cannot pass on what the command prints: {why}"))?;
        status
    })
}

/// Waits for every process that ends, since orphans are ours, until it is this one; returns its status as a shell has it.
fn reap_until(child: u32) -> Result<i32, String> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid().unsigned_abs() == child => {
                return Ok(shell_status(status));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(format!("cannot wait for the command: {why}")),
        }
    }
}

fn shell_status(status: WaitStatus) -> i32 {
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    signal.or(status.exit_status()).unwrap_or(-1)
}

/// Sends what is printed, until the command has ended and all it printed is sent.
fn pump(mut printed: PipeReader, ended: PipeReader, mut wire: &File) -> io::Result<()> {
    let mut buffer = vec![0; LONGEST];
    loop {
        match printed.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => Frame::Output(buffer[..length].to_vec()).write(&mut wire)?,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                if has_ended(&printed, &ended)? {
                    return Ok(());
                }
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// Waits until there is more, or the command has ended; says whether it has and there is no more.
fn has_ended(printed: &PipeReader, ended: &PipeReader) -> io::Result<bool> {
    let mut events = [
        PollFd::from_borrowed_fd(printed.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
    ];
    poll(&mut events, None)?;
    Ok(events[0].revents().is_empty())
}

fn text(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|why| format!("cannot read {path}: {why}"))
}
