//! Scans of several engines' containers beside one another, as a table in Markdown: see bench/security-report.sh.
//!
//! ```text
//! security-table FOLDER     FOLDER has for each column NAME.head (heading and version), NAME.scan, and NAME.why where it failed
//! ```
//!
//! The first column is ours, and is asked to be as strict as the strictest of the others that were made without a word, row by
//! row. A row in which it is not has a reason here, which is printed below; a row without one ends the program with 1.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: security-table FOLDER");
        return ExitCode::from(2);
    };
    let columns = columns(Path::new(&folder));
    if let Some(Err(why)) = columns.first().map(|column| &column.scan) {
        eprintln!("nothing of ours was scanned: {why}");
        return ExitCode::FAILURE;
    }
    let report = Report::of(&columns);
    print!("{}", report.text);
    for row in &report.without_reason {
        eprintln!("more is open than elsewhere, for no reason: {row}");
    }
    ExitCode::from(u8::from(!report.without_reason.is_empty()))
}

struct Column {
    heading: String,
    version: String,
    /// Nothing where it could not run; then this is why.
    scan: Result<Scan, String>,
}

impl Column {
    /// Whether ours is measured by it: it is somebody else's.
    fn is_peer(&self) -> bool {
        !self.heading.starts_with("cocker")
    }
}

fn columns(folder: &Path) -> Vec<Column> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the scans")
        .map(|entry| entry.expect("the folder of the scans").path())
        .filter(|path| path.extension().is_some_and(|it| it == "head"))
        .collect();
    names.sort();
    let read = |path: &Path, end| fs::read_to_string(path.with_extension(end));
    let column = |path: &Path| {
        let head = read(path, "head").expect("it was listed");
        let mut head = head.lines().map(String::from);
        let why = read(path, "why").map(|why| why.trim().replace('|', "/"));
        let scan = read(path, "scan").unwrap_or_default();
        Column {
            heading: head.next().unwrap_or_default(),
            version: head.next().unwrap_or_default(),
            scan: match why {
                Ok(why) => Err(why),
                Err(_) => Ok(Scan::of(&scan)),
            },
        }
    };
    names.iter().map(|path| column(path)).collect()
}

/// What one scan found, by kind.
#[derive(Default)]
struct Scan {
    has_own_ids: bool,
    /// By the place that they are counted at.
    writable: BTreeMap<String, BTreeSet<String>>,
    read: BTreeMap<String, &'static str>,
    /// By interface: which answer, and how many do not.
    answering: BTreeMap<String, BTreeSet<usize>>,
    forbidden: BTreeMap<String, usize>,
    missing: BTreeMap<String, usize>,
    held: BTreeSet<String>,
    over_host: BTreeSet<String>,
    devices: BTreeSet<String>,
    /// Nodes that were made, with what came of opening them.
    nodes: BTreeMap<String, String>,
}

impl Scan {
    fn of(text: &str) -> Scan {
        let mut scan = Scan::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            match kind {
                "userns" => scan.has_own_ids = rest == "own",
                "write" => {
                    let files = scan.writable.entry(place(rest)).or_default();
                    files.insert(rest.into());
                }
                "read" | "zeros" => {
                    let word = if kind == "read" { "read" } else { "zeros" };
                    scan.read.insert(rest.into(), word);
                }
                "call" => scan.add_call(rest),
                "held" => _ = scan.held.insert(rest.into()),
                "host" => _ = scan.over_host.insert(rest.into()),
                "device" => _ = scan.devices.insert(rest.into()),
                "node" => {
                    if let Some((node, state)) = rest.split_once(' ')
                        && state != "not made"
                    {
                        scan.nodes.insert(node.into(), state.into());
                    }
                }
                _ => panic!("no line of a scan: {line}"),
            }
        }
        scan
    }

    fn add_call(&mut self, rest: &str) {
        let words: Vec<&str> = rest.splitn(3, ' ').collect();
        let [interface, number, answer] = words[..] else {
            panic!("no call: {rest}");
        };
        let interface = interface.to_string();
        let number = number.parse().expect("a number of a call");
        // A filter that kills forbids no less than one that answers EPERM.
        match answer {
            "-1" | "signal 31" => *self.forbidden.entry(interface).or_default() += 1,
            "-38" => *self.missing.entry(interface).or_default() += 1,
            _ => _ = self.answering.entry(interface).or_default().insert(number),
        }
    }

    fn answers(&self, interface: &str) -> BTreeSet<usize> {
        self.answering.get(interface).cloned().unwrap_or_default()
    }

    /// By name; those of i386 end with [`NARROW`].
    fn named_answers(&self) -> BTreeSet<String> {
        let all = self.answering.iter();
        let named = all.flat_map(|(interface, numbers)| {
            let end = if interface == "32" { NARROW } else { "" };
            let numbers = numbers.iter();
            numbers.map(move |number| name(interface, *number) + end)
        });
        named.collect()
    }

    fn over_the_host(&self) -> usize {
        if self.has_own_ids { 0 } else { self.held.len() }
    }
}

