//! Listings: a table for people, names, or JSON for programs.
//!
//! Columns are as wide as the seed made them and widen for longer values; the line of dashes widens with them.
//! An empty listing prints nothing, or `[]` for programs.

pub mod housekeeping;
pub mod repository;
pub mod sessions;
pub mod stack;
pub mod stats;

use crate::escape::escape;
use crate::local_time::Clock;
use crate::options::ListingForm;
use cocker_engine::{
    ContainerSummary, DeviceRequest, ImageRecord, Isolation, Name, Seccomp, Status, Version,
};
use serde::Serialize;
use std::borrow::Cow;
use std::net::Ipv4Addr;

/// One column: its title and its least width.
type Column = (&'static str, usize);

const IMAGE_COLUMNS: [Column; 4] = [
    ("image_id", 30),
    ("version", 10),
    ("modify_datetime", 19),
    ("size", 10),
];
const IMAGE_DASHES: usize = 68;

const CONTAINER_COLUMNS: [Column; 7] = [
    ("container_id", 20),
    ("image", 20),
    ("hostname", 10),
    ("net", 10),
    ("netns", 16),
    ("size", 10),
    ("status", 14),
];
const CONTAINER_DASHES: usize = 107;

pub fn images(images: &[ImageRecord], form: ListingForm) -> String {
    match form {
        ListingForm::Table => image_table(images, &Clock::local()),
        ListingForm::Names => images.iter().fold(String::new(), |names, image| {
            names + &named(&image.name, &image.version) + "\n"
        }),
        ListingForm::Json => {
            let clock = Clock::local();
            let entries = images.iter().map(|image| ImageEntry::of(image, &clock));
            json(entries.collect::<Vec<_>>())
        }
    }
}

pub fn containers(containers: &[ContainerSummary], form: ListingForm) -> String {
    match form {
        ListingForm::Table => container_table(containers),
        ListingForm::Names => containers
            .iter()
            .fold(String::new(), |names, it| names + it.name.as_str() + "\n"),
        ListingForm::Json => json(
            containers
                .iter()
                .map(ContainerEntry::of)
                .collect::<Vec<_>>(),
        ),
    }
}

fn image_table(images: &[ImageRecord], clock: &Clock) -> String {
    let row = |image: &ImageRecord| {
        [
            image.name.to_string(),
            image.version.as_str().to_string(),
            clock.show(image.modified),
            size(image.size),
        ]
    };
    // The seed pads the title of the last column here, and not for containers.
    table(
        &IMAGE_COLUMNS,
        IMAGE_DASHES,
        IMAGE_COLUMNS[3].1,
        images.iter().map(row).collect(),
    )
}

fn container_table(containers: &[ContainerSummary]) -> String {
    let row = |container: &ContainerSummary| {
        [
            container.name.to_string(),
            container.image.clone(),
            container.hostname.clone(),
            container.net.to_string(),
            container.netns.clone(),
            size(container.size),
            status(container),
        ]
    };
    table(
        &CONTAINER_COLUMNS,
        CONTAINER_DASHES,
        0,
        containers.iter().map(row).collect(),
    )
}

/// `dashes` belongs to columns of their least widths; `last_title` is how wide the last title is padded.
fn table<const N: usize>(
    columns: &[Column; N],
    dashes: usize,
    last_title: usize,
    rows: Vec<[String; N]>,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(harmless)).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(columns[column].1)
    });
    let widened: usize = widths
        .iter()
        .zip(columns)
        .map(|(width, column)| width - column.1)
        .sum();

    let mut text = String::new();
    let titles = columns.map(|(title, _)| title.to_string());
    write_row(&mut text, &titles, &widths, last_title);
    text.extend(std::iter::repeat_n('-', dashes + widened));
    text.push('\n');
    for row in &rows {
        write_row(&mut text, row, &widths, 0);
    }
    text
}

fn write_row<const N: usize>(
    text: &mut String,
    cells: &[String; N],
    widths: &[usize; N],
    last_width: usize,
) {
    for (column, cell) in cells.iter().enumerate() {
        let is_last = column + 1 == N;
        let width = if is_last { last_width } else { widths[column] };
        let padding = width.saturating_sub(cell.chars().count());
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', padding));
        text.push(if is_last { '\n' } else { ' ' });
    }
}

/// The cell itself, where nothing in it has to be escaped: a listing has many.
fn harmless(cell: String) -> String {
    match escape(&cell) {
        Cow::Borrowed(_) => cell,
        Cow::Owned(escaped) => escaped,
    }
}

/// `24 MB`: whole units, rounded down, the largest of which there is more than one.
fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        more if more > GIB => format!("{} GB", more / GIB),
        more if more > MIB => format!("{} MB", more / MIB),
        more if more > KIB => format!("{} KB", more / KIB),
        few => format!("{few} B"),
    }
}

fn status(container: &ContainerSummary) -> String {
    let state = match &container.status {
        Status::Stopped => "STOPPED".to_string(),
        Status::Running(pid) => format!("RUNNING({pid})"),
        Status::Paused(pid) => format!("PAUSED({pid})"),
        Status::Restarting(left) => match left.as_millis().div_ceil(1000) {
            0 => "RESTARTING(now)".to_string(),
            seconds => format!("RESTARTING(in {seconds} s)"),
        },
        Status::Exception { why, .. } => format!("EXCEPTION({why})"),
    };
    let ids = match container.isolation {
        Isolation::Contained => "",
        Isolation::Privileged => " PRIVILEGED",
        Isolation::HostIds => " HOST-IDS",
    };
    // What goes without saying of a privileged one.
    let is_open = container.isolation != Isolation::Privileged
        && container.confinement.seccomp == Seccomp::Unconfined;
    let filter = if is_open { " UNCONFINED" } else { "" };
    state + ids + filter
}

