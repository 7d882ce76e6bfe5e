//! What is measured. A row is done by all subjects in turn, round after round, and whoever begins changes with the round, so that a
//! machine that is slow for a while is slow for all.

mod again;
mod files;
mod inside;
mod many;
mod traffic;

use crate::engines::{Engines, NAMES, Net, s};
use crate::figures::{Cell, Row};
use crate::place::{Outcome, rest};
use std::cell::Cell as Count;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

pub struct Plan {
    pub rounds: usize,
    /// Few rounds of what takes long, and nothing that takes minutes.
    pub quick: bool,
    /// Begins of the ids of rows; all where there are none.
    pub only: Vec<String>,
    pub subjects: Vec<&'static str>,
    /// Size of the large file that is put and got.
    pub megabytes: usize,
}

impl Plan {
    fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| id.starts_with(only.as_str()))
    }
}

pub struct Rows<'a> {
    pub engines: &'a Engines<'a>,
    pub plan: &'a Plan,
    pub done: Vec<Row>,
    /// So that no name is used twice.
    names: Count<u32>,
}

/// Why a quick run leaves something out.
const SLOW: &str = "takes longer than a quick run may";

/// What a row is, but for how it is measured.
struct About {
    id: &'static str,
    title: String,
    unit: &'static str,
    target: &'static str,
    note: &'static str,
    higher_is_better: bool,
}

fn about(id: &'static str, title: &str, target: &'static str) -> About {
    About {
        id,
        title: s(title),
        unit: "ms",
        target,
        note: "",
        higher_is_better: false,
    }
}

impl<'a> Rows<'a> {
    pub fn new(engines: &'a Engines<'a>, plan: &'a Plan) -> Rows<'a> {
        Rows {
            engines,
            plan,
            done: Vec::new(),
            names: Count::new(0),
        }
    }

    pub fn all(&mut self) {
        self.lists();
        self.boots();
        self.layers();
        self.life();
        self.booted();
        self.again();
        self.shutdown();
        self.images();
        self.archives();
        self.imports_in_memory();
        self.files();
        self.network();
        self.disk();
        self.many();
    }

    fn name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("c{}", self.names.get())
    }

