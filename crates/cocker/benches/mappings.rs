//! What a packet and a boot cost with one port mapping and with a thousand, beside as many rules of iptables.
//!
//! Needs root, and the programs `unshare`, `ip` and `iptables`. Everything happens in a network namespace of its own:
//!
//! ```text
//!  outside (10.99.0.2) ── eth0 (10.99.0.1) host, cocker0 ── container `web` (166.88.0.2), serving port 80
//! ```
//!
//! Rounds alternate, so that a machine that is slow for a while is slow for all; each figure is the median of them.
#![forbid(unsafe_code)]

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

const INSIDE: &str = "COCKER_BENCH_INSIDE";
const ROUNDS: usize = 7;
/// With one mapping and with many, each.
const BOOTS: usize = 40;
const CONNECTIONS: usize = 2_000;
const STREAM: Duration = Duration::from_millis(700);
/// The port that is measured; the other mappings lie below it, so that the last rule of many is the one that is meant.
const PORT: u16 = 30_000;
const OTHERS: u16 = 999;

fn main() {
    if env::args().any(|argument| argument == "--test") {
        return; // asked for by a run of all tests, which wants no figures
    }
    if env::var_os(INSIDE).is_none() {
        let why = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "--"])
            .arg(env::current_exe().expect("a program has a path"))
            .env(INSIDE, "1")
            .exec();
        panic!("cannot execute `unshare`: {why}");
    }
    let bench = Bench::new();
    println!("| what | 1 | 1,000 | |\n|---|---|---|---|");
    bench.boots();
    bench.packets("mappings of cocker", |bench, many| bench.map(many));
    bench.packets("rules of iptables", |bench, many| bench.rule(many));
    bench.adding_rules();
}

struct Bench {
    home: PathBuf,
    cgroup: String,
}

impl Bench {
    fn new() -> Bench {
        let name = format!("cocker-bench-{}", std::process::id());
        let bench = Bench {
            home: PathBuf::from("/var/tmp").join(&name),
            cgroup: name,
        };
        fs::create_dir(&bench.home).expect("a new folder");
        fs::create_dir_all("/run/netns").expect("the machine's /run");
        shell(
            "mount -t tmpfs none /run/netns
             ip link set lo up
             ip netns add outside
             ip link add eth0 type veth peer name eth0 netns outside
             ip addr add 10.99.0.1/24 dev eth0
             ip link set eth0 up
             ip -n outside addr add 10.99.0.2/24 dev eth0
             ip -n outside link set eth0 up
             ip route add default via 10.99.0.2",
        );
        bench.cocker("install-test");
        bench.cocker("create -m test -c web --net BRIDGE");
        bench.cocker("create -m test -c one --net BRIDGE --port-mapping 40000:80");
        let range = format!("{}-{}", PORT - OTHERS, PORT - 1);
        let inside = format!("{}-{}", 1, OTHERS);
        bench.cocker(&format!(
            "create -m test -c many --net BRIDGE --port-mapping {range}:{inside}"
        ));
        bench
    }

    fn cocker(&self, line: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_cocker"))
            .args(line.split(' '))
            .env("COCKER_HOME", self.home.join("store"))
            .env("COCKER_CGROUP", &self.cgroup)
            .output()
            .expect("cocker can be executed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`cocker {line}`: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A boot that adds one mapping to none, and to 999.
    fn boots(&self) {
        let mut figures = [Vec::new(), Vec::new()];
        // Another container is there all the time, so that the table is.
        self.cocker("boot web");
        for _ in 0..BOOTS / 4 {
            for (many, figures) in figures.iter_mut().enumerate() {
                if many == 1 {
                    self.cocker("boot many");
                }
                for _ in 0..4 {
                    let begun = Instant::now();
                    self.cocker("boot one");
                    figures.push(begun.elapsed().as_secs_f64() * 1e3);
                    self.cocker("shutdown one");
                }
                if many == 1 {
                    self.cocker("shutdown many");
                }
            }
        }
        self.cocker("shutdown web");
        row("boot that adds the 1st, the 1,000th mapping, ms", figures);
    }

    /// Throughput and connections with one way in and with a thousand, which `set_up` makes and returns how to remove.
    fn packets(&self, what: &str, set_up: impl Fn(&Bench, bool) -> Box<dyn Fn(&Bench)>) {
        let mut streams = [Vec::new(), Vec::new()];
        let mut connections = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for many in [false, true] {
                let remove = set_up(self, many);
                let server = serve(&self.namespace_of("web"));
                streams[usize::from(many)].push(stream());
                connections[usize::from(many)].push(connect_often());
                server.end();
                remove(self);
            }
        }
        row(&format!("throughput, {what}, Gbit/s"), streams);
        row(&format!("a connection, {what}, µs"), connections);
    }

    fn map(&self, many: bool) -> Box<dyn Fn(&Bench)> {
        self.cocker(&format!("set-port-mapping web --port-mapping {PORT}:80"));
        self.cocker("boot web");
        if many {
            self.cocker("boot many");
        }
        Box::new(move |bench| {
            bench.cocker("shutdown web");
            if many {
                bench.cocker("shutdown many");
            }
        })
    }

    fn rule(&self, many: bool) -> Box<dyn Fn(&Bench)> {
        self.cocker("set-port-mapping web --port-mapping none");
        self.cocker("boot web");
        let others = if many { PORT - OTHERS..PORT } else { 0..0 };
        restore(others.chain([PORT]));
        Box::new(|bench| {
            shell("iptables -t nat -F");
            bench.cocker("shutdown web");
        })
    }

    /// What it takes iptables to add a rule to none, and to 999.
    fn adding_rules(&self) {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for many in [false, true] {
                let others = if many { PORT - OTHERS..PORT } else { 0..0 };
                restore(others.chain([PORT + 1]));
                let begun = Instant::now();
                shell(
                    "iptables -t nat -A PREROUTING -p tcp --dport 30000 -j DNAT --to 166.88.0.2:80",
                );
                figures[usize::from(many)].push(begun.elapsed().as_secs_f64() * 1e3);
                shell("iptables -t nat -F");
            }
        }
        row("iptables -A of the 1st, the 1,000th rule, ms", figures);
    }

