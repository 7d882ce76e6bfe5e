//! Who is measured: how each is told to do the same thing.
//!
//! All have the same root file system below a writable overlay. Where an engine leaves the overlay to its caller (crun, runc,
//! systemd-nspawn), it is mounted by one call of ours, which counts as part of its boot. Root processes of the others do nothing
//! (`sleep`), and their containers are stopped by KILL at once, since that one would not listen to TERM.

use crate::place::{Outcome, Place, wait};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub const NAMES: [&str; 8] = [
    "floor", "cocker", "crun", "runc", "lxc", "nspawn", "podman", "docker",
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Net {
    Host,
    /// A bridge, and that many ports of the host from 8080 on.
    Bridge(u16),
}

pub struct Engines<'a> {
    pub place: &'a Place,
    /// The folder of the root file system, below the place.
    pub root: String,
    /// Processes of which nobody else knows: root processes of the floor, systemd-nspawn itself.
    pids: RefCell<BTreeMap<String, u32>>,
    children: RefCell<BTreeMap<String, Child>>,
    daemon: RefCell<Option<Child>>,
    /// Why docker cannot be asked, or only without a network.
    pub docker: RefCell<Outcome<()>>,
    docker_bridge: RefCell<Outcome<()>>,
    podman: Outcome<()>,
}

const SLEEP: [&str; 2] = ["sleep", "infinity"];

