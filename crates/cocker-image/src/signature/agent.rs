//! What is asked of the user's ssh-agent: whether it holds a key, and a signature with it.
//!
//! ```text
//! message   uint32 length, byte type, content        (draft-ietf-sshm-ssh-agent)
//! ```
//!
//! The agent may be any program behind a socket, forwarded from another machine even: its answers are bounded, in bytes
//! and in time, and a signature of its is verified before it is believed.

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// A flag of a request: RSA signs with SHA-512 then, and not with SHA-1. Other keys do not heed it.
const RSA_SHA2_512: u32 = 4;

/// The longest answer, in bytes: what OpenSSH's own agent keeps to.
const LONGEST: usize = 256 * 1024;

/// How long the agent may take where nobody has to do anything.
const PROMPT: Duration = Duration::from_secs(10);

/// How long a signature may take: somebody may have to confirm it, or to touch a security key.
const CONFIRMED: Duration = Duration::from_secs(120);

/// Why the agent did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("cannot speak to it")]
    Speak(#[source] io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It is locked, or somebody declined.
    #[error("it refused")]
    Refused,
    #[error("its answer cannot be understood")]
    Answer,
    #[error("its answer has {0} bytes, more than is read")]
    Long(usize),
    #[error("what it answered is not a signature of the key")]
    WrongSignature,
}

/// A connection to an agent.
pub(super) struct Agent(UnixStream);

impl Agent {
    /// Connects to the agent at this socket.
    pub(super) fn connect(socket: &Path) -> Result<Agent, AgentError> {
        let failed = |errno: rustix::io::Errno| AgentError::Connect(errno.into());
        let address = SocketAddrUnix::new(socket).map_err(failed)?;
        let stream = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(failed)?;
        // unix(7): a socket whose backlog is full would have us wait without end.
        sockopt::set_socket_timeout(&stream, sockopt::Timeout::Send, Some(PROMPT))
            .map_err(failed)?;
        connect(&stream, &address).map_err(failed)?;
        Ok(Agent(UnixStream::from(stream)))
    }

