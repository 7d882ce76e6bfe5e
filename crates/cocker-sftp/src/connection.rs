//! The way to the server and back: packets that wait to be sent, replies that wait to be taken, and the one loop that moves
//! bytes. Nothing here blocks but poll(2), and that for no longer than the patience.

use crate::error::{ConnectCause, SftpErrorKind, Trouble};
use crate::ssh::Process;
use crate::wire::{self, Head, LONGEST_PACKET, Malformed, Packet, Reply, Version};
use crate::words::{Words, one_line};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::ops::{Deref, Range};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much is read at once: a packet in the middle, and one to come.
const INCOMING: usize = 2 * (4 + LONGEST_PACKET);
/// How many pieces of packets one writev(2) takes: more than a pipe holds, most often.
const AT_ONCE: usize = 32;
/// How long the last words are waited for, once the server is gone.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long ssh gets to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);
/// So many bytes of a packet are a sign of life. Fewer are none: else a byte now and then would hold whoever waits for years.
const SIGN_OF_LIFE: usize = 1024;
/// What is a pipe holds as much as this, where the kernel allows it.
const PIPE_SIZE: usize = 1024 * 1024;

pub(crate) struct Connection {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    process: Option<Process>,
    patience: Duration,
    outgoing: VecDeque<Chunk>,
    /// How much of the first of them was sent.
    sent: usize,
    incoming: Incoming,
    /// Requests without a reply so far.
    asked: HashMap<u32, Asked>,
    /// Replies that nobody has taken so far; as many as there were requests at most.
    replies: HashMap<u32, Reply>,
    last_id: u32,
    /// When there was a sign of life, or a wait began: a byte went, a packet began or was whole, or much of one came.
    moved: Instant,
    /// How much came since, in bytes.
    since: usize,
    words: Words,
    broken: Option<SftpErrorKind>,
}

/// Bytes that nobody changes any more.
pub(crate) type Shared = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Bytes to send.
pub(crate) enum Chunk {
    Own(Vec<u8>),
    /// Those of a range.
    Shared(Shared, Range<usize>),
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes, range) => &(**bytes).as_ref()[range.clone()],
        }
    }
}

struct Asked {
    /// The type of the request, which says what may come for it.
    kind: u8,
    /// Whoever asked is gone; the reply is dropped when it comes.
    abandoned: bool,
}

/// Why no byte moves any more.
enum Stop {
    Closed,
    Silent,
    Failed(Errno),
}

#[derive(Clone, Copy)]
enum Wait {
    No,
    /// Until something moves, or for this long since something did; without an end where there is none.
    For(Option<Duration>),
}

