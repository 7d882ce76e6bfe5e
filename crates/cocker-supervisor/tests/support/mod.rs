//! Boots a real supervisor, over a real `cockerinit` or a test that plays one, and speaks with it as clients do.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ffi::{CStr, CString};
use std::fmt::{Debug, Formatter};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cocker_protocol::{
    Access, ClientReply, ClientRequest, Groups, InitReport, Lasting, MAX_MESSAGE, Modes, Open,
    Refusal, Spawn, Stream, Strings, Target,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind,
    connect, listen, recvmsg, sendmsg, shutdown, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process, pidfd_open, setrlimit,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

/// Longer than anything here takes; reached only where something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What stands for `cocker release`: it writes down what it was given. The shell looks at itself without a fork,
/// around which it blocks signals.
const RELEASE: &str = "echo \"$0 $1 $WORD\" > released.new
for fd in 0 1 2 3 4 5 6 7 8 9 10 11; do test -e /proc/$$/fd/$fd && echo $fd; done >> released.new
while read key value; do
    case $key in SigBlk:|SigIgn:) echo $key $value;; esac
done < /proc/$$/status >> released.new
mv released.new released
";

/// A supervisor, with everything that belongs to it; it all ends with this value.
pub struct Booted {
    pub supervisor: Child,
    pub folder: PathBuf,
    pub boot: Channel,
    /// init's end of the socket, where the test plays init.
    pub init: Option<Channel>,
    /// What is handed over with the first report. The console's slave stays open, as init keeps it.
    pub console: Console,
    plays_init: bool,
    /// What the root process says on its descriptor 3, where the test plays init.
    root: OwnedFd,
}

impl Booted {
    /// Boots a real `cockerinit` as process 1 of a pid namespace.
    pub fn with_init() -> Self {
        let init = cockerinit();
        let init = init.to_str().expect("a plain path");
        let unshare = [
            "/usr/bin/unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            init,
        ];
        let booted = Self::start(&unshare, 0, Init::Real);
        assert_eq!(booted.boot.receive(), ClientReply::Ready);
        booted.boot.closes();
        booted
    }

    /// Boots a shell as the root process, while the test plays init.
    pub fn with_played_init(root: &str, stop_signal: i32) -> Self {
        Self::start(&["/bin/sh", "-c", root], stop_signal, Init::Played)
    }

