//! One way to the kernel, and what stands on it.
//!
//! Numbers and pointers go as they are, and an error ends the program: whoever measures wants to know at once.

use std::ffi::CString;

/// A path as the kernel reads it; lives as long as the call needs it.
pub struct Path(CString);

impl Path {
    pub fn at(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

pub fn path(text: &str) -> Path {
    Path(CString::new(text).expect("no NUL in a path"))
}

/// Makes a call; its error as errno(3).
pub fn attempt(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: callers hand pointers only to what lives until the call returns, with the length that the call is told; none of the
    // calls made in this program writes anywhere else.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(answer).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Makes a call that must succeed.
pub fn call(what: &str, number: libc::c_long, arguments: [usize; 6]) -> usize {
    attempt(number, arguments).unwrap_or_else(|error| {
        eprintln!(
            "Error: {what}: {}",
            std::io::Error::from_raw_os_error(error)
        );
        std::process::exit(1);
    })
}

/// clone3(2) without a stack of its own, as fork(2): 0 and no pidfd in the child; pid and pidfd in the parent.
pub fn clone3(flags: u64, cgroup: usize, exit_signal: u64) -> (usize, usize) {
    let mut pidfd: i32 = -1;
    let arguments: [u64; 11] = [
        flags | libc::CLONE_PIDFD as u64,
        &raw mut pidfd as u64,
        0,
        0,
        exit_signal,
        0,
        0,
        0,
        0,
        0,
        cgroup as u64,
    ];
    let pid = call(
        "clone3",
        libc::SYS_clone3,
        [
            arguments.as_ptr() as usize,
            size_of_val(&arguments),
            0,
            0,
            0,
            0,
        ],
    );
    (pid, pidfd as usize)
}

pub fn wait(pid: usize) {
    call(
        "wait4",
        libc::SYS_wait4,
        [pid, 0, libc::__WALL as usize, 0, 0, 0],
    );
}

pub fn close(descriptor: usize) {
    call("close", libc::SYS_close, [descriptor, 0, 0, 0, 0, 0]);
}

/// Both ends, close-on-exec: to read from, to write to.
pub fn pipe() -> [usize; 2] {
    let mut ends = [0i32; 2];
    call(
        "pipe2",
        libc::SYS_pipe2,
        [
            ends.as_mut_ptr() as usize,
            libc::O_CLOEXEC as usize,
            0,
            0,
            0,
            0,
        ],
    );
    ends.map(|end| end as usize)
}

pub fn write(descriptor: usize, bytes: &[u8]) {
    call(
        "write",
        libc::SYS_write,
        [descriptor, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0],
    );
}

pub fn read(descriptor: usize, bytes: &mut [u8]) -> usize {
    call(
        "read",
        libc::SYS_read,
        [
            descriptor,
            bytes.as_mut_ptr() as usize,
            bytes.len(),
            0,
            0,
            0,
        ],
    )
}

/// Opens `file`, writes `text` to it, and closes it.
pub fn write_file(file: &str, text: &str) {
    let file = open(file, libc::O_WRONLY);
    write(file, text.as_bytes());
    close(file);
}

pub fn open(file: &str, flags: i32) -> usize {
    let name = path(file);
    attempt(
        libc::SYS_open,
        [name.at(), (flags | libc::O_CLOEXEC) as usize, 0, 0, 0, 0],
    )
    .unwrap_or_else(|error| {
        eprintln!(
            "Error: cannot open `{file}`: {}",
            std::io::Error::from_raw_os_error(error)
        );
        std::process::exit(1);
    })
}

/// openat2(2) below `folder`, for its path only, no link followed.
pub fn beneath(folder: usize, name: &str) -> Result<usize, i32> {
    let how: [u64; 3] = [
        (libc::O_PATH | libc::O_CLOEXEC) as u64,
        0,
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
    ];
    attempt(
        libc::SYS_openat2,
        [
            folder,
            path(name).at(),
            how.as_ptr() as usize,
            size_of_val(&how),
            0,
            0,
        ],
    )
}

/// A new, detached mount. A value without a key is a descriptor's, `lowerdir+` and the like.
pub fn new_mount(kind: &str, settings: &[(&str, Setting)], attributes: u64) -> usize {
    let context = call("fsopen", libc::SYS_fsopen, [path(kind).at(), 1, 0, 0, 0, 0]);
    for (key, value) in settings {
        let key = path(key);
        match value {
            Setting::Text(text) => {
                call(
                    "fsconfig",
                    libc::SYS_fsconfig,
                    [context, 1, key.at(), path(text).at(), 0, 0],
                );
            }
            Setting::Descriptor(descriptor) => {
                call(
                    "fsconfig",
                    libc::SYS_fsconfig,
                    [context, 5, key.at(), 0, *descriptor, 0],
                );
            }
        }
    }
    call(kind, libc::SYS_fsconfig, [context, 6, 0, 0, 0, 0]);
    let mount = call(
        "fsmount",
        libc::SYS_fsmount,
        [context, 1, attributes as usize, 0, 0, 0],
    );
    close(context);
    mount
}

pub enum Setting<'a> {
    Text(&'a str),
    Descriptor(usize),
}

/// A detached clone of what is mounted at `name` below `folder`.
pub fn clone_mount(folder: usize, name: &str, recursive: bool) -> usize {
    let recursive = if recursive {
        libc::AT_RECURSIVE as usize
    } else {
        0
    };
    let flags = libc::OPEN_TREE_CLONE as usize
        | libc::OPEN_TREE_CLOEXEC as usize
        | libc::AT_EMPTY_PATH as usize
        | recursive;
    call(
        "open_tree",
        libc::SYS_open_tree,
        [folder, path(name).at(), flags, 0, 0, 0],
    )
}

/// Puts a detached mount on `target`.
pub fn attach(mount: usize, target: usize) {
    let empty = path("");
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    call(
        "move_mount",
        libc::SYS_move_mount,
        [mount, empty.at(), target, empty.at(), flags as usize, 0],
    );
    close(mount);
    close(target);
}

/// Sets attributes of a mount; with `users`, maps its ids.
pub fn set_attributes(mount: usize, set: u64, users: Option<usize>) {
    let (map, private) = if users.is_some() {
        (libc::MOUNT_ATTR_IDMAP, libc::MS_PRIVATE)
    } else {
        (0, 0)
    };
    let attributes: [u64; 4] = [set | map, 0, private, users.unwrap_or(0) as u64];
    let flags = libc::AT_EMPTY_PATH as usize;
    let size = size_of_val(&attributes);
    call(
        "mount_setattr",
        libc::SYS_mount_setattr,
        [
            mount,
            path("").at(),
            flags,
            attributes.as_ptr() as usize,
            size,
            0,
        ],
    );
}

/// Nanoseconds of the clock that only goes forward.
pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    call(
        "clock_gettime",
        libc::SYS_clock_gettime,
        [
            libc::CLOCK_MONOTONIC as usize,
            &raw mut time as usize,
            0,
            0,
            0,
            0,
        ],
    );
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
