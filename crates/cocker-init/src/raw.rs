//! The system calls of init, each as a safe function. What both residents need comes from
//! `cocker-resident`; all other `unsafe` of the program is here.
//!
//! init has one thread and no heap, and it never runs code in a signal handler: nothing changes its memory behind
//! its back, and a fork copies all of it that a child may use.
use cocker_protocol::MAX_MESSAGE;
use core::ffi::{CStr, c_char};
use core::mem::size_of;
use linux_raw_sys::general as kernel;
use linux_raw_sys::{ioctl, net};

pub use cocker_resident::*;

/// The second argument of the program, counted from its own name on.
///
/// # Safety
///
/// `stack` is the stack pointer as the kernel set it at the program's entry.
pub unsafe fn second_argument(stack: *const usize) -> Option<&'static CStr> {
    // SAFETY: the first word of the entry stack is the count of arguments.
    let count = unsafe { stack.read() };
    if count < 2 {
        return None;
    }
    let place = stack.wrapping_add(2);
    // SAFETY: the words after the count are that many pointers, so there is a second one.
    let argument = unsafe { place.read() } as *const c_char;
    // SAFETY: an argument is NUL-terminated, and nothing here ever writes to the entry stack's strings.
    Some(unsafe { CStr::from_ptr(argument) })
}

pub fn process_id() -> i32 {
    // SAFETY: getpid takes nothing.
    let pid = unsafe { call(kernel::__NR_getpid, []) };
    pid.unwrap_or(0) as i32
}

/// kill(2), with the target as it means it: a process, minus a process group, or -1 for all.
pub fn kill(target: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes numbers only.
    let sent = unsafe { call(kernel::__NR_kill, [target as usize, signal as usize]) };
    sent.map(drop)
}

/// What wait4 found.
pub enum Waited {
    Ended { pid: i32, wait_status: i32 },
    NoneEnded,
    NoChildren,
}

/// wait4(2): takes a process that has ended, if there is one.
pub fn wait() -> Waited {
    let mut wait_status = 0i32;
    let (anyone, status) = (usize::MAX, &raw mut wait_status as usize);
    let options = kernel::WNOHANG as usize;
    // SAFETY: the kernel writes one int, and `wait_status` is one; resource usage is not asked for.
    match unsafe { call(kernel::__NR_wait4, [anyone, status, options]) } {
        Ok(0) => Waited::NoneEnded,
        Ok(pid) => Waited::Ended {
            pid: pid as i32,
            wait_status,
        },
        Err(Errno::CHILD) => Waited::NoChildren,
        Err(_) => Waited::NoneEnded,
    }
}

/// Opens the two ends of a pipe, close-on-exec and not waiting: first the one to read from.
pub fn pipe() -> Result<(Descriptor, Descriptor)> {
    let mut ends = [0i32; 2];
    let flags = (kernel::O_CLOEXEC | kernel::O_NONBLOCK) as usize;
    // SAFETY: the kernel writes two ints, and `ends` is two.
    unsafe { call(kernel::__NR_pipe2, [ends.as_mut_ptr() as usize, flags]) }?;
    let [read, write] = ends;
    Ok((Descriptor::own(Fd(read)), Descriptor::own(Fd(write))))
}

/// openat(2) for a file that is there.
pub fn open(folder: Fd, name: &CStr, flags: u32) -> Result<Descriptor> {
    let name = name.as_ptr() as usize;
    // SAFETY: the kernel reads `name` up to its NUL.
    let opened = unsafe {
        call(
            kernel::__NR_openat,
            [folder.0 as usize, name, flags as usize],
        )
    };
    opened.map(Descriptor::new)
}

/// Makes `target` another number for `source`, open over an exec.
pub fn duplicate(source: Fd, target: i32) -> Result<()> {
    // SAFETY: dup2 takes numbers only; `target` is a standard stream, which no `Descriptor` owns.
    unsafe { call(kernel::__NR_dup2, [source.0 as usize, target as usize]) }.map(drop)
}