    fn start(root: &[&str], stop_signal: i32, init: Init) -> Self {
        raise_descriptors();
        let folder = new_folder();
        std::fs::write(folder.join("release"), RELEASE).expect("a file");
        let (our_boot, boot) = pair();
        let (our_init, their_init) = pair();
        let (root_output, root_says) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let read = OFlags::RDONLY | OFlags::CLOEXEC;
        let open_file =
            |path: &Path, flags| open(path, flags, Mode::from(0o600)).expect("it opens");
        let listener = seqpacket();
        let address = SocketAddrUnix::new(folder.join("control")).expect("a short path");
        bind(&listener, &address).expect("a new name");
        listen(&listener, 1024).expect("it listens");
        let lock = open_file(
            &folder.join("lock"),
            OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC,
        );
        let shell = open_file(Path::new("/bin/sh"), read);
        let directory = open_file(&folder, read | OFlags::DIRECTORY);
        let network = open_file(Path::new("/dev/null"), read);
        let console = Console::new();

        let (played, roots_third) = match init {
            Init::Real => {
                // What makes the container says this before init runs.
                report(&their_init, InitReport::Console, &console.handed_over());
                (None, their_init)
            }
            Init::Played => (Some(Channel(their_init)), root_says),
        };
        // 6 is the root process, which is made between fork and exec.
        let supervisors = [
            (lock, 3),
            (listener, 4),
            (our_init, 5),
            (boot, 7),
            (shell, 8),
            (directory, 9),
            (network, 10),
        ]
        .map(|(fd, target)| (high(fd), target));
        let roots = [(roots_third, 3)].map(|(fd, target)| (high(fd), target));
        let plan = Plan {
            supervisor: supervisors
                .each_ref()
                .map(|(fd, target)| (fd.as_raw_fd(), *target)),
            root: roots
                .each_ref()
                .map(|(fd, target)| (fd.as_raw_fd(), *target)),
            argv: root
                .iter()
                .map(|argument| CString::new(*argument).expect("no NUL"))
                .collect(),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocker-supervisor"));
        command
            .args(["container", &stop_signal.to_string()])
            .current_dir(&folder)
            .env("WORD", "kept")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // SAFETY: between fork and exec only `Plan::carry_out` runs, which makes plain system calls on what was
        // prepared before.
        unsafe { command.pre_exec(move || plan.carry_out()) };
        Self {
            supervisor: command.spawn().expect("the supervisor starts"),
            folder,
            boot: Channel(our_boot),
            console,
            plays_init: played.is_some(),
            root: root_output,
            init: played,
        }
    }

    /// Boots a shell as the root process, hands the terminals over, and is ready; the test plays init.
    pub fn ready() -> Self {
        let booted = Self::with_played_init("exec sleep 1000", 10);
        let handed_over = booted.console.handed_over();
        booted.init().report(InitReport::Console, &handed_over);
        booted.init().report(InitReport::Ready, &[]);
        assert_eq!(booted.boot.receive(), ClientReply::Ready);
        booted
    }

    pub fn connect(&self) -> Channel {
        let socket = seqpacket();
        let address = SocketAddrUnix::new(self.folder.join("control")).expect("a short path");
        connect(&socket, &address).expect("the supervisor listens");
        Channel(socket)
    }

    /// Opens a session in which a shell runs this script.
    pub fn open(&self, script: &CStr) -> Looker {
        self.open_as(c"", Lasting::Stays, SIZE, script)
    }

    pub fn open_as(
        &self,
        name: &CStr,
        lasting: Lasting,
        size: (u16, u16),
        script: &CStr,
    ) -> Looker {
        let channel = self.connect();
        channel.ask_to_open(name, lasting, size, script);
        Looker::begin(channel)
    }

    /// Looks at a session that is there.
    pub fn join(&self, target: Target<'_>) -> Looker {
        self.join_as(target, Access::LookAndType, SIZE)
    }

    pub fn join_as(&self, target: Target<'_>, access: Access, size: (u16, u16)) -> Looker {
        let channel = self.connect();
        channel.ask_to_join(target, access, size);
        Looker::begin(channel)
    }

    /// The list of the sessions, as a client asks for it.
    pub fn sessions(&self) -> Vec<Row> {
        let client = self.connect();
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let after = rows.last().map_or(0, |row| row.number);
            client.ask(ClientRequest::NextSession { after }, &[]);
            match client.receive().get() {
                ClientReply::Session(row) => rows.push(Row {
                    number: row.number,
                    name: row.name.to_owned(),
                    who: row.who.to_owned(),
                    command: row.command.to_owned(),
                    since: row.since,
                    size: (row.rows, row.columns),
                    lookers: row.lookers,
                }),
                ClientReply::NoSession => return rows,
                other => panic!("not a row: {other:?}"),
            }
        }
    }

    /// Asks again until it is so.
    pub fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "it never comes to it");
        }
    }

    /// How many descriptors the supervisor has, whoever has closed a connection before being gone from it.
    pub fn descriptors(&self) -> usize {
        self.footprint().descriptors
    }

    /// What `/proc` says of the supervisor, whoever has closed a connection before being gone from it.
    pub fn footprint(&self) -> Footprint {
        // Connections are taken after those that have closed are let go, so an answer on a new one says that they are.
        let client = self.connect();
        client.ask(ClientRequest::NextSession { after: u32::MAX }, &[]);
        assert_eq!(client.receive(), ClientReply::NoSession);
        let footprint = Footprint::of(self.supervisor.id());
        Footprint {
            descriptors: footprint.descriptors - 1,
            ..footprint
        }
    }

    /// The process number of a real init: the one child of the root process, which is `unshare`.
    pub fn init_process(&self) -> u32 {
        let root = self.root_process().expect("it runs").as_raw_nonzero();
        let path = format!("/proc/{root}/task/{root}/children");
        let children = std::fs::read_to_string(path).expect("it has children");
        children.trim().parse().expect("one child")
    }

    /// Waits until the root process has said something, where the test plays init.
    pub fn await_root(&self) {
        assert!(is_readable(self.root.as_fd(), PATIENCE), "it says nothing");
    }

    /// Plays init: what the supervisor asked of it.
    pub fn init(&self) -> &Channel {
        self.init.as_ref().expect("the test plays init")
    }

    /// Waits for the supervisor's end and returns what `release` wrote down.
    pub fn released(mut self) -> String {
        assert!(self.await_end(), "it does not end");
        assert!(self.supervisor.wait().expect("it is our child").success());
        std::fs::read_to_string(self.folder.join("released")).expect("released")
    }

    /// Waits until the supervisor has ended, and says whether it has.
    fn await_end(&self) -> bool {
        let pid = Pid::from_child(&self.supervisor);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped");
        is_readable(pidfd.as_fd(), PATIENCE)
    }

    /// The process behind the supervisor's pidfd, while there is one.
    fn root_process(&self) -> Option<Pid> {
        let information = format!("/proc/{}/fdinfo/6", self.supervisor.id());
        let text = std::fs::read_to_string(information).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        Pid::from_raw(pid.trim().parse().ok().filter(|&pid| pid > 1)?)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // The root process ends first, and the supervisor reaps it and goes by itself.
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            match self.root_process() {
                Some(root) if self.plays_init => drop(kill_process(root, Signal::KILL)),
                Some(_) => {
                    let shutdown = ClientRequest::Shutdown { timeout_ms: 0 };
                    self.connect().ask(shutdown, &[]);
                }
                // It is releasing already.
                None => {}
            }
            self.await_end();
        }
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The terminal of the console, and the folder of the container's terminals.
pub struct Console {
    pub master: OwnedFd,
    pub slave: OwnedFd,
    pub folder: OwnedFd,
}

