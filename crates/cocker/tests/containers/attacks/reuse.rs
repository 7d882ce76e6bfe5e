//! Pids that others have got meanwhile.

use super::{Attacker, KINDS, number, tries};
use crate::host::{Host, Outcome, Started, eventually, processes, with_image_test};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        no_signal_reaches_whoever_got_the_pid,
        no_signal_reaches_anybody_while_all_pids_are_given_out_again,
    ]
}

/// A process that has nothing to do with anything. It ends with this value.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        // Of no effect on one that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a bystander that has this very pid, as it comes about once all others have been given out.
///
/// The kernel can be told where to go on counting (`ns_last_pid` of proc_sys_kernel(5)); somebody else may be faster.
fn bystander_with(pid: i32) -> Option<Bystander> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .ok()?;
        if child.id() == pid as u32 {
            return Some(Bystander(child));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    None
}

fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("it is one");
    kill_process(pid, Signal::KILL).expect("it is ours");
}

/// What a user types who finds a container in this state, each on a container of its own.
const LINES: [&str; 14] = [
    "shutdown {} --timeout 1",
    "shutdown {} -f",
    "kill {}",
    "destroy --shutdown {}",
    "destroy --shutdown {} -f",
    "boot {}",
    "run {} -- true",
    "pause {}",
    "resume {}",
    "set-limits {} --pids-limit 100",
    "sessions {}",
    "to-image --from-container {} --to-image {}",
    "put {} /etc/hostname /srv/",
    "stats",
];

/// Row 29: the supervisor and the root process are gone without a word, and what is written down of them names others.
fn no_signal_reaches_whoever_got_the_pid(host: &Host) {
    for (option, kind) in KINDS {
        let name = |number: usize| format!("{kind}-{number}");
        let mut pids = Vec::new();
        for number in 0..LINES.len() {
            let name = name(number);
            host.cocker(&format!("create -m test -c {name} {option} -b"))
                .ok();
            pids.push((host.root_process(&name), host.supervisor(&name)));
        }
        pids.iter().for_each(|(_, supervisor)| kill(*supervisor));
        eventually("all are gone", || {
            let mut pids = pids
                .iter()
                .flat_map(|(root, supervisor)| [root, supervisor]);
            pids.all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
        });
        let own = fs::read_to_string("/proc/self/cgroup").expect("it is ours");
        let start = |pid: i32| bystander_with(pid).expect("a pid can be had again");
        let mut bystanders: Vec<[Bystander; 2]> = pids
            .iter()
            .map(|(root, supervisor)| [start(*root), start(*supervisor)])
            .collect();
        for (number, line) in LINES.into_iter().enumerate() {
            host.cocker(&line.replace("{}", &name(number)));
            for bystander in bystanders.iter_mut().flatten() {
                let ended = bystander.0.try_wait().expect("it is our child");
                assert_eq!(ended, None, "{line} reached a bystander");
                let pid = bystander.0.id();
                // Nor was it stopped, frozen, or moved to another cgroup.
                let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
                assert!(!status.contains("State:\tT"), "{line}: {status}");
                let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
                assert_eq!(cgroup, own, "{line}");
            }
        }
        // Control: who believes a pid that was written down ends a bystander.
        for ((root, supervisor), [one, other]) in pids.iter().zip(&mut bystanders) {
            kill(*root);
            kill(*supervisor);
            for bystander in [one, other] {
                let ended = bystander.0.wait().expect("it is our child");
                assert!(!ended.success());
            }
        }
    }
}

/// A pid namespace of its own, so that it is nobody else's pids that are given out: a shell that waits for the end of its
/// input, and for all processes that lose their parent.
struct PidSpace<'a> {
    host: &'a Host,
    _shell: Started,
    first_process: i32,
}

impl<'a> PidSpace<'a> {
    fn new(host: &'a Host) -> PidSpace<'a> {
        let mut command = host.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
        command.args(["bash", "-c", "echo stands; read line"]);
        let mut shell = host.started(command, "a pid namespace".into());
        shell.until_prints("stands");
        let unshare = format!("PPid:\t{}\n", shell.pid().as_raw_nonzero());
        let is_child = |pid: i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"));
            status.is_ok_and(|status| status.contains(&unshare))
        };
        let child = processes()
            .iter()
            .map(|it| it.pid)
            .find(|&pid| is_child(pid));
        PidSpace {
            host,
            _shell: shell,
            first_process: child.expect("it has forked"),
        }
    }