/// `name:version`, or the name where there is no version.
fn named(name: &Name, version: &Version) -> String {
    match *version == Version::none() {
        true => name.to_string(),
        false => format!("{name}:{version}"),
    }
}

fn json(entries: impl Serialize) -> String {
    crate::escape::json_of_several_lines(&entries) + "\n"
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct ImageEntry<'a> {
    image_id: &'a str,
    version: &'a str,
    modify_datetime: String,
    size: u64,
}

impl<'a> ImageEntry<'a> {
    fn of(image: &'a ImageRecord, clock: &Clock) -> ImageEntry<'a> {
        ImageEntry {
            image_id: image.name.as_str(),
            version: image.version.as_str(),
            modify_datetime: clock.show_with_offset(image.modified),
            size: image.size,
        }
    }
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct ContainerEntry<'a> {
    container_id: &'a str,
    image: &'a str,
    hostname: &'a str,
    net: &'a str,
    netns: &'a str,
    /// Null for other networks than BRIDGE.
    vip: Option<Ipv4Addr>,
    /// Null also where it is the default route's.
    host_eth: Option<&'a str>,
    port_mapping: Vec<String>,
    size: u64,
    /// STOPPED, RUNNING, PAUSED, RESTARTING or EXCEPTION.
    status: &'static str,
    pid: Option<i32>,
    why: Option<&'a str>,
    remedy: Option<&'a str>,
    privileged: bool,
    isolation: IsolationEntry<'a>,
    /// Since it was booted last. Null where the kernel does not count them.
    oom_kills: Option<u64>,
    restart: RestartEntry<'a>,
    /// Whether it is booted with the host.
    enabled: bool,
    /// What it is booted after then.
    after: Vec<&'a str>,
}

/// What is done when it has ended by itself, and what came of that.
#[derive(Serialize)]
struct RestartEntry<'a> {
    /// As `--restart` has it.
    policy: String,
    /// In a row.
    failures: u32,
    last_failure: Option<&'a str>,
    /// Milliseconds until it is booted again; null where nobody waits for that.
    again_in_ms: Option<u64>,
}

impl<'a> RestartEntry<'a> {
    fn of(container: &'a ContainerSummary) -> RestartEntry<'a> {
        let restarts = container.restarts.as_ref();
        RestartEntry {
            policy: container.restart.to_string(),
            failures: restarts.map_or(0, |restarts| restarts.failures),
            last_failure: restarts.map(|restarts| &*restarts.last_failure),
            again_in_ms: restarts
                .and_then(|restarts| restarts.again_in)
                .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl<'a> ContainerEntry<'a> {
    fn of(container: &'a ContainerSummary) -> ContainerEntry<'a> {
        let (status, pid, why, remedy) = match &container.status {
            Status::Stopped => ("STOPPED", None, None, None),
            Status::Running(pid) => ("RUNNING", Some(*pid), None, None),
            Status::Paused(pid) => ("PAUSED", Some(*pid), None, None),
            Status::Restarting(_) => ("RESTARTING", None, None, None),
            Status::Exception { why, remedy } => ("EXCEPTION", None, Some(&**why), Some(&**remedy)),
        };
        let after = container.enabled.iter().flatten();
        ContainerEntry {
            container_id: container.name.as_str(),
            image: &container.image,
            hostname: &container.hostname,
            net: container.net,
            netns: &container.netns,
            vip: container.address,
            host_eth: container.uplink.as_deref(),
            port_mapping: container.ports.iter().map(ToString::to_string).collect(),
            size: container.size,
            status,
            pid,
            why,
            remedy,
            privileged: container.isolation == Isolation::Privileged,
            isolation: IsolationEntry::of(container),
            oom_kills: container.oom_kills,
            restart: RestartEntry::of(container),
            enabled: container.enabled.is_some(),
            after: after.map(Name::as_str).collect(),
        }
    }
}

/// What keeps root inside from the host, and what was taken away of that.
#[derive(Serialize)]
struct IsolationEntry<'a> {
    /// `own` or `host`.
    ids: &'static str,
    /// `usual`, `unconfined`, or the file of the profile.
    seccomp: Cow<'a, str>,
    /// Whether parts of /proc and /sys are hidden or read-only.
    masks: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    /// `HOST:CONTAINER:rwm`
    devices: Vec<String>,
    no_new_privs: bool,
    hardened: bool,
    security: Option<&'a str>,
}

impl<'a> IsolationEntry<'a> {
    fn of(container: &'a ContainerSummary) -> IsolationEntry<'a> {
        let ContainerSummary {
            isolation,
            confinement,
            ..
        } = container;
        let is_privileged = *isolation == Isolation::Privileged;
        let device = |it: &DeviceRequest| {
            let (host, place) = (it.host.display(), it.container.display());
            format!("{host}:{place}:{}", it.usage)
        };
        IsolationEntry {
            ids: match isolation {
                Isolation::Contained => "own",
                Isolation::Privileged | Isolation::HostIds => "host",
            },
            seccomp: match &confinement.seccomp {
                Seccomp::Usual if is_privileged => "unconfined".into(),
                Seccomp::Usual => "usual".into(),
                Seccomp::Unconfined => "unconfined".into(),
                Seccomp::Profile(file) => file.to_string_lossy(),
            },
            masks: !is_privileged,
            cap_add: confinement.cap_add.clone().into(),
            cap_drop: confinement.cap_drop.clone().into(),
            devices: confinement.devices.iter().map(device).collect(),
            no_new_privs: confinement.no_new_privs,
            hardened: confinement.hardened,
            security: confinement.security.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;