impl Console {
    fn new() -> Self {
        let (master, slave) = terminal();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            master,
            slave,
            folder: open("/dev/pts", flags, Mode::empty()).expect("the folder of the terminals"),
        }
    }

    pub fn handed_over(&self) -> [BorrowedFd<'_>; 2] {
        [self.master.as_fd(), self.folder.as_fd()]
    }
}

/// A new terminal: its master and its slave.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("a terminal");
    unlockpt(&master).expect("its own lock");
    let slave = ioctl_tiocgptpeer(&master, flags).expect("its other side");
    (master, slave)
}

/// One session as it is listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub number: u32,
    pub name: CString,
    pub who: CString,
    pub command: CString,
    pub since: u64,
    pub size: (u16, u16),
    pub lookers: u32,
}

/// What a process takes of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    pub descriptors: usize,
    /// Mappings of memory.
    pub mappings: usize,
    /// What is its own of memory, in KiB.
    pub anonymous: u64,
    /// Its proportional share of memory, in KiB. It grows when another process of the same program ends.
    pub pss: u64,
    /// What lies in memory for it, in KiB.
    pub rss: u64,
}

impl Footprint {
    pub fn of(process: u32) -> Self {
        let read = |name| {
            std::fs::read_to_string(format!("/proc/{process}/{name}"))
                .expect("it runs, and is ours")
        };
        let rollup = read("smaps_rollup");
        let figure = |key| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key));
            let figure = line.and_then(|line| line.trim().strip_suffix(" kB"));
            figure
                .and_then(|figure| figure.parse().ok())
                .expect("a figure")
        };
        Self {
            descriptors: std::fs::read_dir(format!("/proc/{process}/fd"))
                .expect("it runs, and is ours")
                .count(),
            mappings: read("maps").lines().count(),
            anonymous: figure("Anonymous:"),
            pss: figure("Pss:"),
            rss: figure("Rss:"),
        }
    }
}

#[derive(Clone, Copy)]
enum Init {
    Real,
    Played,
}

/// Everything that is needed between fork and exec, made before.
struct Plan {
    supervisor: [(i32, i32); 7],
    root: [(i32, i32); 1],
    argv: Vec<CString>,
}

impl Plan {
    /// Makes the root process, and lays out the supervisor's descriptors; as the sandbox does.
    fn carry_out(&self) -> std::io::Result<()> {
        // Whatever whoever started the tests ignores.
        cocker_sys::signal::reset_all()?;
        let mut argv = [std::ptr::null(); 8];
        for (slot, argument) in argv.iter_mut().zip(&self.argv) {
            *slot = argument.as_ptr();
        }
        // SAFETY: this process has one thread, being itself fresh from a fork, and the child only calls dup2 and
        // execv.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            let _ = duplicate_all(&self.root);
            // SAFETY: `argv` is longer than the arguments, so it ends with a null; they live in `self`.
            unsafe { libc::execv(argv[0], argv.as_ptr()) };
            // SAFETY: _exit takes a number only.
            unsafe { libc::_exit(127) };
        }
        // SAFETY: pidfd_open takes numbers only.
        let pidfd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)?;
        // Opened as 6 it would stay close-on-exec there: dup2 onto itself changes nothing.
        // SAFETY: F_DUPFD_CLOEXEC takes numbers only.
        let high = check(unsafe { libc::fcntl(pidfd, libc::F_DUPFD_CLOEXEC, 100) })?;
        duplicate_all(&[(high, 6)])?;
        duplicate_all(&self.supervisor)?;
        limit_descriptors()
    }
}

/// As many as the tests may have: some have a thousand connections.
fn raise_descriptors() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, raised).expect("as many as it may be");
    });
}

