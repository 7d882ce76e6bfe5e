//! A virtual machine that boots a kernel with a disk, runs one command and goes off.
//!
//! ```text
//! $COCKER_TEST_DIR/cocker-box-<pid>/      default: below /var/tmp; gone when the run ends
//! ├── debian.ext4, cocker, tests          what each new disk is a copy of, and the programs in it, stripped
//! ├── disk-<n>.ext4                       one disk, and where that is wanted
//! ├── disk-<n>.log                        all that was ever done to it
//! └── machine-<n>/                        one machine: its initramfs, what its kernel and what qemu said
//! ```
//!
//! The machine is a qemu, by KVM where that works and else by emulation, which is some ten times slower than a processor.
//! It dies with the thread that looks after it. One machine runs at a time: two would only take each other's processors.

use crate::archive::Archive;
use crate::kept;
use crate::kernel::{Kernel, output};
use crate::{inside, wire::Frame};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, process};

/// No command prints more, in bytes.
const MOST_OUTPUT: usize = 64 << 20;

/// What every command in the box finds in its environment, beside what the machine was given.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", PATH), ("HOME", "/root")];

/// With the folders of administrators' programs, which not every user has.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/box";

/// Where the machine has what is kept from run to run: the Debian that it is itself.
pub const CACHE: &str = "/box/cache";

/// What the error of a machine begins with that is on still.
pub const NOT_DONE: &str = "the machine is not done in time";

/// The folder of this run.
pub fn folder() -> PathBuf {
    let parent =
        env::var_os("COCKER_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    parent.join(format!("cocker-box-{}", process::id()))
}

/// Makes it, empty and for root alone. Those of runs that were killed go, also of one that had the same pid.
pub fn make_folder() -> Result<(), String> {
    let folder = folder();
    remove_stale(folder.parent().expect("it lies in a folder"));
    let made = fs::create_dir(&folder)
        .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)));
    made.map_err(|why| format!("cannot make {}: {why}", folder.display()))
}

fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix("cocker-box-"));
        let own = process::id().to_string();
        if pid.is_some_and(|pid| pid == own || !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes it; no machine runs any more.
pub fn clear_away() {
    let _ = fs::remove_dir_all(folder());
}

/// A disk of its own, removed when this is dropped.
pub struct Disk {
    path: PathBuf,
    /// Where every write and flush is written down in their order.
    log: Option<PathBuf>,
}

impl Disk {
    /// A disk with a Debian host, as debootstrap leaves it, and in `/box` the programs `cocker` and `tests`.
    pub fn debian() -> Result<Disk, String> {
        static BASE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let base = BASE.get_or_init(make_debian).as_ref()?;
        let path = folder().join(format!("disk-{}.ext4", next_number()));
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto"]);
        output(copy.arg(base).arg(&path))?;
        Ok(Disk { path, log: None })
    }

    /// A disk with an empty ext4 of `mib` MiB, and one MiB behind it that belongs to nobody. Everything that the machine does to
    /// it is written down as well.
    pub fn logged(mib: u32) -> Result<Disk, String> {
        let number = next_number();
        let path = folder().join(format!("disk-{number}.ext4"));
        let log = folder().join(format!("disk-{number}.log"));
        let made = File::create(&path)
            .and_then(|file| file.set_len(u64::from(mib + 1) << 20))
            .and_then(|()| File::create(&log));
        made.map_err(|why| format!("cannot make {}: {why}", path.display()))?;
        let mut make = Command::new("mke2fs");
        make.env("PATH", PATH).args(["-q", "-F", "-t", "ext4"]);
        // Nothing is left to be written by the kernel in its own time.
        make.args(["-E", "lazy_itable_init=0,lazy_journal_init=0"]);
        output(make.arg(&path).arg(format!("{mib}M")))?;
        Ok(Disk {
            path,
            log: Some(log),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    fn add_to(&self, qemu: &mut Command, number: usize) {
        let path = for_qemu(&self.path);
        // What the machine has written outlives qemu, in the host's own cache, so there is no need to wait for a disk.
        let Some(log) = &self.log else {
            let drive = format!("if=virtio,format=raw,cache=unsafe,file={path}");
            qemu.args(["-drive", &drive]);
            return;
        };
        let log = for_qemu(log);
        for node in [
            format!("driver=file,node-name=disk{number},cache.no-flush=on,filename={path}"),
            format!("driver=file,node-name=log{number},cache.no-flush=on,filename={log}"),
            format!(
                "driver=blklogwrites,node-name=logged{number},file=disk{number},log=log{number}"
            ),
        ] {
            qemu.args(["-blockdev", &node]);
        }
        // Behind all other disks on the bus: their place says what the kernel calls them.
        let device = format!(
            "virtio-blk-pci,drive=logged{number},discard=off,write-zeroes=off,addr={:#x}",
            0x10 + number
        );
        qemu.args(["-device", &device]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.log.as_ref().map(fs::remove_file);
    }
}

fn make_debian() -> Result<PathBuf, String> {
    kept::keep_debian()?;
    let (tree, disk) = (folder().join("debian"), folder().join("debian.ext4"));
    // Hard links where the cache lies on the same file system. No file of the cache is ever opened for writing here.
    let linked = output(Command::new("cp").arg("-al").arg(kept::debian()).arg(&tree));
    if linked.is_err() {
        let _ = fs::remove_dir_all(&tree);
        output(Command::new("cp").arg("-a").arg(kept::debian()).arg(&tree))?;
    }
    let programs = tree.join("box");
    let cache = tree.join(&CACHE[1..]);
    fs::create_dir_all(&cache).map_err(|why| format!("cannot make {}: {why}", cache.display()))?;
    // The same files once more, for tests on a container of them: as hard links, which mke2fs keeps.
    let name = kept::debian();
    let name = name.file_name().expect("it has a name");
    output(
        Command::new("cp")
            .arg("-al")
            .arg(kept::debian())
            .arg(cache.join(name)),
    )?;
    // But not what a host writes to in place.
    let etc = tree.join("etc");
    fs::remove_dir_all(&etc).map_err(|why| format!("cannot remove {}: {why}", etc.display()))?;
    output(
        Command::new("cp")
            .arg("-a")
            .arg(kept::debian().join("etc"))
            .arg(&tree),
    )?;
    strip(&crate::program_under_test(), &programs.join("cocker"))?;
    strip(&own_program()?, &programs.join("tests"))?;
    let mut make = Command::new("mke2fs");
    make.env("PATH", PATH);
    make.args(["-q", "-F", "-t", "ext4", "-m", "0", "-d"]);
    output(make.arg(&tree).arg(&disk).arg("3G"))?;
    let _ = fs::remove_dir_all(tree);
    Ok(disk)
}

/// Copies a program without what only a debugger reads.
fn strip(program: &Path, to: &Path) -> Result<(), String> {
    output(Command::new("strip").arg("-o").arg(to).arg(program)).map(drop)
}

fn own_program() -> Result<PathBuf, String> {
    env::current_exe().map_err(|why| format!("cannot find this program: {why}"))
}

/// A machine that is off.
pub struct Machine {
    kernel: &'static Kernel,
    disks: Vec<Disk>,
    environment: Vec<(String, String)>,
    first_process: FirstProcess,
    folder: PathBuf,
}

/// The machine's process 1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FirstProcess {
    /// The box's own, which does nothing but run the command.
    Own,
    /// The disk's systemd; the command is a unit.
    Systemd,
}

/// How a command ended in a machine that went off by itself.
pub struct Outcome {
    /// As a shell has it: 128 and the signal for a command that was killed.
    pub status: i32,
    /// Standard output and standard error as they came.
    pub output: String,
}

impl Machine {
    pub fn new(kernel: &'static Kernel) -> Machine {
        Machine {
            kernel,
            disks: Vec::new(),
            environment: Vec::new(),
            first_process: FirstProcess::Own,
            folder: folder().join(format!("machine-{}", next_number())),
        }
    }

    /// Adds a disk. The first has the root file system, and the next ones are `/dev/vdb` and so on.
    pub fn disk(mut self, disk: Disk) -> Machine {
        self.disks.push(disk);
        self
    }

    /// Sets a variable for every command.
    pub fn variable(mut self, name: &str, value: &str) -> Machine {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The disks, in their order; the machine is off.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// Lets systemd be process 1.
    pub fn with_systemd(mut self) -> Machine {
        self.first_process = FirstProcess::Systemd;
        self
    }

    /// Boots, runs a line of `sh` and waits until the machine is off; fails the test when that is not so in time.
    #[track_caller]
    pub fn boot(&mut self, command: &str, patience: Duration) -> Outcome {
        self.start(command).outcome(patience)
    }

    /// Boots to run a line of `sh`. The disks are the machine's until it is off.
    #[track_caller]
    pub fn start(&mut self, command: &str) -> Running<'_> {
        self.switch_on(command)
            .unwrap_or_else(|why| panic!("cannot start the machine: {why}"))
    }

    pub fn switch_on(&mut self, command: &str) -> Result<Running<'_>, String> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(|test| test.into_inner());
        let _ = fs::remove_dir_all(&self.folder);
        self.write_initramfs(command)
            .map_err(|why| format!("cannot write {}: {why}", self.folder.display()))?;
        let qemu = self
            .qemu()
            .map_err(|why| format!("cannot write {}: {why}", self.folder.display()))?;
        let (started, has_started) = mpsc::channel();
        let (said, frames) = mpsc::channel();
        let keeper = thread::spawn(move || keep(qemu, &started, &said));
        let qemu = has_started
            .recv()
            .expect("the keeper answers")
            .map_err(|why| format!("cannot execute qemu-system-x86_64: {why}"))?;
        Ok(Running {
            machine: self,
            qemu,
            keeper: Some(keeper),
            frames,
            output: Vec::new(),
            status: None,
            _turn: turn,
        })
    }

    fn write_initramfs(&self, command: &str) -> io::Result<()> {
        static COMMON: OnceLock<Vec<u8>> = OnceLock::new();
        fs::create_dir_all(&self.folder)?;
        let init = folder().join("init");
        if !init.exists() {
            let stripped = own_program().and_then(|program| strip(&program, &init));
            stripped.map_err(io::Error::other)?;
        }
        let init = fs::read(init)?;
        let common = COMMON.get_or_init(|| {
            let mut archive = Archive::default();
            archive.file("init", &init);
            archive.folder(&inside::ROOT[1..]);
            archive.folder(&inside::MODULES[1..]);
            for (n, (name, module)) in self.kernel.modules.iter().enumerate() {
                archive.file(&format!("{}/{n:03}-{name}", &inside::MODULES[1..]), module);
            }
            archive.into_bytes()
        });
        let mut own = Archive::default();
        own.file(&inside::COMMAND[1..], command.as_bytes());
        if self.first_process == FirstProcess::Systemd {
            own.file(&inside::SYSTEMD[1..], b"");
        }
        let common_environment = ENVIRONMENT.map(|(name, value)| (name.into(), value.into()));
        let environment: String = common_environment
            .iter()
            .chain(&self.environment)
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        own.file(&inside::ENVIRONMENT[1..], environment.as_bytes());
        let archives = [&common[..], &own.into_bytes()].concat();
        fs::write(self.folder.join("initramfs"), archives)
    }

    fn qemu(&self) -> io::Result<Command> {
        let mut qemu = qemu(Accelerator::of_this_machine(self.kernel));
        qemu.arg("-kernel").arg(&self.kernel.image);
        qemu.arg("-initrd").arg(self.folder.join("initramfs"));
        // A kernel that panics restarts at once, which is the end. What guards against spying costs an emulated machine much.
        let for_systemd = match self.first_process {
            FirstProcess::Own => "",
            // Nobody logs in, and nobody says that the line is there: that takes udev.
            FirstProcess::Systemd => "systemd.mask=serial-getty@ttyS0.service ",
        };
        let append = format!(
            "console=ttyS0 quiet panic=-1 mitigations=off {for_systemd}-- {}",
            inside::WORD
        );
        qemu.args(["-append", &append]);
        let console = for_qemu(&self.folder.join("console.log"));
        qemu.args(["-chardev", &format!("file,id=console,path={console}")]);
        qemu.args(["-serial", "chardev:console"]);
        qemu.args(["-chardev", "stdio,id=wire,signal=off"]);
        qemu.args(["-serial", "chardev:wire"]);
        qemu.args(["-device", "virtio-rng-pci"]);
        for (number, disk) in self.disks.iter().enumerate() {
            disk.add_to(&mut qemu, number);
        }
        qemu.stderr(File::create(self.folder.join("qemu.log"))?);
        Ok(qemu)
    }

    /// What the kernel and qemu said, as far as it is there.
    fn log(&self) -> String {
        let text = |name| {
            let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).replace('\r', "");
            format!("-- {name}\n{text}")
        };
        text("console.log") + &text("qemu.log")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A machine that is on; it is cut when this is dropped.
pub struct Running<'a> {
    machine: &'a Machine,
    qemu: OwnedFd,
    keeper: Option<JoinHandle<()>>,
    frames: Receiver<Frame>,
    output: Vec<u8>,
    status: Option<i32>,
    _turn: MutexGuard<'static, ()>,
}

impl Running<'_> {
    /// Waits until the command has printed `text`; fails the test when it does not in time.
    #[track_caller]
    pub fn until_prints(&mut self, text: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !String::from_utf8_lossy(&self.output).contains(text) {
            match self.next(deadline) {
                Ok(true) => {}
                Ok(false) => panic!("`{text}` was never printed, only\n{}", self.printed()),
                Err(why) => panic!("`{text}` was never printed: {why}"),
            }
        }
    }

    /// Waits until the machine is off; fails the test when that is not so in time.
    #[track_caller]
    pub fn outcome(mut self, patience: Duration) -> Outcome {
        let status = self.until_off(patience, |_| ());
        let status = status.unwrap_or_else(|why| panic!("{why}"));
        Outcome {
            status,
            output: self.printed(),
        }
    }

    /// Waits until the machine is off, and tells of every whole line that the command prints; returns the command's status.
    pub fn until_off(
        &mut self,
        patience: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<i32, String> {
        let deadline = Instant::now() + patience;
        let mut told = 0;
        loop {
            let goes_on = self.next(deadline)?;
            while let Some(length) = self.output[told..].iter().position(|byte| *byte == b'\n') {
                tell(&String::from_utf8_lossy(&self.output[told..told + length]));
                told += length + 1;
            }
            if !goes_on {
                return self.status.ok_or_else(|| {
                    self.report("the machine went off before its command had ended")
                });
            }
        }
    }

    /// Takes the power away, now: qemu is killed. The disks are as the kernel has written them.
    pub fn cut(self) {}

    /// Waits for more; false when the machine is off.
    fn next(&mut self, deadline: Instant) -> Result<bool, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.frames.recv_timeout(left) {
            Ok(Frame::Output(bytes)) => self.output.extend(bytes),
            Ok(Frame::Exit(status)) => self.status = Some(status),
            Ok(Frame::Cannot(why)) => return Err(self.report(&why)),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => {
                return Err(self.report(NOT_DONE));
            }
        }
        if self.output.len() > MOST_OUTPUT {
            return Err("the command prints more than 64 MiB".into());
        }
        Ok(true)
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Why, with all that was said.
    fn report(&self, why: &str) -> String {
        format!(
            "{why}\n-- printed\n{}\n{}",
            self.printed(),
            self.machine.log()
        )
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Of no effect on a machine that is off.
        let _ = pidfd_send_signal(&self.qemu, Signal::KILL);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Starts qemu, passes on what comes over the wire, and waits for its end. The senders go when that is there.
fn keep(mut qemu: Command, started: &Sender<io::Result<OwnedFd>>, said: &Sender<Frame>) {
    let (mut child, pidfd) = match spawn(&mut qemu) {
        Ok(spawned) => spawned,
        Err(why) => {
            let _ = started.send(Err(why));
            return;
        }
    };
    let _ = started.send(Ok(pidfd));
    let mut wire = BufReader::new(child.stdout.take().expect("it is piped"));
    loop {
        match Frame::read(&mut wire) {
            // Nobody listens to a machine that is about to be cut.
            Ok(Some(frame)) => drop(said.send(frame)),
            Ok(None) => break,
            Err(why) => {
                let _ = said.send(Frame::Cannot(format!("cannot read the wire: {why}")));
                let _ = child.kill();
                break;
            }
        }
    }
    let _ = child.wait();
}

/// The pidfd is opened before anybody waits for the child, so it is the child's.
fn spawn(qemu: &mut Command) -> io::Result<(Child, OwnedFd)> {
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(why) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(why.into())
        }
    }
}

/// Who executes the machine's instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    Emulation,
}

impl Accelerator {
    /// KVM where a kernel is booted by it to its end; not every /dev/kvm works, and one that seems to may break off midway.
    pub fn of_this_machine(kernel: &Kernel) -> Accelerator {
        static FOUND: OnceLock<Accelerator> = OnceLock::new();
        *FOUND.get_or_init(|| match boots_by_kvm(kernel) {
            true => Accelerator::Kvm,
            false => Accelerator::Emulation,
        })
    }

    /// How many times longer than on a usual machine everything may take.
    pub fn slowness(self) -> u32 {
        match self {
            Accelerator::Kvm => 2,
            Accelerator::Emulation => 15,
        }
    }
}

/// Boots the kernel without a root, for want of which it panics at the end of its own boot and restarts, and that ends qemu. One
/// that breaks off does not end, and one that takes longer is no better than emulation.
fn boots_by_kvm(kernel: &Kernel) -> bool {
    const LONG_ENOUGH: Duration = Duration::from_secs(10);
    const NO_ROOT: &str = "VFS: Unable to mount root fs";
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return false;
    }
    let mut qemu = qemu(Accelerator::Kvm);
    qemu.arg("-kernel").arg(&kernel.image);
    qemu.args(["-append", "console=ttyS0 panic=-1"]);
    qemu.args(["-serial", "stdio"]).stderr(Stdio::null());
    let Ok((mut child, _)) = spawn(&mut qemu) else {
        return false;
    };
    let mut stdout = child.stdout.take().expect("it is piped");
    let (said, console) = mpsc::channel();
    let listener = thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stdout.read_to_end(&mut bytes);
        let _ = said.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    let console = console.recv_timeout(LONG_ENOUGH);
    let _ = child.kill();
    let _ = child.wait();
    let _ = listener.join();
    console.is_ok_and(|text| text.contains(NO_ROOT))
}

/// A machine of two processors without any device. `setpriv` has it killed when the thread that starts it ends, and executes it
/// in its own place.
fn qemu(accelerator: Accelerator) -> Command {
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    match accelerator {
        Accelerator::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Emulation => qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
    };
    qemu.args(["-machine", "pc", "-smp", "2", "-m", "1G"]);
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ]);
    qemu
}

/// A path as a value of an option, where a comma is said twice.
fn for_qemu(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