impl<'a> Engines<'a> {
    /// Unpacks `tar` for each of them; `root` is where cocker has it.
    pub fn new(place: &'a Place, root: String, wanted: &[&str], tar: &str) -> Outcome<Engines<'a>> {
        let mut engines = Engines {
            place,
            root,
            pids: RefCell::default(),
            children: RefCell::default(),
            daemon: RefCell::default(),
            docker: RefCell::new(Ok(())),
            docker_bridge: RefCell::new(Ok(())),
            podman: Ok(()),
        };
        if wanted.contains(&"docker") {
            let started = installed("dockerd")
                .and_then(|()| engines.start_docker())
                .and_then(|()| {
                    let import = [
                        &engines.docker_words()[..],
                        &[s("import"), tar.into(), s("debian")],
                    ]
                    .concat();
                    engines.go(&import).map(drop)
                });
            *engines.docker.borrow_mut() = started;
        }
        if wanted.contains(&"podman") {
            let import = [
                &engines.podman_words()[..],
                &[s("import"), s("-q"), tar.into(), s("debian")],
            ]
            .concat();
            engines.podman =
                installed("podman").and_then(|()| place.aside(|| engines.go(&import).map(drop)));
        }
        place.shell(
            "ip link add floor0 type bridge
             ip addr add 10.98.0.1/24 dev floor0
             ip link set floor0 up
             nft add table inet floor
             nft 'add map inet floor ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service ; }'
             nft 'add chain inet floor prerouting { type nat hook prerouting priority dstnat ; }'
             nft 'add rule inet floor prerouting dnat ip to ip daddr & 0.0.0.0 . meta l4proto . th dport map @ports'",
        )?;
        Ok(engines)
    }

    fn start_docker(&self) -> Outcome<()> {
        self.start_dockerd(true).or_else(|why| {
            *self.docker_bridge.borrow_mut() = Err(why);
            self.start_dockerd(false)
        })
    }

    fn start_dockerd(&self, bridge: bool) -> Outcome<()> {
        let place = self.place;
        fs::write(place.path("docker.json"), "{}").map_err(|error| error.to_string())?;
        let mut words = vec![s("dockerd")];
        for (option, name) in [
            ("--config-file", "docker.json"),
            ("--data-root", "docker"),
            ("--exec-root", "docker-run"),
            ("--pidfile", "docker.pid"),
        ] {
            words.extend([s(option), place.path(name)]);
        }
        words.extend([s("--host"), format!("unix://{}", place.path("docker.sock"))]);
        words.extend([s("--cgroup-parent"), format!("/{}", place.cgroup)]);
        words.extend([
            s("--exec-opt"),
            s("native.cgroupdriver=cgroupfs"),
            s("--userland-proxy=false"),
        ]);
        if !bridge {
            words.extend([
                s("--iptables=false"),
                s("--ip6tables=false"),
                s("--bridge=none"),
            ]);
        }
        let log = fs::File::create(place.path("docker.log")).map_err(|error| error.to_string())?;
        let mut command = place.command(&strs(&words))?;
        command.stdout(Stdio::null()).stderr(log);
        let mut child = command
            .spawn()
            .map_err(|error| format!("dockerd: {error}"))?;
        // It says nothing when it listens, so it is asked.
        let begun = Instant::now();
        let version = [&self.docker_words()[..], &[s("version")]].concat();
        loop {
            if self.go(&version).is_ok() {
                *self.daemon.borrow_mut() = Some(child);
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(40) || matches!(child.try_wait(), Ok(Some(_)))
            {
                let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                let _ = wait(child);
                let log = fs::read_to_string(place.path("docker.log")).unwrap_or_default();
                let last = log
                    .lines()
                    .last()
                    .unwrap_or("no word")
                    .chars()
                    .take(300)
                    .collect::<String>();
                return Err(format!("dockerd: {}", last.replace('|', "\\|")));
            }
            crate::place::rest();
        }
    }

    /// Everybody's last containers are gone before.
    pub fn stop_daemon(&self) {
        if let Some(child) = self.daemon.borrow_mut().take() {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let _ = wait(child);
        }
    }

    pub fn version(&self, engine: &str) -> String {
        let words: Vec<String> = match engine {
            "floor" => return "the kernel's calls".into(),
            "cocker" => vec![self.cocker(), s("version")],
            "lxc" => vec![s("lxc-start"), s("--version")],
            "nspawn" => vec![s("systemd-nspawn"), s("--version")],
            "docker" => [&self.docker_words()[..], &[s("--version")]].concat(),
            other => vec![s(other), s("--version")],
        };
        match self.go(&words) {
            Ok(_) => self
                .place
                .said()
                .lines()
                .next()
                .unwrap_or_default()
                .to_string(),
            Err(why) => why,
        }
    }

    pub fn cocker(&self) -> String {
        self.place.cocker.to_string_lossy().into_owned()
    }

    fn floor(&self, words: &[&str]) -> Outcome<f64> {
        let floor = self.place.floor.to_string_lossy().into_owned();
        let words = [&[floor.as_str()], words].concat();
        self.place.run(&words)
    }

    pub fn docker_words(&self) -> Vec<String> {
        // Debian's, where there are several.
        let program = if fs::exists("/usr/bin/docker").unwrap_or(false) {
            "/usr/bin/docker"
        } else {
            "docker"
        };
        vec![
            s(program),
            s("--host"),
            format!("unix://{}", self.place.path("docker.sock")),
        ]
    }

    pub fn podman_words(&self) -> Vec<String> {
        let place = self.place;
        let mut words = vec![
            s("podman"),
            s("--root"),
            place.path("podman"),
            s("--runroot"),
            place.path("podman-run"),
        ];
        words.extend([
            s("--storage-driver"),
            s("overlay"),
            s("--cgroup-manager"),
            s("cgroupfs"),
            s("--events-backend"),
            s("file"),
        ]);
        words.extend([
            s("--runtime"),
            s("crun"),
            s("--tmpdir"),
            place.path("podman-tmp"),
        ]);
        words
    }

    fn crun_words(&self, engine: &str) -> Vec<String> {
        vec![
            s(engine),
            s("--root"),
            self.place.path(&format!("{engine}-run")),
        ]
    }

    pub fn go(&self, words: &[String]) -> Outcome<f64> {
        self.place.run(&strs(words))
    }

    /// As `go`, where the engine finds the cgroups that it knows.
    pub fn go_as(&self, engine: &str, words: &[String]) -> Outcome<f64> {
        if matches!(engine, "crun" | "podman") {
            self.place.aside(|| self.go(words))
        } else {
            self.go(words)
        }
    }

    fn ask_as(&self, engine: &str, words: &[String]) -> Outcome<String> {
        self.go_as(engine, words).map(|_| self.place.said())
    }

    /// Says early that an engine is not here, or not with such a network.
    pub fn can(&self, engine: &str, net: Net) -> Outcome<()> {
        match engine {
            "crun" | "runc" => {
                installed(engine)?;
                let apart = Err(s(
                    "an OCI runtime: makes no network, but leaves that to its caller",
                ));
                if net == Net::Host { Ok(()) } else { apart }
            }
            "lxc" => {
                installed("lxc-start")?;
                let apart = Err(s("lxc: has no port mappings"));
                if net == Net::Host { Ok(()) } else { apart }
            }
            "nspawn" => {
                installed("systemd-nspawn")?;
                let apart = Err(s(
                    "systemd-nspawn: its ports are mapped by systemd-networkd, which wants systemd as the host's init",
                ));
                if net == Net::Host { Ok(()) } else { apart }
            }
            "podman" => self.podman.clone(),
            "docker" if net == Net::Host => self.docker.borrow().clone(),
            "docker" => self
                .docker
                .borrow()
                .clone()
                .and(self.docker_bridge.borrow().clone()),
            _ => Ok(()),
        }
    }

    /// Milliseconds.
    pub fn create(&self, engine: &str, name: &str, net: Net) -> Outcome<f64> {
        self.create_from(engine, name, net, "debian")
    }

    pub fn create_from(&self, engine: &str, name: &str, net: Net, image: &str) -> Outcome<f64> {
        let ports = |option: &str| -> Vec<String> {
            match net {
                Net::Host => Vec::new(),
                Net::Bridge(count) => (0..count)
                    .flat_map(|port| [s(option), format!("{}:{}", 8080 + port, 80 + port)])
                    .collect(),
            }
        };
        let network = if net == Net::Host { "host" } else { "bridge" };
        match engine {
            "floor" => self.floor(&["create", &self.place.path(""), name]),
            "cocker" => {
                let mut words = vec![
                    self.cocker(),
                    s("create"),
                    s("-m"),
                    s(image),
                    s("-c"),
                    s(name),
                ];
                if let Net::Bridge(count) = net {
                    words.extend([
                        s("--net"),
                        s("BRIDGE"),
                        s("--port-mapping"),
                        format!("8080-{}:80-{}", 8079 + count, 79 + count),
                    ]);
                }
                self.go(&words)
            }
            "podman" => {
                let mut words = self.podman_words();
                words.extend([
                    s("create"),
                    s("--name"),
                    s(name),
                    s("--network"),
                    s(network),
                    s("--cgroup-parent"),
                    format!("/{}", self.place.cgroup),
                ]);
                // No limit is raised, since not every root may do that.
                words.extend(
                    [
                        "--ulimit",
                        "nofile=1024:1024",
                        "--ulimit",
                        "nproc=1024:1024",
                    ]
                    .map(s),
                );
                words.extend(ports("-p"));
                words.push(s(image));
                words.extend(SLEEP.map(s));
                self.go_as(engine, &words)
            }
            "docker" => {
                let mut words = self.docker_words();
                words.extend([
                    s("create"),
                    s("--name"),
                    s(name),
                    s("--network"),
                    s(network),
                ]);
                words.extend(ports("-p"));
                words.push(s(image));
                words.extend(SLEEP.map(s));
                self.go(&words)
            }
            // The others are told where a folder lies.
            _ => {
                let begun = Instant::now();
                let folder = self.place.path(&format!("{engine}-{name}"));
                for part in ["", "/upper", "/work", "/rootfs"] {
                    fs::create_dir(format!("{folder}{part}")).map_err(|error| error.to_string())?;
                }
                match engine {
                    "lxc" => fs::write(format!("{folder}/config"), self.lxc_config(name, &folder)),
                    "nspawn" => Ok(()),
                    _ => fs::write(
                        format!("{folder}/config.json"),
                        bundle(&format!("/{}/{name}", self.place.cgroup)).to_string(),
                    ),
                }
                .map_err(|error| error.to_string())?;
                Ok(begun.elapsed().as_secs_f64() * 1e3)
            }
        }
    }

    fn lxc_config(&self, name: &str, folder: &str) -> String {
        format!(
            "lxc.uts.name = {name}\nlxc.rootfs.path = overlay:{}:{folder}/upper\nlxc.net.0.type = none\nlxc.init.cmd = /bin/sleep infinity\n\
             lxc.mount.auto = proc:mixed sys:mixed\nlxc.cgroup.dir = {}/{name}\nlxc.autodev = 1\nlxc.apparmor.profile = unconfined\n",
            self.root, self.place.cgroup
        )
    }

    fn overlay(&self, engine: &str, name: &str) -> Outcome<()> {
        let folder = self.place.path(&format!("{engine}-{name}"));
        let options = format!(
            "lowerdir={},upperdir={folder}/upper,workdir={folder}/work",
            self.root
        );
        let options = std::ffi::CString::new(options).map_err(|error| error.to_string())?;
        mount(
            "overlay",
            format!("{folder}/rootfs"),
            "overlay",
            MountFlags::empty(),
            Some(&*options),
        )
        .map_err(|error| format!("overlay: {error}"))
    }

    /// Milliseconds until the root process is executed.
    pub fn boot(&self, engine: &str, name: &str, net: Net) -> Outcome<f64> {
        self.boot_on(engine, name, net, &self.root)
    }

    /// With other layers, for the floor: folders, the topmost first.
    pub fn boot_on(&self, engine: &str, name: &str, net: Net, lowers: &str) -> Outcome<f64> {
        match engine {
            "floor" => {
                let base = self.place.path("");
                let lowers = lowers.replace(&base, "");
                let mut words = vec!["boot", &base, name, &self.place.cgroup, &lowers];
                if net != Net::Host {
                    words.push("bridge");
                }
                let took = self.floor(&words)?;
                let pid = self
                    .place
                    .said()
                    .parse()
                    .map_err(|_| s("the floor says no pid"))?;
                self.pids.borrow_mut().insert(s(name), pid);
                Ok(took)
            }
            "cocker" => self.go(&[self.cocker(), s("boot"), s(name)]),
            "podman" => self.go_as(
                engine,
                &[&self.podman_words()[..], &[s("start"), s(name)]].concat(),
            ),
            "docker" => self.go(&[&self.docker_words()[..], &[s("start"), s(name)]].concat()),
            "lxc" => self.go(&[
                "lxc-start",
                "-P",
                &self.place.path(""),
                "-n",
                &format!("lxc-{name}"),
                "-d",
            ]
            .map(s)),
            "nspawn" => self.boot_nspawn(name),
            _ => {
                let begin = || -> Outcome<f64> {
                    let begun = Instant::now();
                    self.overlay(engine, name)?;
                    let bundle = self.place.path(&format!("{engine}-{name}"));
                    self.go(&[
                        &self.crun_words(engine)[..],
                        &[s("run"), s("-d"), s("--bundle"), bundle, s(name)],
                    ]
                    .concat())?;
                    Ok(begun.elapsed().as_secs_f64() * 1e3)
                };
                if engine == "crun" {
                    self.place.aside(begin)
                } else {
                    begin()
                }
            }
        }
    }

    /// Boots the floor, and has it tell its steps: names and nanoseconds.
    pub fn floor_steps(&self, name: &str, net: Net) -> Outcome<String> {
        let base = self.place.path("");
        let lowers = self.root.replace(&base, "");
        let mut words = vec!["boot", &base, name, &self.place.cgroup, &lowers, "steps"];
        if net != Net::Host {
            words.push("bridge");
        }
        self.floor(&words)?;
        let pid = self
            .place
            .said()
            .parse()
            .map_err(|_| s("the floor says no pid"))?;
        self.pids.borrow_mut().insert(s(name), pid);
        fs::read_to_string(self.place.path("complaints")).map_err(|error| error.to_string())
    }

    /// It stays in the foreground, so its root process says that it is there.
    fn boot_nspawn(&self, name: &str) -> Outcome<f64> {
        let begun = Instant::now();
        self.overlay("nspawn", name)?;
        let root = self.place.path(&format!("nspawn-{name}/rootfs"));
        let words = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--pipe",
            "-D",
            &root,
            "sh",
            "-c",
            "echo; exec sleep infinity",
        ];
        let mut command = self.place.command(&words)?;
        command.stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("systemd-nspawn: {error}"))?;
        let ready = child
            .stdout
            .as_mut()
            .map(|output| output.read_exact(&mut [0]));
        let took = begun.elapsed().as_secs_f64() * 1e3;
        if !matches!(ready, Some(Ok(()))) {
            let _ = wait(child);
            return Err(self.place.complaint(&words));
        }
        self.pids
            .borrow_mut()
            .insert(format!("nspawn-{name}"), child.id());
        self.children.borrow_mut().insert(s(name), child);
        Ok(took)
    }