/// As few as a process may be left with by who started it; it may raise that again.
fn limit_descriptors() -> std::io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes one rlimit, and `limit` is one.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max.min(64);
    // SAFETY: setrlimit reads one rlimit, and `limit` is one.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

fn duplicate_all(pairs: &[(i32, i32)]) -> std::io::Result<()> {
    for &(source, target) in pairs {
        // SAFETY: dup2 takes numbers only, and whatever `target` was in this child, nothing uses it any more.
        check(unsafe { libc::dup2(source, target) })?;
    }
    Ok(())
}

fn check(result: i32) -> std::io::Result<i32> {
    match result {
        -1 => Err(std::io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// One end of a connection.
pub struct Channel(pub OwnedFd);

impl Drop for Channel {
    /// A process that another test is about to start has copies of all that is open here, until it executes. The connection ends
    /// now nevertheless.
    fn drop(&mut self) {
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

fn report(init: &OwnedFd, report: InitReport, descriptors: &[BorrowedFd<'_>]) {
    let mut buffer = [0; 64];
    let length = report.encode(&mut buffer).expect("a report is short");
    send(init, &buffer[..length], descriptors, SendFlags::NOSIGNAL).expect("it is sent");
}

fn send(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

impl Channel {
    pub fn ask(&self, request: ClientRequest<'_>, descriptors: &[BorrowedFd<'_>]) {
        let mut buffer = vec![0; MAX_MESSAGE];
        let length = request.encode(&mut buffer).expect("the request fits");
        self.send(&buffer[..length], descriptors)
            .expect("it is sent");
    }

    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
        self.send_with(bytes, descriptors, SendFlags::NOSIGNAL)
    }

    pub fn send_with(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> rustix::io::Result<usize> {
        send(&self.0, bytes, descriptors, flags)
    }

    pub fn report(&self, said: InitReport, descriptors: &[BorrowedFd<'_>]) {
        report(&self.0, said, descriptors);
    }

    pub fn ask_to_open(&self, name: &CStr, lasting: Lasting, size: (u16, u16), script: &CStr) {
        let arguments = [b"sh\0-c\0", script.to_bytes_with_nul()].concat();
        let (rows, columns) = size;
        let open = Open {
            name,
            who: c"somebody",
            lasting,
            most_recorded: 0,
            spawn: shell(&arguments, Stream::Terminal { rows, columns }),
        };
        self.ask(ClientRequest::Open(open), &[]);
    }

    pub fn ask_to_join(&self, target: Target<'_>, access: Access, size: (u16, u16)) {
        let (rows, columns) = size;
        let join = ClientRequest::Join {
            target,
            access,
            rows,
            columns,
        };
        self.ask(join, &[]);
    }

    /// The next reply. No descriptor ever comes along.
    pub fn receive(&self) -> Reply {
        let (bytes, descriptors) = self.receive_bytes();
        assert!(descriptors.is_empty(), "a descriptor came along");
        Reply(bytes)
    }

    pub fn receive_bytes(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        assert!(is_readable(self.0.as_fd(), PATIENCE), "nothing comes");
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            flags,
        )
        .expect("it is received");
        let descriptors = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            })
            .flatten()
            .collect();
        buffer.truncate(received.bytes);
        (buffer, descriptors)
    }

    /// Waits until the other end has closed, or says nothing more.
    pub fn closes(&self) {
        assert_eq!(self.receive_bytes().0, b"", "the other end closes");
    }

    /// Starts a shell on pipes and returns our ends: its input and its output.
    pub fn start(&self, script: &CStr) -> (File, File) {
        let (input, output) = self.ask_to_start(script);
        let ClientReply::Started { pid: 2.. } = self.receive().get() else {
            panic!("not started");
        };
        (input, output)
    }

    pub fn ask_to_start(&self, script: &CStr) -> (File, File) {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (input, output) = (pipe(), pipe());
        let theirs = [input.0.as_fd(), output.1.as_fd(), output.1.as_fd()];
        let arguments = [b"sh\0-c\0", script.to_bytes_with_nul()].concat();
        self.ask(
            ClientRequest::Spawn(shell(&arguments, Stream::Pipes)),
            &theirs,
        );
        (input.1.into(), output.0.into())
    }
}

/// A reply as it came.
pub struct Reply(Vec<u8>);

impl Reply {
    pub fn get(&self) -> ClientReply<'_> {
        ClientReply::decode(&self.0).expect("a reply, not the end")
    }
}

impl PartialEq<ClientReply<'_>> for Reply {
    fn eq(&self, other: &ClientReply<'_>) -> bool {
        self.get() == *other
    }
}

impl Debug for Reply {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(formatter)
    }
}

/// The size of a terminal that does not matter: rows and columns.
pub const SIZE: (u16, u16) = (24, 80);

/// Somebody who looks at a session, and has seen so much of it.
pub struct Looker {
    pub channel: Channel,
    pub number: u32,
    pub seen: Vec<u8>,
}

/// What a looker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// So many bytes more were seen.
    Output(usize),
    Replay(Replay),
    Exited(i32),
    Refused(Refusal),
    /// The connection has closed.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    pub length: usize,
    pub size: (u16, u16),
    pub modes: Modes,
}