    /// One row: `begin` once for each subject that can, then `sample` in rounds, then `end`.
    fn row<S>(
        &mut self,
        about: About,
        rounds: usize,
        begin: impl Fn(&Self, &'static str) -> Outcome<S>,
        sample: impl Fn(&Self, &'static str, &mut S) -> Outcome<f64>,
        end: impl Fn(&Self, &'static str, S),
    ) {
        if !self.plan.wants(about.id) {
            return;
        }
        eprintln!("{}", about.title);
        let begun = Instant::now();
        let mut cells: BTreeMap<&'static str, Cell> = BTreeMap::new();
        let mut taking: Vec<(&'static str, S)> = Vec::new();
        for subject in &self.plan.subjects {
            match begin(self, subject) {
                Ok(state) => taking.push((subject, state)),
                Err(why) => drop(cells.insert(subject, Cell::Why(why))),
            }
        }
        // The first one of each warms up, and is not kept, where there is time for that.
        let warming = usize::from(rounds > 2);
        for round in 0..rounds + warming {
            let turn = if taking.is_empty() {
                0
            } else {
                round % taking.len()
            };
            taking.rotate_left(turn);
            for (subject, state) in &mut taking {
                if matches!(cells.get(subject), Some(Cell::Why(_))) {
                    continue;
                }
                // What the one before has written is not this one's to wait for.
                rustix::fs::sync();
                rest();
                match sample(self, subject, state) {
                    Ok(_) if round < warming => {}
                    Ok(figure) => match cells
                        .entry(subject)
                        .or_insert_with(|| Cell::Samples(Vec::new()))
                    {
                        Cell::Samples(samples) => samples.push(figure),
                        Cell::Why(_) => {}
                    },
                    Err(why) => drop(cells.insert(subject, Cell::Why(why))),
                }
            }
        }
        for (subject, state) in taking {
            end(self, subject, state);
        }
        for (subject, cell) in &cells {
            match cell {
                Cell::Why(why) => eprintln!("    {subject}: {why}"),
                Cell::Samples(samples) => {
                    let median =
                        crate::figures::spread(samples).map_or(f64::NAN, |spread| spread.median);
                    eprintln!("    {subject}: {median:.2} {}", about.unit);
                }
            }
        }
        eprintln!("    ({:.0} s)", begun.elapsed().as_secs_f64());
        let About {
            id,
            title,
            unit,
            target,
            note,
            higher_is_better,
        } = about;
        self.done.push(Row {
            id: s(id),
            title,
            unit: s(unit),
            target: s(target),
            note: s(note),
            higher_is_better,
            cells,
        });
    }

    fn lists(&mut self) {
        let rounds = self.plan.rounds * 2;
        let begin = |rows: &Self, subject: &'static str| {
            rows.engines
                .can(subject, Net::Host)
                .and_then(|()| rows.engines.list_words(subject))
        };
        let sample = |rows: &Self, subject: &'static str, words: &mut Vec<String>| {
            rows.engines.go_as(subject, words)
        };
        self.row(
            About {
                note: "floor: a program of nothing starts and ends",
                ..about("list-empty", "list containers, there being none", "1 ms")
            },
            rounds,
            begin,
            sample,
            |_, _, _| {},
        );
        let thousand = |rows: &Self, subject: &'static str| {
            let words = begin(rows, subject)?;
            if !matches!(subject, "cocker" | "podman" | "docker") {
                return Err(s(
                    "knows only what runs, or looks into folders; a thousand stopped containers are nothing to it",
                ));
            }
            if rows.plan.quick {
                return Err(s(SLOW));
            }
            if subject == "cocker" {
                for number in 0..1000 {
                    rows.engines.go(&[
                        rows.engines.cocker(),
                        s("copy-image"),
                        s("--from-image"),
                        s("debian"),
                        s("--to-image"),
                        format!("i{number}"),
                    ])?;
                }
            }
            for number in 0..1000 {
                rows.engines
                    .create(subject, &format!("m{number}"), Net::Host)?;
            }
            // A moment after the last change: what has just been written is read anew each time.
            std::thread::sleep(Duration::from_secs(3));
            Ok(words)
        };
        let end = |rows: &Self, subject: &'static str, _| {
            if subject != "cocker" {
                // All by one command.
                let names = (0..1000).map(|number| format!("m{number}"));
                let words = rows
                    .words(subject)
                    .into_iter()
                    .chain([s("rm"), s("-f")])
                    .chain(names);
                let _ = rows.engines.go_as(subject, &words.collect::<Vec<_>>());
                return;
            }
            for number in 0..1000 {
                let _ = rows.engines.destroy(subject, &format!("m{number}"));
                let _ =
                    rows.engines
                        .go(&[rows.engines.cocker(), s("rm-image"), format!("i{number}")]);
            }
        };
        let mut row = about(
            "list-1000",
            "list containers, there being 1,000 (and 1,000 images)",
            "15 ms",
        );
        row.note = "docker and podman have one image";
        self.row(row, rounds, thousand, sample, end);
    }

    fn boots(&mut self) {
        let mut host = about(
            "boot-host",
            "boot to ready, the host's network",
            "5 ms, 1.5 × floor",
        );
        host.note = "for the peers: start of a container that is there already; crun, runc and systemd-nspawn with the overlay mounted for them";
        self.boot_row(host, Net::Host);
        let mut bridge = about(
            "boot-bridge",
            "boot to ready, a bridge and one port mapping",
            "8 ms, 1.5 × floor",
        );
        bridge.note = "of cocker another container is booted on the bridge meanwhile, so that its table of packets is there, as the floor's is";
        self.boot_row(bridge, Net::Bridge(1));
        self.boot_row(
            about(
                "boot-mapped",
                "boot to ready, a bridge and ten port mappings",
                "",
            ),
            Net::Bridge(10),
        );
    }

    fn boot_row(&mut self, row: About, net: Net) {
        let keeper =
            net != Net::Host && self.plan.wants(row.id) && self.plan.subjects.contains(&"cocker");
        if keeper {
            let cocker = self.engines.cocker();
            let made = [
                s("create"),
                s("-m"),
                s("debian"),
                s("-c"),
                s("keeper"),
                s("--net"),
                s("BRIDGE"),
                s("-b"),
            ];
            if let Err(why) = self.engines.go(&[&[cocker][..], &made].concat()) {
                eprintln!("    {why}");
            }
        }
        self.row(
            row,
            self.plan.rounds,
            |rows, subject| {
                rows.engines.can(subject, net)?;
                if subject == "floor" && net == Net::Bridge(10) {
                    return Err(s(
                        "the floor maps one port; nine more elements are in the same message",
                    ));
                }
                let name = rows.name();
                rows.engines.create(subject, &name, net)?;
                Ok(name)
            },
            |rows, subject, name| {
                let took = rows.engines.boot(subject, name, net)?;
                rest();
                rows.engines.shutdown(subject, name, net)?;
                if matches!(subject, "crun" | "runc") {
                    // What they ran they have forgotten, and the folder can be used again.
                    rest();
                }
                Ok(took)
            },
            |rows, subject, name| rows.engines.discard(subject, &name),
        );
        if keeper {
            self.engines.discard("cocker", "keeper");
        }
    }