    /// How a command in a booted container is said.
    pub fn run_words(
        &self,
        engine: &str,
        name: &str,
        terminal: bool,
        command: &[&str],
    ) -> Outcome<Vec<String>> {
        let (mut words, flags): (Vec<String>, &[&str]) = match engine {
            "floor" if terminal => return Err(s("the floor has no terminals")),
            "floor" => {
                let pid = self
                    .pids
                    .borrow()
                    .get(name)
                    .copied()
                    .ok_or_else(|| s("it is not booted"))?
                    .to_string();
                (
                    vec![
                        self.place.floor.to_string_lossy().into_owned(),
                        s("run"),
                        pid,
                    ],
                    &[],
                )
            }
            "cocker" if terminal => {
                return Ok(vec![self.cocker(), s("attach"), s(name), s("--new")]);
            }
            "cocker" => (vec![self.cocker()], &["run", name, "--"]),
            "podman" => (
                self.podman_words(),
                if terminal {
                    &["exec", "-it", name]
                } else {
                    &["exec", name]
                },
            ),
            "docker" => (
                self.docker_words(),
                if terminal {
                    &["exec", "-it", name]
                } else {
                    &["exec", name]
                },
            ),
            "lxc" => {
                let lxc = [
                    "lxc-attach",
                    "-P",
                    &self.place.path(""),
                    "-n",
                    &format!("lxc-{name}"),
                ]
                .map(s);
                // On a terminal it wants one that it belongs to.
                let session = if terminal {
                    &["setsid", "--ctty", "--wait"][..]
                } else {
                    &[]
                };
                (session.iter().copied().map(s).chain(lxc).collect(), &["--"])
            }
            "nspawn" => {
                return Err(s(
                    "systemd-nspawn: commands in a booted container go through systemd-machined, which wants systemd as the host's init",
                ));
            }
            _ => (
                self.crun_words(engine),
                if terminal {
                    &["exec", "-t", name]
                } else {
                    &["exec", name]
                },
            ),
        };
        words.extend(flags.iter().copied().map(s));
        words.extend(command.iter().copied().map(s));
        Ok(words)
    }

