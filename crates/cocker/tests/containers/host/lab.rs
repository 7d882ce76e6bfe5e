//! A network of a test's own: the host, and who stands outside of it, each in a network namespace.
//!
//! ```text
//!   <token>-host                                        <token>-outside
//!   ┌─────────────────────────────────┐                 ┌─────────────────────┐
//!   │ cocker      eth0 10.99.0.1/24   │                 │ eth0 10.99.0.2/24   │
//!   │                  fd99::1/64     ├──── veth ───────┤      fd99::2/64     │
//!   │             default via outside │                 └─────────────────────┘
//!   │                                 │                 <token>-elsewhere
//!   │                                 │                 ┌─────────────────────┐
//!   │             eth1 10.98.0.1/24   ├──── veth ───────┤ eth0 10.98.0.2/24   │   only where a test asks for it
//!   └─────────────────────────────────┘                 └─────────────────────┘
//! ```
//!
//! Namespaces are named below /run/netns, which is private to this run: nothing of a lab is ever seen by the machine,
//! and no packet leaves the lab.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where namespaces have names; ip-netns(8) and cocker agree on it.
pub const NAMES: &str = "/run/netns";

/// The network of one test; it is removed when this is dropped.
pub struct Lab {
    token: String,
}

/// Mounts a private folder for the names of namespaces, shared only as ip-netns(8) wants it.
pub fn mount_names() -> Result<(), String> {
    let script = format!(
        "mkdir -p {NAMES} && mount -t tmpfs -o mode=755 cocker-tests {NAMES} && mount --make-shared {NAMES}"
    );
    shell(&script).map(drop)
}

/// Names of namespaces that begin so.
pub fn names_beginning(head: &str) -> Vec<String> {
    let entries = fs::read_dir(NAMES).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(head)).collect()
}

/// Removes the name of a namespace; the namespace ends with its last process.
pub fn unpin(name: &str) {
    let _ = shell(&format!("ip netns del {name}"));
}

impl Lab {
    /// Makes the host's namespace and the one outside; `number` is of no other test.
    #[track_caller]
    pub fn new(number: u32) -> Lab {
        // Dropped, and with it removed, also where making it fails half-way.
        let lab = Lab {
            token: format!("lab{number}"),
        };
        let (host, outside) = (lab.name("host"), lab.name("outside"));
        // A machine that forwards hands that down to new namespaces; here it is cocker who must turn it on.
        // Addresses are usable at once: nobody else can have them, so nothing has to be detected.
        lab.type_in(&format!(
            "ip netns add {host}
             ip netns add {outside}
             nsenter --net={NAMES}/{host} sh -ec 'cd /proc/sys/net
                 echo 0 > ipv4/ip_forward; echo 0 > ipv6/conf/all/forwarding'
             ip -n {host} link set lo up
             ip -n {outside} link set lo up
             ip -n {host} link add eth0 type veth peer name eth0 netns {outside}
             ip -n {host} addr add 10.99.0.1/24 dev eth0
             ip -n {host} addr add fd99::1/64 dev eth0 nodad
             ip -n {outside} addr add 10.99.0.2/24 dev eth0
             ip -n {outside} addr add fd99::2/64 dev eth0 nodad
             ip -n {host} link set eth0 up
             ip -n {outside} link set eth0 up
             ip -n {host} route add default via 10.99.0.2
             ip -n {host} -6 route add default via fd99::2"
        ));
        lab
    }

    /// Adds the host's second link and who stands at its other end.
    #[track_caller]
    pub fn add_second_link(&self) {
        let (host, elsewhere) = (self.name("host"), self.name("elsewhere"));
        self.type_in(&format!(
            "ip netns add {elsewhere}
             ip -n {elsewhere} link set lo up
             ip -n {host} link add eth1 type veth peer name eth0 netns {elsewhere}
             ip -n {host} addr add 10.98.0.1/24 dev eth1
             ip -n {elsewhere} addr add 10.98.0.2/24 dev eth0
             ip -n {host} link set eth1 up
             ip -n {elsewhere} link set eth0 up"
        ));
    }

    /// The namespace of `host`, `outside` or `elsewhere`, as a file.
    pub fn namespace(&self, place: &str) -> PathBuf {
        Path::new(NAMES).join(self.name(place))
    }