/// Where a file that can be written is counted.
fn place(path: &str) -> String {
    let mut parts = path.split('/').skip(1);
    let first: Vec<&str> = parts.by_ref().take(3).collect();
    match first[..] {
        ["proc", "sys", third] => format!("/proc/sys/{third}"),
        ["sys", "fs", "cgroup"] => "/sys/fs/cgroup".into(),
        ["sys", ..] => "/sys, other".into(),
        _ => "/proc, other".into(),
    }
}

/// Why something may be more open here than elsewhere.
struct Reason {
    /// The row of the calls that it is about; empty where there are none.
    title: &'static str,
    why: &'static str,
    /// Names of rows, or of calls.
    of: &'static [&'static str],
}

// Several names a line.
#[rustfmt::skip]
const REASONS: &[Reason] = &[
    Reason {
        title: "",
        why: "A host sets how many namespaces and watches its own users have. The kernel counts these by user namespace, below what the \
              namespaces around it allow, and lets root of that one set them.",
        of: &["/proc/sys/user"],
    },
    Reason {
        title: "",
        why: "A host has all capabilities over itself. None counts against the machine: see the row below.",
        of: &["capabilities held"],
    },
    Reason {
        title: "to mount",
        why: "A host mounts. What it mounts is of its own mount namespace and user namespace, where the kernel mounts only what any user \
              may mount in such namespaces. Of these `--hardened` leaves mount(2) and its kind.",
        of: &["mount", "umount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree",
              "open_tree_attr", "mount_setattr", "statmount", "listmount"],
    },
    Reason {
        title: "to make and enter namespaces",
        why: "A host makes namespaces and enters them: bwrap, sandboxes of browsers, services of systemd. All lie below the container's own, and \
              give nothing that it does not have. clone3 is how C libraries start processes today.",
        of: &["unshare", "setns", "clone3"],
    },
    Reason {
        title: "to be named and to end",
        why: "A host has a name and shuts down: both are of the container's own namespaces, where reboot(2) ends the container's first process.",
        of: &["sethostname", "setdomainname", "reboot"],
    },
    Reason {
        title: "to watch its own processes and files",
        why: "A host's root traces its own processes, watches its own files and has handles of them (gdb, strace, CRIU, systemd). The kernel \
              asks for rights over each of these objects, which end at the container's ids.",
        of: &["process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise", "process_mrelease", "fanotify_mark",
              "name_to_handle_at"],
    },
    Reason {
        title: "to place its own memory",
        why: "Databases and virtual machines place and lock their memory. These calls are about the caller's own pages, within its limits.",
        of: &["get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind", "memfd_secret", "mseal", "modify_ldt", "mlock", "mlock2",
              "mlockall", "munlock", "munlockall", "pkey_alloc", "pkey_free", "pkey_mprotect"],
    },
    Reason {
        title: "newer than the others' lists",
        why: "What these do, the others' lists allow in an older form; or they only take rights away from the caller (Landlock).",
        of: &["cachestat", "fchmodat2", "futex_wake", "futex_wait", "futex_requeue", "futex_waitv", "io_pgetevents",
              "io_pgetevents_time64", "setxattrat", "getxattrat", "listxattrat", "removexattrat",
              "file_getattr", "file_setattr", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "lsm_get_self_attr",
              "lsm_set_self_attr", "lsm_list_modules"],
    },
    Reason {
        title: "to ask about clocks",
        why: "chrony and ntpd ask how a clock is disciplined. Setting it needs CAP_SYS_TIME over the machine, which nobody inside has.",
        of: &["adjtimex", "clock_adjtime", "clock_adjtime64"],
    },
    Reason {
        title: "old forms of others",
        why: "Whoever runs a 32-bit program of long ago has a host for it. The kernel does the same for them as for the forms of today.",
        of: &["oldstat", "oldlstat", "oldfstat", "olduname", "oldolduname", "readdir", "signal", "sigaction", "sigsuspend", "sigpending"],
    },
];

fn reason(row: &str) -> Option<usize> {
    let row = row.trim_end_matches(NARROW);
    REASONS.iter().position(|reason| reason.of.contains(&row))
}

struct Report {
    text: String,
    /// By reason: the calls that it was needed for.
    explained: BTreeMap<usize, BTreeSet<String>>,
    without_reason: Vec<String>,
}

const NARROW: &str = " (i386)";

/// Where is said, too, why a column is empty.
const FIRST_ROW: &str = "user namespace of its own";