    pub fn run_true(&self, engine: &str, name: &str) -> Outcome<f64> {
        let words = self.run_words(engine, name, false, &["/bin/true"])?;
        self.go_as(engine, &words)
    }

    /// Milliseconds until the command says that it is gone.
    pub fn shutdown(&self, engine: &str, name: &str, net: Net) -> Outcome<f64> {
        match engine {
            "floor" => {
                let pid = self
                    .pids
                    .borrow_mut()
                    .remove(name)
                    .ok_or_else(|| s("it is not booted"))?
                    .to_string();
                let mut words = vec!["shutdown", name, &self.place.cgroup, &pid];
                if net != Net::Host {
                    words.push("bridge");
                }
                let took = self.floor(&words)?;
                // An overlay removes at its next mount what it has left here. Of cocker's boots none waits for that, so the
                // floor's do not either.
                let _ = fs::remove_dir(self.place.path(&format!("{name}/files/work/work")));
                Ok(took)
            }
            "cocker" => self.go(&[self.cocker(), s("shutdown"), s(name)]),
            "podman" => self.go_as(
                engine,
                &[&self.podman_words()[..], &["stop", "-t", "0", name].map(s)].concat(),
            ),
            "docker" => {
                self.go(&[&self.docker_words()[..], &["stop", "-t", "0", name].map(s)].concat())
            }
            "lxc" => self.go(&[
                "lxc-stop",
                "-P",
                &self.place.path(""),
                "-n",
                &format!("lxc-{name}"),
                "-k",
            ]
            .map(s)),
            "nspawn" => {
                let child = self
                    .children
                    .borrow_mut()
                    .remove(name)
                    .ok_or_else(|| s("it is not booted"))?;
                let begun = Instant::now();
                let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                wait(child)?;
                self.take_off(engine, name)?;
                Ok(begun.elapsed().as_secs_f64() * 1e3)
            }
            _ => {
                let end = || -> Outcome<f64> {
                    let begun = Instant::now();
                    self.go(&[
                        &self.crun_words(engine)[..],
                        &["delete", "--force", name].map(s),
                    ]
                    .concat())?;
                    self.take_off(engine, name)?;
                    Ok(begun.elapsed().as_secs_f64() * 1e3)
                };
                if engine == "crun" {
                    self.place.aside(end)
                } else {
                    end()
                }
            }
        }
    }

