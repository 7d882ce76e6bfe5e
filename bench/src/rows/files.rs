//! Archives, and files in and out.

use super::{About, Rows, SLOW, about};
use crate::engines::{Engines, Net, s};
use crate::place::Outcome;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// A file of its own in every archive that tar writes.
const OWN: &str = "own";

impl Rows<'_> {
    /// Export and import of the root file system, beside tar with the same compression.
    pub(super) fn archives(&mut self) {
        let few = if self.plan.quick { 1 } else { 3 };
        for (id, title, compress, import) in [
            (
                "export-gzip",
                "export of the root file system, gzip",
                "gzip",
                false,
            ),
            (
                "export-zstd",
                "export of the root file system, zstd",
                "zstd",
                false,
            ),
            (
                "import-gzip",
                "import of the root file system, gzip",
                "gzip",
                true,
            ),
            (
                "import-zstd",
                "import of the root file system, zstd",
                "zstd",
                true,
            ),
        ] {
            let target = match id {
                "import-gzip" => "twice as fast as tar xzf",
                "import-zstd" => "not slower than tar --zstd",
                _ => "",
            };
            let note = match import {
                true => {
                    "until it is on the disk (syncfs); floor: tar(1) with the same compressor; docker and podman import what tar wrote, each an archive with a file of its own in it, or podman would find that it has the layer already"
                }
                false => {
                    "floor: tar(1) with the same compressor; docker and podman: `save`, which does not compress and stands beside zstd"
                }
            };
            let row = About {
                note,
                ..about(id, title, target)
            };
            self.row(
                row,
                few,
                |rows, subject| {
                    let archive = rows.engines.place.path(&format!("{id}-{subject}.tar"));
                    match subject {
                        "cocker" | "floor" => {}
                        "podman" | "docker" if import && rows.plan.quick => return Err(s(SLOW)),
                        "podman" | "docker" if import || compress == "zstd" => {
                            rows.engines.can(subject, Net::Host)?
                        }
                        "podman" | "docker" => return Err(s("save does not compress")),
                        _ => return Err(s("knows no images")),
                    }
                    if import {
                        // The others import what tar wrote.
                        let writer = if subject == "cocker" {
                            "cocker"
                        } else {
                            "floor"
                        };
                        rows.export(writer, compress, &archive)?;
                    }
                    Ok(archive)
                },
                |rows, subject, archive| {
                    let engines = rows.engines;
                    if import {
                        rows.until_on_disk()?;
                    }
                    if !import {
                        let took = rows.export(subject, compress, archive)?;
                        let _ = fs::remove_file(&*archive);
                        return Ok(took);
                    }
                    match subject {
                        "floor" => {
                            let to = engines.place.path("unpacked");
                            unpacked(engines, compress, archive, &to, || rows.until_on_disk())
                        }
                        "cocker" => {
                            let took = engines.go(&[
                                engines.cocker(),
                                s("import"),
                                s("--no-base"),
                                s("-m"),
                                s("again"),
                                archive.clone(),
                            ])? + rows.until_on_disk()?;
                            rows.remove_image(subject, "again");
                            Ok(took)
                        }
                        _ => {
                            let words = [
                                &rows.words(subject)[..],
                                &[s("import"), archive.clone(), s("again")],
                            ]
                            .concat();
                            let took = engines.go_as(subject, &words)? + rows.until_on_disk()?;
                            rows.remove_image(subject, "again");
                            Ok(took)
                        }
                    }
                },
                |_, _, archive| drop(fs::remove_file(archive)),
            );
        }
    }

    /// Import, and tar, where no disk is in the way.
    pub(super) fn imports_in_memory(&mut self) {
        /// Hidden from the host, see [`crate::place`].
        const MEMORY: &str = "/dev/shm";
        let few = if self.plan.quick { 1 } else { 7 };
        for (id, compress, target) in [
            ("memory-import-gzip", "gzip", "twice as fast as tar xzf"),
            ("memory-import-zstd", "zstd", "not slower than tar --zstd"),
        ] {
            let title = format!("import of the root file system, {compress}, in memory");
            let row = About {
                note: "the store and the archive lie on tmpfs; floor: tar(1) with the same compressor",
                ..about(id, &title, target)
            };
            self.row(
                row,
                few,
                |rows, subject| {
                    if !matches!(subject, "cocker" | "floor") {
                        return Err(s("here beside tar; the others are in the rows above"));
                    }
                    let archive = format!("{MEMORY}/{id}-{subject}.tar");
                    rows.export(subject, compress, &archive)?;
                    Ok(archive)
                },
                |rows, subject, archive| {
                    let engines = rows.engines;
                    if subject == "floor" {
                        let to = format!("{MEMORY}/unpacked");
                        return unpacked(engines, compress, archive, &to, || Ok(0.0));
                    }
                    let cocker = |words: &[&str]| {
                        let words = words.iter().map(|word| s(word));
                        let home = [s("env"), format!("COCKER_HOME={MEMORY}/home")];
                        let words = home.into_iter().chain([engines.cocker()]).chain(words);
                        engines.go(&words.collect::<Vec<_>>())
                    };
                    let took = cocker(&["import", "--no-base", "-m", "again", archive])?;
                    cocker(&["rm-image", "again"])?;
                    Ok(took)
                },
                |_, _, archive| drop(fs::remove_file(archive)),
            );
        }
    }

    /// Milliseconds until everything written to the place so far is on its disk (syncfs(2)).
    fn until_on_disk(&self) -> Outcome<f64> {
        let place = File::open(self.engines.place.path("")).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        rustix::fs::syncfs(&place).map_err(|error| error.to_string())?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    fn export(&self, subject: &str, compress: &str, archive: &str) -> Outcome<f64> {
        let engines = self.engines;
        let own = engines.place.path(OWN);
        fs::write(own, archive).map_err(|error| error.to_string())?;
        match subject {
            "floor" => engines.go(&[
                s("tar"),
                format!("--{compress}"),
                s("-cf"),
                s(archive),
                s("-C"),
                engines.place.path(""),
                s(OWN),
                s("-C"),
                engines.root.clone(),
                s("."),
            ]),
            "cocker" => engines.go(&[
                engines.cocker(),
                s("export"),
                s("--compress"),
                s(compress),
                s("-f"),
                s("--image-file"),
                s(archive),
                s("debian"),
            ]),
            _ => engines.go_as(
                subject,
                &[
                    &self.words(subject)[..],
                    &[s("save"), s("-o"), s(archive), s("debian")],
                ]
                .concat(),
            ),
        }
    }

    /// Files in and out of a stopped container, beside cp(1).
    pub(super) fn files(&mut self) {
        let (megabytes, count) = if self.plan.quick {
            (64, 2_000)
        } else {
            (self.plan.megabytes, 50_000)
        };
        for (id, what, out) in [
            ("put-large", "large", false),
            ("get-large", "large", true),
            ("put-many", "many", false),
            ("get-many", "many", true),
        ] {
            if !self.plan.wants(id) {
                continue;
            }
            // Of many files once: the others take a minute for them.
            let few = if self.plan.quick || what == "many" {
                1
            } else {
                3
            };
            let source = self.engines.place.path(what);
            if let Err(why) = make_files(Path::new(&source), what == "large", megabytes, count) {
                eprintln!("    {why}");
                continue;
            }
            let title = format!(
                "{} {}",
                if out { "get" } else { "put" },
                if what == "large" {
                    format!("{megabytes} MB in one file")
                } else {
                    format!("{count} small files")
                }
            );
            let row = About {
                title,
                note: "floor: cp -a on the host; docker and podman: cp",
                ..about(id, "", "")
            };
            self.row(
                row,
                few,
                |rows, subject| {
                    if !matches!(subject, "cocker" | "podman" | "docker" | "floor") {
                        return Err(s("has no command for files"));
                    }
                    if rows.plan.quick && what == "many" && matches!(subject, "podman" | "docker") {
                        return Err(s(SLOW));
                    }
                    rows.engines.can(subject, Net::Host)?;
                    let name = rows.name();
                    if subject != "floor" {
                        rows.engines.create(subject, &name, Net::Host)?;
                    }
                    if out {
                        rows.copy(subject, &name, &source, false)?;
                    }
                    Ok(name)
                },
                |rows, subject, name| {
                    if out {
                        let _ = fs::remove_dir_all(rows.engines.place.path("back"));
                        let _ = fs::remove_file(rows.engines.place.path("back"));
                        return rows.copy(subject, name, &source, true);
                    }
                    // Into a new container each time: to overwrite is another thing.
                    if subject == "floor" {
                        let _ = fs::remove_dir_all(rows.engines.place.path(&format!("put-{name}")));
                        let _ = fs::remove_file(rows.engines.place.path(&format!("put-{name}")));
                    } else {
                        rows.engines.discard(subject, name);
                        *name = rows.name();
                        rows.engines.create(subject, name, Net::Host)?;
                    }
                    rows.copy(subject, name, &source, false)
                },
                |rows, subject, name| {
                    let _ = fs::remove_dir_all(rows.engines.place.path(&format!("put-{name}")));
                    let _ = fs::remove_file(rows.engines.place.path(&format!("put-{name}")));
                    if subject != "floor" {
                        rows.engines.discard(subject, &name);
                    }
                },
            );
            let _ = fs::remove_dir_all(&source);
            let _ = fs::remove_file(&source);
            let _ = fs::remove_dir_all(self.engines.place.path("back"));
            let _ = fs::remove_file(self.engines.place.path("back"));
        }
    }

    fn copy(&self, subject: &str, name: &str, source: &str, out: bool) -> Outcome<f64> {
        let (engines, back) = (self.engines, self.engines.place.path("back"));
        let inside = "/data";
        let words = match (subject, out) {
            ("floor", false) => vec![
                s("cp"),
                s("-a"),
                s(source),
                engines.place.path(&format!("put-{name}")),
            ],
            ("floor", true) => vec![
                s("cp"),
                s("-a"),
                engines.place.path(&format!("put-{name}")),
                back,
            ],
            ("cocker", false) => vec![
                engines.cocker(),
                s("-a"),
                s("putfile"),
                s("-c"),
                s(name),
                s("--src-file"),
                s(source),
                s("--dst-file"),
                s(inside),
            ],
            ("cocker", true) => vec![
                engines.cocker(),
                s("-a"),
                s("getfile"),
                s("-c"),
                s(name),
                s("--src-file"),
                s(inside),
                s("--dst-file"),
                back,
            ],
            (_, false) => [
                &self.words(subject)[..],
                &[s("cp"), s("-a"), s(source), format!("{name}:{inside}")],
            ]
            .concat(),
            (_, true) => [
                &self.words(subject)[..],
                &[s("cp"), s("-a"), format!("{name}:{inside}"), back],
            ]
            .concat(),
        };
        engines.go_as(subject, &words)
    }
}

