//! A supervisor between clients and an init that say anything: valid messages out of turn, broken ones, huge ones, with
//! descriptors that nobody asked for, floods, and silence.
//!
//! After each round it is alive, holds what it should and no more, and serves somebody who behaves. `COCKER_TEST_ROUNDS`
//! says how many rounds there are.
mod support;

use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use cocker_protocol::{
    Access, ClientReply, ClientRequest, InitReport, InitRequest, Lasting, MAX_MESSAGE, Open, Stage,
    Stream, Target, VERSION,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, shutdown};
use support::{Booted, Channel, Footprint, Looker, SIZE, is_readable, shell, terminal};

const BEHAVES: &CStr = c"behaves";
/// What is done in one round.
const ACTIONS: usize = 1500;
const MOST_CLIENTS: usize = 60;
/// A session's ring, its input and its entry, in KiB.
const SESSION: u64 = 64 + 4 + 8;
/// The tables and both buffers, once they were used, in KiB.
const TABLES: u64 = 2 * 192 + 160;

/// Numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

struct Client {
    channel: Channel,
    /// It has asked for nothing yet.
    is_new: bool,
}

/// How often clients were told what.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    looking: u64,
    replay: u64,
    output: u64,
    ended: u64,
    refused: u64,
    other: u64,
}

struct Storm<'a> {
    booted: &'a Booted,
    random: Random,
    clients: Vec<Client>,
    told: Told,
    /// What init was asked to start: the number, and what came along.
    spawned: Vec<(u32, Vec<OwnedFd>)>,
    /// The one of the client that behaves.
    behaved: Option<(u32, Vec<OwnedFd>)>,
    /// Descriptors to send along.
    surplus: Vec<OwnedFd>,
}

impl<'a> Storm<'a> {
    fn new(booted: &'a Booted, seed: u64) -> Self {
        let (input, output) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (master, slave) = terminal();
        let file = std::fs::File::open("/dev/null").unwrap();
        Self {
            booted,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            clients: Vec::new(),
            told: Told::default(),
            spawned: Vec::new(),
            behaved: None,
            surplus: vec![input, output, master, slave, file.into()],
        }
    }

    fn act(&mut self) {
        match self.random.below(20) {
            0 | 1 if self.clients.len() < MOST_CLIENTS => {
                self.clients.push(Client {
                    channel: self.booted.connect(),
                    is_new: true,
                });
            }
            2..=8 => self.ask(),
            9 | 10 => (0..10).for_each(|_| self.listen()),
            11 => self.leave(),
            12..=14 => self.report(),
            15 | 16 => self.take_requests(16),
            17 | 18 => self.show(),
            _ => self.flood(),
        }
    }

    /// A client asks something, and may listen never.
    fn ask(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let client = self.random.below(self.clients.len());
        let is_new = std::mem::take(&mut self.clients[client].is_new);
        let message = self.request(is_new);
        let message = self.broken(message);
        // What is meant to end the container is asked elsewhere.
        if let Ok(ClientRequest::Kill | ClientRequest::Shutdown { .. }) =
            ClientRequest::decode(&message)
        {
            return;
        }
        let count = self.random.one_of(&[0, 0, 0, 1, 2, 3, 3, 4, 8]);
        let along: Vec<_> = (0..count)
            .map(|_| self.random.below(self.surplus.len()))
            .collect();
        let along: Vec<BorrowedFd<'_>> = along
            .iter()
            .map(|&index| self.surplus[index].as_fd())
            .collect();
        send(&self.clients[client].channel, &message, &along);
    }

