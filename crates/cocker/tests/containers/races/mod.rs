//! Many commands at once on few names: every answer has to fit some order of them, and no command waits for ever.

mod history;
mod model;
mod stopped;

use crate::host::{Host, Outcome, PATIENCE, here, in_a_lab};
use history::{Event, MOST, ends, told};
use model::{Answer, State, Step, Token};
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = in_a_lab![
        every_answer_fits_some_order_of_the_commands,
        two_stores_at_once_do_not_disturb_each_other,
        sessions_come_and_go_while_the_container_does,
    ];
    trials.extend(stopped::trials());
    trials
}

/// How long commands are hurled at the store; `COCKER_TEST_TRIES` times as long.
const USUAL: Duration = Duration::from_secs(12);
/// In a round so many at once type so many commands each.
const AT_ONCE: usize = 6;
const EACH: usize = 4;

/// The second is in BRIDGE.
const CONTAINERS: [&str; 2] = ["a", "b"];
const IMAGES: [&str; 2] = ["x", "y"];

fn every_answer_fits_some_order_of_the_commands(host: &Host) {
    history::proves_itself();
    let played = Play::on(host, "166.88.0.10").for_a_while(0);
    host.cocker("doctor").succeeds();
    eprintln!("{played} commands, every answer fits");
}

fn two_stores_at_once_do_not_disturb_each_other(host: &Host) {
    let other = host.other_store();
    // Each has a bridge of its own.
    other.configure_network(&["bridge = \"lab0\"", "subnet = \"10.77.0.1/24\""]);
    thread::scope(|scope| {
        scope.spawn(|| Play::on(other, "10.77.0.20").for_a_while(1 << 32));
        Play::on(host, "166.88.0.10").for_a_while(1 << 40);
    });
}

/// Whoever attaches gets a shell, or is told why not, or is thrown out with the container; no terminal hangs.
fn sessions_come_and_go_while_the_container_does(host: &Host) {
    host.cocker("create -m test -c web").ok();
    let end = Instant::now() + USUAL / 3;
    let sessions = AtomicU32::new(0);
    let is_over = || {
        let now = Instant::now();
        // On a busy machine they may take long.
        let are_enough = sessions.load(Ordering::Relaxed) > 10 || now >= end + here(PATIENCE);
        now >= end && are_enough
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over() {
                    let mut terminal = host.terminal("attach web --new");
                    terminal.type_line("exit 7");
                    let status = terminal.end().code();
                    let shown = String::from_utf8_lossy(terminal.shown()).into_owned();
                    match status {
                        Some(7) => _ = sessions.fetch_add(1, Ordering::Relaxed),
                        // Thrown out, by the end of the shell or of the container.
                        Some(129 | 137 | 143) => {}
                        _ => assert!(
                            [
                                "not booted",
                                "has just ended",
                                "connection to container lost"
                            ]
                            .iter()
                            .any(|known| shown.contains(known)),
                            "{status:?}: {shown}"
                        ),
                    }
                }
            });
        }
        scope.spawn(|| {
            while !is_over() {
                host.cocker("boot web").ok();
                let before = sessions.load(Ordering::Relaxed);
                while !is_over() && sessions.load(Ordering::Relaxed) < before + 3 {
                    thread::sleep(Duration::from_millis(1));
                }
                host.cocker("shutdown web").ok();
            }
        });
    });
    assert!(sessions.into_inner() > 10);
    assert!(host.contained().is_empty());
}

/// One store, and what is known of it.
struct Play<'a> {
    host: &'a Host,
    vip: &'static str,
    folder: PathBuf,
    last: AtomicU32,
}

