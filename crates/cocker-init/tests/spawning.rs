//! Commands on pipes and terminals, as a real `cockerinit` starts and ends them.
mod support;

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use cocker_protocol::{InitReport, InitRequest, Stage, Stream};
use rustix::io::Errno;
use rustix::termios::Winsize;
use support::{Pipes, Request, Resident, is_readable, terminal};

const EXITED_WITH_7: i32 = 7 << 8;

fn open_descriptors(init: &Resident) -> usize {
    let folder = format!("/proc/{}/fd", init.pid());
    std::fs::read_dir(folder).unwrap().count()
}

fn errno(error: Errno) -> i32 {
    error.raw_os_error()
}

#[test]
fn a_command_runs_on_its_pipes_and_its_status_comes_back() {
    let init = Resident::as_first_child();
    let started = init.start_command(1, &Request::shell("read word; echo \"got $word\"; exit 7"));
    std::fs::File::from(started.input)
        .write_all(b"this\n")
        .unwrap();
    assert_eq!(init.exited(1), EXITED_WITH_7);
    let mut text = String::new();
    std::fs::File::from(started.output)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "got this\n");
}

#[test]
fn a_command_killed_by_a_signal_says_by_which() {
    let init = Resident::as_first_child();
    assert_eq!(init.run(1, &Request::shell("kill -SEGV $$")).0 & 0x7f, 11);
    let _running = init.start_command(2, &Request::shell("exec cat"));
    init.ask(InitRequest::Signal { id: 2, signal: 15 }, &[]);
    assert_eq!(init.exited(2), 15);
}

#[test]
fn what_cannot_be_done_is_named_by_stage_and_errno() {
    let init = Resident::as_first_child();
    let mut numbers = 1..;
    let mut fail = |request: Request<'_>| init.fail(numbers.next().unwrap(), &request);
    for identity in [(0, 0), (0, 7), (1234, 1234)] {
        for (program, expected) in [
            (c"/no/such/program", Errno::NOENT),
            (c"/etc", Errno::ACCESS),
            (c"no-such-program", Errno::NOENT),
            (c"", Errno::NOENT),
        ] {
            let request = Request {
                identity,
                ..Request::new(program, &["x"])
            };
            assert_eq!(
                fail(request),
                (Stage::Execute, errno(expected)),
                "{program:?}"
            );
        }
        let homeless = Request {
            directory: c"/no/such/folder",
            identity,
            ..Request::shell("true")
        };
        assert_eq!(fail(homeless), (Stage::Directory, errno(Errno::NOENT)));
    }
    // The id that means "leave it as it is" must not leave it as it is.
    for identity in [(u32::MAX, u32::MAX), (u32::MAX, 0), (0, u32::MAX)] {
        let nobody = Request {
            identity,
            ..Request::shell("id -u")
        };
        assert_eq!(fail(nobody), (Stage::Identity, errno(Errno::INVAL)));
    }
    // Nothing of all that is left, and nothing was reported twice.
    assert_eq!(init.run(100, &Request::shell("exit 7")).0, EXITED_WITH_7);
}

/// How many mappings init has, and how many KiB of its memory are its own.
fn memory(init: &Resident) -> (usize, u64) {
    let file = |name| std::fs::read_to_string(format!("/proc/{}/{name}", init.pid())).unwrap();
    let rollup = file("smaps_rollup");
    let own = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let own = own
        .and_then(|text| text.trim().strip_suffix(" kB"))
        .unwrap();
    (file("maps").lines().count(), own.parse().unwrap())
}

