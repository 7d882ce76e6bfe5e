//! What keeps a container's root from the kernel beside ids and namespaces: as it was said, as it is remembered, and as the
//! sandbox takes it.
//!
//! ```text
//!   containers/<name>/seccomp.json   a profile of system calls, as it was given
//!   containers/<name>/seccomp.bpf    the filter that it makes here, behind a line that says where "here" is
//! ```

use crate::container::{Container, ContainerSettings, NetworkSettings};
use crate::request::Isolation;
use cocker_image::{Afterwards, Rename};
use cocker_sandbox::{
    Capability, CapabilitySet, Circumstances, Confinement, CoreDumps, DeviceNode, Filter, Label,
    LabelError, OwnSettings, ProfileError, usual_masks,
};
use cocker_sys::fault;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use cocker_sandbox::{Capability as CapabilityName, DeviceUse};

const PROFILE: &str = "seccomp.json";
const FILTER: &str = "seccomp.bpf";

/// The largest profile that is read.
const MOST_PROFILE: usize = 1 << 20;

/// What is asked for where anything but the usual is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfinementRequest {
    pub seccomp: SeccompRequest,
    pub cap_add: Capabilities,
    pub cap_drop: Capabilities,
    pub devices: Vec<DeviceRequest>,
    pub no_new_privs: bool,
    pub hardened: bool,
    /// The name of an AppArmor profile, or an SELinux context.
    pub security: Option<String>,
}

/// Which system calls may be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeccompRequest {
    /// Those of the usual filter; in a privileged container all.
    #[default]
    Usual,
    Unconfined,
    /// What this file says, a profile in JSON.
    Profile(PathBuf),
}

/// Some capabilities, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Capabilities {
    pub all: bool,
    pub some: Vec<Capability>,
}

/// A device of the host that a container may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path in the container, below `/dev`.
    pub container: PathBuf,
    #[serde(with = "device_use")]
    pub usage: DeviceUse,
}

/// `rwm`, as it is said.
mod device_use {
    use cocker_sandbox::DeviceUse;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(usage: &DeviceUse, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&usage.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DeviceUse, D::Error> {
        let text = String::deserialize(from)?;
        DeviceUse::parse(&text).ok_or_else(|| D::Error::custom("no use of a device"))
    }
}

impl TryFrom<Vec<String>> for Capabilities {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Capabilities, String> {
        let mut read = Capabilities::default();
        for text in texts {
            match Capability::parse(&text) {
                _ if text == "ALL" => read.all = true,
                Some(capability) => read.some.push(capability),
                None => return Err(format!("`{text}` is no capability")),
            }
        }
        Ok(read)
    }
}

impl From<Capabilities> for Vec<String> {
    fn from(said: Capabilities) -> Vec<String> {
        let all = said.all.then(|| "ALL".to_string());
        let some = said.some.iter().map(|it| it.name().to_string());
        all.into_iter().chain(some).collect()
    }
}

impl Capabilities {
    fn is_empty(&self) -> bool {
        *self == Capabilities::default()
    }
}

/// What `container.json` remembers, and a listing shows; what is missing is as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfinementSettings {
    #[serde(skip_serializing_if = "Seccomp::is_usual")]
    pub seccomp: Seccomp,
    #[serde(skip_serializing_if = "Capabilities::is_empty")]
    pub cap_add: Capabilities,
    #[serde(skip_serializing_if = "Capabilities::is_empty")]
    pub cap_drop: Capabilities,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRequest>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privs: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hardened: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    #[default]
    Usual,
    Unconfined,
    /// As the file was called.
    Profile(PathBuf),
}

impl Seccomp {
    fn is_usual(&self) -> bool {
        *self == Seccomp::Usual
    }
}

/// What is asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    #[error("cannot read profile `{}`", file.display())]
    ReadProfile {
        file: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot read profile `{}`: it has more than {MOST_PROFILE} bytes", file.display())]
    LongProfile { file: PathBuf },
    #[error("cannot use profile `{}`", file.display())]
    Profile {
        file: PathBuf,
        #[source]
        source: ProfileError,
    },
    #[error("cannot keep profile `{}`", file.display())]
    KeepProfile {
        file: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot find device `{}`", path.display())]
    NoSuchDevice {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot use `{}` as a device: it is none", path.display())]
    NoDevice { path: PathBuf },
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl ConfinementError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            ConfinementError::ReadProfile { .. } | ConfinementError::LongProfile { .. } => Some(
                "say a profile as podman and docker take it, in JSON, or `--seccomp unconfined`."
                    .into(),
            ),
            ConfinementError::Profile {
                source: ProfileError::Entry { .. } | ProfileError::Shape { .. },
                ..
            } => Some("correct it there, or take it out; nothing was changed.".into()),
            ConfinementError::Label(source) => source.hint(),
            _ => None,
        }
    }
}