    fn take_off(&self, engine: &str, name: &str) -> Outcome<()> {
        let root = self.place.path(&format!("{engine}-{name}/rootfs"));
        unmount(root, UnmountFlags::DETACH)
            .map_err(|error| format!("cannot take the overlay off: {error}"))
    }

    pub fn destroy(&self, engine: &str, name: &str) -> Outcome<f64> {
        match engine {
            "floor" => self.floor(&["destroy", &self.place.path(""), name]),
            "cocker" => self.go(&[self.cocker(), s("destroy"), s(name)]),
            "podman" => self.go_as(
                engine,
                &[&self.podman_words()[..], &["rm", name].map(s)].concat(),
            ),
            "docker" => self.go(&[&self.docker_words()[..], &["rm", name].map(s)].concat()),
            _ => {
                let begun = Instant::now();
                fs::remove_dir_all(self.place.path(&format!("{engine}-{name}")))
                    .map_err(|error| error.to_string())?;
                Ok(begun.elapsed().as_secs_f64() * 1e3)
            }
        }
    }

    /// Removes a container however it stands.
    pub fn discard(&self, engine: &str, name: &str) {
        match engine {
            "cocker" => drop(self.go(&[
                self.cocker(),
                s("destroy"),
                s("--shutdown"),
                s("-f"),
                s(name),
            ])),
            "podman" => drop(self.go_as(
                engine,
                &[&self.podman_words()[..], &["rm", "-f", name].map(s)].concat(),
            )),
            "docker" => {
                drop(self.go(&[&self.docker_words()[..], &["rm", "-f", name].map(s)].concat()))
            }
            _ => {
                let _ = self.shutdown(engine, name, Net::Bridge(1));
                let _ = self.destroy(engine, name);
            }
        }
    }