impl Looker {
    pub fn begin(channel: Channel) -> Self {
        let ClientReply::Looking { number } = channel.receive().get() else {
            panic!("it does not look");
        };
        Self {
            channel,
            number,
            seen: Vec::new(),
        }
    }

    pub fn types(&self, bytes: &[u8]) {
        self.channel.ask(ClientRequest::Input { bytes }, &[]);
    }

    pub fn resizes(&self, (rows, columns): (u16, u16)) {
        self.channel
            .ask(ClientRequest::Resize { rows, columns }, &[]);
    }

    /// Takes one message.
    pub fn takes(&mut self) -> News {
        let (bytes, descriptors) = self.channel.receive_bytes();
        assert!(descriptors.is_empty(), "a descriptor came along");
        if bytes.is_empty() {
            return News::Closed;
        }
        match ClientReply::decode(&bytes).expect("a reply") {
            ClientReply::Output { bytes } => {
                assert!(!bytes.is_empty(), "it says nothing");
                self.seen.extend_from_slice(bytes);
                News::Output(bytes.len())
            }
            ClientReply::Replay {
                length,
                rows,
                columns,
                modes,
            } => News::Replay(Replay {
                length: length as usize,
                size: (rows, columns),
                modes,
            }),
            ClientReply::Exited { wait_status } => News::Exited(wait_status),
            ClientReply::Refused { why } => News::Refused(why),
            other => panic!("that is not for lookers: {other:?}"),
        }
    }

    /// Takes output until this was shown.
    pub fn sees(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut from = 0;
        loop {
            if self.seen[from..]
                .windows(text.len())
                .any(|window| window == text)
            {
                return;
            }
            from = self.seen.len().saturating_sub(text.len());
            match self.takes() {
                News::Output(_) => {}
                other => panic!("{other:?} behind {:?}", self.text()),
            }
        }
    }

    /// Takes the replay, which comes first, and all that it says was shown before.
    pub fn looks_back(&mut self) -> Replay {
        let News::Replay(replay) = self.takes() else {
            panic!("no replay");
        };
        let end = self.seen.len() + replay.length;
        while self.seen.len() < end {
            let News::Output(_) = self.takes() else {
                panic!("not all of the replay");
            };
        }
        replay
    }

    /// Takes everything up to the session's end, and gives its wait status.
    pub fn ends(&mut self) -> i32 {
        loop {
            match self.takes() {
                News::Output(_) => {}
                News::Exited(wait_status) => {
                    self.channel.closes();
                    return wait_status;
                }
                other => panic!("{other:?} behind {:?}", self.text()),
            }
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

/// A shell with these arguments, each with its NUL.
pub fn shell(arguments: &[u8], stream: Stream) -> Spawn<'_> {
    Spawn {
        stream,
        uid: 0,
        gid: 0,
        groups: Groups::default(),
        program: c"/bin/sh",
        arguments: Strings::from_joined(arguments).expect("whole strings"),
        environment: Strings::from_joined(b"PATH=/usr/bin:/bin\0").expect("whole strings"),
        directory: c"/",
        directory_required: true,
    }
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

pub fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a pair of sockets")
}

fn seqpacket() -> OwnedFd {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket")
}

/// A copy far above the fixed numbers, so that none overwrites another.
fn high(descriptor: OwnedFd) -> OwnedFd {
    fcntl_dupfd_cloexec(descriptor, 100).expect("a copy")
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("cocker-supervisor-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).expect("a new folder");
    folder
}

/// The `cockerinit` that was built beside the supervisor; it is built where only this package was asked for.
fn cockerinit() -> PathBuf {
    let supervisor = Path::new(env!("CARGO_BIN_EXE_cocker-supervisor"));
    let init = supervisor.with_file_name("cockerinit");
    let target = supervisor
        .ancestors()
        .nth(3)
        .expect("target/triple/profile");
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--offline",
                "-p",
                "cocker-init",
                "--bin",
                "cockerinit",
            ])
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo starts");
        assert!(status.success(), "cockerinit builds");
    });
    init
}