impl Connection {
    pub(crate) fn new(
        from: OwnedFd,
        to: OwnedFd,
        errors: Option<OwnedFd>,
        process: Option<Process>,
        patience: Duration,
    ) -> Result<Connection, Errno> {
        for end in [Some(&from), Some(&to), errors.as_ref()]
            .into_iter()
            .flatten()
        {
            rustix::fs::fcntl_setfl(end, rustix::fs::fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        for end in [&from, &to] {
            // No pipe, or more than this user may have: it works all the same, with more turns.
            let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE_SIZE);
        }
        Ok(Connection {
            from: Some(from),
            to: Some(to),
            errors,
            process,
            patience,
            outgoing: VecDeque::new(),
            sent: 0,
            incoming: Incoming::new(),
            asked: HashMap::new(),
            replies: HashMap::new(),
            last_id: 0,
            moved: Instant::now(),
            since: 0,
            words: Words::default(),
            broken: None,
        })
    }

    /// Says the first word and waits for the server's. With `unbounded`, somebody may be typing a password until then.
    pub(crate) fn greet(&mut self, unbounded: bool) -> Result<Version, ConnectCause> {
        self.outgoing.push_back(Chunk::Own(wire::greeting()));
        self.moved = Instant::now();
        loop {
            match self.incoming.greeting() {
                Greeting::Packet(body) => {
                    let version = Version::parse(&body);
                    return version.map_err(|Malformed(what)| self.unfit(what));
                }
                Greeting::Malformed(what) => return Err(self.unfit(what)),
                Greeting::Text => return Err(self.something_else()),
                Greeting::Partial => {}
            }
            let bound = (!unbounded || self.incoming.has_any()).then_some(self.patience);
            match self.turn(Wait::For(bound)) {
                Ok(()) => {}
                Err(Stop::Closed) if self.incoming.is_text() => return Err(self.something_else()),
                Err(Stop::Closed) => {
                    self.hear_out();
                    let status = self.process.as_mut().and_then(Process::status);
                    return Err(ConnectCause::ended(self.words.shown(), status));
                }
                Err(Stop::Silent) => {
                    self.give_up();
                    let words = self.words.shown();
                    return Err(ConnectCause::Silent {
                        seconds: self.patience.as_secs(),
                        words,
                    });
                }
                Err(Stop::Failed(errno)) => {
                    return Err(ConnectCause::Pipe {
                        source: errno.into(),
                    });
                }
            }
        }
    }

    /// Queues a request and gives the id by which its reply is waited for.
    pub(crate) fn submit(&mut self, packet: Packet) -> u32 {
        self.submit_with(packet, Vec::new())
    }

    /// The same with the data of a request, which ends it.
    pub(crate) fn submit_with(&mut self, packet: Packet, data: Vec<Chunk>) -> u32 {
        // An id comes again after four billion requests; one that is still in use is passed over.
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if !self.asked.contains_key(&self.last_id) && !self.replies.contains_key(&self.last_id)
            {
                break;
            }
        }
        let asked = Asked {
            kind: packet.kind(),
            abandoned: false,
        };
        // Nothing is sent any more once it is broken, as the wait for the reply will tell.
        if self.broken.is_none() {
            self.asked.insert(self.last_id, asked);
            let behind = data.iter().map(|chunk| chunk.len()).sum();
            let packet = packet.with_id(self.last_id, behind);
            self.outgoing.push_back(Chunk::Own(packet));
            self.outgoing.extend(data);
        }
        self.last_id
    }

    /// Moves what can be moved without waiting. What goes wrong is told to whoever waits next.
    pub(crate) fn advance(&mut self) {
        self.moved = Instant::now();
        self.exchange(Wait::No);
    }

    /// The reply to a request if it is there.
    pub(crate) fn taken(&mut self, id: u32) -> Option<Reply> {
        self.replies.remove(&id)
    }

    /// Waits for the reply to a request. What came before the connection broke can still be taken.
    pub(crate) fn wait(&mut self, id: u32) -> Result<Reply, Trouble> {
        self.moved = Instant::now();
        loop {
            if let Some(reply) = self.replies.remove(&id) {
                return Ok(reply);
            }
            if let Some(broken) = &self.broken {
                return Err(broken.clone().into());
            }
            self.exchange(Wait::For(Some(self.patience)));
        }
    }

    /// Nobody waits for these any more.
    pub(crate) fn abandon(&mut self, ids: impl Iterator<Item = u32>) {
        for id in ids {
            if self.replies.remove(&id).is_none()
                && let Some(asked) = self.asked.get_mut(&id)
            {
                asked.abandoned = true;
            }
        }
    }

    /// Ends the session for what a server has answered to one request.
    pub(crate) fn break_off(&mut self, trouble: &Trouble) {
        if self.broken.is_none() {
            self.broken = Some(trouble.kind.clone());
            self.outgoing.clear();
            self.asked.clear();
            self.give_up();
        }
    }

    pub(crate) fn words(&mut self) -> String {
        self.hear();
        self.words.shown()
    }

    /// One turn, and its replies put where they are waited for. What goes wrong breaks the session.
    fn exchange(&mut self, wait: Wait) {
        if self.broken.is_some() {
            return;
        }
        let turned = self.turn(wait);
        // What came before an end counts.
        let kind = match (self.deliver(), turned) {
            (Ok(()), Ok(())) => return,
            (Err(Malformed(what)), _) => SftpErrorKind::Protocol(what.to_owned()),
            (Ok(()), Err(Stop::Silent)) => SftpErrorKind::Silent {
                seconds: self.patience.as_secs(),
            },
            (Ok(()), Err(Stop::Closed)) => {
                self.hear_out();
                SftpErrorKind::ConnectionLost {
                    words: self.words.shown(),
                }
            }
            (Ok(()), Err(Stop::Failed(errno))) => {
                let words = format!("{}\n{errno}", self.words.shown());
                SftpErrorKind::ConnectionLost {
                    words: words.trim().to_owned(),
                }
            }
        };
        self.break_off(&kind.into());
    }