    pub fn list_words(&self, engine: &str) -> Outcome<Vec<String>> {
        Ok(match engine {
            "cocker" => vec![self.cocker(), s("-s"), s("containers")],
            "podman" => [&self.podman_words()[..], &["ps", "-a"].map(s)].concat(),
            "docker" => [&self.docker_words()[..], &["ps", "-a"].map(s)].concat(),
            "lxc" => ["lxc-ls", "-P", &self.place.path("")].map(s).to_vec(),
            "nspawn" => {
                return Err(s(
                    "systemd-nspawn: machines are listed by systemd-machined, which wants systemd as init",
                ));
            }
            // It remembers nothing that could be listed.
            "floor" => vec![self.place.floor.to_string_lossy().into(), s("nothing")],
            _ => [&self.crun_words(engine)[..], &[s("list")]].concat(),
        })
    }

    /// The root process, as the host numbers it.
    pub fn root_process(&self, engine: &str, name: &str) -> Outcome<u32> {
        let said = match engine {
            "floor" => {
                return self
                    .pids
                    .borrow()
                    .get(name)
                    .copied()
                    .ok_or_else(|| s("it is not booted"));
            }
            "cocker" => {
                let listing = self.ask_as(
                    engine,
                    &[self.cocker(), s("containers"), s("--format"), s("json")],
                )?;
                return pid_in_listing(&listing, name)
                    .ok_or_else(|| s("it is not listed as running"));
            }
            "podman" => self.ask_as(
                engine,
                &[
                    &self.podman_words()[..],
                    &["inspect", "-f", "{{.State.Pid}}", name].map(s),
                ]
                .concat(),
            )?,
            "docker" => self.ask_as(
                engine,
                &[
                    &self.docker_words()[..],
                    &["inspect", "-f", "{{.State.Pid}}", name].map(s),
                ]
                .concat(),
            )?,
            "lxc" => self.ask_as(
                engine,
                &[
                    "lxc-info",
                    "-P",
                    &self.place.path(""),
                    "-n",
                    &format!("lxc-{name}"),
                    "-pH",
                ]
                .map(s),
            )?,
            "nspawn" => {
                let nspawn = self
                    .pids
                    .borrow()
                    .get(&format!("nspawn-{name}"))
                    .copied()
                    .ok_or_else(|| s("it is not booted"))?;
                fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children"))
                    .map_err(|error| error.to_string())?
            }
            _ => {
                let state = self.ask_as(
                    engine,
                    &[&self.crun_words(engine)[..], &["state", name].map(s)].concat(),
                )?;
                let state: Value =
                    serde_json::from_str(&state).map_err(|error| error.to_string())?;
                state["pid"].to_string()
            }
        };
        said.split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| format!("no pid: {said}"))
    }

    /// KiB (proportional) of the root process and of what stays outside for it: its parent, if that one is the engine's.
    pub fn memory(&self, engine: &str, name: &str) -> Outcome<f64> {
        let root = self.root_process(engine, name)?;
        let mut whole = pss(root)?;
        let parent = parent_of(root)?;
        if !matches!(engine, "floor" | "crun" | "runc")
            && parent > 1
            && parent != std::process::id()
        {
            whole += pss(parent)?;
        }
        Ok(whole)
    }
}

