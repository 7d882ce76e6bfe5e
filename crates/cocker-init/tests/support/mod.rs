//! Plays the supervisor of a real `cockerinit`: prepared descriptors, requests out, reports in.
//!
//! A shutdown signals every process that the resident can see. So it is only ever asked for in
//! [`Resident::as_process_one`], which lives in a pid namespace of its own.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cocker_protocol::{
    Groups, InitReport, InitRequest, MAX_MESSAGE, Spawn, Stage, Stream, Strings,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Longer than anything here takes; reached only where something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const PATH: &[u8] = b"PATH=/usr/sbin:/usr/bin:/sbin:/bin\0";

/// A resident that ends with this value.
pub struct Resident {
    process: Child,
    /// The supervisor's end; `None` once the supervisor is "gone".
    socket: Option<OwnedFd>,
}

impl Resident {
    /// Starts `cockerinit first-child` without any namespace of its own: a shutdown must never be sent to it.
    pub fn as_first_child() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cockerinit"));
        command.arg("first-child");
        Self::start(command)
    }

    /// Starts `cockerinit` as process 1 of a pid namespace, with its own /proc.
    pub fn as_process_one() -> Self {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(env!("CARGO_BIN_EXE_cockerinit"));
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("a pair of sockets");
        let prepared = fcntl_dupfd_cloexec(theirs, 100).expect("a copy");
        let number = prepared.as_raw_fd();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // As the sandbox leaves them, whatever whoever started the tests ignores.
        let prepare = move || {
            cocker_sys::signal::reset_all()?;
            duplicate(number, 3)
        };
        // SAFETY: between fork and exec the closure only calls rt_sigaction and dup2, which are async-signal-safe, and the
        // source lies far above the target.
        unsafe { command.pre_exec(prepare) };
        let process = command.spawn().expect("the resident starts");
        let resident = Self {
            process,
            socket: Some(ours),
        };
        assert_eq!(resident.report(), InitReport::Ready);
        resident
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("the socket is open").as_fd()
    }

    pub fn ask(&self, request: InitRequest<'_>, descriptors: &[BorrowedFd<'_>]) {
        let mut buffer = vec![0; MAX_MESSAGE];
        let length = request.encode(&mut buffer).expect("the request fits");
        self.send(&buffer[..length], descriptors);
    }

    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let parts = [IoSlice::new(bytes)];
        sendmsg(self.socket(), &parts, &mut control, SendFlags::NOSIGNAL).expect("it is sent");
    }

    /// The next report. No descriptor ever comes along.
    pub fn report(&self) -> InitReport {
        assert!(
            is_readable(self.socket(), PATIENCE),
            "the resident says nothing"
        );
        let mut buffer = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(
            self.socket(),
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("it is received");
        assert!(control.drain().next().is_none(), "a descriptor came along");
        InitReport::decode(&buffer[..received.bytes]).expect("the report is one")
    }

    /// Starts a command on pipes and returns its number inside.
    pub fn start_command(&self, id: u32, command: &Request<'_>) -> Started {
        let pipes = Pipes::new();
        self.ask(command.spawn(id), &pipes.theirs());
        match self.report() {
            InitReport::Started { id: said, pid } if said == id => Started {
                pid,
                input: pipes.input.1,
                output: pipes.output.0,
            },
            other => panic!("not started: {other:?}"),
        }
    }

    /// Starts a command in a new terminal and returns the master, which stays with whoever opened it.
    pub fn start_in_terminal(&self, id: u32, command: &Request<'_>) -> OwnedFd {
        let (master, slave) = terminal(command.size());
        self.ask(command.spawn(id), &[slave.as_fd()]);
        match self.report() {
            InitReport::Started { id: said, .. } if said == id => master,
            other => panic!("not started: {other:?}"),
        }
    }

    /// Runs a command on pipes to its end and returns its wait status and what it wrote.
    pub fn run(&self, id: u32, command: &Request<'_>) -> (i32, String) {
        let started = self.start_command(id, command);
        drop(started.input);
        let wait_status = self.exited(id);
        let mut text = String::new();
        std::fs::File::from(started.output)
            .read_to_string(&mut text)
            .expect("it writes text");
        (wait_status, text)
    }

    /// Runs a command that cannot be started and returns why.
    pub fn fail(&self, id: u32, command: &Request<'_>) -> (Stage, i32) {
        let pipes = Pipes::new();
        let theirs = pipes.theirs();
        let descriptors: &[_] = match command.stream {
            Stream::Nothing => &[],
            _ => &theirs,
        };
        self.ask(command.spawn(id), descriptors);
        match self.report() {
            InitReport::NotStarted {
                id: said,
                stage,
                errno,
            } if said == id => (stage, errno),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The wait status of a command, whose report is the next one.
    pub fn exited(&self, id: u32) -> i32 {
        match self.report() {
            InitReport::Exited {
                id: said,
                wait_status,
            } if said == id => wait_status,
            other => panic!("not the end of {id}: {other:?}"),
        }
    }

    /// Closes the supervisor's end, as its death would.
    pub fn lose_supervisor(&mut self) {
        self.socket = None;
    }

    /// Waits until the resident has ended.
    pub fn ended(&mut self) -> ExitStatus {
        assert!(self.await_end(), "the resident does not end");
        self.process.wait().expect("it is our child")
    }

    fn await_end(&self) -> bool {
        let pidfd = rustix::process::pidfd_open(
            rustix::process::Pid::from_child(&self.process),
            rustix::process::PidfdFlags::empty(),
        )
        .expect("the process is not reaped yet");
        is_readable(pidfd.as_fd(), PATIENCE)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // Without its supervisor it ends by itself, and a namespace that it is process 1 of ends with it.
        self.socket = None;
        if matches!(self.process.try_wait(), Ok(None)) {
            self.await_end();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that runs on pipes: our ends of them.
pub struct Started {
    pub pid: i32,
    pub input: OwnedFd,
    pub output: OwnedFd,
}

/// Three pipes as a client makes them; standard error goes where standard output does.
pub struct Pipes {
    pub input: (OwnedFd, OwnedFd),
    pub output: (OwnedFd, OwnedFd),
}

impl Pipes {
    pub fn new() -> Self {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        Self {
            input: pipe(),
            output: pipe(),
        }
    }

    pub fn theirs(&self) -> [BorrowedFd<'_>; 3] {
        [
            self.input.0.as_fd(),
            self.output.1.as_fd(),
            self.output.1.as_fd(),
        ]
    }
}

/// What is to be run, with everything that most tests do not care for.
pub struct Request<'a> {
    pub stream: Stream,
    pub program: &'a CStr,
    pub arguments: Vec<u8>,
    pub environment: &'a [u8],
    pub directory: &'a CStr,
    pub directory_required: bool,
    pub identity: (u32, u32),
    pub groups: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn new(program: &'a CStr, arguments: &[&str]) -> Self {
        Self {
            stream: Stream::Pipes,
            program,
            arguments: arguments
                .iter()
                .flat_map(|argument| [argument.as_bytes(), b"\0"].concat())
                .collect(),
            environment: PATH,
            directory: c"/",
            directory_required: true,
            identity: (0, 0),
            groups: &[],
        }
    }

    pub fn shell(script: &str) -> Self {
        Self::new(c"/bin/sh", &["sh", "-c", script])
    }

    /// The same in a terminal of 33 rows and 101 columns.
    pub fn in_terminal(self) -> Self {
        Self {
            stream: Stream::Terminal {
                rows: 33,
                columns: 101,
            },
            ..self
        }
    }

    fn size(&self) -> Winsize {
        let (rows, columns) = match self.stream {
            Stream::Pipes | Stream::Nothing => (0, 0),
            Stream::Terminal { rows, columns } => (rows, columns),
        };
        Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }

    pub fn spawn(&self, id: u32) -> InitRequest<'_> {
        let spawn = Spawn {
            stream: self.stream,
            uid: self.identity.0,
            gid: self.identity.1,
            groups: Groups::from_le_bytes(self.groups).expect("whole group ids"),
            program: self.program,
            arguments: Strings::from_joined(&self.arguments).expect("whole strings"),
            environment: Strings::from_joined(self.environment).expect("whole strings"),
            directory: self.directory,
            directory_required: self.directory_required,
        };
        InitRequest::Spawn { id, spawn }
    }
}

/// A new terminal as the supervisor opens one: its master, and the side for the command.
pub fn terminal(size: Winsize) -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("a terminal");
    unlockpt(&master).expect("its own lock");
    tcsetwinsize(&master, size).expect("any size");
    let slave = ioctl_tiocgptpeer(&master, flags).expect("its other side");
    (master, slave)
}

/// Waits until there is something to read, or the other end is gone.
pub fn is_readable(descriptor: BorrowedFd<'_>, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll: {error}"),
        }
    }
}

fn duplicate(source: i32, target: i32) -> std::io::Result<()> {
    // SAFETY: dup2 takes numbers only, and whatever `target` was in this child, nothing uses it any more.
    match unsafe { libc::dup2(source, target) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
