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
        // A filter that kills answers no less than one that says EPERM.
        match answer {
            "-1" | "signal 31" => *self.forbidden.entry(interface).or_default() += 1,
            "-38" => *self.missing.entry(interface).or_default() += 1,
            _ => _ = self.answering.entry(interface).or_default().insert(number),
        }
    }

    fn answers(&self, interface: &str) -> BTreeSet<usize> {
        self.answering.get(interface).cloned().unwrap_or_default()
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

/// Why a row may be more open here than elsewhere. Rows of calls are named by the call.
const REASONS: &[(&str, &[&str])] = &[
    (
        "A host sets the names, messages, semaphores, shared memory and users' limits of its own namespaces: these settings \
         are counted by namespaces, and the kernel takes them from root of these namespaces alone.",
        &["/proc/sys/kernel", "/proc/sys/user", "/proc/sys/fs"],
    ),
    (
        "A host sets its own network: files of the container's own network namespace.",
        &["/proc/sys/net"],
    ),
    (
        "A host has all capabilities over itself. None counts against the machine: the row below.",
        &["capabilities held"],
    ),
    (
        "A host mounts, and its mounts are in a mount namespace and of a user namespace of its own: nothing but what any user \
         may mount in such a namespace (bwrap, flatpak) can be mounted.",
        &[
            "mount",
            "umount",
            "umount2",
            "pivot_root",
            "chroot",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "mount_setattr",
            "statmount",
            "listmount",
        ],
    ),
    (
        "A host makes and enters namespaces (containers inside, `bwrap`, sandboxes of browsers and of systemd's services), which \
         are below its own user namespace. `--hardened` forbids it.",
        &["unshare", "setns", "clone3"],
    ),
    (
        "A host has names, terminals that hang up, and an end: reboot(2) ends the container's own first process.",
        &["sethostname", "setdomainname", "vhangup", "reboot"],
    ),
    (
        "A host's root watches files of its own mounts, looks at its own processes and reads handles of its own files (udisks, \
         systemd, debuggers); the kernel asks for rights over these very objects.",
        &[
            "fanotify_init",
            "fanotify_mark",
            "name_to_handle_at",
            "kcmp",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
            "pidfd_getfd",
            "process_madvise",
            "lsm_get_self_attr",
            "lsm_set_self_attr",
            "lsm_list_modules",
        ],
    ),
    (
        "Of the calling process's own memory only; what is placed where asks for nothing of others.",
        &[
            "get_mempolicy",
            "set_mempolicy",
            "mbind",
            "set_mempolicy_home_node",
            "memfd_secret",
            "mseal",
            "map_shadow_stack",
            "remap_file_pages",
            "modify_ldt",
            "mlock2",
            "mlockall",
        ],
    ),
    (
        "Newer than the other's list of calls, and the same as what that allows in an older form.",
        &[
            "cachestat",
            "fchmodat2",
            "futex_wake",
            "futex_wait",
            "futex_requeue",
            "futex_waitv",
            "setxattrat",
            "getxattrat",
            "listxattrat",
            "removexattrat",
            "file_getattr",
            "file_setattr",
            "process_mrelease",
            "landlock_create_ruleset",
            "landlock_add_rule",
            "landlock_restrict_self",
            "epoll_pwait2",
            "close_range",
            "openat2",
            "faccessat2",
            "pidfd_open",
            "pidfd_send_signal",
            "quotactl_fd",
            "uretprobe",
            "uprobe",
        ],
    ),
];

fn reason(row: &str) -> Option<usize> {
    REASONS.iter().position(|(_, rows)| rows.contains(&row))
}

struct Report {
    text: String,
    without_reason: Vec<String>,
}

/// Where is said, too, why a column is empty.
const FIRST_ROW: &str = "user namespace of its own";

/// One row: how open each column is, as a number, and what is shown.
type Cell = (usize, String);

impl Report {
    fn of(columns: &[Column]) -> Report {
        let mut report = Report {
            text: String::new(),
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
            Some(number) => format!(" ({})", letter(number)),
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
            let Some(ours) = ours.map(|scan| scan.answers(interface)) else {
                continue;
            };
            let more = |scan: &Scan| -> BTreeSet<usize> {
                ours.difference(&scan.answers(interface)).copied().collect()
            };
            let less = |scan: &Scan| -> usize { scan.answers(interface).difference(&ours).count() };
            self.row(
                &format!("{title} calls that answer in cocker, not here"),
                columns,
                |scan| (0, more(scan).len().to_string()),
            );
            self.row(
                &format!("{title} calls that answer here, not in cocker"),
                columns,
                |scan| (0, less(scan).to_string()),
            );
            let peers = columns.iter().filter(|column| column.is_peer());
            let all: BTreeSet<usize> = peers
                .filter_map(|column| column.scan.as_ref().ok())
                .flat_map(more)
                .collect();
            for number in all {
                let name = name(interface, number);
                let shown = format!("{title}: {name}");
                self.row_shown_as(&shown, &name, columns, |scan| {
                    let answers = scan.answers(interface).contains(&number);
                    (
                        usize::from(answers),
                        if answers { "answers" } else { "no" }.into(),
                    )
                });
            }
        }
    }

    fn rights(&mut self, columns: &[Column]) {
        let list = |set: &BTreeSet<String>| match set.len() {
            0 => "none".into(),
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
        for (number, (text, _)) in REASONS.iter().enumerate() {
            let mark = format!(" ({}) |", letter(number));
            if self.text.contains(&mark) {
                let _ = writeln!(self.text, "- ({}) {text}", letter(number));
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