fn pid_in_listing(listing: &str, name: &str) -> Option<u32> {
    let listing: Value = serde_json::from_str(listing).ok()?;
    let containers = listing.as_array()?;
    let container = containers.iter().find(|container| {
        container
            .as_object()
            .is_some_and(|fields| fields.values().any(|value| value == name))
    })?;
    let status = container["status"].to_string();
    container["pid"].as_u64().map(|pid| pid as u32).or_else(|| {
        let digits: String = status.chars().filter(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

pub fn pss(pid: u32) -> Outcome<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let line = text
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .ok_or("no line Pss")?;
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| s("no number after Pss"))
}

pub fn parent_of(pid: u32) -> Outcome<u32> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| error.to_string())?;
    let line = status
        .lines()
        .find(|line| line.starts_with("PPid:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| s("no parent"))
}

/// As an OCI bundle asks for what the others do without a word: all namespaces but the network's, no terminal.
fn bundle(cgroup: &str) -> Value {
    let mounts: Vec<Value> = [
        ("/proc", "proc", vec!["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", vec!["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", vec!["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", vec!["nosuid", "noexec", "nodev"]),
    ]
    .into_iter()
    .map(|(place, kind, options)| json!({ "destination": place, "type": kind, "source": kind, "options": options }))
    .chain([json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] })])
    .collect();
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ];
    json!({
        "ociVersion": "1.0.2",
        "process": { "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": SLEEP, "cwd": "/",
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities } },
        "root": { "path": "rootfs" },
        "hostname": "bench",
        "mounts": mounts,
        "linux": {
            "cgroupsPath": cgroup,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }], "pids": { "limit": 32768 } },
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn installed(program: &str) -> Outcome<()> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    if path
        .split(':')
        .any(|folder| fs::exists(format!("{folder}/{program}")).unwrap_or(false))
    {
        return Ok(());
    }
    Err(format!("{program} is not installed here"))
}

pub fn s(text: &str) -> String {
    text.to_string()
}

pub fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}