/// The memory of init when it is so, or what it is after a long time.
fn memory_when(init: &Resident, mut is_so: impl FnMut((usize, u64)) -> bool) -> (usize, u64) {
    let end = Instant::now() + support::PATIENCE;
    loop {
        let memory = memory(init);
        if is_so(memory) || Instant::now() >= end {
            return memory;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_of_a_spawn_stays_in_memory() {
    let init = Resident::as_first_child();
    let environment = "A=b\0".repeat(2_000);
    let arguments = [&["sh", "-c", "exit 7"][..], &["y"; 20_000]].concat();
    let spawn = |id| {
        for identity in [(0, 0), (1234, 1234)] {
            let request = Request {
                identity,
                environment: environment.as_bytes(),
                ..Request::new(c"sh", &arguments)
            };
            assert_eq!(init.run(id, &request).0, EXITED_WITH_7);
            let missing = Request {
                identity,
                ..Request::new(c"no-such-program", &arguments)
            };
            let expected = (Stage::Execute, errno(Errno::NOENT));
            assert_eq!(init.fail(id + 1, &missing), expected);
        }
    };
    spawn(1);
    // What was told may be a moment older than what was given back.
    let (mappings, own) = memory_when(&init, |(_, own)| own < 64);
    assert!(own < 64, "{own}");
    for id in 1..20 {
        spawn(10 * id);
    }
    let is_no_more = |now: (usize, u64)| now.0 <= mappings && now.1 <= own + 8;
    let after = memory_when(&init, is_no_more);
    assert!(is_no_more(after), "{after:?}, {mappings}, {own}");
}

#[test]
fn a_folder_that_is_not_required_gives_way_to_the_root() {
    let init = Resident::as_first_child();
    let request = Request {
        directory: c"/no/such/folder",
        directory_required: false,
        ..Request::shell("pwd")
    };
    assert_eq!(init.run(1, &request), (0, "/\n".into()));
}

#[test]
fn a_folder_that_only_a_descriptor_leads_to_is_not_entered() {
    let init = Resident::as_first_child();
    let magic = [
        c"/proc/self/fd/3",
        c"/proc/self/fd/3/..",
        c"/proc/self/cwd",
        c"/proc/self/cwd/..",
        c"/proc/self/root/etc",
    ];
    for (id, directory) in (1..).zip(magic) {
        let request = Request {
            directory,
            ..Request::shell("pwd")
        };
        let expected = (Stage::Directory, errno(Errno::LOOP));
        assert_eq!(init.fail(id, &request), expected, "{directory:?}");
    }
    // And nothing of what init has open itself is there.
    let open = Request {
        directory: c"/proc/self/fd/4",
        ..Request::shell("pwd")
    };
    let expected = (Stage::Directory, errno(Errno::NOENT));
    assert_eq!(init.fail(9, &open), expected);
    let home = Request {
        directory: c"/proc/self/cwd",
        directory_required: false,
        ..Request::shell("pwd -P")
    };
    assert_eq!(init.run(10, &home), (0, "/\n".into()));
    // Whoever follows such a link does get somewhere.
    let followed = Request::shell("cd /proc/$PPID/cwd && pwd -P");
    let there = std::env::current_dir().unwrap();
    assert_eq!(
        init.run(13, &followed),
        (0, format!("{}\n", there.display()))
    );
    // Links that are paths lead somewhere.
    let link = Request {
        directory: c"/proc/self/../self/../../etc/../etc",
        ..Request::shell("pwd -P")
    };
    assert_eq!(init.run(11, &link), (0, "/etc\n".into()));
    let file = Request {
        directory: c"/etc/passwd",
        ..Request::shell("pwd")
    };
    let expected = (Stage::Directory, errno(Errno::NOTDIR));
    assert_eq!(init.fail(12, &file), expected);
}

#[test]
fn a_folder_is_entered_with_the_rights_of_the_commands_user() {
    let init = Resident::as_first_child();
    let folder = std::env::temp_dir().join(format!("cockerinit-closed-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    let directory = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).unwrap();
    let request = Request {
        directory: &directory,
        identity: (1234, 1234),
        ..Request::shell("pwd")
    };
    let expected = (Stage::Directory, errno(Errno::ACCESS));
    assert_eq!(init.fail(1, &request), expected);
    std::fs::remove_dir(&folder).unwrap();
}

#[test]
fn a_command_with_nothing_runs_on_dev_null_and_is_not_heard_of_again() {
    let init = Resident::as_first_child();
    let result = std::env::temp_dir().join(format!("cockerinit-nothing-{}", std::process::id()));
    let script = format!(
        "cat; echo out; echo err >&2; streams=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo \"$streams\" >{0}.new; mv {0}.new {0}",
        result.display()
    );
    let request = Request {
        stream: Stream::Nothing,
        ..Request::shell(&script)
    };
    init.ask(request.spawn(1), &[]);
    let InitReport::Started { id: 1, .. } = init.report() else {
        panic!("not started");
    };
    while !result.exists() {
        assert_eq!(init.run(2, &Request::shell("exit 7")).0, EXITED_WITH_7);
    }
    assert_eq!(
        std::fs::read_to_string(&result).unwrap(),
        "/dev/null\n/dev/null\n/dev/null\n"
    );
    std::fs::remove_file(&result).unwrap();
    // Its number is free, and nothing was ever reported of it but its start.
    assert_eq!(init.run(1, &Request::shell("exit 7")).0, EXITED_WITH_7);
    let missing = Request {
        stream: Stream::Nothing,
        ..Request::new(c"/no/such/program", &["x"])
    };
    assert_eq!(
        init.fail(3, &missing),
        (Stage::Execute, errno(Errno::NOENT))
    );
}

#[test]
fn a_name_is_looked_for_in_every_folder_of_path() {
    let init = Resident::as_first_child();
    let folder = std::env::temp_dir().join(format!("cockerinit-path-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let forbidden = folder.join("forbidden");
    std::fs::write(&forbidden, "").unwrap();
    let script = folder.join("script");
    // By a process of its own: what another test's child has open for writing cannot be executed (`ETXTBSY`).
    let text = folder.join("text");
    std::fs::write(&text, "echo \"$0 $1\"\n").unwrap();
    let mut install = Command::new("install");
    install.args(["-m", "755"]).args([&text, &script]);
    assert!(install.status().unwrap().success());
    let path = format!("PATH=/no/such:/etc/passwd:{}:/bin\0", folder.display());

    let echo = Request {
        environment: path.as_bytes(),
        ..Request::new(c"sh", &["sh", "-c", "exit 7"])
    };
    assert_eq!(init.run(1, &echo).0, EXITED_WITH_7);
    let file = Request {
        environment: path.as_bytes(),
        ..Request::new(c"forbidden", &["x"])
    };
    assert_eq!(init.fail(2, &file), (Stage::Execute, errno(Errno::ACCESS)));
    let text = Request {
        environment: path.as_bytes(),
        ..Request::new(c"script", &["script", "argument"])
    };
    let expected = format!("{} argument\n", script.display());
    assert_eq!(init.run(3, &text), (0, expected));
    let default = Request {
        environment: b"",
        ..Request::new(c"sh", &["sh", "-c", "exit 7"])
    };
    assert_eq!(init.run(4, &default).0, EXITED_WITH_7);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_command_is_who_the_request_says_and_inherits_nothing() {
    let init = Resident::as_first_child();
    let request = Request {
        identity: (1234, 567),
        groups: &[21, 0, 0, 0, 22, 0, 0, 0],
        environment: b"PATH=/usr/bin:/bin\0WORD=a b\0",
        ..Request::shell(
            "umask; id -u; id -g; id -G; echo \"$WORD\"; ls /proc/self/fd | wc -l; \
             while read key value; do \
             case $key in SigBlk:|SigIgn:) echo $key $value;; esac; done </proc/$$/status",
        )
    };
    let (status, text) = init.run(1, &request);
    assert_eq!(status, 0);
    // Of four descriptors `ls` has opened the fourth itself.
    assert_eq!(
        text,
        "0022\n1234\n567\n567 21 22\na b\n4\nSigBlk: 0000000000000000\nSigIgn: 0000000000000000\n"
    );
}

#[test]
fn a_terminal_that_comes_along_becomes_the_one_of_a_new_session() {
    let init = Resident::as_first_child();
    let request = Request {
        identity: (1234, 567),
        ..Request::shell(
            "stty size; test -t 0 && test -t 1 && test -t 2 && : </dev/tty && echo mine; \
             ps -o sid= -p $$ | grep -qx \" *$$\" && echo leads; ls /proc/self/fd | wc -l; exit 7",
        )
        .in_terminal()
    };
    let mut text = Vec::new();
    let mut master = std::fs::File::from(init.start_in_terminal(1, &request));
    // With the last slave closed the master fails with EIO, after everything was read.
    let _ = master.read_to_end(&mut text);
    assert_eq!(init.exited(1), EXITED_WITH_7);
    assert_eq!(
        String::from_utf8_lossy(&text),
        // Of four descriptors `ls` has opened the fourth itself.
        "33 101\r\nmine\r\nleads\r\n4\r\n"
    );
}

#[test]
fn a_client_that_is_gone_takes_its_command_along() {
    let init = Resident::as_first_child();
    let _pipes = init.start_command(1, &Request::shell("trap '' HUP TERM; exec cat"));
    init.ask(InitRequest::End { id: 1 }, &[]);
    assert_eq!(init.exited(1), 9);
}

#[test]
fn three_hundred_commands_run_at_once() {
    let init = Resident::as_first_child();
    let pipes = Pipes::new();
    let cat = Request::new(c"cat", &["cat"]);
    let mut started = HashSet::new();
    for id in 1..=300 {
        init.ask(cat.spawn(id), &pipes.theirs());
        match init.report() {
            InitReport::Started { id, pid } => {
                assert!(pid > 1);
                assert!(started.insert(id));
            }
            other => panic!("not started: {other:?}"),
        }
    }
    // Every one of them ends when the one pipe they all read from does.
    drop(pipes);
    while !started.is_empty() {
        match init.report() {
            InitReport::Exited { id, wait_status: 0 } => assert!(started.remove(&id)),
            other => panic!("not an end: {other:?}"),
        }
    }
}

/// A program that nobody can execute until it is dropped (fcntl(2), F_SETLEASE).
struct Leased {
    program: CString,
    _lease: std::fs::File,
}

impl Leased {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let program = std::env::temp_dir().join(name);
        let installed = Command::new("install")
            .args(["-m", "755", "/bin/true"])
            .arg(&program)
            .status();
        assert!(installed.unwrap().success());
        let lease = std::fs::File::open(&program).unwrap();
        let control = |what, value: i32| {
            // SAFETY: both commands take a number.
            let done = unsafe { libc::fcntl(lease.as_raw_fd(), what, value) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        };
        // The signal of one who waits for it would end us; this one does nothing.
        const F_SETSIG: i32 = 10;
        control(F_SETSIG, libc::SIGURG);
        control(libc::F_SETLEASE, libc::F_WRLCK);
        Self {
            program: CString::new(program.into_os_string().into_vec()).unwrap(),
            _lease: lease,
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(OsStr::from_bytes(self.program.to_bytes()));
    }
}

#[test]
fn a_program_that_does_not_let_itself_be_executed_holds_up_no_other() {
    let init = Resident::as_first_child();
    let leased = Leased::new("leased");
    let open = open_descriptors(&init);
    for (id, identity) in [(10, (0, 0)), (20, (1234, 1234))] {
        let held_up = Request {
            identity,
            ..Request::new(&leased.program, &["leased"])
        };
        let pipes = Pipes::new();
        for id in [id, id + 1, id + 2] {
            init.ask(held_up.spawn(id), &pipes.theirs());
        }
        let (master, slave) = terminal(Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        });
        let in_terminal = held_up.in_terminal();
        init.ask(in_terminal.spawn(id + 3), &[slave.as_fd()]);
        // Others begin, end and fail meanwhile.
        for id in 1..5 {
            assert_eq!(init.run(id, &Request::shell("exit 7")).0, EXITED_WITH_7);
            let missing = Request::new(c"no-such-program", &["x"]);
            assert_eq!(
                init.fail(id, &missing),
                (Stage::Execute, errno(Errno::NOENT))
            );
        }
        // Whoever is asked to end does, though it has not become its program.
        init.ask(InitRequest::End { id: id + 1 }, &[]);
        assert!(matches!(init.report(), InitReport::Started { id: said, .. } if said == id + 1));
        assert_eq!(init.exited(id + 1), 9);
        init.ask(
            InitRequest::Signal {
                id: id + 3,
                signal: 9,
            },
            &[],
        );
        assert!(matches!(init.report(), InitReport::Started { id: said, .. } if said == id + 3));
        assert_eq!(init.exited(id + 3), 9);
        drop(master);
    }
    // Nobody has been told of those that are left, until they may go on.
    assert!(!is_readable(init.socket(), Duration::from_millis(100)));
    drop(leased);
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    while ended.len() < 4 {
        match init.report() {
            InitReport::Started { id, .. } => started.push(id),
            InitReport::Exited { id, wait_status: 0 } => {
                assert!(started.contains(&id), "{id} of {started:?}");
                ended.push(id);
            }
            other => panic!("neither a beginning nor an end: {other:?}"),
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [10, 12, 20, 22]);
    assert_eq!(started.len(), 4);
    assert_eq!(init.run(1, &Request::shell("exit 7")).0, EXITED_WITH_7);
    assert_eq!(open_descriptors(&init), open);
}

#[test]
fn a_signal_for_a_command_that_is_being_born_is_not_lost() {
    let init = Resident::as_first_child();
    let leased = Leased::new("signalled");
    let held_up = Request::new(&leased.program, &["signalled"]);
    let pipes = Pipes::new();
    init.ask(held_up.spawn(1), &pipes.theirs());
    init.ask(InitRequest::Signal { id: 1, signal: 15 }, &[]);
    assert!(matches!(init.report(), InitReport::Started { id: 1, .. }));
    assert_eq!(init.exited(1), 15);
}

#[test]
fn messages_that_are_none_change_nothing() {
    let init = Resident::as_first_child();
    let pipes = Pipes::new();
    let mut whole = vec![0; 4096];
    let length = Request::shell("exit 7")
        .spawn(1)
        .encode(&mut whole)
        .unwrap();
    whole.truncate(length);
    for end in 1..whole.len() {
        init.send(&whole[..end], &pipes.theirs());
    }
    init.send(&[0xff; 100_000], &pipes.theirs());
    // Far too long for its buffer.
    init.send(&vec![1; 200_000], &[]);
    for id in [0, 7, u32::MAX] {
        init.ask(InitRequest::Signal { id, signal: 9 }, &[]);
        init.ask(InitRequest::End { id }, &[]);
    }
    assert_eq!(init.run(1, &Request::shell("exit 7")).0, EXITED_WITH_7);
}

#[test]
fn pipes_come_as_exactly_three_and_a_terminal_as_exactly_one() {
    let init = Resident::as_first_child();
    let pipes = Pipes::new();
    let on_pipes = Request::shell("true");
    let in_terminal = Request::shell("true").in_terminal();
    // Whoever runs the tests may have left descriptors of their own to the resident.
    let before = open_descriptors(&init);
    let [input, output, error] = pipes.theirs();
    let wrong = [
        (&on_pipes, &[][..]),
        (&on_pipes, &[input, output]),
        (&on_pipes, &[input, output, error, output]),
        (&on_pipes, &[input, output, error, output, output, output]),
        (&in_terminal, &[]),
        (&in_terminal, &[input, output]),
        (&in_terminal, &[input, output, error]),
        (&in_terminal, &[input, output, error, output, output]),
    ];
    for (request, descriptors) in wrong {
        init.ask(request.spawn(1), descriptors);
        let InitReport::NotStarted { id: 1, stage, .. } = init.report() else {
            panic!("started with {} descriptors", descriptors.len());
        };
        assert_eq!(stage, Stage::Fork);
    }
    assert_eq!(
        open_descriptors(&init),
        before,
        "every descriptor that came is closed"
    );
}

#[test]
fn what_is_no_terminal_becomes_no_session() {
    let init = Resident::as_first_child();
    let before = open_descriptors(&init);
    let pipes = Pipes::new();
    let request = Request::shell("true").in_terminal();
    init.ask(request.spawn(1), &[pipes.output.1.as_fd()]);
    let InitReport::NotStarted {
        id: 1,
        stage,
        errno: said,
    } = init.report()
    else {
        panic!("it has taken a pipe for a terminal");
    };
    assert_eq!((stage, said), (Stage::Terminal, errno(Errno::NOTTY)));
    // One that was hung up already leads nowhere either.
    let (master, slave) = terminal(Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    });
    drop(master);
    // What another test is about to execute may have a copy until it does.
    assert!(is_readable(slave.as_fd(), support::PATIENCE));
    init.ask(request.spawn(2), &[slave.as_fd()]);
    let InitReport::NotStarted {
        id: 2,
        stage: Stage::Terminal,
        ..
    } = init.report()
    else {
        panic!("it has taken a closed terminal");
    };
    assert_eq!(open_descriptors(&init), before);
    assert_eq!(init.run(3, &Request::shell("exit 7")).0, EXITED_WITH_7);
}

#[test]
fn a_terminal_that_closes_hangs_its_session_up() {
    let init = Resident::as_first_child();
    let before = open_descriptors(&init);
    let request = Request::shell("exec cat").in_terminal();
    let master = init.start_in_terminal(1, &request);
    // init keeps nothing of the terminal, so the last one outside is the last one.
    assert_eq!(open_descriptors(&init), before);
    drop(master);
    assert_eq!(init.exited(1), 1);
}

#[test]
fn arguments_may_fill_a_whole_message() {
    let init = Resident::as_first_child();
    let long = "x".repeat(100_000);
    let many = vec!["y"; 30_000];
    let mut arguments = vec!["sh", "-c", "echo ${#1} $#", "sh", &long];
    arguments.extend(many);
    let request = Request::new(c"sh", &arguments);
    assert_eq!(init.run(1, &request), (0, "100000 30001\n".into()));
}

#[test]
fn an_orphan_is_nobodys_and_still_reaped() {
    let init = Resident::as_process_one();
    let request = Request::shell(
        "for i in 1 2 3 4 5 6 7 8 9; do (: & ) ; done; exec 2>/dev/null; \
         while grep -q ') Z 1 ' /proc/[0-9]*/stat; do :; done; exit 7",
    );
    assert_eq!(init.run(1, &request).0, EXITED_WITH_7);
}

#[test]
fn init_ends_with_its_supervisor() {
    let mut first_child = Resident::as_first_child();
    first_child.lose_supervisor();
    assert!(first_child.ended().success());

    let mut process_one = Resident::as_process_one();
    let started = process_one.start_command(1, &Request::shell("trap '' HUP TERM; exec cat"));
    process_one.lose_supervisor();
    assert!(process_one.ended().success());
    // The kernel killed the command, and its end of the pipe closed.
    assert!(support::is_readable(
        started.output.as_fd(),
        support::PATIENCE
    ));
}