/// Makes the target another number for `source`, close-on-exec, in place of what it was.
pub fn replace(source: Fd, target: Fd) -> Result<()> {
    let numbers = [source, target].map(|Fd(number)| number as usize);
    let arguments = [numbers[0], numbers[1], kernel::O_CLOEXEC as usize];
    // SAFETY: dup3 takes numbers only; whoever owns `target` is told so by the name of this.
    unsafe { call(kernel::__NR_dup3, arguments) }.map(drop)
}

/// Makes this terminal the controlling one of the calling session's leader.
pub fn control_terminal(terminal: Fd) -> Result<()> {
    let request = ioctl::TIOCSCTTY as usize;
    // SAFETY: TIOCSCTTY takes a number, and 0 steals no terminal from another session.
    unsafe { call(kernel::__NR_ioctl, [terminal.0 as usize, request]) }.map(drop)
}

/// The other end's process id as it is seen from here: 0 where it lives outside this pid namespace.
pub fn peer_process_id(socket: Fd) -> Result<i32> {
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
    Ok(peer.pid as i32)
}

/// Waits for a message; descriptors that come along are close-on-exec.
pub fn receive(socket: Fd, buffer: &mut [u8]) -> Result<Received> {
    let mut control = Control {
        header: net::cmsghdr {
            cmsg_len: 0,
            cmsg_level: 0,
            cmsg_type: 0,
        },
        descriptors: [-1; MAX_DESCRIPTORS],
    };
    let mut part = iovec(buffer.as_mut_ptr(), buffer.len());
    let mut message = message_head(&mut part, &raw mut control, size_of::<Control>());
    let flags = net::MSG_CMSG_CLOEXEC as usize;
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

/// Sends one message.
pub fn send(socket: Fd, bytes: &[u8]) -> Result<()> {
    let (start, length) = (bytes.as_ptr() as usize, bytes.len());
    let flags = net::MSG_NOSIGNAL as usize;
    let arguments = [socket.0 as usize, start, length, flags, 0, 0];
    // SAFETY: the kernel reads `length` bytes, which is what `bytes` holds; there is no address.
    unsafe { call(kernel::__NR_sendto, arguments) }.map(drop)
}

/// Which of the two processes this is after a fork.
pub enum Forked {
    Child,
    Parent { child: i32 },
}

/// fork(2): the child has a copy of everything, so it may do whatever the parent may.
pub fn fork() -> Result<Forked> {
    // SAFETY: there is one thread and no shared memory, so the child's copy is as consistent as the parent's. What is kept from it
    // is init's tables, which it does not use.
    Ok(match unsafe { call(kernel::__NR_fork, []) }? {
        0 => Forked::Child,
        child => Forked::Parent {
            child: child as i32,
        },
    })
}

/// Has children born without the whole pages inside this memory (madvise(2), MADV_DONTFORK). Where it cannot be, they have copies.
pub fn keep_from_children<T>(memory: &mut T) {
    const PAGE: usize = 4096;
    let start = &raw mut *memory as usize;
    let (first, end) = (
        start.next_multiple_of(PAGE),
        (start + size_of::<T>()) & !(PAGE - 1),
    );
    let length = end.saturating_sub(first);
    let advice = kernel::MADV_DONTFORK as usize;
    // SAFETY: it changes nothing for this process, and a child that touched it nevertheless would end.
    let _ = unsafe { call(kernel::__NR_madvise, [first, length, advice]) };
}

/// As many as arguments and variables can be: there is a byte of the message for each at least, and a script has its arguments
/// once more.
const POINTERS: usize = 2 * MAX_MESSAGE + 8;

/// What is used between the coming of a request and the answer to it.
#[repr(C)]
pub struct Buffers {
    pub message: [u8; MAX_MESSAGE],
    /// For a child only, which has a copy.
    pub tables: [usize; POINTERS],
}

impl Buffers {
    pub const EMPTY: Self = Self {
        message: [0; _],
        tables: [0; _],
    };
}

pub fn start_session() -> Result<()> {
    // SAFETY: setsid takes nothing.
    unsafe { call(kernel::__NR_setsid, []) }.map(drop)
}

pub fn start_group() -> Result<()> {
    // SAFETY: setpgid of the calling process into a group of its own number touches no memory.
    unsafe { call(kernel::__NR_setpgid, [0, 0]) }.map(drop)
}

pub fn set_groups(groups: &[u32]) -> Result<()> {
    let (count, first) = (groups.len(), groups.as_ptr() as usize);
    // SAFETY: the kernel reads `count` ids of four bytes, which is what `groups` holds.
    unsafe { call(kernel::__NR_setgroups, [count, first]) }.map(drop)
}

/// Sets the real, effective and saved group id.
pub fn set_group_id(gid: u32) -> Result<()> {
    refuse_unchanged(gid)?;
    let gid = gid as usize;
    // SAFETY: setresgid takes numbers only.
    unsafe { call(kernel::__NR_setresgid, [gid, gid, gid]) }.map(drop)
}

/// Sets the real, effective and saved user id.
pub fn set_user_id(uid: u32) -> Result<()> {
    refuse_unchanged(uid)?;
    let uid = uid as usize;
    // SAFETY: setresuid takes numbers only.
    unsafe { call(kernel::__NR_setresuid, [uid, uid, uid]) }.map(drop)
}

/// The kernel takes -1 for "leave it as it is", which would be root.
fn refuse_unchanged(id: u32) -> Result<()> {
    if id == u32::MAX {
        Err(Errno::INVAL)
    } else {
        Ok(())
    }
}

pub fn set_file_mask(mask: u32) {
    // SAFETY: umask takes a number only.
    let _ = unsafe { call(kernel::__NR_umask, [mask as usize]) };
}

/// Stands for the working folder where a folder is asked for.
pub const CURRENT_FOLDER: Fd = Fd(kernel::AT_FDCWD);

/// Opens a folder as a place only, close-on-exec, following no magic link (openat2(2), RESOLVE_NO_MAGICLINKS).
pub fn open_folder(path: &CStr) -> Result<Descriptor> {
    let how = kernel::open_how {
        flags: u64::from(kernel::O_PATH | kernel::O_DIRECTORY | kernel::O_CLOEXEC),
        mode: 0,
        resolve: u64::from(kernel::RESOLVE_NO_MAGICLINKS),
    };
    let arguments = [
        CURRENT_FOLDER.0 as usize,
        path.as_ptr() as usize,
        &raw const how as usize,
        size_of::<kernel::open_how>(),
    ];
    // SAFETY: the kernel reads `path` up to its NUL, and one open_how, which `how` is.
    unsafe { call(kernel::__NR_openat2, arguments) }.map(Descriptor::new)
}

pub fn change_directory(folder: Fd) -> Result<()> {
    // SAFETY: fchdir takes a number only.
    unsafe { call(kernel::__NR_fchdir, [folder.0 as usize]) }.map(drop)
}

/// Whether this is the device that swallows everything (null(4)).
pub fn is_null_device(file: Fd) -> bool {
    const NULL: (u32, u32) = (1, 3);
    character_device(file) == Some(NULL)
}

/// Pointers to strings with a null at the end, as execve takes them.
pub struct Table<'a> {
    pointers: &'a [usize],
}

impl<'a> Table<'a> {
    /// Lays a table of these strings out at the beginning of `place`, whose rest is returned.
    pub fn new(
        place: &'a mut [usize],
        strings: impl Iterator<Item = &'a CStr>,
    ) -> Result<(Self, &'a mut [usize])> {
        let mut count = 0;
        for string in strings {
            *place.get_mut(count).ok_or(Errno::TOO_BIG)? = string.as_ptr() as usize;
            count += 1;
        }
        *place.get_mut(count).ok_or(Errno::TOO_BIG)? = 0;
        let (pointers, rest) = place.split_at_mut(count + 1);
        Ok((Self { pointers }, rest))
    }
}

/// execve(2): returns only with the error.
pub fn execute(program: &CStr, arguments: &Table<'_>, environment: &Table<'_>) -> Errno {
    let arguments = [
        program.as_ptr() as usize,
        arguments.pointers.as_ptr() as usize,
        environment.pointers.as_ptr() as usize,
    ];
    // SAFETY: both tables end with a null and their strings outlive them, so the kernel reads only what is there.
    match unsafe { call(kernel::__NR_execve, arguments) } {
        Ok(_) => Errno::INVAL,
        Err(error) => error,
    }
}