    /// What may be asked first, or else what may be asked by somebody who looks at a session; now and then the other.
    fn request(&mut self, is_first: bool) -> Vec<u8> {
        let long = c"0123456789012345678901234567890123456789012345678901234567890123";
        let name = self
            .random
            .one_of(&[c"", c"", c"", c"", c"", c"", c"work", c"play", long]);
        let sizes = [0, 1, 24, 80, u16::MAX];
        let (rows, columns) = (self.random.one_of(&sizes), self.random.one_of(&sizes));
        let number = self.random.one_of(&[0, 1, 2, 3, 7, 30, u32::MAX]);
        let target =
            self.random
                .one_of(&[Target::Idle, Target::Number(number), Target::Name(name)]);
        let access = self.random.one_of(&[Access::LookAndType, Access::LookOnly]);
        let typed = match self.random.below(40) {
            0 => self.random.one_of(&[4097, 100_000]),
            _ => self
                .random
                .one_of(&[0, 1, 1, 10, 10, 100, 1000, 4096, 4096]),
        };
        let typed = self.random.bytes(typed);
        let arguments = vec![0; self.random.one_of(&[0, 1, 3, 1000, 190_000])];
        let kind = match (is_first, self.random.below(30)) {
            (_, 0) if self.random.below(4) == 0 => self.random.below(12),
            (true, _) => self.random.one_of(&[0, 1, 2, 2, 2, 2, 2, 5, 5, 5, 10, 11]),
            (false, _) => self.random.one_of(&[7, 7, 8, 9]),
        };
        let request = match kind {
            0 => ClientRequest::Spawn(shell(&arguments, Stream::Pipes)),
            1 => ClientRequest::Spawn(shell(&arguments, Stream::Terminal { rows, columns })),
            2..=4 => ClientRequest::Open(Open {
                name,
                who: long,
                lasting: self.random.one_of(&[Lasting::Stays, Lasting::Ends]),
                most_recorded: self.random.one_of(&[0, 0, 0, 1000]),
                spawn: shell(&arguments, Stream::Terminal { rows, columns }),
            }),
            5 | 6 => ClientRequest::Join {
                target,
                access,
                rows,
                columns,
            },
            7 | 8 => ClientRequest::Input { bytes: &typed },
            9 => ClientRequest::Resize { rows, columns },
            10 => ClientRequest::NextSession { after: number },
            _ => match self.random.below(2) {
                0 => ClientRequest::Signal {
                    signal: number as i32,
                },
                _ => ClientRequest::EndSession {
                    target,
                    by_force: number == 0,
                },
            },
        };
        encoded(|buffer| request.encode(buffer))
    }

    /// The message, mostly as it is.
    fn broken(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        match self.random.below(100) {
            0 => {
                let length = 1 + self.random.below(message.len());
                message.truncate(length);
            }
            1 => {
                for _ in 0..=self.random.below(4) {
                    let at = self.random.below(message.len());
                    message[at] = self.random.next() as u8;
                }
            }
            2 => {
                let at = self.random.below(message.len().saturating_sub(3).max(1));
                let lie = self
                    .random
                    .one_of(&[0, 1, 0x7fff_ffff, 0xffff_fffc, u32::MAX]);
                message.truncate(message.len().max(at + 4));
                if let Some(place) = message.get_mut(at..at + 4) {
                    place.copy_from_slice(&lie.to_le_bytes());
                }
            }
            3 => message[..2].copy_from_slice(&(VERSION + 1).to_le_bytes()),
            4 => {
                let length = self.random.one_of(&[8, 64, 65, 4096, 200_000]);
                message = self.random.bytes(length);
            }
            5 => {
                let length = self
                    .random
                    .one_of(&[1, 100, 200_000 - message.len().min(199_999)]);
                message.extend(std::iter::repeat_n(0, length));
            }
            _ => {}
        }
        message
    }

    /// A client takes some of what it is told, all of which is a reply.
    fn listen(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let client = self.random.below(self.clients.len());
        let most = self.random.one_of(&[1, 5, 100]);
        let mut buffer = vec![0; MAX_MESSAGE];
        for _ in 0..most {
            match recv(
                &self.clients[client].channel.0,
                &mut buffer[..],
                RecvFlags::DONTWAIT,
            ) {
                Ok((0, _)) => {
                    self.clients.swap_remove(client);
                    return;
                }
                Ok((length, _)) => {
                    let reply = ClientReply::decode(&buffer[..length]).expect("a reply");
                    let count = match reply {
                        ClientReply::Looking { .. } => &mut self.told.looking,
                        ClientReply::Replay { .. } => &mut self.told.replay,
                        ClientReply::Output { .. } => &mut self.told.output,
                        ClientReply::Exited { .. } => &mut self.told.ended,
                        ClientReply::Refused { .. } => &mut self.told.refused,
                        _ => &mut self.told.other,
                    };
                    *count += 1;
                }
                Err(Errno::AGAIN) => return,
                // It has closed over what was said to it.
                Err(Errno::CONNRESET) => {}
                Err(error) => panic!("cannot receive: {error}"),
            }
        }
    }

    fn leave(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let client = self.random.below(self.clients.len());
        match self.random.below(5) {
            0 => drop(shutdown(&self.clients[client].channel.0, Shutdown::Write)),
            1 => drop(shutdown(&self.clients[client].channel.0, Shutdown::Read)),
            // Nothing at all is taken for the end.
            2 => send(&self.clients[client].channel, b"", &[]),
            _ => drop(self.clients.swap_remove(client)),
        }
    }

    fn id(&mut self) -> u32 {
        match self.random.below(4) {
            0 => self.random.one_of(&[0, 1, 2, 1000, u32::MAX]),
            _ if self.spawned.is_empty() => 1,
            1 => self.spawned[self.random.below(self.spawned.len())].0,
            _ => {
                let newest = self.spawned.len().min(5);
                self.spawned[self.spawned.len() - 1 - self.random.below(newest)].0
            }
        }
    }