    fn start(&self, words: &[&str]) -> Started {
        let mut command = self.host.command("nsenter");
        let target = self.first_process.to_string();
        command.args(["--target", &target, "--pid", "--mount", "--"]);
        command.args(words);
        self.host.started(command, words.join(" "))
    }

    fn types(&self, line: &str) -> Outcome {
        self.start(&["sh", "-c", line]).outcome()
    }

    /// What a file of a process says, by the pid that it has here.
    fn read(&self, pid: u64, file: &str) -> String {
        let path = format!("/proc/{}/root/proc/{pid}/{file}", self.first_process);
        fs::read_to_string(path).unwrap_or_default()
    }

    /// The root process of a booted container and its supervisor.
    fn pids_of(&self, name: &str) -> [u64; 2] {
        let listing = self.types("cocker -s containers").succeeds().stdout();
        let line = listing
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let pid = line.and_then(|line| line.split_once("RUNNING("));
        let pid = pid.and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
        let root = pid.unwrap_or_else(|| panic!("{name} is not running in\n{listing}"));
        [root, number(&self.read(root, "status"), "PPid:")]
    }

    /// Begins to give out the pids of `WRAPPED` without an end; half of them are always a bystander's.
    fn wrap(&self, least: u64) -> Started {
        let program = Attacker::on_host(self.host).display().to_string();
        let (first, last) = (WRAPPED.start().to_string(), WRAPPED.end().to_string());
        let mut wrap = self.start(&[&program, "wrap", &least.to_string(), &first, &last, "150"]);
        wrap.until_prints("begun");
        wrap
    }
}

/// The pids that are given out again and again.
const WRAPPED: RangeInclusive<u64> = 300..=600;

/// Row 29: pids are given out again and again while containers end in every way there is, as they should and after their
/// supervisor was killed. With `COCKER_TEST_TRIES` as 50 these are a million pids.
fn no_signal_reaches_anybody_while_all_pids_are_given_out_again(host: &Host) {
    const ENDS: [&str; 6] = [
        "shutdown {} --timeout 1",
        "shutdown {} -f",
        "kill {}",
        "destroy --shutdown {}",
        "destroy --shutdown {} -f",
        "boot {}",
    ];
    let space = PidSpace::new(host);
    let least = tries(20_000);
    let mut wrap = space.wrap(least);
    let mut reused = BTreeSet::new();
    while reused.is_empty() || !wrap.has_printed("enough") {
        for (option, name) in KINDS {
            for end in ENDS {
                let line = format!("cocker {}", end.replace("{}", name));
                for is_stale in [false, true] {
                    space
                        .types(&format!("cocker create -m test -c {name} {option} -b"))
                        .ok();
                    let written = space.pids_of(name);
                    if is_stale {
                        // Nobody has written down its end, so what is written down is another's by and by.
                        space.types(&format!("kill -9 {}", written[1])).succeeds();
                        // Who was faster than the bystanders has a pid that none of them ever gets.
                        for pid in written.into_iter().filter(|pid| WRAPPED.contains(pid)) {
                            eventually("its pid is another's", || {
                                space.read(pid, "comm") == "attacker\n"
                            });
                            reused.insert(pid);
                        }
                    }
                    let outcome = space.types(&line);
                    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
                    space.types(&format!("cocker destroy --shutdown {name}; true"));
                }
            }
        }
    }
    let said = wrap.outcome().succeeds().stdout();
    assert_eq!(number(&said, "hit"), 0, "{said}");
    assert!(number(&said, "started") >= least, "{said}");
    assert!(number(&said, "wraps") >= least / 1_000, "{said}");
    eprintln!(
        "{} pids that were written down were others' later; {}",
        reused.len(),
        said.lines().last().unwrap_or_default()
    );
    // Control: who sends a signal to a pid that was written down reaches a bystander.
    let pid = reused.pop_first().expect("one was another's");
    let mut wrap = space.wrap(1);
    eventually("a bystander has been reached", || {
        space.types(&format!("kill -9 {pid}; true"));
        wrap.has_printed(&format!("reached {pid}\n"))
    });
    let said = wrap.outcome().succeeds().stdout();
    assert!(number(&said, "hit") > 0, "{said}");
}
