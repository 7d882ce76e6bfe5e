//! What a test says and asks of its network.

use super::lab::{self, Lab};
use super::peers::{self, Endpoint, Flow, Service};
use super::{Host, PATIENCE, Started, here};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer that must not come is waited for. All links are in memory, where an answer takes microseconds.
const SHORT: Duration = Duration::from_millis(400);

/// Where somebody stands in a test's lab.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// On the host itself, as `host`.
    OnHost,
    /// Beyond the host's default route, as `outside`.
    Outside,
    /// Beyond the host's second link, as `elsewhere`.
    Elsewhere,
    /// In this booted container, by its name.
    Inside(&'a str),
    /// In this namespace below /run/netns, by its name.
    Pinned(&'a str),
    /// Where this process is, as `process`.
    With(i32),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::OnHost => "host",
            Place::Outside => "outside",
            Place::Elsewhere => "elsewhere",
            Place::Inside(name) | Place::Pinned(name) => name,
            Place::With(_) => "process",
        })
    }
}

impl Host {
    /// The network that this test runs in.
    #[track_caller]
    pub fn lab(&self) -> &Lab {
        self.lab
            .as_deref()
            .expect("the test is listed with `in_a_lab!`")
    }

    /// Writes what the store's `config.toml` says of the network, each line as `bridge = "lab0"`.
    pub fn configure_network(&self, lines: &[&str]) {
        let text = format!("[network]\n{}\n", lines.join("\n"));
        std::fs::write(self.home.join("config.toml"), text).expect("the store is ours");
    }

    /// Creates container `name` from image `test` with BRIDGE and these options, and boots it.
    #[track_caller]
    pub fn booted_on_bridge(&self, name: &str, options: &str) {
        self.created_on_bridge(name, options);
        self.cocker_words(&["boot", name]).ok();
    }

    /// Creates container `name` from image `test` with BRIDGE and these options.
    #[track_caller]
    pub fn created_on_bridge(&self, name: &str, options: &str) {
        self.cocker(&format!("create -m test -c {name} --net BRIDGE {options}"))
            .ok();
    }

    /// Lets a service of `place` listen there, at an address such as `0.0.0.0:80` or `10.99.0.1:53/udp`.
    ///
    /// It answers with the place's name and the client's address, until it is dropped.
    #[track_caller]
    pub fn serve(&self, place: Place, at: &str) -> Service {
        let started = Service::start(
            self.namespace_of(place),
            place.to_string(),
            Endpoint::of(at),
        );
        started.unwrap_or_else(|why| panic!("{place}: {why}"))
    }

    /// Asserts that a client at `from` gets its answer at `target` from `name`; returns the client's address as the
    /// service sees it.
    #[track_caller]
    pub fn reaches(&self, from: Place, target: &str, name: &str) -> String {
        let answer = peers::ask(
            &self.namespace_of(from),
            Endpoint::of(target),
            here(PATIENCE),
        );
        let seen = answer
            .as_ref()
            .ok()
            .and_then(|answer| answer.strip_prefix(&format!("{name} sees ")));
        match seen {
            Some(seen) => seen.to_string(),
            None => panic!(
                "{from} should reach {name} by {target}, and got {answer:?}; the host's network:\n{}",
                self.lab().report()
            ),
        }
    }

    /// Who answers a client at `from` at `target`, if anybody does.
    pub fn who_answers(&self, from: Place, target: &str) -> Option<String> {
        let answer =
            peers::ask(&self.namespace_of(from), Endpoint::of(target), here(SHORT)).ok()?;
        let (name, _) = answer.split_once(" sees ")?;
        Some(name.to_string())
    }

    /// Asserts that a client at `from` gets no answer at `target`, from nobody.
    #[track_caller]
    pub fn does_not_reach(&self, from: Place, target: &str) {
        if let Ok(answer) = peers::ask(&self.namespace_of(from), Endpoint::of(target), here(SHORT))
        {
            panic!(
                "{from} should reach nobody by {target}, and was told `{answer}`; the host's network:\n{}",
                self.lab().report()
            );
        }
    }

    /// A client at `from` that goes on sending to `target` over UDP from one port.
    #[track_caller]
    pub fn flow(&self, from: Place, target: &str) -> Flow {
        let target = target.parse().expect("an address and a port");
        Flow::open(&self.namespace_of(from), target)
            .unwrap_or_else(|why| panic!("no client at {from}: {why}"))
    }

    /// Types a line at `place` as root of the machine; returns what it printed, without the last line's end.
    #[track_caller]
    pub fn at(&self, place: Place, line: &str) -> String {
        let mut command = self.command_in(&self.namespace_of(place), "sh");
        command.args(["-ec", line]);
        Started::new(command, format!("{line} ({place})"))
            .feed(b"")
            .outcome()
            .succeeds()
            .stdout()
            .trim_end()
            .to_string()
    }

    /// Starts a line at `place` as root of the machine.
    #[track_caller]
    pub fn start_at(&self, place: Place, line: &str) -> Started {
        let mut command = self.command_in(&self.namespace_of(place), "sh");
        command.args(["-c", &format!("exec {line}")]);
        Started::new(command, format!("{line} ({place})"))
    }