    fn deliver(&mut self) -> Result<(), Malformed> {
        while let Some(packet) = self.incoming.packet()? {
            self.moved = Instant::now();
            let (head, _) = Head::parse(packet)?;
            // Before anything is made of it: what does not answer the question may be large.
            let asked = self.asked.remove(&head.id);
            let asked = asked.ok_or(Malformed("a reply came that nobody asked for"))?;
            if !head.answers(asked.kind) {
                return Err(Malformed("a reply is one to something else"));
            }
            if !asked.abandoned {
                self.replies.insert(head.id, Reply::parse(packet)?);
            }
        }
        Ok(())
    }

    /// Waits once, and moves the bytes that can be moved.
    fn turn(&mut self, wait: Wait) -> Result<(), Stop> {
        let Some(from) = &self.from else {
            return Err(Stop::Closed);
        };
        let mut fds = vec![PollFd::new(from, PollFlags::IN)];
        fds.extend(
            self.errors
                .as_ref()
                .map(|errors| PollFd::new(errors, PollFlags::IN)),
        );
        let to = self.to.as_ref().filter(|_| !self.outgoing.is_empty());
        fds.extend(to.map(|to| PollFd::new(to, PollFlags::OUT)));
        let left = |bound: Duration| bound.saturating_sub(self.moved.elapsed());
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::For(bound) => bound.map(left),
        };
        match poll(&mut fds, timeout.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Stop::Failed(errno)),
        }
        let readable = !fds[0].revents().is_empty();
        let other = fds[1..].iter().any(|fd| !fd.revents().is_empty());
        drop(fds);
        if readable {
            self.receive()?;
        }
        if other {
            self.hear();
            self.send()?;
        }
        match wait {
            // Words on stderr are no sign of life: a server could go on with them for ever.
            Wait::For(Some(bound)) if self.moved.elapsed() >= bound => Err(Stop::Silent),
            _ => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<(), Stop> {
        let Some(from) = &self.from else {
            return Err(Stop::Closed);
        };
        let begins = !self.incoming.has_any();
        match rustix::io::read(from, self.incoming.space()) {
            // A socket whose other end was closed before it had read everything says so.
            Ok(0) | Err(Errno::CONNRESET) => {
                self.from = None;
                Err(Stop::Closed)
            }
            Ok(bytes) => {
                self.incoming.filled += bytes;
                self.since += bytes;
                if begins || self.since >= SIGN_OF_LIFE {
                    (self.moved, self.since) = (Instant::now(), 0);
                }
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(Stop::Failed(errno)),
        }
    }

    fn send(&mut self) -> Result<(), Stop> {
        let Some(to) = &self.to else {
            // Replies may still be on their way, and behind them the end.
            self.outgoing.clear();
            return Ok(());
        };
        while let Some(first) = self.outgoing.front() {
            let rest = self
                .outgoing
                .iter()
                .skip(1)
                .take(AT_ONCE - 1)
                .map(|p| IoSlice::new(p));
            let slices: Vec<IoSlice<'_>> = std::iter::once(IoSlice::new(&first[self.sent..]))
                .chain(rest)
                .collect();
            match rustix::io::writev(to, &slices) {
                Ok(bytes) => {
                    self.moved = Instant::now();
                    self.sent += bytes;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    self.to = None;
                    self.outgoing.clear();
                    return Ok(());
                }
                Err(errno) => return Err(Stop::Failed(errno)),
            }
            while let Some(first) = self.outgoing.front()
                && self.sent >= first.len()
            {
                self.sent -= first.len();
                self.outgoing.pop_front();
            }
        }
        Ok(())
    }

    /// Takes what is on stderr, without waiting, and not for ever where there is always more.
    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            let Some(errors) = &self.errors else { return };
            match rustix::io::read(errors, &mut buffer) {
                Ok(bytes) if bytes > 0 => self.words.add(&buffer[..bytes]),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Ok(_) | Err(_) => self.errors = None,
            }
        }
    }

    /// Takes what is on stderr until its end, for a moment at most.
    fn hear_out(&mut self) {
        let end = Instant::now() + LAST_WORDS;
        while let Some(errors) = &self.errors {
            let left = end.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(errors, PollFlags::IN)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => return,
                Ok(_) | Err(Errno::INTR) if !left.is_zero() => self.hear(),
                _ => return,
            }
        }
    }

    /// The server says something, but no packet: waits for the rest of its first line.
    fn something_else(&mut self) -> ConnectCause {
        self.moved = Instant::now();
        let bound = Wait::For(Some(self.patience.min(LAST_WORDS)));
        while !self.incoming.has_a_line() && self.turn(bound).is_ok() {}
        self.give_up();
        ConnectCause::NotSftp {
            first_line: one_line(self.incoming.first_line()),
        }
    }

    fn unfit(&mut self, what: &str) -> ConnectCause {
        self.give_up();
        ConnectCause::Protocol(what.to_owned())
    }

    /// Nothing good comes from there any more: ssh need not be waited for.
    fn give_up(&mut self) {
        self.hear();
        if let Some(process) = &mut self.process {
            process.end(Duration::ZERO);
        }
    }
}

