//! Who talks over a lab's network: services that say whom they see, and clients that ask them.
//!
//! Each is a thread of this process that has entered a network namespace, so a container needs no program for it, and
//! what a service sees of its client is known exactly.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest answer, in bytes.
const LONGEST: usize = 200;

/// How long a service tries to give its answer away, and how long a client waits before it sends a datagram again.
const SHORTLY: Duration = Duration::from_millis(200);

/// An address with a port, written as in a port mapping: `10.99.0.1:80`, `[fd99::1]:53/udp`.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    protocol: Protocol,
    address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// A program that answers everyone with its name and whom it sees: `web sees 10.99.0.2`. It ends when this is dropped.
///
/// While it runs, its network namespace stays, so it must be dropped before a container is expected to be gone.
pub struct Service {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// Where a service is heard.
enum Ear {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Endpoint {
    #[track_caller]
    pub fn of(text: &str) -> Endpoint {
        let (address, protocol) = match text.strip_suffix("/udp") {
            Some(address) => (address, Protocol::Udp),
            None => (text, Protocol::Tcp),
        };
        let address = address
            .parse()
            .unwrap_or_else(|why| panic!("`{text}`: {why}"));
        Endpoint { protocol, address }
    }
}

impl Service {
    /// Starts a service; it listens when this returns.
    pub fn start(namespace: PathBuf, name: String, at: Endpoint) -> Result<Service, String> {
        let (ended, stop) = io::pipe().map_err(|why| why.to_string())?;
        let (begun, begins) = mpsc::channel();
        let thread = thread::spawn(move || match enter(&namespace).and_then(|()| listen(at)) {
            Ok(ear) => {
                let _ = begun.send(Ok(()));
                ear.answer_all(&name, &ended);
            }
            Err(why) => {
                let _ = begun.send(Err(format!("cannot listen at {at:?}: {why}")));
            }
        });
        let service = Service {
            stop: Some(stop),
            thread: Some(thread),
        };
        begins
            .recv()
            .map_err(|_| "the service's thread ended".to_string())??;
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The thread sees the pipe's end, and waits for nothing else for longer than `SHORTLY`.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks whoever is at `target` as a client in `namespace`; the error says why no answer came within `patience`.
pub fn ask(namespace: &Path, target: Endpoint, patience: Duration) -> Result<String, String> {
    let answer = thread::scope(|scope| {
        let client = scope.spawn(|| {
            enter(namespace)?;
            match target.protocol {
                Protocol::Tcp => ask_by_tcp(target.address, patience),
                Protocol::Udp => ask_by_udp(target.address, patience),
            }
        });
        client.join().expect("a client does not panic")
    });
    answer.map_err(|why| why.to_string())
}

/// A client of UDP that goes on sending from one port, as a telephone or a name server's peer does.
pub struct Flow(UdpSocket);

impl Flow {
    pub fn open(namespace: &Path, target: SocketAddr) -> io::Result<Flow> {
        // A socket stays in the namespace that it was made in, wherever it is used.
        let socket = thread::scope(|scope| {
            let made = scope.spawn(|| {
                enter(namespace)?;
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            });
            made.join().expect("making a socket does not panic")
        })?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(SHORTLY))?;
        Ok(Flow(socket))
    }

    /// Sends once; what comes back shortly, if anything does.
    pub fn ask(&self) -> Option<String> {
        // Nobody there may be told by the send or by the receipt after it.
        self.0.send(b"who is there?").ok()?;
        let mut answer = [0; LONGEST];
        let length = self.0.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}

/// Moves the calling thread, and no other, into a network namespace.
fn enter(namespace: &Path) -> io::Result<()> {
    let file = File::open(namespace)
        .map_err(|why| io::Error::new(why.kind(), format!("{}: {why}", namespace.display())))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn listen(at: Endpoint) -> io::Result<Ear> {
    Ok(match at.protocol {
        Protocol::Tcp => {
            let listener = TcpListener::bind(at.address)?;
            // A client that has gone again must not keep the thread from its end.
            listener.set_nonblocking(true)?;
            Ear::Tcp(listener)
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(at.address)?;
            socket.set_nonblocking(true)?;
            Ear::Udp(socket)
        }
    })
}

impl Ear {
    fn answer_all(&self, name: &str, ended: &PipeReader) {
        loop {
            let mut ready = [
                PollFd::from_borrowed_fd(self.descriptor(), PollFlags::IN),
                PollFd::new(ended, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Ok(_) if !ready[1].revents().is_empty() => return,
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(why) => panic!("cannot wait for clients: {why}"),
            }
            // A client that gives up is its own business; the next one is heard all the same.
            let _ = self.answer_one(name);
        }
    }

    fn answer_one(&self, name: &str) -> io::Result<()> {
        match self {
            Ear::Tcp(listener) => {
                let (mut client, peer) = listener.accept()?;
                client.set_write_timeout(Some(SHORTLY))?;
                client.write_all(answer(name, peer).as_bytes())
            }
            Ear::Udp(socket) => {
                let (_, peer) = socket.recv_from(&mut [0; LONGEST])?;
                socket
                    .send_to(answer(name, peer).as_bytes(), peer)
                    .map(drop)
            }
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Ear::Tcp(listener) => listener.as_fd(),
            Ear::Udp(socket) => socket.as_fd(),
        }
    }
}

fn answer(name: &str, peer: SocketAddr) -> String {
    // A socket for both families shows addresses of the older one as `::ffff:…`.
    format!("{name} sees {}", peer.ip().to_canonical())
}

fn ask_by_tcp(target: SocketAddr, patience: Duration) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&target, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.take(LONGEST as u64).read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_by_udp(target: SocketAddr, patience: Duration) -> io::Result<String> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Only what comes back from there is an answer.
    socket.connect(target)?;
    socket.set_read_timeout(Some(SHORTLY.min(patience)))?;
    let deadline = Instant::now() + patience;
    loop {
        socket.send(b"who is there?")?;
        let mut answer = [0; LONGEST];
        match socket.recv(&mut answer) {
            Ok(length) => return Ok(String::from_utf8_lossy(&answer[..length]).into_owned()),
            Err(why) if why.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
            Err(why) => return Err(why),
        }
    }
}