/// A request that was not refused, with the profile that it brings.
pub(crate) struct CheckedConfinement {
    pub settings: ConfinementSettings,
    profile: Option<Profile>,
}

struct Profile {
    file: PathBuf,
    text: Vec<u8>,
    filter: Filter,
    here: Circumstances,
}

/// Reads and checks everything that a request names.
pub(crate) fn check(
    request: &ConfinementRequest,
    isolation: Isolation,
) -> Result<CheckedConfinement, ConfinementError> {
    let mut settings = ConfinementSettings {
        seccomp: Seccomp::Usual,
        cap_add: request.cap_add.clone(),
        cap_drop: request.cap_drop.clone(),
        devices: request.devices.clone(),
        no_new_privs: request.no_new_privs,
        hardened: request.hardened,
        security: request.security.clone(),
    };
    for device in &settings.devices {
        node(device)?;
    }
    if let Some(label) = &settings.security {
        Label::of_host(label)?;
    }
    let profile = match &request.seccomp {
        SeccompRequest::Usual => None,
        SeccompRequest::Unconfined => {
            settings.seccomp = Seccomp::Unconfined;
            None
        }
        SeccompRequest::Profile(file) => {
            settings.seccomp = Seccomp::Profile(file.clone());
            let here = circumstances(&settings, isolation);
            Some(read_profile(file, here)?)
        }
    };
    Ok(CheckedConfinement { settings, profile })
}

impl CheckedConfinement {
    /// Writes the profile into the folder of a new container. Made durable by whoever writes the settings.
    pub(crate) fn keep(&self, folder: BorrowedFd<'_>) -> Result<(), ConfinementError> {
        let kept = match &self.profile {
            Some(profile) => replace(folder, PROFILE, &profile.text)
                .and_then(|()| replace(folder, FILTER, &profile.kept())),
            None => Ok(()),
        };
        kept.map_err(|source| self.failed(source))
    }

    /// Writes the profile into the folder of a container that may have another one, still without a name; returns the names
    /// that go and come, seen from the home, once the settings that say so are written. `container` is the folder's path.
    pub(crate) fn stage(
        &self,
        folder: BorrowedFd<'_>,
        container: &str,
    ) -> Result<Vec<Afterwards>, ConfinementError> {
        let at = |name: &str| format!("{container}/{name}");
        let Some(profile) = &self.profile else {
            return Ok([PROFILE, FILTER]
                .map(|name| Afterwards::Unlink(at(name)))
                .into());
        };
        let mut follows = Vec::new();
        for (name, bytes) in [(PROFILE, &profile.text), (FILTER, &profile.kept())] {
            let staged = staged_name(name);
            write(folder, &staged, bytes).map_err(|source| self.failed(source))?;
            follows.push(Afterwards::Replace(Rename::new(at(&staged), at(name))));
        }
        Ok(follows)
    }

    fn failed(&self, source: Errno) -> ConfinementError {
        ConfinementError::KeepProfile {
            file: match &self.profile {
                Some(profile) => profile.file.clone(),
                None => PROFILE.into(),
            },
            source,
        }
    }
}

impl Profile {
    fn kept(&self) -> Vec<u8> {
        [first_line(&self.here).as_bytes(), &self.filter.to_bytes()].concat()
    }
}

/// What a kept filter was made for: it holds only there.
fn first_line(here: &Circumstances) -> String {
    let Circumstances {
        capabilities,
        kernel: (major, minor),
    } = here;
    format!(
        "cocker {} filter for {} {major}.{minor} {:x}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        capabilities.bits()
    )
}