    /// What `ip` or `nft` says as JSON in the host's namespace.
    #[track_caller]
    fn json(&self, line: &str) -> Value {
        let namespace = self.namespace("host");
        let said = shell(&format!("nsenter --net={} {line}", namespace.display()));
        let said = said.unwrap_or_else(|why| panic!("{why}"));
        // `ip` prints nothing at all in place of an empty list.
        let said = if said.trim().is_empty() { "[]" } else { &said };
        serde_json::from_str(said).unwrap_or_else(|why| panic!("{line}: {why}:\n{said}"))
    }

    /// The names of all links of the host.
    #[track_caller]
    pub fn links(&self) -> BTreeSet<String> {
        let links = self.json("ip -j link");
        let links = links.as_array().expect("links are a list");
        links
            .iter()
            .map(|link| link["ifname"].as_str().expect("a link has a name").into())
            .collect()
    }

    /// The objects of table `cocker` of both its families in the order of their listings, where one is there: chains, sets,
    /// maps, rules.
    #[track_caller]
    pub fn table(&self) -> Option<Vec<Value>> {
        let objects = |line: &str| {
            let listing = self.json(line)["nftables"].take();
            listing.as_array().expect("a listing is a list").clone()
        };
        // Asked beforehand, so that a table which `nft` cannot list is not taken for one that is not there.
        let tables = objects("nft -j list tables");
        let found: Vec<Value> = ["inet", "bridge"]
            .into_iter()
            .filter(|family| {
                tables.iter().any(|object| {
                    let table = &object["table"];
                    (table["family"].as_str(), table["name"].as_str())
                        == (Some(family), Some("cocker"))
                })
            })
            .flat_map(|family| objects(&format!("nft -j list table {family} cocker")))
            .collect();
        (!found.is_empty()).then_some(found)
    }

    /// The rules of table `cocker`: for each its chain and what it does, without the numbers the kernel gives it.
    pub fn rules(&self) -> Vec<String> {
        let table = self.table().unwrap_or_default();
        let rules = table.iter().filter_map(|object| object.get("rule"));
        rules
            .map(|rule| format!("{}: {} {}", rule["chain"], rule["expr"], rule["comment"]))
            .collect()
    }

    /// One line for each thing of a container that the host's network still has.
    pub fn what_is_left(&self) -> Vec<String> {
        let links = self
            .links()
            .into_iter()
            .filter(|link| link.starts_with("ck"));
        let mut left: Vec<String> = links.map(|link| format!("link {link}")).collect();
        for object in self.table().unwrap_or_default() {
            if let Some(rule) = object.get("rule") {
                left.push(format!("rule of table cocker: {rule}"));
            }
            for kind in ["set", "map"] {
                let elements = object[kind]["elem"].as_array();
                left.extend(elements.into_iter().flatten().map(|element| {
                    format!("element of {kind} {}: {element}", object[kind]["name"])
                }));
            }
        }
        left
    }

    /// What a failed test wants to know: links, addresses, routes and the whole rule set of the host.
    pub fn report(&self) -> String {
        let namespace = self.namespace("host");
        let look = "ip -br addr; ip -br link; ip route; ip -6 route; nft list ruleset";
        let said = shell(&format!(
            "nsenter --net={} sh -c '{look}' 2>&1",
            namespace.display()
        ));
        said.unwrap_or_else(|why| why)
    }

    /// Removes the namespaces; says what is still named after them.
    pub fn remove(&self) -> Result<(), String> {
        let head = format!("{}-", self.token);
        for name in names_beginning(&head) {
            unpin(&name);
        }
        let mut left = names_beginning(&head);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let point = format!(" {NAMES}/{head}");
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&point))
                .map(String::from),
        );
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("the lab left behind:\n{}", left.join("\n")))
        }
    }

    fn name(&self, place: &str) -> String {
        format!("{}-{place}", self.token)
    }

    #[track_caller]
    fn type_in(&self, script: &str) {
        if let Err(why) = shell(&format!("set -e\n{script}")) {
            panic!("cannot make the lab: {why}");
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

/// Runs a script in the tests' own namespaces; returns what it printed.
fn shell(script: &str) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", script])
        .env_clear()
        .env("PATH", super::PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("cannot execute `sh`: {why}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{script}\n({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