fn make_files(place: &Path, one: bool, megabytes: usize, count: usize) -> Outcome<()> {
    let problem = |error: std::io::Error| format!("cannot make files: {error}");
    if one {
        let mut file = File::create(place).map_err(problem)?;
        let block: Vec<u8> = (0..1 << 20)
            .map(|byte: u32| byte.wrapping_mul(2_654_435_761).to_le_bytes()[3])
            .collect();
        for _ in 0..megabytes {
            file.write_all(&block).map_err(problem)?;
        }
        return Ok(());
    }
    for number in 0..count {
        let folder = place.join((number / 500).to_string());
        if number % 500 == 0 {
            fs::create_dir_all(&folder).map_err(problem)?;
        }
        fs::write(folder.join(number.to_string()), format!("file {number}\n")).map_err(problem)?;
    }
    Ok(())
}

/// How long tar(1) takes to unpack an archive into a new folder, which goes afterwards.
/// Milliseconds that tar takes, and `settle` after it.
fn unpacked(
    engines: &Engines,
    compress: &str,
    archive: &str,
    folder: &str,
    settle: impl FnOnce() -> Outcome<f64>,
) -> Outcome<f64> {
    fs::create_dir(folder).map_err(|error| error.to_string())?;
    let decompress = format!("--{compress}");
    let took = engines.go(&["tar", &decompress, "-xf", archive, "-C", folder].map(s));
    let took = took.and_then(|took| Ok(took + settle()?));
    fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
    took
}
