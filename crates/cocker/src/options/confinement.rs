//! What keeps a container's root from the kernel: `--seccomp`, `--cap-add`, `--cap-drop`, `--device`, `--no-new-privs`,
//! `--hardened`, `--security`; and whose ids it has, `--privileged` and `--userns host`.

use super::meaning::{Command, name};
use super::said::{self, ConfinementOptions, CreateOptions};
use crate::failure::Failure;
use cocker_engine::{
    Capabilities, CapabilityName, ConfinementRequest, DeviceRequest, DeviceUse, Isolation,
    SeccompRequest,
};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// `set-isolation`.
pub fn set_isolation(said: &said::SetIsolation) -> Result<Command, Failure> {
    let request = confinement(&said.confinement)?;
    Ok(Command::SetIsolation(
        name(said.container.name())?,
        Box::new(request),
    ))
}

/// Whose ids root inside has.
pub fn isolation(said: &CreateOptions) -> Result<Isolation, Failure> {
    match (said.userns.as_deref(), said.privileged) {
        (None, false) => Ok(Isolation::Contained),
        (None, true) => Ok(Isolation::Privileged),
        (Some("host"), false) => Ok(Isolation::HostIds),
        (Some("host"), true) => Err(Failure::usage(
            "`--privileged` and `--userns host` exclude each other",
        )
        .hint(
            "`--privileged` has the host's ids too, and nothing else keeps its root from the host.",
        )),
        (Some(other), _) => Err(Failure::usage(format!(
            "there are no ids `{other}`; there are those of `--userns host`, or a container's own"
        ))),
    }
}

/// What else is not as usual.
pub fn confinement(said: &ConfinementOptions) -> Result<ConfinementRequest, Failure> {
    Ok(ConfinementRequest {
        seccomp: match said.seccomp.as_deref() {
            None => SeccompRequest::Usual,
            Some(text) if text == "unconfined" => SeccompRequest::Unconfined,
            Some(text) if text.is_empty() => {
                return Err(Failure::usage("`--seccomp` names no file"));
            }
            Some(file) => SeccompRequest::Profile(absolute(file)?),
        },
        cap_add: capabilities("--cap-add", &said.cap_add)?,
        cap_drop: capabilities("--cap-drop", &said.cap_drop)?,
        devices: said.device.iter().map(device).collect::<Result<_, _>>()?,
        no_new_privs: said.no_new_privs,
        hardened: said.hardened,
        security: match said.security.as_deref() {
            Some("") => return Err(Failure::usage("`--security` names no profile")),
            text => text.map(String::from),
        },
    })
}

fn absolute(file: &OsStr) -> Result<PathBuf, Failure> {
    std::path::absolute(file)
        .map_err(|error| Failure::not_done("cannot find out the current folder").caused_by(&error))
}

/// `NET_ADMIN`, `CAP_NET_ADMIN,SYS_TIME`, `ALL`.
fn capabilities(option: &str, said: &[String]) -> Result<Capabilities, Failure> {
    let mut read = Capabilities::default();
    for text in said.iter().flat_map(|text| text.split(',')) {
        if text.eq_ignore_ascii_case("ALL") {
            read.all = true;
            continue;
        }
        let capability = CapabilityName::parse(text).ok_or_else(|| {
            Failure::usage(format!("`{option} {text}`: there is no such capability"))
                .hint("capabilities(7) lists them; `ALL` stands for every one.")
        })?;
        if !read.some.contains(&capability) {
            read.some.push(capability);
        }
    }
    Ok(read)
}