    /// Whether the agent holds the private half of this public key, given as its blob.
    pub(super) fn holds(&mut self, key: &[u8]) -> Result<bool, AgentError> {
        let answer = self.exchange(&[REQUEST_IDENTITIES], PROMPT)?;
        let mut rest = content(&answer, IDENTITIES_ANSWER)?;
        let count = number(&mut rest).ok_or(AgentError::Answer)?;
        for _ in 0..count {
            let blob = string(&mut rest).ok_or(AgentError::Answer)?;
            let _comment = string(&mut rest).ok_or(AgentError::Answer)?;
            if blob == key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The signature over `data` with the private half of `key`, as a blob that nobody has verified yet.
    pub(super) fn sign(&mut self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut request = vec![SIGN_REQUEST];
        for part in [key, data] {
            let length = u32::try_from(part.len()).expect("keys and envelopes are short");
            request.extend_from_slice(&length.to_be_bytes());
            request.extend_from_slice(part);
        }
        request.extend_from_slice(&RSA_SHA2_512.to_be_bytes());
        let answer = self.exchange(&request, CONFIRMED)?;
        let mut rest = content(&answer, SIGN_RESPONSE)?;
        let signature = string(&mut rest).ok_or(AgentError::Answer)?;
        Ok(signature.to_vec())
    }

    /// One request and its answer.
    fn exchange(&mut self, request: &[u8], within: Duration) -> Result<Vec<u8>, AgentError> {
        let length = u32::try_from(request.len()).expect("requests are short");
        let mut message = length.to_be_bytes().to_vec();
        message.extend_from_slice(request);
        self.0.write_all(&message).map_err(|error| match error {
            error if is_late(&error) => AgentError::Late(PROMPT),
            error => AgentError::Speak(error),
        })?;
        let until = Instant::now() + within;
        let mut length = [0; 4];
        self.fill(&mut length, until, within)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(AgentError::Long(length));
        }
        let mut answer = vec![0; length];
        self.fill(&mut answer, until, within)?;
        Ok(answer)
    }

    /// Reads as much as there is room for; `within` is what is left until `until`, as it was at first.
    fn fill(
        &mut self,
        mut room: &mut [u8],
        until: Instant,
        within: Duration,
    ) -> Result<(), AgentError> {
        while !room.is_empty() {
            // Anew for each part, since one byte now and then would go on for ever.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AgentError::Late(within));
            }
            self.0
                .set_read_timeout(Some(left))
                .map_err(AgentError::Speak)?;
            match self.0.read(room) {
                Ok(0) => return Err(AgentError::Speak(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => room = &mut room[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_late(&error) => return Err(AgentError::Late(within)),
                Err(error) => return Err(AgentError::Speak(error)),
            }
        }
        Ok(())
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The content of an answer that must be of this type.
fn content(answer: &[u8], expected: u8) -> Result<&[u8], AgentError> {
    match answer.split_first() {
        Some((kind, rest)) if *kind == expected => Ok(rest),
        Some((&FAILURE, _)) => Err(AgentError::Refused),
        _ => Err(AgentError::Answer),
    }
}

/// The `uint32` in front, taken off.
fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

/// The `string` in front, taken off.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)? as usize;
    let (string, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(20);

    /// What becomes of a request that is answered with these bytes; the agent hangs up or is silent then.
    fn answered(bytes: &[u8], hangs_up: bool, within: Duration) -> Result<Vec<u8>, AgentError> {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        theirs.write_all(bytes).expect("the buffer has room");
        let kept = (!hangs_up).then_some(theirs);
        let answer = Agent(ours).exchange(&[REQUEST_IDENTITIES], within);
        drop(kept);
        answer
    }

    /// Whether an agent with this answer holds the key `key`.
    fn held(content: &[u8]) -> Result<bool, AgentError> {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let length = u32::try_from(content.len()).expect("short");
        theirs.write_all(&length.to_be_bytes()).expect("room");
        theirs.write_all(content).expect("room");
        Agent(ours).holds(b"key")
    }

    #[test]
    fn an_agent_that_says_too_much_or_too_little_is_left() {
        assert!(matches!(
            answered(b"", false, SOON),
            Err(AgentError::Late(SOON))
        ));
        assert!(matches!(
            answered(b"", true, LONG),
            Err(AgentError::Speak(_))
        ));
        let begun = [0, 0, 0, 9, 12];
        assert!(matches!(
            answered(&begun, false, SOON),
            Err(AgentError::Late(_))
        ));
        assert!(matches!(
            answered(&begun, true, LONG),
            Err(AgentError::Speak(_))
        ));
        let long = [0, 4, 0, 1, 12];
        assert!(matches!(
            answered(&long, false, LONG),
            Err(AgentError::Long(262_145))
        ));
        assert!(matches!(
            answered(&[0xff; 8], false, LONG),
            Err(AgentError::Long(_))
        ));
        assert_eq!(
            answered(&[0, 0, 0, 1, 5], false, LONG).expect("it is whole"),
            [5]
        );
    }

    #[test]
    fn an_agent_that_sends_a_byte_now_and_then_is_left_as_well() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let mut agent = Agent(ours);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Until the other side has gone.
                theirs.write_all(&[0, 0, 0xff, 0xff]).expect("room");
                while theirs.write_all(&[0]).is_ok() {
                    std::thread::sleep(SOON / 10);
                }
            });
            let answer = agent.exchange(&[REQUEST_IDENTITIES], SOON);
            assert!(matches!(answer, Err(AgentError::Late(_))), "{answer:?}");
            drop(agent);
        });
    }

    #[test]
    fn lists_that_are_not_whole_are_not_understood() {
        let list = [12, 0, 0, 0, 1, 0, 0, 0, 3, b'k', b'e', b'y', 0, 0, 0, 0];
        assert!(held(&list).expect("it is whole"));
        assert!(!held(&[12, 0, 0, 0, 0]).expect("it is whole"));
        for length in 0..list.len() {
            let cut = held(&list[..length]);
            assert!(matches!(cut, Err(AgentError::Answer)), "{length}: {cut:?}");
        }
        let many = held(&[12, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(many, Err(AgentError::Answer)), "{many:?}");
        let other = held(&[14, 0, 0, 0, 0]);
        assert!(matches!(other, Err(AgentError::Answer)), "{other:?}");
        assert!(matches!(held(&[5]), Err(AgentError::Refused)));
    }

    #[test]
    fn a_socket_that_is_not_there_is_no_agent() {
        for socket in ["/nonexistent/agent", "/dev/null", &"x".repeat(200)] {
            let agent = Agent::connect(Path::new(socket)).map(drop);
            assert!(matches!(agent, Err(AgentError::Connect(_))), "{agent:?}");
        }
    }
}