/// What holds in a container, as the sandbox takes it.
pub(crate) fn confinement(container: &Container) -> Result<Confinement, ConfinementError> {
    let settings = &container.settings;
    let said = &settings.confinement;
    let is_privileged = settings.isolation == Isolation::Privileged;
    let filter = match &said.seccomp {
        Seccomp::Usual if is_privileged => None,
        Seccomp::Usual => Some(Filter::usual()),
        Seccomp::Unconfined => None,
        Seccomp::Profile(file) => Some(kept_filter(container, file)?),
    };
    // First the one that lets everything through that it does not know, so that it cannot keep us from the other.
    let hardening = said.hardened.then(Filter::hardening);
    Ok(Confinement {
        filters: hardening.into_iter().chain(filter).collect(),
        capabilities: capabilities(said, settings.isolation),
        no_new_privileges: said.no_new_privs,
        own_abstract_sockets: !is_privileged && settings.network == NetworkSettings::Host,
        masks: match is_privileged {
            true => Vec::new(),
            false => usual_masks(own_settings(settings)),
        },
        core_dumps: match is_privileged {
            true => CoreDumps::AsHost,
            false => CoreDumps::that_stay_inside(),
        },
        label: said.security.as_deref().map(Label::of_host).transpose()?,
    })
}

/// The devices that a container has beside the usual ones.
pub(crate) fn device_nodes(container: &Container) -> Result<Vec<DeviceNode>, ConfinementError> {
    let devices = &container.settings.confinement.devices;
    devices.iter().map(node).collect()
}

fn node(device: &DeviceRequest) -> Result<DeviceNode, ConfinementError> {
    let path = device.host.clone();
    let found = match rustix::fs::statat(CWD, &device.host, AtFlags::empty()) {
        Ok(found) => found,
        Err(source) => return Err(ConfinementError::NoSuchDevice { path, source }),
    };
    let place = device
        .container
        .strip_prefix("/dev")
        .unwrap_or(&device.container);
    DeviceNode::like(&found, place.to_path_buf(), device.usage)
        .ok_or(ConfinementError::NoDevice { path })
}

fn own_settings(settings: &ContainerSettings) -> OwnSettings {
    match (settings.isolation, &settings.network) {
        (Isolation::Privileged | Isolation::HostIds, _) => OwnSettings::None,
        (Isolation::Contained, NetworkSettings::Host) => OwnSettings::WithoutNetwork,
        (Isolation::Contained, _) => OwnSettings::WithNetwork,
    }
}

/// What root inside may have at most: what it has usually, with what is added, without what is dropped.
fn capabilities(said: &ConfinementSettings, isolation: Isolation) -> CapabilitySet {
    let usual = match isolation {
        Isolation::Contained | Isolation::Privileged => CapabilitySet::ALL,
        Isolation::HostIds => CapabilitySet::among_host_ids(),
    };
    let begun = match (said.cap_drop.all, said.cap_add.all) {
        (true, _) => CapabilitySet::NONE,
        (false, true) => CapabilitySet::ALL,
        (false, false) => usual,
    };
    let added = said.cap_add.some.iter().copied();
    let added = added.fold(begun, CapabilitySet::with);
    let dropped = said.cap_drop.some.iter().copied();
    dropped.fold(added, CapabilitySet::without)
}

fn circumstances(said: &ConfinementSettings, isolation: Isolation) -> Circumstances {
    Circumstances {
        capabilities: capabilities(said, isolation),
        kernel: cocker_sandbox::running_kernel(),
    }
}

fn read_profile(file: &Path, here: Circumstances) -> Result<Profile, ConfinementError> {
    let text = read_bounded(CWD, file).map_err(|source| ConfinementError::ReadProfile {
        file: file.to_path_buf(),
        source,
    })?;
    if text.len() > MOST_PROFILE {
        return Err(ConfinementError::LongProfile {
            file: file.to_path_buf(),
        });
    }
    let filter = compiled(file, &text, &here)?;
    Ok(Profile {
        file: file.to_path_buf(),
        text,
        filter,
        here,
    })
}

fn compiled(file: &Path, text: &[u8], here: &Circumstances) -> Result<Filter, ConfinementError> {
    Filter::from_profile(text, here).map_err(|source| ConfinementError::Profile {
        file: file.to_path_buf(),
        source,
    })
}