/// `HOST[:CONTAINER][:rwm]`.
fn device(said: &OsString) -> Result<DeviceRequest, Failure> {
    let refuse = |why: &str| {
        Failure::usage(format!("`--device {}`: {why}", said.to_string_lossy()))
            .hint("say HOST[:CONTAINER][:rwm], as `--device /dev/kvm` or `--device /dev/sdb:/dev/data:r`.")
    };
    let mut parts: Vec<&[u8]> = said.as_bytes().split(|byte| *byte == b':').collect();
    let last = parts.last().and_then(|last| std::str::from_utf8(last).ok());
    let usage = match last.and_then(DeviceUse::parse) {
        Some(usage) if parts.len() > 1 => {
            parts.pop();
            usage
        }
        _ => DeviceUse::ALL,
    };
    let path = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_path_buf();
    let (host, container) = match parts[..] {
        [host] => (path(host), path(host)),
        [host, container] => (path(host), path(container)),
        _ => return Err(refuse("has more parts than HOST:CONTAINER:rwm")),
    };
    if !host.is_absolute() {
        return Err(refuse("the path on the host must be absolute"));
    }
    let container: PathBuf = container.components().collect();
    let is_odd = |part: Component<'_>| matches!(part, Component::ParentDir);
    let is_below_dev = container
        .strip_prefix("/dev")
        .is_ok_and(|rest| !rest.as_os_str().is_empty());
    if !is_below_dev || container.components().any(is_odd) {
        return Err(refuse("the path in the container must lie below /dev"));
    }
    Ok(DeviceRequest {
        host,
        container,
        usage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, String, String), Failure> {
        let device = device(&text.into())?;
        let shown = |path: &Path| path.display().to_string();
        Ok((
            shown(&device.host),
            shown(&device.container),
            device.usage.to_string(),
        ))
    }

    #[test]
    fn devices_are_read_part_by_part() {
        let is = |text, host: &str, container: &str, usage: &str| {
            assert_eq!(
                read(text),
                Ok((host.into(), container.into(), usage.into())),
                "{text}"
            );
        };
        is("/dev/kvm", "/dev/kvm", "/dev/kvm", "rwm");
        is("/dev/kvm:r", "/dev/kvm", "/dev/kvm", "r");
        is("/dev/sdb:/dev/data", "/dev/sdb", "/dev/data", "rwm");
        is(
            "/dev/sdb:/dev//disk/./a:rw",
            "/dev/sdb",
            "/dev/disk/a",
            "rw",
        );
        for odd in [
            "",
            "kvm",
            "/dev/kvm:",
            "/dev/kvm:x",
            "/dev/kvm:/tmp/kvm",
            "/dev/kvm:/dev",
            "/dev/kvm:/dev/../x",
            "/dev/kvm:/dev/a:/dev/b",
            "/dev/kvm:/dev/a:rr",
            "/srv/node",
        ] {
            assert!(read(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn capabilities_may_stand_alone_or_in_lists() {
        let texts = [
            "net_admin,CAP_SYS_TIME".to_string(),
            "NET_ADMIN".to_string(),
        ];
        let read = capabilities("--cap-add", &texts).expect("they are capabilities");
        let names: Vec<&str> = read.some.iter().map(|it| it.name()).collect();
        assert_eq!((read.all, names), (false, vec!["NET_ADMIN", "SYS_TIME"]));
        assert!(
            capabilities("--cap-drop", &["all".into()])
                .expect("it is all")
                .all
        );
        for odd in ["", "ROOT", "NET_ADMIN,", "CAP_", "12"] {
            assert!(
                capabilities("--cap-add", &[odd.to_string()]).is_err(),
                "{odd}"
            );
        }
    }

    #[test]
    fn ids_are_the_containers_own_or_the_hosts() {
        let said = |userns: Option<&str>, privileged| {
            isolation(&CreateOptions {
                userns: userns.map(String::from),
                privileged,
                ..CreateOptions::default()
            })
        };
        assert_eq!(said(None, false), Ok(Isolation::Contained));
        assert_eq!(said(None, true), Ok(Isolation::Privileged));
        assert_eq!(said(Some("host"), false), Ok(Isolation::HostIds));
        for (userns, privileged) in [
            (Some("host"), true),
            (Some("none"), false),
            (Some(""), true),
        ] {
            assert!(said(userns, privileged).is_err(), "{userns:?}");
        }
    }
}
