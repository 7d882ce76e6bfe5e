//! The system calls of the supervisor, each as a safe function. What both residents need comes from
//! `cocker-resident`; all other `unsafe` of the program is here.
//!
//! The supervisor has one thread and no heap, and it never runs code in a signal handler: nothing changes its memory
//! behind its back.
use core::ffi::{CStr, c_char};
use core::mem::size_of;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use linux_raw_sys::general::{
    self as kernel, kernel_sigset_t, open_how, rlimit64, termios, winsize,
};
use linux_raw_sys::{ioctl, net, prctl};

pub use cocker_resident::*;

/// The arguments and the environment, as the kernel laid them out on the stack.
#[derive(Clone, Copy)]
pub struct Invocation {
    count: usize,
    arguments: *const *const c_char,
}

impl Invocation {
    /// # Safety
    ///
    /// `stack` is the stack pointer as the kernel set it at the program's entry.
    pub unsafe fn from_stack(stack: *const usize) -> Self {
        Self {
            // SAFETY: the first word of the entry stack is the count of arguments.
            count: unsafe { stack.read() },
            arguments: stack.wrapping_add(1).cast(),
        }
    }

    /// An argument, counted from the program's own name on.
    pub fn argument(&self, index: usize) -> Option<&'static CStr> {
        if index >= self.count {
            return None;
        }
        let place = self.arguments.wrapping_add(index);
        // SAFETY: the kernel laid `count` pointers out there, and `index` is below it.
        let argument = unsafe { place.read() };
        // SAFETY: an argument is NUL-terminated, and nothing here ever writes to the entry stack's strings.
        Some(unsafe { CStr::from_ptr(argument) })
    }

    /// The environment, which begins behind the null that ends the arguments.
    fn environment(&self) -> *const *const c_char {
        self.arguments.wrapping_add(self.count + 1)
    }
}

/// Hides the process from every tracer, and its memory from everyone without rights over the host.
pub fn forbid_dumps() {
    let operation = prctl::PR_SET_DUMPABLE as usize;
    // SAFETY: PR_SET_DUMPABLE takes a number only.
    let _ = unsafe { call(kernel::__NR_prctl, [operation, 0]) };
}

/// Leaves the session, and with it the terminal, of whoever started this process.
pub fn start_session() {
    // SAFETY: setsid takes nothing.
    let _ = unsafe { call(kernel::__NR_setsid, []) };
}

/// Allows so many open descriptors, or as many as may be allowed.
pub fn allow_descriptors(count: u64) {
    let mut limit = rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let (own, which) = (0, kernel::RLIMIT_NOFILE as usize);
    let old = &raw mut limit as usize;
    // SAFETY: prlimit64 writes one rlimit64, and `limit` is one; a new limit is not given.
    if unsafe { call(kernel::__NR_prlimit64, [own, which, 0, old]) }.is_err() {
        return;
    }
    limit.rlim_cur = limit.rlim_cur.max(count.min(limit.rlim_max));
    let new = &raw const limit as usize;
    // SAFETY: prlimit64 reads one rlimit64, and `limit` is one; the old limit is not asked for.
    let _ = unsafe { call(kernel::__NR_prlimit64, [own, which, new, 0]) };
}

pub fn user_id() -> Result<u32> {
    // SAFETY: geteuid takes nothing.
    unsafe { call(kernel::__NR_geteuid, []) }.map(|uid| uid as u32)
}

/// Forgets the signals that wait: ignoring one discards it. All have their default dispositions, before and after.
pub fn forget_signals() {
    const SIG_IGN: usize = 1;
    let size = size_of::<kernel_sigset_t>();
    let mut waiting = Signals::NONE;
    let set = &raw mut waiting as usize;
    // SAFETY: the kernel writes a set of `size` bytes, which `waiting` holds.
    if unsafe { call(kernel::__NR_rt_sigpending, [set, size]) }.is_err() {
        waiting = Signals::ALL;
    }
    for signal in (1..=64).filter(|signal| waiting.has(*signal)) {
        for disposition in [SIG_IGN, 0] {
            // handler, flags, restorer, mask
            let action = [disposition, 0, 0, 0];
            let start = action.as_ptr() as usize;
            // SAFETY: the kernel reads one sigaction of four words, and `action` is that; it names no function.
            let _ = unsafe { call(kernel::__NR_rt_sigaction, [signal as usize, start, 0, size]) };
        }
    }
}