    /// init says something.
    fn report(&mut self) {
        let id = self.id();
        let wait_status = self.random.next() as i32;
        let report = match self.random.below(10) {
            0..=3 => InitReport::Started {
                id,
                pid: wait_status,
            },
            4 => InitReport::NotStarted {
                id,
                stage: self.random.one_of(&[Stage::Execute, Stage::InitGone]),
                errno: wait_status,
            },
            5 => InitReport::Exited { id, wait_status },
            7 => InitReport::Ready,
            8 => InitReport::Console,
            _ => InitReport::Started { id, pid: 2 },
        };
        let message = encoded(|buffer| report.encode(buffer));
        let message = self.broken(message);
        let count = self.random.one_of(&[0, 0, 1, 2, 3, 8]);
        let along: Vec<_> = self
            .surplus
            .iter()
            .cycle()
            .take(count)
            .map(AsFd::as_fd)
            .collect();
        send(self.booted.init(), &message, &along);
    }

    /// init takes some of what it is asked, all of which is a request.
    fn take_requests(&mut self, most: usize) {
        for _ in 0..most {
            if !is_readable_now(self.booted.init().0.as_fd()) {
                return;
            }
            let (bytes, descriptors) = self.booted.init().receive_bytes();
            match InitRequest::decode(&bytes).expect("a request") {
                InitRequest::Spawn { id, spawn } => {
                    let expected = match spawn.stream {
                        Stream::Pipes => 3,
                        Stream::Terminal { .. } => 1,
                        Stream::Nothing => 0,
                    };
                    assert_eq!(descriptors.len(), expected);
                    match spawn.arguments.iter().last() {
                        Some(last) if last == BEHAVES => self.behaved = Some((id, descriptors)),
                        _ => self.spawned.push((id, descriptors)),
                    }
                }
                InitRequest::Signal { .. } | InitRequest::End { .. } => {
                    assert!(descriptors.is_empty());
                }
                InitRequest::Shutdown { .. } => panic!("nobody has asked for the end"),
            }
        }
    }

    /// What runs in a session shows something, reads something, or closes its terminal.
    fn show(&mut self) {
        if self.spawned.is_empty() {
            return;
        }
        let index = self.random.below(self.spawned.len());
        let length = self.random.one_of(&[1, 20, 3000, 100_000]);
        let shown = match self.random.below(2) {
            0 => self.random.bytes(length),
            _ => b"\x1b[?1049h\x1b[1;31mred\x1b[?25l\r\n".repeat(length / 20),
        };
        let Some(side) = self.spawned[index].1.first() else {
            return;
        };
        if rustix::termios::isatty(side) {
            rustix::io::ioctl_fionbio(side, true).unwrap();
            match self.random.below(8) {
                0 => drop(self.spawned[index].1.pop()),
                1 => drop(rustix::io::read(side, &mut vec![0; 5000])),
                2 => {
                    if let Ok(mut modes) = rustix::termios::tcgetattr(side) {
                        modes.make_raw();
                        let now = rustix::termios::OptionalActions::Now;
                        let _ = rustix::termios::tcsetattr(side, now, &modes);
                    }
                }
                3 => drop(rustix::termios::tcflow(side, rustix::termios::Action::OOff)),
                4 => drop(rustix::termios::tcflow(side, rustix::termios::Action::OOn)),
                _ => drop(rustix::io::write(side, &shown)),
            }
        }
    }

    /// Much of the same at once.
    fn flood(&mut self) {
        match self.random.below(3) {
            0 => (0..100).for_each(|_| self.report()),
            1 => {
                for _ in 0..20 {
                    self.show();
                }
            }
            _ => {
                let message = self.request(false);
                if let Some(client) = self.clients.last() {
                    for _ in 0..50 {
                        send(&client.channel, &message, &[]);
                    }
                }
            }
        }
    }