    fn namespace_of(&self, container: &str) -> PathBuf {
        let listing = self.cocker("containers");
        let line = listing.lines().find(|line| line.starts_with(container));
        let pid = line.and_then(|line| line.split(['(', ')']).nth(1));
        format!("/proc/{}/ns/net", pid.expect("it is booted")).into()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for name in ["web", "one", "many"] {
            self.cocker(&format!("destroy --shutdown {name}"));
        }
        let _ = fs::remove_dir_all(&self.home);
        for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let _ = fs::remove_dir(PathBuf::from(hierarchy).join(&self.cgroup));
        }
    }
}

/// Rules as other engines have them, one for each port, in one go.
fn restore(ports: impl Iterator<Item = u16>) {
    let rules = ports
        .map(|port| format!("-A PREROUTING -p tcp --dport {port} -j DNAT --to 166.88.0.2:80\n"));
    let text = format!("*nat\n{}COMMIT\n", rules.collect::<String>());
    let mut program = Command::new("iptables-restore")
        .stdin(Stdio::piped())
        .spawn()
        .expect("iptables-restore can be executed");
    let mut stdin = program.stdin.take().expect("it is piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(program.wait().expect("it is our child").success());
}

/// A server in a container: to who says `s` it sends without end, from others it takes leave.
struct Server {
    address: SocketAddr,
    namespace: PathBuf,
    thread: thread::JoinHandle<()>,
}

fn serve(namespace: &PathBuf) -> Server {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
    let listener = within(namespace, || {
        TcpListener::bind(address).expect("port 80 is free")
    });
    let thread = thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut word = [0];
            match stream.read(&mut word) {
                Ok(1) if word == *b"s" => {
                    let block = vec![0; 128 * 1024];
                    while stream.write_all(&block).is_ok() {}
                }
                Ok(1) if word == *b"e" => return,
                _ => {}
            }
        }
    });
    Server {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
        namespace: namespace.clone(),
        thread,
    }
}

impl Server {
    fn end(self) {
        let mut last =
            within(&self.namespace, || TcpStream::connect(self.address)).expect("it listens");
        last.write_all(b"e").expect("it reads");
        self.thread.join().expect("it does not panic");
    }
}

/// Gigabits in a second that arrive outside.
fn stream() -> f64 {
    let mut stream = outside(PORT).expect("the mapping leads somewhere");
    stream.write_all(b"s").expect("it reads");
    let mut block = vec![0; 128 * 1024];
    let begun = Instant::now();
    let mut bytes = 0;
    while begun.elapsed() < STREAM {
        bytes += stream.read(&mut block).expect("it sends");
    }
    bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9
}

/// Microseconds for one connection from its begin to its end.
fn connect_often() -> f64 {
    let times = within(&"/run/netns/outside".into(), || {
        let target = SocketAddr::from((Ipv4Addr::new(10, 99, 0, 1), PORT));
        let mut times = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let begun = Instant::now();
            let connection = TcpStream::connect(target).expect("the mapping leads somewhere");
            times.push(begun.elapsed().as_secs_f64() * 1e6);
            // Broken off, or its port would be kept for a minute, and soon there would be none left.
            rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO))
                .expect("a connection can be told so");
            drop(connection);
        }
        times
    });
    median(times)
}

fn outside(port: u16) -> std::io::Result<TcpStream> {
    within(&"/run/netns/outside".into(), || {
        TcpStream::connect((Ipv4Addr::new(10, 99, 0, 1), port))
    })
}

/// Works in a network namespace, in a thread of its own; sockets stay where they were made.
fn within<T: Send>(namespace: &PathBuf, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let namespace = File::open(namespace).expect("the namespace is there");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter it");
            work()
        });
        thread.join().expect("no panic in a namespace")
    })
}

fn shell(lines: &str) {
    let status = Command::new("sh").args(["-ec", lines]).status();
    assert!(status.expect("there is a shell").success(), "{lines}");
}

fn row(what: &str, [one, many]: [Vec<f64>; 2]) {
    let (one, many) = (median(one), median(many));
    let change = (many / one - 1.0) * 100.0;
    println!("| {what} | {one:.2} | {many:.2} | {change:+.1} % |");
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