    fn layers(&mut self) {
        for (id, depth) in [
            ("boot-layers-1", 1),
            ("boot-layers-10", 10),
            ("boot-layers-100", 100),
            ("boot-layers-500", 500),
        ] {
            if !self.plan.wants(id) {
                continue;
            }
            let layers = match self.stack(depth) {
                Ok(layers) => layers,
                Err(why) => {
                    eprintln!("    {why}");
                    continue;
                }
            };
            let title = if depth == 1 {
                s("boot to ready, 1 layer")
            } else {
                format!("boot to ready, {depth} layers")
            };
            let row = About {
                title,
                ..about(id, "", "1.5 × floor")
            };
            self.row(
                row,
                self.plan.rounds,
                |rows, subject| {
                    if !matches!(subject, "cocker" | "floor") {
                        return Err(s("images of a given number of layers are made for cocker and the floor only"));
                    }
                    let name = rows.name();
                    rows.engines.create_from(subject, &name, Net::Host, &format!("deep{depth}"))?;
                    Ok(name)
                },
                |rows, subject, name| {
                    let took = rows.engines.boot_on(subject, name, Net::Host, &layers.join(":"))?;
                    rest();
                    rows.engines.shutdown(subject, name, Net::Host)?;
                    Ok(took)
                },
                |rows, subject, name| rows.engines.discard(subject, &name),
            );
        }
    }

    /// An image `deepN` of so many layers, each of one file; folders of its layers, the topmost first.
    fn stack(&self, depth: usize) -> Outcome<Vec<String>> {
        let engines = self.engines;
        let cocker = engines.cocker();
        let home = engines.place.path("home");
        let image = format!("deep{depth}");
        let record = |name: &str| format!("{home}/images/{name}/_/image.json");
        engines.go(&[
            cocker.clone(),
            s("copy-image"),
            s("--from-image"),
            s("debian"),
            s("--to-image"),
            image.clone(),
        ])?;
        let text = fs::read_to_string(record(&image)).map_err(|error| error.to_string())?;
        let mut value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let first = value["layers"][0].as_str().ok_or("no layer")?.to_string();
        let mut ids = vec![first.clone()];
        // As layers of to_image lie there; made by hand, since only their number matters.
        for number in 1..depth {
            let id = format!("{depth:016x}{number:016x}");
            let folder = format!("{home}/layers/{id}");
            fs::create_dir_all(format!("{folder}/tree")).map_err(|error| error.to_string())?;
            fs::write(format!("{folder}/tree/file{number}"), "x")
                .map_err(|error| error.to_string())?;
            let mut layer: serde_json::Value = serde_json::from_str(
                &fs::read_to_string(format!("{home}/layers/{first}/layer.json"))
                    .map_err(|error| error.to_string())?,
            )
            .map_err(|error| error.to_string())?;
            layer["base"] = serde_json::json!(ids);
            if let Some(fields) = layer.as_object_mut() {
                fields.remove("digest");
                fields.remove("diff_id");
            }
            if fields_have(&layer, "id") {
                layer["id"] = serde_json::json!(id);
            }
            layer["size"] = serde_json::json!(1);
            fs::write(format!("{folder}/layer.json"), layer.to_string())
                .map_err(|error| error.to_string())?;
            ids.push(id);
        }
        value["layers"] = serde_json::json!(ids);
        value["own_layer"] = serde_json::json!(ids.last());
        fs::write(record(&image), value.to_string()).map_err(|error| error.to_string())?;
        Ok(ids
            .iter()
            .rev()
            .map(|id| format!("{home}/layers/{id}/tree"))
            .collect())
    }

    fn life(&mut self) {
        for (id, title, target, net) in [
            (
                "life-host",
                "whole life: create, boot, run true, shutdown, destroy; the host's network",
                "",
                Net::Host,
            ),
            (
                "life-bridge",
                "whole life, a bridge and one port mapping",
                "25 ms, 25 × faster than podman and docker",
                Net::Bridge(1),
            ),
        ] {
            let row = About {
                note: if net == Net::Host {
                    "five commands each; systemd-nspawn runs true as the root process"
                } else {
                    ""
                },
                ..about(id, title, target)
            };
            self.row(
                row,
                self.plan.rounds,
                |rows, subject| rows.engines.can(subject, net),
                |rows, subject, ()| {
                    let name = rows.name();
                    let engines = rows.engines;
                    let live = || -> Outcome<f64> {
                        let mut took = engines.create(subject, &name, net)?;
                        took += engines.boot(subject, &name, net)?;
                        if subject != "nspawn" {
                            took += engines.run_true(subject, &name)?;
                        }
                        took += engines.shutdown(subject, &name, net)?;
                        Ok(took + engines.destroy(subject, &name)?)
                    };
                    live().inspect_err(|_| engines.discard(subject, &name))
                },
                |_, _, ()| {},
            );
        }
    }