impl<'a> Play<'a> {
    fn on(host: &'a Host, vip: &'static str) -> Play<'a> {
        Play {
            host,
            vip,
            folder: host.folder("tokens"),
            last: AtomicU32::new(0),
        }
    }

    /// Plays rounds; says how many commands were typed.
    fn for_a_while(&self, seed: u64) -> usize {
        let tries = std::env::var("COCKER_TEST_TRIES").unwrap_or_else(|_| "1".into());
        let time = USUAL * tries.parse().expect("COCKER_TEST_TRIES is a number");
        let end = Instant::now() + time;
        let mut states = HashSet::from([State::default()]);
        let mut typed = 0;
        let mut round = seed;
        while Instant::now() < end {
            let mut events = self.round(round);
            events.extend(self.look());
            typed += events.len();
            let after = ends(&events, &states);
            assert!(
                !after.is_empty(),
                "round {round}: from {states:?}, no order of these commands has these answers:\n{}",
                told(&events)
            );
            states = after;
            round += 1;
        }
        self.host.cocker("check").succeeds();
        typed
    }

    fn round(&self, seed: u64) -> Vec<Event> {
        let events = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for player in 0..AT_ONCE {
                let events = &events;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed * AT_ONCE as u64 + player as u64);
                    for _ in 0..EACH {
                        let happened = self.move_at_random(&mut dice);
                        let mut events = events.lock().expect("nobody panics with it");
                        let at = events.len();
                        events.extend(happened.into_iter().map(|event: Event| Event {
                            after: event.after.map(|before| at + before),
                            ..event
                        }));
                    }
                });
            }
        });
        events.into_inner().expect("all have ended")
    }

    /// What the store is afterwards, seen by one who is alone.
    fn look(&self) -> Vec<Event> {
        let mut events = self.list();
        for name in CONTAINERS {
            events.extend(self.get(name));
        }
        events
    }

    fn move_at_random(&self, dice: &mut Dice) -> Vec<Event> {
        let name = dice.one_of(CONTAINERS);
        let (image, other) = match dice.below(2) {
            0 => (IMAGES[0], IMAGES[1]),
            _ => (IMAGES[1], IMAGES[0]),
        };
        let net = match name {
            "b" => format!("--net BRIDGE --vip {}", self.vip),
            _ => String::new(),
        };
        match dice.below(20) {
            0..=2 => self.types(
                &format!("create -m test -c {name} {net}"),
                Step::Create(name),
            ),
            3..=6 => self.types(&format!("boot {name}"), Step::Boot(name)),
            7 => self.types(&format!("shutdown {name}"), Step::End(name)),
            8 => self.types(&format!("kill {name}"), Step::End(name)),
            9 => self.types(&format!("destroy {name}"), Step::Destroy(name)),
            10 => self.destroys_booted(name),
            11..=12 => self.runs(name),
            13 => self.puts(name),
            14 => self.get(name),
            15 => self.types(
                &format!("to-image --from-container {name} --to-image {image}"),
                Step::ToImage(name, image),
            ),
            16 => self.types(
                &format!("to-container --from-image {image} --to-container {name} {net}"),
                Step::ToContainer(image, name),
            ),
            17 => self.types(
                &format!("copy-image --from-image {image} --to-image {other}"),
                Step::Copy(image, other),
            ),
            18 => self.types(&format!("rm-image {image}"), Step::Remove(image)),
            _ => self.list(),
        }
    }

    fn types(&self, line: &str, step: Step) -> Vec<Event> {
        let (outcome, event) = self.typed(line, step);
        let answer = answer(&outcome);
        vec![Event { answer, ..event }]
    }

    /// It ends what is booted, and then destroys what is there: two steps.
    fn destroys_booted(&self, name: &'static str) -> Vec<Event> {
        let line = format!("-a destroy -h -c {name}");
        let (outcome, event) = self.typed(&line, Step::EndIfBooted(name));
        let destroyed = Event {
            step: Step::Destroy(name),
            answer: answer(&outcome),
            after: Some(0),
            ..event.clone()
        };
        vec![event, destroyed]
    }

    fn runs(&self, name: &'static str) -> Vec<Event> {
        let (outcome, event) =
            self.typed(&format!("run {name} -- /bin/cat /token"), Step::Run(name));
        let answer = match outcome.status.code() {
            Some(0) => Answer::Read(token(&outcome.stdout)),
            Some(1) if outcome.stderr.contains("No such file") => Answer::Read(0),
            // It was killed with the container.
            Some(137 | 143) => Answer::BrokenOff,
            _ => answer(&outcome),
        };
        vec![Event { answer, ..event }]
    }

    fn puts(&self, name: &'static str) -> Vec<Event> {
        let token = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let file = self.folder.join(format!("put-{token}"));
        fs::write(&file, token.to_string()).expect("the folder is ours");
        let file = file.display();
        self.types(
            &format!("-a putfile -c {name} --src-file {file} --dst-file /token"),
            Step::Put(name, token),
        )
    }

    fn get(&self, name: &'static str) -> Vec<Event> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.join(format!("got-{number}"));
        let line = format!(
            "-a getfile -c {name} --src-file /token --dst-file {}",
            file.display()
        );
        let (outcome, event) = self.typed(&line, Step::Get(name));
        let answer = match outcome.status.success() {
            true => Answer::Read(token(&fs::read(&file).expect("it was got"))),
            false if outcome.stderr.contains("No such file") => Answer::Read(0),
            false => answer(&outcome),
        };
        vec![Event { answer, ..event }]
    }

    fn list(&self) -> Vec<Event> {
        let (outcome, event) = self.typed("ps --format json", Step::ListContainer(""));
        let listed: serde_json::Value =
            serde_json::from_slice(&outcome.succeeds().stdout).expect("a list is JSON");
        let of = |name: &str| {
            let entries = listed.as_array().expect("a list");
            let entry = entries.iter().find(|entry| entry["container_id"] == name)?;
            let status = entry["status"].as_str().expect("a status");
            assert!(
                status == "STOPPED" || status.starts_with("RUNNING"),
                "{name} is {status}"
            );
            Some(status != "STOPPED")
        };
        let mut events: Vec<Event> = CONTAINERS
            .iter()
            .map(|name| Event {
                step: Step::ListContainer(name),
                answer: Answer::Seen(of(name)),
                ..event.clone()
            })
            .collect();
        let (outcome, event) = self.typed("images -q", Step::ListImage(""));
        let listed = outcome.succeeds().stdout();
        events.extend(IMAGES.iter().map(|name| {
            let is_there = listed.lines().any(|line| line == *name);
            Event {
                step: Step::ListImage(name),
                answer: Answer::Seen(is_there.then_some(false)),
                ..event.clone()
            }
        }));
        events
    }

    fn typed(&self, line: &str, step: Step) -> (Outcome, Event) {
        let begun = Instant::now();
        let outcome = self.host.cocker(line);
        let event = Event {
            line: line.trim_end().into(),
            step,
            answer: Answer::Done,
            begun,
            ended: Instant::now(),
            after: None,
        };
        (outcome, event)
    }
}

