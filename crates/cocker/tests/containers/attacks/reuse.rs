//! Pids that others have got meanwhile.

use super::{Attacker, KINDS, number, tries};
use crate::host::{Host, Outcome, Started, eventually, processes, with_image_test};
use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        no_signal_reaches_whoever_got_the_pid,
        no_signal_reaches_anybody_while_all_pids_are_given_out_again,
    ]
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
        let space = PidSpace::new(host);
        let name = |number: usize| format!("{kind}-{number}");
        let mut pids = Vec::new();
        for number in 0..LINES.len() {
            let name = name(number);
            space
                .types(&format!("cocker create -m test -c {name} {option} -b"))
                .ok();
            pids.push(space.pids_of(&name));
        }
        let supervisors = pids.iter().map(|[_, supervisor]| *supervisor);
        space.kill(supervisors);
        let pids = || pids.iter().flatten().copied();
        eventually("all are gone", || pids().all(|pid| !space.is_there(pid)));
        pids().for_each(|pid| space.let_a_bystander_have(pid));
        let own = cgroups("/proc/self/cgroup");
        for (number, line) in LINES.into_iter().enumerate() {
            let line = line.replace("{}", &name(number));
            space.types(&format!("cocker {line}"));
            for pid in pids() {
                assert!(space.is_bystander(pid), "{line} reached a bystander");
                // Nor was it stopped, frozen, or moved to another cgroup.
                let status = space.read(pid, "status");
                assert!(!status.contains("State:\tT"), "{line}: {status}");
                assert_eq!(cgroups(space.path(pid, "cgroup")), own, "{line}");
            }
        }
        // Control: who believes a pid that was written down ends a bystander.
        space.kill(pids());
        eventually("all bystanders have ended", || {
            pids().all(|pid| !space.is_bystander(pid))
        });
        for number in 0..LINES.len() {
            let name = name(number);
            space.types(&format!("cocker destroy --shutdown {name}; true"));
        }
    }
}

/// The cgroups that a process is in. Hierarchies that have but a name come and go, and are nothing to do with containers.
#[track_caller]
fn cgroups(file: impl AsRef<Path>) -> Vec<String> {
    let cgroups = fs::read_to_string(file).expect("it runs");
    let lines = cgroups.lines().filter(|line| !line.contains(":name="));
    lines.map(String::from).collect()
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

    /// A file of a process, by the pid that it has here.
    fn path(&self, pid: u64, file: &str) -> PathBuf {
        format!("/proc/{}/root/proc/{pid}/{file}", self.first_process).into()
    }

    /// What it says.
    fn read(&self, pid: u64, file: &str) -> String {
        fs::read_to_string(self.path(pid, file)).unwrap_or_default()
    }

    fn is_there(&self, pid: u64) -> bool {
        !self.read(pid, "status").is_empty()
    }

    #[track_caller]
    fn kill(&self, pids: impl Iterator<Item = u64>) {
        let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
        self.types(&format!("kill -9 {}", pids.join(" ")))
            .succeeds();
    }

    /// Starts a process that has nothing to do with anything and has this very pid, as it comes about once all others have been
    /// given out.
    ///
    /// The kernel can be told where to go on counting (`ns_last_pid` of proc_sys_kernel(5)). The shell ends, so that it has no pid
    /// that is wanted next.
    #[track_caller]
    fn let_a_bystander_have(&self, pid: u64) {
        let line = format!(
            "echo {} > /proc/sys/kernel/ns_last_pid; sleep 1000 </dev/null >/dev/null 2>&1 & [ $! = {pid} ] || kill -9 $!",
            pid - 1
        );
        eventually("the pid can be had again", || {
            self.types(&line);
            self.is_bystander(pid)
        });
    }

    fn is_bystander(&self, pid: u64) -> bool {
        self.read(pid, "comm") == "sleep\n"
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
    while reused.len() < 2 || !wrap.has_printed("enough") {
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
    let mut wrap = space.wrap(1);
    // Whoever gives out the pids, whose parent is outside, has one itself.
    let is_its_own = |pid: u64| {
        let status = space.read(pid, "status");
        status.starts_with("Name:\tattacker\n") && status.contains("\nPPid:\t0\n")
    };
    let pid = reused.into_iter().find(|pid| !is_its_own(*pid));
    let pid = pid.expect("two were others'");
    eventually("a bystander has been reached", || {
        space.types(&format!("kill -9 {pid}; true"));
        wrap.has_printed(&format!("reached {pid}\n"))
    });
    let said = wrap.outcome().succeeds().stdout();
    assert!(number(&said, "hit") > 0, "{said}");
}