    fn shutdown(&mut self) {
        let row = About {
            note: "cocker's root process is told to end, and does; the peers' are killed (`stop -t 0`, `delete --force`, `lxc-stop -k`)",
            ..about("shutdown", "shutdown of a willing container", "5 ms")
        };
        self.row(
            row,
            self.plan.rounds,
            |rows, subject| {
                if subject == "nspawn" {
                    return Err(s(
                        "systemd-nspawn: the command for it goes through systemd-machined, which wants systemd as the host's init; a signal alone starts no program",
                    ));
                }
                rows.engines.can(subject, Net::Host)?;
                let name = rows.name();
                rows.engines.create(subject, &name, Net::Host)?;
                Ok(name)
            },
            |rows, subject, name| {
                rows.engines.boot(subject, name, Net::Host)?;
                rest();
                rows.engines.shutdown(subject, name, Net::Host)
            },
            |rows, subject, name| rows.engines.discard(subject, &name),
        );
    }

    fn images(&mut self) {
        let only = |rows: &Self, subject: &'static str| match subject {
            "cocker" => Ok(()),
            "podman" | "docker" => rows.engines.can(subject, Net::Host),
            _ => Err(s("knows no images")),
        };
        let row = About {
            note: "for docker and podman: commit, which copies; the container wrote nothing",
            ..about(
                "to-image",
                "a container becomes an image (to_image)",
                "5 ms",
            )
        };
        self.row(
            row,
            self.plan.rounds,
            only,
            |rows, subject, ()| {
                let (engines, name) = (rows.engines, rows.name());
                engines.create(subject, &name, Net::Host)?;
                let image = format!("made-{name}");
                let took = match subject {
                    "cocker" => engines.go(&[
                        engines.cocker(),
                        s("to-image"),
                        s("--from-container"),
                        name.clone(),
                        s("--to-image"),
                        image.clone(),
                    ])?,
                    _ => engines.go_as(
                        subject,
                        &[
                            &rows.words(subject)[..],
                            &[s("commit"), name.clone(), image.clone()],
                        ]
                        .concat(),
                    )?,
                };
                rows.remove_image(subject, &image);
                engines.discard(subject, &name);
                Ok(took)
            },
            |_, _, ()| {},
        );
        let row = About {
            note: "for docker and podman: tag",
            ..about("copy-image", "copy of an image (copy_image)", "5 ms")
        };
        self.row(
            row,
            self.plan.rounds,
            only,
            |rows, subject, ()| {
                let (engines, image) = (rows.engines, format!("copy-{}", rows.name()));
                let took = match subject {
                    "cocker" => engines.go(&[
                        engines.cocker(),
                        s("copy-image"),
                        s("--from-image"),
                        s("debian"),
                        s("--to-image"),
                        image.clone(),
                    ])?,
                    _ => engines.go_as(
                        subject,
                        &[
                            &rows.words(subject)[..],
                            &[s("tag"), s("debian"), image.clone()],
                        ]
                        .concat(),
                    )?,
                };
                rows.remove_image(subject, &image);
                Ok(took)
            },
            |_, _, ()| {},
        );
    }

    fn words(&self, subject: &str) -> Vec<String> {
        if subject == "podman" {
            self.engines.podman_words()
        } else {
            self.engines.docker_words()
        }
    }

    fn remove_image(&self, subject: &str, image: &str) {
        let words = match subject {
            "cocker" => vec![self.engines.cocker(), s("rm-image"), s(image)],
            _ => [&self.words(subject)[..], &[s("rmi"), s(image)]].concat(),
        };
        let _ = self.engines.go_as(subject, &words);
    }
}

fn fields_have(value: &serde_json::Value, field: &str) -> bool {
    value.get(field).is_some()
}

/// Subjects that were asked for, in the order of the table.
pub fn chosen(names: &str) -> Vec<&'static str> {
    NAMES
        .into_iter()
        .filter(|name| names.split(',').any(|wanted| wanted == *name))
        .collect()
}