fn token(bytes: &[u8]) -> Token {
    let text = str::from_utf8(bytes).expect("a token is a number");
    text.trim().parse().expect("a token is whole")
}

/// What a command says that prints nothing but `OK`, or why not.
#[track_caller]
fn answer(outcome: &Outcome) -> Answer {
    if outcome.status.success() {
        assert_eq!(outcome.stdout(), "OK\n", "{outcome}");
        return Answer::Done;
    }
    let known = [
        ("there is no container", Answer::NoContainer),
        ("cannot find image", Answer::NoImage),
        ("is booted (pid", Answer::Booted),
        ("is not booted", Answer::NotBooted),
        ("name is in use", Answer::NameInUse),
        ("exists already", Answer::NameInUse),
        ("has just ended", Answer::BrokenOff),
        ("ended before the container was ready", Answer::BrokenOff),
        ("ended before it could say why", Answer::BrokenOff),
    ];
    let said = known.iter().find(|(said, _)| outcome.stderr.contains(said));
    let (_, answer) = said.unwrap_or_else(|| panic!("nobody expected this of {outcome}"));
    *answer
}

const _: () = assert!(AT_ONCE * EACH * 4 + 6 <= MOST);

/// xorshift64 (Marsaglia, 2003), the same in every run.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        // SplitMix64 (Steele, Lea and Flood, 2014): seeds that are near each other begin far apart.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Dice((mixed ^ (mixed >> 31)).max(1))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_of<T: Copy>(&mut self, things: [T; 2]) -> T {
        things[self.below(2) as usize]
    }
}