/// The filter as it was kept, where it was made for what is here now; else it is made anew, and kept.
fn kept_filter(container: &Container, file: &Path) -> Result<Filter, ConfinementError> {
    let here = circumstances(
        &container.settings.confinement,
        container.settings.isolation,
    );
    let folder = container.folder.as_fd();
    let kept = read_bounded(folder, Path::new(FILTER)).unwrap_or_default();
    let bytes = kept.strip_prefix(first_line(&here).as_bytes());
    if let Some(filter) = bytes.and_then(Filter::from_bytes) {
        return Ok(filter);
    }
    let text = read_bounded(folder, Path::new(PROFILE));
    let text = text.map_err(|source| ConfinementError::ReadProfile {
        file: file.to_path_buf(),
        source,
    })?;
    let profile = Profile {
        filter: compiled(file, &text, &here)?,
        file: file.to_path_buf(),
        text,
        here,
    };
    if let Err(errno) = replace(folder, FILTER, &profile.kept()) {
        tracing::debug!("the filter is made anew each time: {errno}");
    }
    Ok(profile.filter)
}

/// One byte more than there may be, at most.
fn read_bounded(folder: BorrowedFd<'_>, file: &Path) -> Result<Vec<u8>, Errno> {
    // Whatever lies there, opening it shall not wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, file, flags, Mode::empty())?;
    let mut text = Vec::new();
    let mut block = [0; 16 << 10];
    while text.len() <= MOST_PROFILE {
        match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut block))? {
            0 => break,
            length => text.extend(&block[..length]),
        }
    }
    Ok(text)
}

/// Written new, on disk, and renamed: whoever reads sees the old one or the new one.
fn replace(folder: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let staged = staged_name(name);
    write(folder, &staged, bytes)?;
    let rename = || rustix::fs::renameat(folder, &staged, folder, name);
    fault::step("profile.rename", rename)
}

fn staged_name(name: &str) -> String {
    format!(".new-{name}")
}

/// Writes a file, and to disk.
fn write(folder: BorrowedFd<'_>, staged: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let make = || rustix::fs::openat(folder, staged, flags, Mode::RUSR | Mode::WUSR);
    let file = fault::step("profile.make", make)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    fault::step("profile.sync", || rustix::fs::fdatasync(&file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(texts: &[&str]) -> Capabilities {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        Capabilities::try_from(texts).expect("they are capabilities")
    }

    fn bits(isolation: Isolation, add: &[&str], drop: &[&str]) -> u64 {
        let said = ConfinementSettings {
            cap_add: some(add),
            cap_drop: some(drop),
            ..ConfinementSettings::default()
        };
        capabilities(&said, isolation).bits()
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let usual = CapabilitySet::among_host_ids().bits();
        assert_eq!(bits(Isolation::Contained, &[], &[]), u64::MAX);
        assert_eq!(bits(Isolation::HostIds, &[], &[]), usual);
        assert_eq!(
            bits(Isolation::HostIds, &["SYS_TIME"], &[]),
            usual | 1 << 25
        );
        assert_eq!(
            bits(Isolation::HostIds, &["ALL"], &["SYS_TIME"]),
            !(1 << 25)
        );
        assert_eq!(bits(Isolation::Contained, &[], &["ALL"]), 0);
        assert_eq!(bits(Isolation::Contained, &["CHOWN"], &["ALL"]), 1);
        assert_eq!(bits(Isolation::Privileged, &[], &["CHOWN"]), !1);
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let settings = ConfinementSettings {
            seccomp: Seccomp::Profile("/etc/profile.json".into()),
            cap_add: some(&["NET_ADMIN"]),
            cap_drop: some(&["ALL"]),
            devices: vec![DeviceRequest {
                host: "/dev/kvm".into(),
                container: "/dev/kvm".into(),
                usage: DeviceUse::parse("rw").expect("a use"),
            }],
            no_new_privs: true,
            hardened: true,
            security: Some("web".into()),
        };
        let json = serde_json::to_string(&settings).expect("it is plain data");
        let back: ConfinementSettings = serde_json::from_str(&json).expect("it was just written");
        assert_eq!(back, settings);
        let usual = ConfinementSettings::default();
        assert_eq!(
            serde_json::to_string(&usual).expect("it is plain data"),
            "{}"
        );
        assert!(serde_json::from_str::<ConfinementSettings>(r#"{"cap_add":["ROOT"]}"#).is_err());
    }

    #[test]
    fn a_kept_filter_says_where_it_holds() {
        let here = Circumstances {
            capabilities: CapabilitySet::NONE,
            kernel: (6, 1),
        };
        let elsewhere = Circumstances {
            kernel: (6, 2),
            ..here
        };
        let other = Circumstances {
            capabilities: CapabilitySet::ALL,
            ..here
        };
        assert_ne!(first_line(&here), first_line(&elsewhere));
        assert_ne!(first_line(&here), first_line(&other));
    }
}
