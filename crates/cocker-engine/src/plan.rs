//! A container's settings become the plan of its sandbox. Nothing is done to the container here.

use crate::account;
use crate::confinement;
use crate::container::{
    CONTAINERS, Container, ContainerSettings, NOTHING, NetworkSettings, UPPER, WORK,
};
use crate::engine::Engine;
use crate::failure::BootError;
use crate::network::id_range;
use crate::request::{Isolation, VolumeAccess, VolumeIds, VolumeSetId};
use crate::resolv_conf;
use cocker_image::LayerId;
use cocker_sandbox::{
    Access, BindIds, Cgroup, Hierarchies, HostNames, Mount, OverlayRoot, Plan, Program,
    RootProcess, SIGRTMIN_PLUS_3, Source, Subtree, stack_alone, usual_devices,
};
use rustix::fd::{AsRawFd, OwnedFd};
use std::ffi::{CString, OsString};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a root process that is called by a name alone is looked for.
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a given root process finds in its environment, beside PATH (`container`: systemd.io, CONTAINER_INTERFACE).
const ROOT_ENVIRONMENT: [&str; 3] = ["HOME=/root", "TERM=linux", "container=cocker"];

impl Engine {
    pub(crate) fn plan(&self, container: &Container) -> Result<Plan, BootError> {
        let settings = &container.settings;
        let hierarchies = Arc::new(Hierarchies::find());
        let cgroup = self.group(&hierarchies).place(&container.cgroup_name());
        let process = match &settings.root_process {
            None => RootProcess::Init,
            Some(words) => {
                let program = self.recognised(container, words);
                let more = match program {
                    Program::Systemd => hostname_word(words, &settings.hostname),
                    Program::Other => None,
                };
                RootProcess::Given {
                    program,
                    arguments: words
                        .iter()
                        .chain(&more)
                        .map(|argument| c_string(argument.as_bytes()))
                        .collect::<Result<_, _>>()?,
                    environment: root_environment(),
                }
            }
        };
        let device_nodes = confinement::device_nodes(container)?;
        Ok(Plan {
            ids: id_range(container),
            network: self.network_namespace(container)?,
            mounts: mounts(
                container,
                self.store.home(),
                Cgroup::below(&hierarchies, &cgroup)
                    .is_available()
                    .then_some(subtree(&process)),
            ),
            cgroup,
            limits: settings.limits.resolved()?,
            subtree: subtree(&process),
            // Root of a privileged container is the host's: a list would not keep it from anything.
            devices: match settings.isolation {
                Isolation::Contained | Isolation::HostIds => {
                    let given = device_nodes.iter().map(|node| node.rule);
                    Some(usual_devices().into_iter().chain(given).collect())
                }
                Isolation::Privileged => None,
            },
            device_nodes,
            root: self.overlay_root(container),
            confinement: confinement::confinement(container)?,
            hostname: settings.hostname.clone(),
            names: Some(names(settings)),
            process,
        })
    }

    /// What the first of a root process's words is: `/sbin/init` is a link to systemd on one system and a program on the
    /// other. What an image cannot show is taken by its name.
    fn recognised(&self, container: &Container, words: &[String]) -> Program {
        let name = words.first().map_or("", String::as_str);
        let found = stack_alone(&self.overlay_root(container), Access::ReadOnly)
            .ok()
            .and_then(|root| candidates(name).find_map(|path| last_name(&root, &path)));
        let own = Path::new(name).file_name().map(OsString::from);
        match found.or(own) {
            Some(name) if name == "systemd" => Program::Systemd,
            _ => Program::Other,
        }
    }

    /// What the container's files are stacked from.
    pub(crate) fn overlay_root(&self, container: &Container) -> OverlayRoot {
        let files = Path::new(CONTAINERS).join(container.name.as_str());
        let layers = &container.settings.layers;
        let mut lowers: Vec<_> = layers.iter().map(LayerId::tree_path).collect();
        if lowers.is_empty() {
            // Overlayfs wants one at least.
            lowers.push(files.join(NOTHING));
        }
        OverlayRoot {
            base: self.store.home().to_path_buf(),
            lowers,
            upper: files.join(UPPER),
            work: files.join(WORK),
        }
    }
}

/// systemd names the machine after `/etc/hostname`, which is the image's, unless it is told otherwise: in a container, where it
/// reads the kernel's command line, by an argument of its own (kernel-command-line(7)). None where the user has said one.
fn hostname_word(words: &[String], hostname: &str) -> Option<String> {
    const KEY: &str = "systemd.hostname=";
    let is_said = words.iter().any(|word| word.starts_with(KEY));
    (!is_said).then(|| format!("{KEY}{hostname}"))
}