/// One row: how open each column is, as a number, and what is shown.
type Cell = (usize, String);

impl Report {
    fn of(columns: &[Column]) -> Report {
        let mut report = Report {
            text: String::new(),
            explained: BTreeMap::new(),
            without_reason: Vec::new(),
        };
        report.line("from inside", columns, |column| column.heading.clone());
        report.line("---", columns, |_| "---".into());
        report.line("version", columns, |column| column.version.clone());
        report.row(FIRST_ROW, columns, |scan| {
            let word = if scan.has_own_ids { "yes" } else { "no" };
            (usize::from(!scan.has_own_ids), word.into())
        });
        report.files(columns);
        report.calls(columns);
        report.rights(columns);
        report.reasons();
        report
    }

    fn line(&mut self, head: &str, columns: &[Column], cell: impl Fn(&Column) -> String) {
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let _ = writeln!(self.text, "| {head} | {} |", cells.join(" | "));
    }

    /// A row in which less is stricter.
    fn row(&mut self, name: &str, columns: &[Column], cell: impl Fn(&Scan) -> Cell) {
        self.row_shown_as(name, name, columns, cell);
    }

    /// The same, where what its reason is known by is not all that is shown.
    fn row_shown_as(
        &mut self,
        shown: &str,
        name: &str,
        columns: &[Column],
        cell: impl Fn(&Scan) -> Cell,
    ) {
        let cells: Vec<Result<Cell, &str>> = columns
            .iter()
            .map(|column| column.scan.as_ref().map(&cell).map_err(String::as_str))
            .collect();
        let openness =
            |cell: &Result<Cell, &str>| cell.as_ref().ok().map(|(openness, _)| *openness);
        let peers = columns
            .iter()
            .zip(&cells)
            .filter(|(column, _)| column.is_peer());
        let strictest = peers.filter_map(|(_, cell)| openness(cell)).min();
        let ours = cells.first().and_then(openness);
        let mark = match (ours, strictest) {
            (Some(ours), Some(strictest)) if ours > strictest => self.mark(name),
            _ => String::new(),
        };
        let texts: Vec<String> = cells
            .into_iter()
            .map(|cell| match cell {
                Ok((_, text)) => text,
                Err(why) if name == FIRST_ROW => format!("cannot run here: {why}"),
                Err(_) => "?".into(),
            })
            .collect();
        let _ = writeln!(self.text, "| {shown}{mark} | {} |", texts.join(" | "));
    }

    fn mark(&mut self, row: &str) -> String {
        match reason(row) {
            Some(number) => {
                self.explained.entry(number).or_default();
                format!(" ({})", letter(number))
            }
            None => {
                self.without_reason.push(row.into());
                " (**!**)".into()
            }
        }
    }

    fn files(&mut self, columns: &[Column]) {
        // What only the privileged have is counted with the rest.
        let mut places = BTreeSet::new();
        let mut read = BTreeSet::new();
        for scan in confined(columns) {
            places.extend(scan.writable.keys().cloned());
            read.extend(scan.read.keys().cloned());
        }
        for place in &places {
            let shown = format!("files opened for writing: {place}");
            self.row_shown_as(&shown, place, columns, |scan| {
                let count = scan.writable.get(place).map_or(0, BTreeSet::len);
                (count, count.to_string())
            });
        }
        self.row("files opened for writing, all", columns, |scan| {
            let count: usize = scan.writable.values().map(BTreeSet::len).sum();
            (0, count.to_string())
        });
        for path in &read {
            self.row(&format!("reads {path}"), columns, |scan| {
                match scan.read.get(path) {
                    Some(&"zeros") => (1, "zeros".into()),
                    Some(_) => (2, "yes".into()),
                    None => (0, "no".into()),
                }
            });
        }
    }