impl Drop for Connection {
    /// ssh ends by itself when its input does; it is made to where it does not.
    fn drop(&mut self) {
        self.to = None;
        self.from = None;
        self.errors = None;
        if let Some(process) = &mut self.process {
            process.end(FAREWELL);
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // No wait is longer than a year, so no number of seconds is too large; and none ends a moment too early.
    let bounded = duration.min(Duration::from_secs(365 * 24 * 3600));
    Timespec {
        tv_sec: bounded.as_secs() as i64,
        tv_nsec: bounded.subsec_nanos().into(),
    }
}

/// Bytes that came, of which the first were taken.
struct Incoming {
    bytes: Box<[u8]>,
    taken: usize,
    filled: usize,
}

enum Greeting {
    Partial,
    /// What stands behind the type of a VERSION.
    Packet(Vec<u8>),
    Text,
    Malformed(&'static str),
}

impl Incoming {
    fn new() -> Incoming {
        Incoming {
            bytes: vec![0; INCOMING].into(),
            taken: 0,
            filled: 0,
        }
    }

    fn here(&self) -> &[u8] {
        &self.bytes[self.taken..self.filled]
    }

    fn has_any(&self) -> bool {
        !self.here().is_empty()
    }

    /// Where more can be read into; never empty, since whole packets were taken before.
    fn space(&mut self) -> &mut [u8] {
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        } else if self.bytes.len() - self.filled <= LONGEST_PACKET {
            self.bytes.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        &mut self.bytes[self.filled..]
    }

    /// The next packet behind its length, if all of it is here.
    fn packet(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let Some((length, rest)) = self.here().split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LONGEST_PACKET {
            return Err(Malformed("a packet is longer than 257 KiB"));
        }
        if length < 5 {
            return Err(Malformed("a packet is too short for any reply"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.taken + 4;
        self.taken = start + length;
        Ok(Some(&self.bytes[start..start + length]))
    }

    /// The first packet. A login shell that greets writes text in its place, whose first letters make an enormous length.
    fn greeting(&mut self) -> Greeting {
        if self.is_text() {
            return Greeting::Text;
        }
        match self.packet() {
            Ok(None) => Greeting::Partial,
            Err(Malformed(what)) => Greeting::Malformed(what),
            Ok(Some([wire::VERSION, body @ ..])) => Greeting::Packet(body.to_vec()),
            Ok(Some(_)) => Greeting::Malformed("its first packet is no version"),
        }
    }

    /// The length of a packet begins with a zero byte.
    fn is_text(&self) -> bool {
        self.here().first().is_some_and(|first| *first != 0)
    }

    fn has_a_line(&self) -> bool {
        let text = self.here().trim_ascii_start();
        text.len() >= 1024 || text.contains(&b'\n') || self.filled > INCOMING / 2
    }

    fn first_line(&self) -> &[u8] {
        let text = self.here().trim_ascii_start();
        text.split(|byte| *byte == b'\n').next().unwrap_or(text)
    }
}