fn root_environment() -> Vec<CString> {
    let path = format!("PATH={ROOT_PATH}");
    let entries = [path.as_str()].into_iter().chain(ROOT_ENVIRONMENT);
    let entries = entries.map(|entry| CString::new(entry).expect("there is no zero in it"));
    entries.collect()
}

/// Where a program may be that a root process is called by.
fn candidates(name: &str) -> impl Iterator<Item = PathBuf> {
    let folders = match name.contains('/') {
        true => "/",
        false => ROOT_PATH,
    };
    folders
        .split(':')
        .map(move |folder| Path::new(folder).join(name))
}

/// The name of what a path inside leads to in the end; none where there is nothing.
fn last_name(root: &OwnedFd, path: &Path) -> Option<OsString> {
    let file = account::resolve(root, path).ok()?;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = std::fs::read_link(link).ok()?;
    path.file_name().map(OsString::from)
}

/// How the container knows itself in its `/etc/hosts`.
fn names(settings: &ContainerSettings) -> HostNames {
    let address = match settings.network {
        NetworkSettings::Bridge { address, .. } => address,
        // The second address of loopback, as Debian has it for a host without one of its own.
        NetworkSettings::Host | NetworkSettings::Custom => Ipv4Addr::new(127, 0, 1, 1),
    };
    HostNames {
        address: address.into(),
        hostname: settings.hostname.clone(),
    }
}

/// What every container finds mounted, then its volumes.
fn mounts(container: &Container, home: &Path, cgroup: Option<Subtree>) -> Vec<Mount> {
    let own = |source, target: &str, access| Mount {
        source,
        target: PathBuf::from(target),
        access,
    };
    let mut mounts = vec![
        own(Source::Proc, "/proc", Access::ReadWrite),
        own(Source::Sysfs, "/sys", Access::ReadOnly),
        own(Source::Devices, "/dev", Access::ReadWrite),
        own(Source::DevPts, "/dev/pts", Access::ReadWrite),
        own(Source::SharedMemory, "/dev/shm", Access::ReadWrite),
        own(Source::MessageQueues, "/dev/mqueue", Access::ReadWrite),
    ];
    if let Some(subtree) = cgroup {
        let access = match subtree {
            Subtree::Closed => Access::ReadOnly,
            Subtree::Delegated => Access::ReadWrite,
        };
        mounts.push(own(Source::Cgroup, "/sys/fs/cgroup", access));
    }
    let folder = home.join(CONTAINERS).join(container.name.as_str());
    let supplied = Source::Supplied {
        file: folder.join(resolv_conf::FILE),
    };
    mounts.push(own(supplied, "/etc/resolv.conf", Access::ReadWrite));
    for volume in &container.settings.volumes {
        mounts.push(Mount {
            source: Source::Bind {
                host: volume.host.clone(),
                ids: match volume.ids {
                    VolumeIds::Mapped => BindIds::Mapped,
                    VolumeIds::Raw => BindIds::Raw,
                },
                no_set_id: volume.set_id == VolumeSetId::Ignored,
            },
            target: volume.container.clone(),
            access: match volume.access {
                VolumeAccess::ReadWrite => Access::ReadWrite,
                VolumeAccess::ReadOnly => Access::ReadOnly,
            },
        });
    }
    mounts
}

/// 0 where cockerinit is process 1; else what the given root process takes as "shut down".
pub(crate) fn stop_signal(process: &RootProcess) -> i32 {
    match process {
        RootProcess::Init => 0,
        RootProcess::Given { program, .. } => match program {
            Program::Systemd => SIGRTMIN_PLUS_3,
            Program::Other => SIGTERM,
        },
    }
}

/// A manager of services keeps each in a cgroup of its own (systemd.io, CONTAINER_INTERFACE).
fn subtree(process: &RootProcess) -> Subtree {
    match process {
        RootProcess::Given {
            program: Program::Systemd,
            ..
        } => Subtree::Delegated,
        _ => Subtree::Closed,
    }
}

const SIGTERM: i32 = 15;

