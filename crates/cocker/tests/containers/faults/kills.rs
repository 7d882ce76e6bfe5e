//! Processes that are killed at random times: the client of any command, the supervisor, init. Nothing is lost, nothing is left.
//!
//! One container goes round its whole life: made, booted, written into, looked at, shut down, made an image and a container
//! again, removed. In each round one command is typed and one process killed meanwhile; then everything is as before the
//! command or as after it, and what was once said to be there is there.

use super::state::{digest, left_over};
use crate::host::{Host, eventually, here, in_a_lab, processes};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rounds unless `COCKER_TEST_TRIES` says how many times as many.
const ROUNDS: u64 = 60;

/// Nothing that is typed here takes longer, on a machine that has time.
const LONGEST: u64 = 90_000;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![whoever_is_killed_at_any_time_nothing_is_lost_and_nothing_is_left]
}

/// Numbers that look random and are the same for the same seed: xorshift64 (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Client,
    Supervisor,
    Init,
}

/// What is there, as far as names go, and the words that were put into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct There {
    containers: BTreeMap<String, String>,
    images: BTreeMap<String, String>,
}

/// A command, and what it makes of what is there.
struct Step {
    line: String,
    after: There,
    /// A command in a container, which may be there for some reasons and not for others.
    is_inside: bool,
}