/// Signals the process of a pidfd; a process that is gone is nothing to worry about.
pub fn signal_process(pidfd: Fd, signal: u32) {
    // SAFETY: without a siginfo pidfd_send_signal takes numbers only.
    let _ = unsafe {
        call(
            kernel::__NR_pidfd_send_signal,
            [pidfd.0 as usize, signal as usize],
        )
    };
}

/// Reaps the process of a pidfd, which has ended, and returns its status as wait4 gives it.
pub fn reap(pidfd: Fd) -> Result<i32> {
    let mut information = [0i32; 32];
    let arguments = [
        kernel::P_PIDFD as usize,
        pidfd.0 as usize,
        information.as_mut_ptr() as usize,
        (kernel::WEXITED | kernel::WNOHANG) as usize,
    ];
    // SAFETY: the kernel writes one siginfo of 128 bytes, and `information` is that long.
    unsafe { call(kernel::__NR_waitid, arguments) }?;
    let (code, status) = (information[2], information[6]);
    Ok(match code as u32 {
        kernel::CLD_EXITED => (status & 0xff) << 8,
        kernel::CLD_DUMPED => status | 0x80,
        _ => status,
    })
}

/// Opens a file of the folder to append to it, close-on-exec; it is made where it is missing, and never a link.
pub fn open_log(folder: Fd, name: &CStr) -> Result<Descriptor> {
    open_own(folder, name, kernel::O_WRONLY | kernel::O_APPEND)
}

/// The same to read and write it at any place.
pub fn open_records(folder: Fd, name: &CStr) -> Result<Descriptor> {
    open_own(folder, name, kernel::O_RDWR)
}

fn open_own(folder: Fd, name: &CStr, access: u32) -> Result<Descriptor> {
    let flags =
        access | kernel::O_CREAT | kernel::O_NOFOLLOW | kernel::O_NONBLOCK | kernel::O_CLOEXEC;
    let arguments = [
        folder.0 as usize,
        name.as_ptr() as usize,
        flags as usize,
        0o600,
    ];
    // SAFETY: the kernel reads `name` up to its NUL.
    unsafe { call(kernel::__NR_openat, arguments) }.map(Descriptor::new)
}