pub(crate) fn c_string(bytes: &[u8]) -> Result<CString, BootError> {
    CString::new(bytes).map_err(|_| BootError::BadArgument {
        text: String::from_utf8_lossy(bytes).escape_default().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Settings;
    use crate::request::{CreateRequest, NetworkRequest, NewContainer, VolumeRequest};
    use cocker_image::{Name, NewImage, Reference, Version};
    use cocker_sandbox::{CapabilitySet, CoreDumps, Filter, OwnSettings, usual_masks};

    /// An engine on a store of its own, with an empty image of each name.
    fn engine_with(home: &tempfile::TempDir, images: &[&str]) -> Engine {
        let engine = Engine::open(Settings {
            home: home.path().join("store"),
            cgroup_parent: "cocker-plan".into(),
            supervisor: &[],
            init: &[],
        })
        .expect("a store of its own");
        for image in images {
            add_image(&engine, image, &Version::none());
        }
        engine
    }

    fn add_image(engine: &Engine, name: &str, version: &Version) -> String {
        let staged = engine.store.stage().expect("the store is ours");
        let name = Name::parse(name).expect("a name");
        let names = engine.store.lock().expect("the store is ours");
        let image = NewImage::of(staged, &name, version, &[]);
        let image = engine.store.publish(&names, image, vec![]);
        let (image, _) = image.expect("the name is free");
        image.layers[0].as_str().into()
    }

    fn request(images: &[&str]) -> CreateRequest {
        let reference = |name: &&str| Reference::parse(name).expect("a reference");
        CreateRequest {
            images: images.iter().map(reference).collect(),
            container: NewContainer {
                name: Name::parse("web").expect("a name"),
                hostname: None,
                volumes: vec![],
                isolation: Isolation::Contained,
                confinement: crate::ConfinementRequest::default(),
                network: NetworkRequest::Host,
                restart: Default::default(),
            },
        }
    }

    fn plan_of(engine: &Engine, request: &CreateRequest) -> Plan {
        engine.create(request).expect("the container is new");
        let container =
            Container::open(&engine.store, &request.container.name).expect("it is there");
        engine.plan(&container).expect("its settings are sound")
    }

    #[test]
    fn the_plan_says_all_that_will_be_done() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base", "top"]);
        let mut request = request(&["base", "top"]);
        request.container.hostname = Some("www".into());
        request.container.volumes = vec![VolumeRequest {
            host: "/usr".into(),
            container: "/data".into(),
            access: VolumeAccess::ReadOnly,
            ids: VolumeIds::Mapped,
            set_id: VolumeSetId::Kept,
        }];
        let plan = plan_of(&engine, &request);
        let layers: Vec<String> = plan
            .root
            .lowers
            .iter()
            .map(|layer| layer.display().to_string())
            .collect();
        let cgroup = match Cgroup::at(&plan.cgroup).is_available() {
            true => "mount cgroup2 on `/sys/fs/cgroup` read-only\n",
            false => "",
        };
        let masks = usual_masks(OwnSettings::WithoutNetwork);
        let mut confinement: String = masks.iter().map(|mask| format!("{mask}\n")).collect();
        confinement += "no abstract sockets of others\n";
        if CoreDumps::that_stay_inside() == CoreDumps::Off {
            confinement += "no core dumps\n";
        }
        let length = Filter::usual().length();
        confinement += &format!("filter of system calls: {length} instructions\n");
        let expected = format!(
            "ids 0..65536 are {}..
cgroup {}
limit processes 32768
devices: 8 rules
root from `{}`
  layer `{}`
  layer `{}`
  upper `containers/web/files/upper`
mount proc on `/proc`
mount sysfs on `/sys` read-only
mount devices on `/dev`
mount devpts on `/dev/pts`
mount shared memory on `/dev/shm`
mount mqueue on `/dev/mqueue`
{cgroup}mount `{}/containers/web/resolv.conf` on `/etc/resolv.conf` where that is missing or empty
mount `/usr` on `/data` read-only
{confinement}hostname `www`
/etc/hosts: 127.0.1.1 is `www`
root process cockerinit
",
            plan.ids.expect("they are its own").first.0,
            plan.cgroup,
            engine.store.home().display(),
            layers[0],
            layers[1],
            engine.store.home().display(),
        );
        assert_eq!(plan.to_string(), expected);
    }

    #[test]
    fn a_newer_version_changes_nothing_for_a_container_that_exists() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &[]);
        let version = |text| Version::parse(text).expect("a version");
        let old = add_image(&engine, "app", &version("1.9.0"));
        let plan = plan_of(&engine, &request(&["app"]));
        let new = add_image(&engine, "app", &version("1.10.0"));
        let name = Name::parse("web").expect("a name");
        let container = Container::open(&engine.store, &name).expect("it is there");
        assert_eq!(
            engine.plan(&container).expect("its settings are sound"),
            plan
        );
        assert!(plan.root.lowers[0].display().to_string().contains(&old));

        let mut later = request(&["app"]);
        later.container.name = Name::parse("later").expect("a name");
        let plan = plan_of(&engine, &later);
        assert!(plan.root.lowers[0].display().to_string().contains(&new));
    }

    #[test]
    fn a_systemd_inside_has_the_cgroups_below_its_own() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base"]);
        plan_of(&engine, &request(&["base"]));
        let name = Name::parse("web").expect("a name");
        let mut container = Container::open(&engine.store, &name).expect("it is there");
        for (program, expected) in [
            ("/lib/systemd/systemd", Subtree::Delegated),
            ("systemd", Subtree::Delegated),
            ("/usr/bin/systemd-run", Subtree::Closed),
            ("/bin/sh", Subtree::Closed),
        ] {
            container.settings.root_process = Some(vec![program.into()]);
            let plan = engine.plan(&container).expect("its settings are sound");
            assert_eq!(plan.subtree, expected, "{program}");
            let mount = plan.mounts.iter().find(|it| it.source == Source::Cgroup);
            let is_writable = mount.is_some_and(|mount| mount.access == Access::ReadWrite);
            let has_cgroup = Cgroup::at(&plan.cgroup).is_available();
            assert_eq!(is_writable, has_cgroup && expected == Subtree::Delegated);
        }
    }

    #[test]
    fn privileged_means_the_hosts_own_ids_and_nothing_in_the_way() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base"]);
        let mut request = request(&["base"]);
        request.container.isolation = Isolation::Privileged;
        let plan = plan_of(&engine, &request);
        assert_eq!((plan.ids, plan.devices), (None, None));
        assert_eq!(plan.confinement, cocker_sandbox::Confinement::none());
    }

    #[test]
    fn the_hosts_ids_alone_come_with_few_rights_and_all_that_is_in_the_way() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base"]);
        let mut request = request(&["base"]);
        request.container.isolation = Isolation::HostIds;
        let plan = plan_of(&engine, &request);
        assert_eq!(plan.ids, None);
        assert!(plan.devices.is_some());
        let confinement = plan.confinement;
        assert_eq!(confinement.capabilities, CapabilitySet::among_host_ids());
        assert_eq!(confinement.masks, usual_masks(OwnSettings::None));
        assert_eq!(confinement.filters, [Filter::usual()]);
    }

    #[test]
    fn a_given_device_is_made_and_may_be_used() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base"]);
        let mut request = request(&["base"]);
        request.container.confinement.devices = vec![crate::DeviceRequest {
            host: "/dev/null".into(),
            container: "/dev/own/nothing".into(),
            usage: crate::DeviceUse::parse("r").expect("a use"),
        }];
        let plan = plan_of(&engine, &request);
        let node = &plan.device_nodes[0];
        assert_eq!(node.place, Path::new("own/nothing"));
        assert_eq!((node.rule.major, node.rule.minor), (1, Some(3)));
        assert!(plan.devices.is_some_and(|rules| rules.contains(&node.rule)));
        request.container.name = Name::parse("other").expect("a name");
        request.container.confinement.devices[0].host = "/etc/passwd".into();
        assert!(engine.create(&request).is_err());
    }

    #[test]
    fn a_range_of_ids_is_given_to_one_container_only_and_again_after_it() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base"]);
        let named = |name: &str| {
            let mut request = request(&["base"]);
            request.container.name = Name::parse(name).expect("a name");
            request
        };
        let first = plan_of(&engine, &named("a")).ids;
        let second = plan_of(&engine, &named("b")).ids;
        assert_ne!(first, second);
        let a = Name::parse("a").expect("a name");
        engine
            .destroy(&a, crate::IfBooted::Refuse, crate::OnError::Stop)
            .expect("it is stopped");
        assert_eq!(plan_of(&engine, &named("c")).ids, first);
    }

    #[test]
    fn systemd_is_told_to_halt_in_its_own_way() {
        let given = |program| RootProcess::Given {
            program,
            arguments: vec![c"/sbin/init".into()],
            environment: vec![],
        };
        assert_eq!(stop_signal(&RootProcess::Init), 0);
        assert_eq!(stop_signal(&given(Program::Other)), SIGTERM);
        assert_eq!(stop_signal(&given(Program::Systemd)), SIGRTMIN_PLUS_3);
    }
}