    /// Somebody who behaves is served, by an init that does.
    fn serves(&mut self) {
        let (client, (id, mut descriptors)) = loop {
            let client = self.booted.connect();
            client.ask_to_open(c"", Lasting::Ends, SIZE, BEHAVES);
            if let Some(behaved) = self.await_behaved(&client) {
                break (client, behaved);
            }
            // What others have asked before had filled init's socket.
            let reply = client.receive();
            let ClientReply::NotStarted { stage, errno } = reply.get() else {
                panic!("not started, but {reply:?}");
            };
            assert_eq!((stage, errno), (Stage::TooMany, libc::EAGAIN));
        };
        self.booted
            .init()
            .report(InitReport::Started { id, pid: 2 }, &[]);
        let mut looker = Looker::begin(client);
        let mut side = std::fs::File::from(descriptors.pop().unwrap());
        side.write_all(b"shown").unwrap();
        looker.sees("shown");
        looker.types(b"typed\n");
        let mut typed = [0; 6];
        side.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"typed\n");
        let exited = InitReport::Exited { id, wait_status: 3 };
        self.booted.init().report(exited, &[]);
        assert_eq!(looker.ends(), 3);
    }

    /// Takes requests until the command of the client that behaves comes; `None` where the client is told something first.
    fn await_behaved(&mut self, client: &Channel) -> Option<(u32, Vec<OwnedFd>)> {
        let begun = Instant::now();
        while !is_readable_now(client.0.as_fd()) {
            assert!(begun.elapsed() < support::PATIENCE, "nobody says anything");
            is_readable(self.booted.init().0.as_fd(), Duration::from_millis(10));
            self.take_requests(16);
            if let Some(behaved) = self.behaved.take() {
                return Some(behaved);
            }
        }
        None
    }

    /// Everybody leaves and everything ends.
    fn end(mut self) {
        self.clients.clear();
        // Terminals that were stopped go on when they close.
        let ids: Vec<u32> = {
            self.booted.descriptors();
            self.take_requests(usize::MAX);
            self.spawned.drain(..).map(|(id, _)| id).collect()
        };
        for id in ids {
            let (stage, errno) = (Stage::Execute, 2);
            let (init, exited) = (
                self.booted.init(),
                InitReport::Exited { id, wait_status: 0 },
            );
            init.report(InitReport::NotStarted { id, stage, errno }, &[]);
            init.report(exited, &[]);
        }
        // Those that wait to be told of find room now.
        self.booted.until(|booted| {
            self.take_requests(usize::MAX);
            booted.sessions().is_empty()
        });
    }
}

fn encoded(encode: impl Fn(&mut [u8]) -> Result<usize, cocker_protocol::TooLong>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let length = encode(&mut buffer).unwrap_or(8);
    buffer.truncate(length);
    buffer
}

/// Sends what there is room for.
fn send(channel: &Channel, bytes: &[u8], along: &[BorrowedFd<'_>]) {
    match channel.send_with(bytes, along, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(_) | Err(Errno::AGAIN | Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {}
        Err(error) => panic!("cannot send {} bytes: {error}", bytes.len()),
    }
}

fn is_readable_now(descriptor: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut polled, Some(&now)).unwrap() > 0
}

/// Says which round it was that failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in round {}", self.0);
        }
    }
}

#[test]
fn whatever_is_said_it_lives_and_serves_and_does_not_grow() {
    let rounds = std::env::var("COCKER_TEST_ROUNDS");
    let rounds: u64 = rounds.map_or(12, |rounds| rounds.parse().expect("a number"));
    let mut booted = Booted::ready();
    let idle = booted.footprint();
    let mut used: Option<Footprint> = None;
    let (mut most_sessions, mut told) = (0, Told::default());
    for round in 1..=rounds {
        let _named = Named(round);
        let mut storm = Storm::new(&booted, round);
        for _ in 0..ACTIONS {
            storm.act();
        }
        storm.serves();
        // What it holds belongs to somebody. A session that has ended and waits for its lookers goes soon.
        booted.until(|booted| {
            let (sessions, now) = (booted.sessions().len(), booted.footprint());
            most_sessions = most_sessions.max(sessions);
            let grown = now.anonymous.saturating_sub(idle.anonymous);
            assert!(
                grown <= TABLES + SESSION * (now.descriptors - idle.descriptors) as u64,
                "round {round}: {idle:?} became {now:?} with {sessions} sessions"
            );
            now.descriptors <= idle.descriptors + storm.clients.len() + sessions
        });
        let this = storm.told;
        told = Told {
            looking: told.looking + this.looking,
            replay: told.replay + this.replay,
            output: told.output + this.output,
            ended: told.ended + this.ended,
            refused: told.refused + this.refused,
            other: told.other + this.other,
        };
        storm.end();
        booted.until(|booted| booted.descriptors() == idle.descriptors);
        let now = booted.footprint();
        assert!(
            now.anonymous <= idle.anonymous + TABLES,
            "round {round}: {idle:?} became {now:?}"
        );
        let used = used.get_or_insert(now);
        assert!(
            now.mappings <= used.mappings,
            "round {round}: {used:?} became {now:?}"
        );
        used.anonymous = used.anonymous.max(now.anonymous);
    }
    assert!(matches!(booted.supervisor.try_wait(), Ok(None)));
    println!(
        "{rounds} rounds; at most {most_sessions} sessions; {told:?}; {idle:?} became {used:?}"
    );
}