/// Reads from a place of a file, in bytes from its beginning.
pub fn read_at(file: Fd, buffer: &mut [u8], place: u64) -> Result<usize> {
    let (start, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    let arguments = [file.0 as usize, start, length, place as usize];
    // SAFETY: the kernel writes at most `length` bytes, which is what `buffer` holds.
    unsafe { call(kernel::__NR_pread64, arguments) }
}

/// Writes at a place of a file, in bytes from its beginning.
pub fn write_at(file: Fd, bytes: &[u8], place: u64) -> Result<usize> {
    let (start, length) = (bytes.as_ptr() as usize, bytes.len());
    let arguments = [file.0 as usize, start, length, place as usize];
    // SAFETY: the kernel reads at most `length` bytes, which is what `bytes` holds.
    unsafe { call(kernel::__NR_pwrite64, arguments) }
}

/// Cuts a file off behind `length` bytes.
pub fn cut(file: Fd, length: u64) -> Result<()> {
    // SAFETY: ftruncate takes numbers only.
    unsafe { call(kernel::__NR_ftruncate, [file.0 as usize, length as usize]) }.map(drop)
}

/// Removes a file of the folder, where it is there.
pub fn remove(folder: Fd, name: &CStr) {
    unlink(folder, name, 0);
}

/// Removes a folder of the folder, where it is there and empty.
pub fn remove_folder(folder: Fd, name: &CStr) {
    unlink(folder, name, kernel::AT_REMOVEDIR as usize);
}

fn unlink(folder: Fd, name: &CStr, flags: usize) {
    // SAFETY: the kernel reads `name` up to its NUL.
    let _ = unsafe {
        call(
            kernel::__NR_unlinkat,
            [folder.0 as usize, name.as_ptr() as usize, flags],
        )
    };
}

/// CLOCK_REALTIME in milliseconds since the epoch.
pub fn wall_clock_ms() -> u64 {
    let time = clock(kernel::CLOCK_REALTIME);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// The number by which the file system knows an open file.
pub fn inode(file: Fd) -> Result<u64> {
    status(file).map(|status| status.stx_ino)
}

/// The length of an open file in bytes.
pub fn file_length(file: Fd) -> Result<u64> {
    // SAFETY: lseek takes numbers only; nothing here reads or writes at the position.
    let end = unsafe {
        call(
            kernel::__NR_lseek,
            [file.0 as usize, 0, kernel::SEEK_END as usize],
        )
    };
    end.map(|end| end as u64)
}

/// Renames a file within the folder, over one that is there.
pub fn rename(folder: Fd, old: &CStr, new: &CStr) -> Result<()> {
    let (folder, old, new) = (
        folder.0 as usize,
        old.as_ptr() as usize,
        new.as_ptr() as usize,
    );
    // SAFETY: the kernel reads both names up to their NULs.
    unsafe { call(kernel::__NR_renameat, [folder, old, folder, new]) }.map(drop)
}

/// Lets a descriptor live through the next exec.
pub fn keep_on_exec(descriptor: Fd) {
    // SAFETY: F_SETFD takes numbers only.
    let _ = unsafe {
        call(
            kernel::__NR_fcntl,
            [descriptor.0 as usize, kernel::F_SETFD as usize, 0],
        )
    };
}

/// Makes a copy of a descriptor that lives through the next exec, at `lowest` or above.
pub fn copy_for_exec(descriptor: Fd, lowest: u32) {
    // SAFETY: F_DUPFD takes numbers only.
    let _ = unsafe {
        call(
            kernel::__NR_fcntl,
            [
                descriptor.0 as usize,
                kernel::F_DUPFD as usize,
                lowest as usize,
            ],
        )
    };
}

/// Makes reads and accepts on this open file return where they would wait.
pub fn set_nonblocking(descriptor: Fd) -> Result<()> {
    let (fd, get, set) = (
        descriptor.0 as usize,
        kernel::F_GETFL as usize,
        kernel::F_SETFL as usize,
    );
    // SAFETY: F_GETFL takes numbers only.
    let flags = unsafe { call(kernel::__NR_fcntl, [fd, get]) }?;
    // SAFETY: F_SETFL takes numbers only.
    unsafe {
        call(
            kernel::__NR_fcntl,
            [fd, set, flags | kernel::O_NONBLOCK as usize],
        )
    }
    .map(drop)
}

/// Whether this is the master of a terminal.
pub fn is_terminal_master(descriptor: Fd) -> bool {
    const MASTER: (u32, u32) = (5, 2);
    character_device(descriptor) == Some(MASTER)
}

/// Whether this is a regular file.
pub fn is_file(descriptor: Fd) -> bool {
    const TYPE: u16 = kernel::S_IFMT as u16;
    const FILE: u16 = kernel::S_IFREG as u16;
    status(descriptor).is_ok_and(|status| status.stx_mode & TYPE == FILE)
}

/// The user of the host who owns an open file.
pub fn owner(descriptor: Fd) -> Result<u32> {
    status(descriptor).map(|status| status.stx_uid)
}

/// Opens a new terminal in this root folder of a devpts and gives its master, non-blocking and close-on-exec.
///
/// Root of the container may have mounted something over the name: what is mounted there is not opened.
pub fn open_terminal(devpts: Fd) -> Result<Descriptor> {
    let flags = kernel::O_RDWR | kernel::O_NOCTTY | kernel::O_NONBLOCK | kernel::O_CLOEXEC;
    let resolve = kernel::RESOLVE_NO_XDEV | kernel::RESOLVE_NO_SYMLINKS | kernel::RESOLVE_BENEATH;
    let how = open_how {
        flags: flags.into(),
        mode: 0,
        resolve: resolve.into(),
    };
    let arguments = [
        devpts.0 as usize,
        c"ptmx".as_ptr() as usize,
        &raw const how as usize,
        size_of::<open_how>(),
    ];
    // SAFETY: the kernel reads the name up to its NUL and one open_how, and `how` is one.
    unsafe { call(kernel::__NR_openat2, arguments) }.map(Descriptor::new)
}

/// Allows the slave of this terminal's master to be opened.
pub fn unlock_terminal(master: Fd) -> Result<()> {
    let locked = 0i32;
    let (request, argument) = (ioctl::TIOCSPTLCK as usize, &raw const locked as usize);
    // SAFETY: TIOCSPTLCK reads one int, and `locked` is one.
    unsafe { call(kernel::__NR_ioctl, [master.0 as usize, request, argument]) }.map(drop)
}

/// Opens the slave of this master without a path, close-on-exec.
pub fn open_terminal_slave(master: Fd) -> Result<Descriptor> {
    let flags = (kernel::O_RDWR | kernel::O_NOCTTY | kernel::O_CLOEXEC) as usize;
    let request = ioctl::TIOCGPTPEER as usize;
    // SAFETY: TIOCGPTPEER takes the open flags as a number.
    let opened = unsafe { call(kernel::__NR_ioctl, [master.0 as usize, request, flags]) };
    opened.map(Descriptor::new)
}

pub fn resize_terminal(terminal: Fd, rows: u16, columns: u16) -> Result<()> {
    let size = winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let (request, argument) = (ioctl::TIOCSWINSZ as usize, &raw const size as usize);
    // SAFETY: TIOCSWINSZ reads one winsize, and `size` is one.
    unsafe { call(kernel::__NR_ioctl, [terminal.0 as usize, request, argument]) }.map(drop)
}

/// Tells the terminal that its input is UTF-8, so that erasing a character erases all its bytes.
pub fn set_terminal_utf8(terminal: Fd) -> Result<()> {
    let mut modes = termios {
        c_iflag: 0,
        c_oflag: 0,
        c_cflag: 0,
        c_lflag: 0,
        c_line: 0,
        c_cc: [0; 19],
    };
    let (request, argument) = (ioctl::TCGETS as usize, &raw mut modes as usize);
    // SAFETY: TCGETS writes one kernel termios, and `modes` is one.
    unsafe { call(kernel::__NR_ioctl, [terminal.0 as usize, request, argument]) }?;
    modes.c_iflag |= kernel::IUTF8;
    let (request, argument) = (ioctl::TCSETS as usize, &raw const modes as usize);
    // SAFETY: TCSETS reads one kernel termios, and `modes` is one.
    unsafe { call(kernel::__NR_ioctl, [terminal.0 as usize, request, argument]) }.map(drop)
}

/// Gives an open file this owner and keeps its group.
pub fn change_owner(file: Fd, uid: u32) -> Result<()> {
    // SAFETY: fchown takes numbers only.
    unsafe {
        call(
            kernel::__NR_fchown,
            [file.0 as usize, uid as usize, u32::MAX as usize],
        )
    }
    .map(drop)
}

/// Cuts a file to this many bytes.
pub fn truncate(file: Fd, length: u64) {
    // SAFETY: ftruncate takes numbers only.
    let _ = unsafe { call(kernel::__NR_ftruncate, [file.0 as usize, length as usize]) };
}

/// CLOCK_MONOTONIC in microseconds.
pub fn now_us() -> u64 {
    let time = clock(kernel::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// A value in pages of its own, which go with it.
pub struct Pages<T>(NonNull<T>);

impl<T> Pages<T> {
    pub fn new(value: T) -> Result<Self> {
        let place = map::<T>()?;
        // SAFETY: the mapping is new, page-aligned and as long as a `T`.
        unsafe { place.write(value) };
        Ok(Self(place))
    }
}

impl<const LENGTH: usize> Pages<[u8; LENGTH]> {
    /// Zeroes that take no memory before they are written to.
    pub fn zeroed() -> Result<Self> {
        // The mapping is new and reads as zero, which is a value of this type.
        map().map(Self)
    }
}

fn map<T>() -> Result<NonNull<T>> {
    const { assert!(align_of::<T>() <= 4096) };
    let access = (kernel::PROT_READ | kernel::PROT_WRITE) as usize;
    let kind = (kernel::MAP_PRIVATE | kernel::MAP_ANONYMOUS) as usize;
    let length = size_of::<T>();
    // SAFETY: without MAP_FIXED the kernel chooses a place where nothing of ours is.
    let start = unsafe { call(kernel::__NR_mmap, [0, length, access, kind, usize::MAX]) }?;
    NonNull::new(start as *mut T).ok_or(Errno::INVAL)
}

impl<T> Deref for Pages<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping holds a `T`, and lives as long as this value, its one owner.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and it is borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping holds a `T` that nobody borrows any more, and it is dropped once.
        unsafe { self.0.drop_in_place() };
        // SAFETY: the mapping is ours alone and was made with this length.
        let _ = unsafe {
            call(
                kernel::__NR_munmap,
                [self.0.as_ptr() as usize, size_of::<T>()],
            )
        };
    }
}

/// Takes a connection that waits; it is close-on-exec and non-blocking.
pub fn accept(listener: Fd) -> Result<Descriptor> {
    let flags = (kernel::O_CLOEXEC | kernel::O_NONBLOCK) as usize;
    // SAFETY: without an address accept4 takes numbers only.
    unsafe { call(kernel::__NR_accept4, [listener.0 as usize, 0, 0, flags]) }.map(Descriptor::new)
}

/// How much of what was sent was not taken yet, as the kernel counts it; 0 where that cannot be known.
pub fn unsent(socket: Fd) -> u32 {
    let mut held = 0i32;
    // SIOCOUTQ is this request on a socket.
    let (request, place) = (ioctl::TIOCOUTQ as usize, &raw mut held as usize);
    // SAFETY: the kernel writes one int, and `held` is one.
    let asked = unsafe { call(kernel::__NR_ioctl, [socket.0 as usize, request, place]) };
    asked.map_or(0, |_| held as u32)
}

/// Says that nothing more will be sent; what was sent still arrives.
pub fn end_sending(socket: Fd) {
    const SHUT_WR: usize = 1;
    // SAFETY: shutdown takes numbers only.
    let _ = unsafe { call(kernel::__NR_shutdown, [socket.0 as usize, SHUT_WR]) };
}

/// The user who connected.
pub fn peer_user_id(socket: Fd) -> Result<u32> {
    let mut peer = net::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<net::ucred>() as u32;
    let arguments = [
        socket.0 as usize,
        net::SOL_SOCKET as usize,
        net::SO_PEERCRED as usize,
        &raw mut peer as usize,
        &raw mut length as usize,
    ];
    // SAFETY: the kernel writes at most `length` bytes, the size of `peer`, and then `length` itself.
    unsafe { call(kernel::__NR_getsockopt, arguments) }?;
    Ok(peer.uid)
}

/// What becomes of the descriptors of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The message stays where it is, and its descriptors with it.
    Nothing,
    /// The message is taken; descriptors never become ours, so there is nothing to close.
    Message,
    /// Descriptors come along, close-on-exec.
    MessageAndDescriptors,
}

/// Takes a message that waits.
pub fn receive(socket: Fd, buffer: &mut [u8], take: Take) -> Result<Received> {
    let mut control = Control {
        header: net::cmsghdr {
            cmsg_len: 0,
            cmsg_level: 0,
            cmsg_type: 0,
        },
        descriptors: [-1; MAX_DESCRIPTORS],
    };
    let mut part = iovec(buffer.as_mut_ptr(), buffer.len());
    let room = match take {
        Take::MessageAndDescriptors => size_of::<Control>(),
        Take::Message | Take::Nothing => 0,
    };
    let mut message = message_head(&mut part, &raw mut control, room);
    let peek = if take == Take::Nothing {
        net::MSG_PEEK
    } else {
        0
    };
    let flags = (net::MSG_CMSG_CLOEXEC | net::MSG_DONTWAIT | peek) as usize;
    let arguments = [socket.0 as usize, &raw mut message as usize, flags];
    // SAFETY: `message` names `buffer` and `control` with their sizes, and both are borrowed for the call.
    let length = unsafe { call(kernel::__NR_recvmsg, arguments) }?;

    let header = size_of::<net::cmsghdr>();
    let mut count = 0;
    if message.msg_controllen as usize >= header
        && control.header.cmsg_level == net::SOL_SOCKET as i32
        && control.header.cmsg_type == net::SCM_RIGHTS as i32
    {
        count = control.header.cmsg_len.saturating_sub(header) / size_of::<i32>();
    }
    let mut received = Received {
        length,
        is_whole: message.msg_flags & net::MSG_TRUNC == 0,
        descriptors: [const { None }; MAX_DESCRIPTORS],
    };
    for (slot, &number) in received
        .descriptors
        .iter_mut()
        .zip(&control.descriptors)
        .take(count)
    {
        *slot = Some(Descriptor::own(Fd(number)));
    }
    Ok(received)
}

/// Sends one message with at most [`MAX_DESCRIPTORS`] descriptors, or fails where it would wait.
pub fn send(socket: Fd, bytes: &[u8], descriptors: &[Fd]) -> Result<()> {
    let count = descriptors.len().min(MAX_DESCRIPTORS);
    let length = size_of::<net::cmsghdr>() + count * size_of::<i32>();
    let mut control = Control {
        header: net::cmsghdr {
            cmsg_len: length as _,
            cmsg_level: net::SOL_SOCKET as i32,
            cmsg_type: net::SCM_RIGHTS as i32,
        },
        descriptors: [-1; MAX_DESCRIPTORS],
    };
    for (slot, descriptor) in control.descriptors.iter_mut().zip(descriptors) {
        *slot = descriptor.0;
    }
    // The kernel only reads from what it sends.
    let mut part = iovec(bytes.as_ptr().cast_mut(), bytes.len());
    let length = if count > 0 { length } else { 0 };
    let message = message_head(&mut part, &raw mut control, length);
    let flags = (net::MSG_NOSIGNAL | net::MSG_DONTWAIT) as usize;
    let arguments = [socket.0 as usize, &raw const message as usize, flags];
    // SAFETY: `message` names `bytes` and at most the whole of `control`, and both are borrowed for the call.
    unsafe { call(kernel::__NR_sendmsg, arguments) }.map(drop)
}

/// Sends one message made of two parts, or fails where it would wait.
pub fn send_parts(socket: Fd, head: &[u8], bytes: &[u8]) -> Result<()> {
    // The kernel only reads from what it sends.
    let part = |bytes: &[u8]| iovec(bytes.as_ptr().cast_mut(), bytes.len());
    let mut parts = [part(head), part(bytes)];
    let mut message = message_head(&mut parts[0], core::ptr::null_mut(), 0);
    message.msg_iov = parts.as_mut_ptr().cast();
    message.msg_iovlen = parts.len() as _;
    let flags = (net::MSG_NOSIGNAL | net::MSG_DONTWAIT) as usize;
    let arguments = [socket.0 as usize, &raw const message as usize, flags];
    // SAFETY: `message` names two parts, and what they name is borrowed for the call.
    unsafe { call(kernel::__NR_sendmsg, arguments) }.map(drop)
}

/// Executes the program of a descriptor with these arguments and the environment of this one: returns only where
/// that fails.
pub fn execute<const COUNT: usize>(
    program: Fd,
    words: [&CStr; COUNT],
    invocation: &Invocation,
) -> Errno {
    const { assert!(COUNT < 8) };
    let mut arguments = [core::ptr::null(); 8];
    for (place, word) in arguments.iter_mut().zip(words) {
        *place = word.as_ptr();
    }
    let arguments = [
        program.0 as usize,
        c"".as_ptr() as usize,
        arguments.as_ptr() as usize,
        invocation.environment() as usize,
        kernel::AT_EMPTY_PATH as usize,
    ];
    // SAFETY: the arguments end with a null, and so does the environment, which the kernel itself laid out.
    match unsafe { call(kernel::__NR_execveat, arguments) } {
        Ok(_) => Errno::INVAL,
        Err(error) => error,
    }
}