    /// The links that `place` has, sorted, with blanks between.
    #[track_caller]
    pub fn links(&self, place: Place) -> String {
        let links = self.json(place, "ip -j link");
        let mut names: Vec<&str> = links
            .iter()
            .map(|link| link["ifname"].as_str().expect("a link has a name"))
            .collect();
        names.sort_unstable();
        names.join(" ")
    }

    /// The addresses of a link at `place` that are good beyond the link, as `166.88.0.2/24`, with blanks between.
    #[track_caller]
    pub fn addresses(&self, place: Place, link: &str) -> String {
        let links = self.json(place, &format!("ip -j addr show dev {link} scope global"));
        let addresses = links
            .iter()
            .flat_map(|link| link["addr_info"].as_array())
            .flatten();
        // `ip` lists links that its filter leaves nothing of as empty objects.
        let addresses: Vec<String> = addresses
            .filter_map(|address| {
                let (local, bits) = (address["local"].as_str()?, address["prefixlen"].as_u64()?);
                Some(format!("{local}/{bits}"))
            })
            .collect();
        addresses.join(" ")
    }

    /// The hardware address of a link at `place`.
    #[track_caller]
    pub fn hardware_address(&self, place: Place, link: &str) -> String {
        let links = self.json(place, &format!("ip -j link show dev {link}"));
        let address = links.first().and_then(|link| link["address"].as_str());
        address.expect("a link has an address").to_string()
    }

    /// The link that each of the host's links named `ck…` is a port of.
    #[track_caller]
    pub fn bridge_ports(&self) -> Vec<String> {
        let links = self.json(Place::OnHost, "ip -j link");
        let ours = links.iter().filter(|link| {
            link["ifname"]
                .as_str()
                .is_some_and(|name| name.starts_with("ck"))
        });
        ours.map(|link| link["master"].as_str().unwrap_or_default().to_string())
            .collect()
    }

    /// The netns column of container `name`; whether it is still pinned is asked when the test ends.
    #[track_caller]
    pub fn netns(&self, name: &str) -> String {
        let containers = self.note_pins();
        let found = containers.iter().find(|(container, _)| container == name);
        let (_, netns) = found.unwrap_or_else(|| panic!("no container {name} in {containers:?}"));
        netns.clone()
    }

    /// Whether the namespace in the netns column of container `name` is pinned below /run/netns.
    #[track_caller]
    pub fn is_pinned(&self, name: &str) -> bool {
        let netns = self.netns(name);
        !netns.is_empty() && Path::new(lab::NAMES).join(netns).exists()
    }

    /// Whether something in table `inet cocker` names this: an element, its comment, a rule.
    #[track_caller]
    pub fn table_names(&self, text: &str) -> bool {
        let table = self.lab().table().unwrap_or_default();
        table.iter().any(|object| object.to_string().contains(text))
    }

    /// Containers with their netns columns, each of which is remembered.
    #[track_caller]
    pub(super) fn note_pins(&self) -> Vec<(String, String)> {
        let listing = self
            .cocker("-s containers --format json")
            .succeeds()
            .stdout();
        let listing: Value = serde_json::from_str(&listing).expect("the listing is JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let containers: Vec<(String, String)> = listing
            .as_array()
            .expect("a listing is a list")
            .iter()
            .map(|entry| (text(&entry["container_id"]), text(&entry["netns"])))
            .collect();
        let mut pins = self.pins.lock().expect("no test panics with it");
        pins.extend(containers.iter().map(|(_, netns)| netns.clone()));
        pins.remove("");
        containers
    }

    /// One line for each thing that the network has of this test's containers.
    pub(super) fn what_is_left_of_the_network(&self) -> Vec<String> {
        let Some(lab) = &self.lab else {
            return Vec::new();
        };
        let mut left = lab.what_is_left();
        let pins = self.pins.lock().expect("no test panics with it");
        let pinned = pins
            .iter()
            .filter(|pin| Path::new(lab::NAMES).join(pin).exists());
        left.extend(pinned.map(|pin| format!("namespace {}/{pin}", lab::NAMES)));
        left
    }

    #[track_caller]
    fn json(&self, place: Place, line: &str) -> Vec<Value> {
        let said = self.at(place, line);
        // `ip` prints nothing at all in place of an empty list.
        let said = if said.is_empty() { "[]" } else { &said };
        serde_json::from_str(said).unwrap_or_else(|why| panic!("{line}: {why}:\n{said}"))
    }

    #[track_caller]
    fn namespace_of(&self, place: Place) -> PathBuf {
        match place {
            Place::OnHost | Place::Outside | Place::Elsewhere => {
                self.lab().namespace(&place.to_string())
            }
            Place::Inside(container) => {
                format!("/proc/{}/ns/net", self.root_process(container)).into()
            }
            Place::Pinned(name) => Path::new(lab::NAMES).join(name),
            Place::With(pid) => format!("/proc/{pid}/ns/net").into(),
        }
    }
}