    fn calls(&mut self, columns: &[Column]) {
        let ours = columns.first().and_then(|column| column.scan.as_ref().ok());
        for (interface, title) in [("64", "x86_64"), ("32", "i386"), ("x32", "x32")] {
            // Not measured as a number: which ones is asked below, one by one.
            self.row(&format!("{title} calls that answer"), columns, |scan| {
                (0, scan.answers(interface).len().to_string())
            });
            self.row(&format!("{title} calls, EPERM / ENOSYS"), columns, |scan| {
                let count =
                    |of: &BTreeMap<String, usize>| of.get(interface).copied().unwrap_or_default();
                (
                    0,
                    format!("{} / {}", count(&scan.forbidden), count(&scan.missing)),
                )
            });
        }
        let Some(ours) = ours else {
            return;
        };
        let less = |scan: &Scan| {
            scan.named_answers()
                .difference(&ours.named_answers())
                .count()
        };
        let more = |scan: &Scan| -> BTreeSet<String> {
            let theirs = scan.named_answers();
            ours.named_answers().difference(&theirs).cloned().collect()
        };
        self.row(
            "calls that answer here and not in cocker",
            columns,
            |scan| (0, less(scan).to_string()),
        );
        self.row(
            "calls that answer in cocker and not here, in sum",
            columns,
            |scan| (0, more(scan).len().to_string()),
        );
        let peers = columns.iter().filter(|column| column.is_peer());
        let scans = peers.filter_map(|column| column.scan.as_ref().ok());
        let mut groups: BTreeMap<Option<usize>, BTreeSet<String>> = BTreeMap::new();
        for call in scans.flat_map(more) {
            groups.entry(reason(&call)).or_default().insert(call);
        }
        for (number, calls) in groups {
            let answering = |scan: &Scan| {
                let count = scan.named_answers().intersection(&calls).count();
                (count, count.to_string())
            };
            match number {
                Some(number) => {
                    let title = REASONS[number].title;
                    let shown = format!("{title}: answer, of {} such calls", calls.len());
                    let known = calls.first().expect("no group is empty");
                    self.row_shown_as(&shown, known, columns, answering);
                    self.explained.insert(number, calls.clone());
                }
                None => calls.iter().for_each(|call| {
                    self.row(call, columns, |scan| {
                        let answers = scan.named_answers().contains(call);
                        (usize::from(answers), usize::from(answers).to_string())
                    });
                }),
            }
        }
    }

    fn rights(&mut self, columns: &[Column]) {
        let list = |set: &BTreeSet<String>| match set.len() {
            0 => "none".into(),
            12.. => set.len().to_string(),
            _ => set.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
        };
        self.row("capabilities held", columns, |scan| {
            (scan.held.len(), scan.held.len().to_string())
        });
        self.row(
            "of these, over the initial user namespace",
            columns,
            |scan| (scan.over_the_host(), scan.over_the_host().to_string()),
        );
        self.row(
            "of 10 tried on the machine, the kernel goes on with",
            columns,
            |scan| (scan.over_host.len(), list(&scan.over_host)),
        );
        self.row("nodes below /dev that open", columns, |scan| {
            let names: Vec<&str> = scan
                .devices
                .iter()
                .map(|path| path.trim_start_matches("/dev/"))
                .collect();
            let text = if names.len() > 20 {
                names.len().to_string()
            } else {
                names.join(" ")
            };
            (dangerous(&scan.devices), text)
        });
        self.row("nodes made, of 24", columns, |scan| {
            (scan.nodes.len(), scan.nodes.len().to_string())
        });
        self.row(
            "of these, opened or let through to the driver",
            columns,
            |scan| {
                let open = scan.nodes.iter().filter(|(_, state)| *state != "kept off");
                let names: BTreeSet<String> = open.map(|(node, _)| node.clone()).collect();
                (names.len(), list(&names))
            },
        );
    }

    fn reasons(&mut self) {
        self.text.push('\n');
        for (number, calls) in &self.explained {
            let _ = write!(
                self.text,
                "- ({}) {}",
                letter(*number),
                REASONS[*number].why
            );
            // Said once where both interfaces have it.
            let has_both = |call: &str| calls.contains(call.trim_end_matches(NARROW));
            let calls: Vec<&str> = calls
                .iter()
                .map(String::as_str)
                .filter(|call| !call.ends_with(NARROW) || !has_both(call))
                .collect();
            match calls.is_empty() {
                true => self.text.push('\n'),
                false => _ = writeln!(self.text, " Calls: {}.", calls.join(", ")),
            }
        }
    }
}

fn letter(number: usize) -> char {
    char::from(b'a' + u8::try_from(number).expect("there are few reasons"))
}

/// All that run without being privileged.
fn confined(columns: &[Column]) -> impl Iterator<Item = &Scan> {
    let confined = columns
        .iter()
        .filter(|column| !column.heading.ends_with("--privileged"));
    confined.filter_map(|column| column.scan.as_ref().ok())
}

/// Nodes that are more than what every container needs: sources of bytes and terminals.
fn dangerous(devices: &BTreeSet<String>) -> usize {
    const USUAL: [&str; 9] = [
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "stdin",
    ];
    let usual = |path: &&String| {
        let name = path.trim_start_matches("/dev/");
        USUAL.contains(&name) || name.starts_with("pts/")
    };
    devices.iter().filter(|path| !usual(path)).count()
}

fn name(interface: &str, number: usize) -> String {
    let name = match interface {
        "32" => syscalls::x86::Sysno::new(number).map(|call| call.name()),
        _ => syscalls::x86_64::Sysno::new(number).map(|call| call.name()),
    };
    name.map_or_else(|| number.to_string(), String::from)
}
