//! The host's resolvers, as a container can use them (resolv.conf(5)).

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

/// Who stands in a container's resolv.conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The container has the host's network: all of the host's resolvers.
    Host,
    /// The container has a network of its own: those that are not on the host's loopback.
    Outside,
}

const USUAL: &str = "/etc/resolv.conf";
/// Where systemd-resolved(8) says whom it asks itself, while the usual file names 127.0.0.53.
const BEHIND_SYSTEMD_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// More is no file of resolvers.
const MOST_BYTES: u64 = 64 * 1024;

/// The lines of a container's resolv.conf. A host that has none, or none that can be read, gives none.
pub fn resolvers(reach: Reach) -> String {
    let usual = read(Path::new(USUAL)).unwrap_or_default();
    if reach == Reach::Host {
        return usual;
    }
    let lines = reachable(&usual);
    if names_resolver(&lines) {
        return lines;
    }
    let behind = read(Path::new(BEHIND_SYSTEMD_RESOLVED)).map(|text| reachable(&text));
    behind
        .ok()
        .filter(|lines| names_resolver(lines))
        .unwrap_or(lines)
}

/// Without comments, and without resolvers on loopback.
fn reachable(text: &str) -> String {
    let kept = text.lines().map(str::trim).filter(|line| {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => words.next().is_some_and(is_reachable),
            Some(word) => !word.starts_with(['#', ';']),
            None => false,
        }
    });
    kept.fold(String::new(), |lines, line| lines + line + "\n")
}

fn is_reachable(address: &str) -> bool {
    // An address of one link alone (`fe80::1%eth0`) is none to the container, which is not on that link.
    address
        .parse::<IpAddr>()
        .is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

fn names_resolver(lines: &str) -> bool {
    lines.lines().any(|line| line.starts_with("nameserver"))
}

fn read(path: &Path) -> io::Result<String> {
    // What stands there may be anything; opening must not wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_on_loopback_cannot_be_reached_from_another_network() {
        let host = "# made by hand\nnameserver 127.0.0.53\n nameserver 10.0.0.1\nnameserver ::1\noptions edns0\n\
                    search example.org\nnameserver fe80::1%eth0\n; the end";
        let lines = reachable(host);
        assert_eq!(
            lines,
            "nameserver 10.0.0.1\noptions edns0\nsearch example.org\n"
        );
        assert!(names_resolver(&lines));
        assert!(!names_resolver(&reachable(
            "nameserver 127.0.0.1\noptions edns0"
        )));
    }
}
