//! The network of an ordinary user's container of BRIDGE: pasta(1) of package passt carries it between the container's network
//! namespace and the host's sockets, since only the host's root may make links and rules.
//!
//! The program goes into the background once all is ready, and writes its pid into the container's folder. By that file it is
//! found again when the container has ended.

use crate::container::Container;
use cocker_network::{PortMapping, Protocol, Subnet4};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = "pasta";
/// In the container's folder.
pub(crate) const PID_FILE: &str = "pasta.pid";

/// An ordinary user's container has not the network that its settings say.
#[derive(Debug, thiserror::Error)]
pub enum PastaError {
    #[error("cannot execute `{PROGRAM}`")]
    Execute {
        #[source]
        source: io::Error,
    },
    #[error("`{PROGRAM}` said: {words}")]
    Refused { words: String },
    #[error("cannot end `{PROGRAM}`")]
    End {
        #[source]
        source: Errno,
    },
}

impl PastaError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            PastaError::Execute { source } if source.kind() == io::ErrorKind::NotFound => Some(
                "install package passt, create the container with --net HOST, or run cocker as root: sudo.".into(),
            ),
            PastaError::Execute { .. } | PastaError::End { .. } => None,
            PastaError::Refused { words } if words.contains("port") => Some(
                "an ordinary user may map ports from net.ipv4.ip_unprivileged_port_start on that nobody else listens on.".into(),
            ),
            PastaError::Refused { .. } => Some(
                "pasta needs a default route on the host (ip route) and /dev/net/tun open to everybody; without: --net HOST.".into(),
            ),
        }
    }
}

/// What pasta is to carry.
pub(crate) struct Pasta {
    pub pid_file: PathBuf,
    /// The container's.
    pub address: Ipv4Addr,
    /// What it takes for its network, whose host is the way out.
    pub subnet: Subnet4,
    pub ports: Vec<PortMapping>,
}

impl Pasta {
    /// Starts it for the root process `pid`; returns when packets pass.
    pub(crate) fn start(&self, pid: i32) -> Result<(), PastaError> {
        let failed = |source| PastaError::Execute { source };
        // It stays as long as the container, and what the user has left open must not.
        cocker_sys::execution::close_on_exec_from(3).map_err(|errno| failed(errno.into()))?;
        let mut pasta = Command::new(PROGRAM);
        // Until it is in the background, nobody else could find it.
        cocker_sys::execution::dies_with_us(&mut pasta);
        let output = pasta
            .args(self.arguments(pid))
            .stdin(Stdio::null())
            .output()
            .map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let mut lines = said.lines().filter(|line| !line.trim().is_empty());
        let words = lines.next_back().unwrap_or("nothing").trim().into();
        Err(PastaError::Refused { words })
    }

    fn arguments(&self, pid: i32) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            "--config-net",
            "--ipv4-only",
            // The host's own loopback is nobody's business inside.
            "--no-map-gw",
            "--tcp-ns",
            "none",
            "--udp-ns",
            "none",
            "--ns-ifname",
            "eth0",
        ]
        .map(OsString::from)
        .into();
        let mut say = |key: &str, value: OsString| arguments.extend([OsString::from(key), value]);
        say("--netns", format!("/proc/{pid}/ns/net").into());
        say("--userns", format!("/proc/{pid}/ns/user").into());
        say("--pid", self.pid_file.clone().into());
        say("--address", self.address.to_string().into());
        say("--netmask", self.subnet.prefix.to_string().into());
        say("--gateway", self.subnet.host.to_string().into());
        for (key, protocol) in [
            ("--tcp-ports", Protocol::Tcp),
            ("--udp-ports", Protocol::Udp),
        ] {
            let ports = || self.ports.iter().filter(|port| port.protocol == protocol);
            match ports().next() {
                None => say(key, "none".into()),
                Some(_) => ports().for_each(|port| say(key, specification(port).into())),
            }
        }
        arguments
    }
}

/// `ADDRESS/FIRST-LAST:FIRST-LAST`
fn specification(mapping: &PortMapping) -> String {
    let address = mapping.address.map(|address| format!("{address}/"));
    let range = |first: u16| format!("{first}-{}", first + (mapping.count - 1));
    format!(
        "{}{}:{}",
        address.unwrap_or_default(),
        range(mapping.host),
        range(mapping.container)
    )
}

/// Ends the pasta of a container that has ended, if it ever had one, and waits until its ports are free.
pub(crate) fn end(container: &Container, pid_file: &Path) -> Result<(), PastaError> {
    let ended = || {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&container.folder, PID_FILE, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let mut text = [0; 16];
        let length = rustix::io::read(&file, &mut text)?;
        let pid = std::str::from_utf8(&text[..length]).ok();
        let pid = pid.and_then(|pid| pid.trim().parse().ok());
        match pid.and_then(Pid::from_raw) {
            Some(pid) => end_process(pid, pid_file)?,
            // It was made, and not written to yet.
            None => all_processes().try_for_each(|pid| end_process(pid, pid_file))?,
        }
        rustix::fs::unlinkat(&container.folder, PID_FILE, AtFlags::empty())
    };
    ended().map_err(|source| PastaError::End { source })
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw)
}

/// Ends the process `pid` where its command line names `pid_file`: anybody else that has the number by now is left alone.
fn end_process(pid: Pid, pid_file: &Path) -> Result<(), Errno> {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        other => other?,
    };
    // Read after it was opened: if this is another's, so is the descriptor, and if it has ended, the signal reaches nobody.
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    let line = line.unwrap_or_default();
    let names_it = |argument: &[u8]| argument == pid_file.as_os_str().as_bytes();
    if !line.split(|&byte| byte == 0).any(names_it) {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(()),
        other => other?,
    }
    let mut waiting = [rustix::event::PollFd::new(
        &process,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut waiting, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_said_in_the_words_of_pasta() {
        let ports = PortMapping::parse_list("8080:80,127.0.0.1:9000-9009:90-99,53:53/udp");
        let pasta = Pasta {
            pid_file: "/store/containers/web/pasta.pid".into(),
            address: Ipv4Addr::new(166, 88, 0, 7),
            subnet: Subnet4 {
                host: Ipv4Addr::new(166, 88, 0, 1),
                prefix: 24,
            },
            ports: ports.expect("they are mappings"),
        };
        let arguments = pasta.arguments(42);
        let values = |key: &str| -> Vec<&str> {
            let pairs = arguments.windows(2).filter(|pair| pair[0] == key);
            pairs.filter_map(|pair| pair[1].to_str()).collect()
        };
        assert_eq!(
            values("--tcp-ports"),
            ["8080-8080:80-80", "127.0.0.1/9000-9009:90-99"]
        );
        assert_eq!(values("--udp-ports"), ["53-53:53-53"]);
        assert_eq!(values("--netns"), ["/proc/42/ns/net"]);
        assert_eq!(values("--address"), ["166.88.0.7"]);
        assert_eq!(values("--gateway"), ["166.88.0.1"]);
    }

    #[test]
    fn who_does_not_name_the_file_is_left_alone() {
        let us = rustix::process::getpid();
        end_process(us, Path::new("/nowhere/pasta.pid")).expect("nobody is to be ended");
    }
}