fn whoever_is_killed_at_any_time_nothing_is_lost_and_nothing_is_left(host: &Host) {
    let tries = std::env::var("COCKER_TEST_TRIES").unwrap_or_else(|_| "1".into());
    let rounds = ROUNDS * tries.parse::<u64>().expect("COCKER_TEST_TRIES is a number");
    let seed = std::env::var("COCKER_TEST_SEED").map_or_else(
        |_| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(1, |since| since.as_nanos() as u64 | 1)
        },
        |seed| seed.parse().expect("COCKER_TEST_SEED is a number"),
    );
    let mut random = Random(seed | 1);
    let volume = host.folder("volume");
    let user = host.folder("user");
    fs::write(volume.join("word"), "the host's\n").expect("the folder is ours");
    let checksums = digest(&volume);
    let mut there = There::default();
    let mut killed: BTreeMap<(Victim, String), u32> = BTreeMap::new();
    // The root process whose end a client has asked for that was killed then: it ends whenever it likes.
    let mut ending: Option<i32> = None;
    for round in 0..rounds {
        let booted = booted(host);
        let step = step(&mut random, &there, booted, round, (&volume, &user));
        let victim = random.one_of(&[
            Victim::Client,
            Victim::Client,
            Victim::Supervisor,
            Victim::Init,
        ]);
        let longest = LONGEST >> random.below(4);
        let moment = Duration::from_micros(random.below(longest));
        let what = format!(
            "COCKER_TEST_SEED={seed}, round {round}: `{}`, {victim:?} killed after {moment:?}",
            step.line
        );
        let (was_hit, outcome) = typed_and_killed(host, &step.line, victim, moment);
        if was_hit {
            let command = step.line.split(' ').next().unwrap_or_default();
            *killed.entry((victim, command.into())).or_default() += 1;
        }
        host.all_settle();
        let found = found(host);
        let is_after = found == step.after;
        let is_before = found == there;
        assert!(
            is_after || is_before,
            "{what}: {found:?} is neither {there:?} nor {:?}\n{outcome}",
            step.after
        );
        if outcome.status.success() {
            assert!(is_after, "{what}: said to be done: {found:?}\n{outcome}");
        } else if !(was_hit || step.is_inside || ending.is_some()) {
            panic!("{what}: it failed by itself\n{outcome}");
        }
        there = found;
        if step.line.starts_with("put ") && !outcome.status.success() {
            // A user tries again; what the copy was made in goes with the next one to the same place.
            host.all_settle();
            if ending.is_some() {
                let is_done = || host.cocker(&step.line).status.success();
                eventually("what was put is there", is_done);
            } else {
                host.cocker(&step.line).ok();
            }
            there = step.after;
        }
        host.cocker("check").succeeds();
        assert_eq!(digest(&volume), checksums, "{what}: the volume");
        // Takes the lock on names, with which whatever dead ones left is swept.
        host.cocker("create -m test -c sweeper").ok();
        host.cocker("destroy sweeper").ok();
        // And what is staged in a container's own folder goes with whoever holds that next.
        if host.entries("containers").contains(&"web".into()) {
            host.cocker("set-restart web --restart no").ok();
        }
        if round % 8 == 7 {
            host.kill_all();
        }
        let ends = ["shutdown ", "kill ", "destroy "];
        let root = booted.map(|(root, _)| root);
        ending = if was_hit
            && victim == Victim::Client
            && ends.iter().any(|verb| step.line.starts_with(verb))
        {
            root
        } else {
            ending.filter(|_| self::booted(host).map(|(root, _)| root) == ending)
        };
        if self::booted(host).is_none() {
            let until = Instant::now() + here(Duration::from_secs(5));
            loop {
                // A list mends what it can in a moment, and the next one goes on.
                host.cocker("ps").succeeds();
                let left = left_over(host, &user);
                if left.is_empty() {
                    break;
                }
                assert!(
                    Instant::now() < until,
                    "{what}: left\n{}\n{outcome}",
                    left.join("\n")
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    let all: u32 = killed.values().sum();
    eprintln!("COCKER_TEST_SEED={seed}: {all} killed in {rounds} rounds: {killed:?}");
    assert!(
        u64::from(all) * 4 > rounds,
        "only {all} were killed in {rounds} rounds"
    );
}

/// The pids of the root process and its supervisor, where container `web` is booted.
fn booted(host: &Host) -> Option<(i32, i32)> {
    let pid = host.booted_pid("web")?;
    Some((pid, host.parent(pid)?))
}

/// A command that can be typed as things stand.
fn step(
    random: &mut Random,
    there: &There,
    booted: Option<(i32, i32)>,
    round: u64,
    (volume, user): (&Path, &Path),
) -> Step {
    let mut after = there.clone();
    let mut is_inside = false;
    let word = there.containers.get("web").cloned();
    let has_made = there.images.contains_key("made");
    let line = match (word, booted) {
        (None, _) if has_made => match random.below(3) {
            0 => {
                after.images.remove("made");
                "rm-image made".into()
            }
            _ => {
                let word = after.images.remove("made").expect("it is there");
                after.containers.insert("web".into(), word);
                "to-container --from-image made --to-container web -m test".to_string()
            }
        },
        (None, _) => {
            after.containers.insert("web".into(), String::new());
            let net = random.one_of(&["HOST", "BRIDGE --port-mapping 8080:80", "CUSTOM"]);
            format!(
                "create -m test -c web --net {net} --volume {}:/data",
                volume.display()
            )
        }
        (Some(_), Some(_)) => match random.below(6) {
            0 => "shutdown web".into(),
            1 => "kill web".into(),
            2 => {
                is_inside = true;
                "run web --cmd 'ls /data >/dev/null'".into()
            }
            3 => {
                after.containers.remove("web");
                "destroy web --shutdown".into()
            }
            4 => "set-limits web --mem-limit 90M".into(),
            _ => {
                let word = format!("word-{round}");
                fs::write(user.join("word"), &word).expect("the folder is ours");
                after.containers.insert("web".into(), word);
                format!("put web {} /srv-word", user.join("word").display())
            }
        },
        (Some(word), None) => match random.below(8) {
            0 if !has_made => {
                after.containers.remove("web");
                after.images.insert("made".into(), word);
                "to-image --from-container web --to-image made".into()
            }
            1 if !has_made => {
                after.images.insert("made".into(), word);
                "to-image --from-container web --to-image made --keep".into()
            }
            1 => {
                after.images.remove("made");
                "rm-image made".into()
            }
            2 => {
                after.containers.remove("web");
                "destroy web".into()
            }
            3 => {
                let word = format!("word-{round}");
                fs::write(user.join("word"), &word).expect("the folder is ours");
                after.containers.insert("web".into(), word);
                format!("put web {} /srv-word", user.join("word").display())
            }
            _ => "boot web".into(),
        },
    };
    Step {
        line,
        after,
        is_inside,
    }
}

/// Types a line and kills somebody after a time; says whether there was somebody to kill, and what came of the command.
fn typed_and_killed(
    host: &Host,
    line: &str,
    victim: Victim,
    moment: Duration,
) -> (bool, crate::host::Outcome) {
    let before = booted(host);
    let at = Instant::now() + moment;
    let command = host.start(line).feed(b"");
    while Instant::now() < at {
        std::hint::spin_loop();
    }
    let pid = match victim {
        Victim::Client => {
            let was_running = command.is_running();
            command.signal(Signal::KILL);
            return (was_running, command.outcome());
        }
        // One that is being booted is in no listing yet.
        _ => before
            .or_else(|| first_inside(host))
            .map(|(init, supervisor)| match victim {
                Victim::Init => init,
                _ => supervisor,
            }),
    };
    let was_hit = pid
        .and_then(Pid::from_raw)
        .is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok());
    (was_hit, command.outcome())
}

/// The first process of the container that is being booted, and its parent.
fn first_inside(host: &Host) -> Option<(i32, i32)> {
    let is_first = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        inside.is_some_and(|pids| pids.split_whitespace().last() == Some("1"))
    };
    let init = host
        .contained()
        .into_iter()
        .find(|it| is_first(it.pid))?
        .pid;
    let supervisor = host.parent(init)?;
    // Whose parent is gone belongs to somebody who is not ours to kill.
    let is_ours = processes()
        .into_iter()
        .any(|it| it.pid == supervisor && it.works_on(host.home()));
    is_ours.then_some((init, supervisor))
}

/// What is there now, with the words in it.
#[track_caller]
fn found(host: &Host) -> There {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let mut there = There::default();
    for name in host.container_names() {
        let word = host
            .home()
            .join(format!("containers/{name}/files/upper/srv-word"));
        there.containers.insert(name, read(&word));
    }
    for image in host.images() {
        let Some(name) = image.strip_suffix(" _").filter(|name| *name != "test") else {
            continue;
        };
        there
            .images
            .insert(name.into(), read(&host.tree_of(name, "_").join("srv-word")));
    }
    there
}
