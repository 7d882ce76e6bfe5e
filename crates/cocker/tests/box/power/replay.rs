//! Many cuts of one run. A machine works on a disk of which every write and flush is written down, and says all that is there after
//! each command. Then, for a moment in each of many commands, the disk is made as a cut would have left it: all that was flushed, and
//! of what was not yet any part. What cocker finds there has to be what was there before the command, or after it.
//!
//! After each command the machine writes its number behind the file system, so that the log says what had been answered when.

use super::log::{Entry, Log};
use super::{Dice, STATE, count};
use crate::host::here;
use crate::kernel::output;
use crate::machine::{Disk, Machine, folder};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Of the file system, in MiB.
const SIZE: u32 = 256;
/// How many cuts, unless more are wanted.
const CUTS: usize = 40;
/// How long the machine may work.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What the machine does, command by command. `live-…` are containers that are booted.
const STEPS: &[&str] = &[
    "cocker -s images",
    "cocker -a import --image-file /tmp/a:1.cockerimage",
    "cocker -a import --image-file /tmp/b:2.0.cockerimage",
    "cocker -a create -m a -c one",
    "cocker -a create -m a,b:2.0 --net BRIDGE -c two",
    "cocker -a vip -c two --vip 166.88.0.77",
    "cocker -a port_mapping -c two --port-mapping 8080:80,53:53/udp",
    "cocker create -m b --seccomp /tmp/profile.json -c three",
    "cocker -a to_image --from-container one --to-image c --version 1",
    "cocker -a copy_image --from-image a:1 --to-image a2:7",
    "cocker -a version -m a2:7 --version 8",
    "cd /power/out && cocker -a export -m a2:8",
    "cocker -a destroy -c three",
    "cocker -a to_container --from-image c:1 --to-container four",
    "cocker -a del_image -m a2:8",
    "cocker -a install_test",
    "cocker -a create -m test --net CUSTOM -c live-five",
    "cocker -a boot -c live-five && \
     cocker run live-five -- sh -c 'mkdir /root/d && for n in 1 2 3 4 5 6 7 8 9; do echo $n > /root/d/$n; done' && \
     cocker -a shutdown -c live-five",
    // As after any other wait: the file system has brought the container's files to disk by then.
    "sleep 6; sync -f /power/home/containers/live-five/files",
    "cocker to-image --from-container live-five --to-image kept --keep",
    "cocker -a boot -c live-five && cocker run live-five -- sh -c 'echo more > /root/more; rm /root/d/1' && \
     cocker -a shutdown -c live-five",
    "cocker -a to_image --from-container live-five --to-image five",
    "cocker -a to_container --from-image five --to-container six",
    "cocker -a to_image --from-container six --to-image five --version 2",
    "cocker -a create -m five,a --net BRIDGE --port-mapping 80:80 -c seven",
    "cocker -a destroy -c two",
    "cocker -a del_image -m kept",
    "cocker -a create -m a -c two",
];

/// Makes what is imported: some folders, files from none to many bytes, links and a device.
const PREPARE: &str = r#"
set -eu
exec 2>&1
trap 'status=$?; [ $status = 0 ] || echo "failed: $status"' EXIT
mkdir /power
mount -t ext4 /dev/vdb /power
mkdir /power/out
sync
export COCKER_HOME=/power/home
for image in a:1 b:2.0; do
    mkdir /tmp/tree; cd /tmp/tree
    for folder in etc var var/lib var/log usr usr/bin; do
        mkdir $folder
        for file in 1 2 3 4 5 6 7 8; do head -c $((file * file * 700)) /dev/urandom > $folder/$file; done
        : > $folder/empty
        ln -s ../etc/1 $folder/link
    done
    ln etc/8 etc/same; chmod 4755 usr/bin/1; chown 7:8 var/lib/1
    tar -czf /tmp/$image.cockerimage *
    cd /; rm -r /tmp/tree
done
echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["acct"],"action":"SCMP_ACT_ERRNO"}]}' > /tmp/profile.json
# Straight to the disk, behind the file system.
mark() { printf '%s\n' $1 | dd of=/dev/vdb bs=512 seek=$TAIL count=1 conv=sync,notrunc oflag=direct status=none; }
"#;

/// What is looked at after a cut, in namespaces of its own. What one command has left, the next may take away.
const LOOK: &str = r#"
set -eu
exec 2>&1
mount -t tmpfs none /run
mkdir /run/power
mount -t ext4 -o loop "$1" /run/power
export COCKER_HOME=/run/power/home COCKER_CGROUP=cocker-power
echo == check
cocker check --format json || true
cocker -s containers > /dev/null
echo == prune
cocker prune || true
echo == again
cocker check --format json || true
echo == state
state $COCKER_HOME
echo == converted
for container in $(cocker containers -q); do
    cocker -a to_image --from-container $container --to-image again-$container > /dev/null
done
cocker check --format json || true
echo == end
umount /run/power
"#;

pub fn what_was_answered_with_ok_outlives_any_power_cut() -> Result<(), String> {
    let (mut dice, seed) = Dice::new();
    let machine = Machine::new(crate::kernel()?)
        .disk(Disk::debian()?)
        .disk(Disk::logged(SIZE)?);
    let pristine = folder().join("pristine.ext4");
    copy(machine.disks()[1].path(), &pristine)?;
    let (machine, states) = work(machine)?;
    let log = machine.disks()[1].log().expect("it was asked for");
    let log = Log::read(log).map_err(|why| format!("cannot read the log of writes: {why}"))?;
    let cuts = Cuts::of(&log)?;

    let moments = cuts.choose(&mut dice, count(CUTS)?);
    let mut replay = Replay::begin(&log, &pristine)?;
    let mut faults = Vec::new();
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for &moment in &moments {
        let how = replay.cut(moment, &mut dice)?;
        let answered = cuts.answered_before(moment);
        match look(&replay.cut, &states, answered) {
            Ok(seen) => *told.entry(seen).or_default() += 1,
            Err(fault) => faults.push(format!(
                "cut at {moment} of {}, {how}, after answer {answered:?}:\n{fault}",
                log.entries.len()
            )),
        }
    }
    eprintln!(
        "{} power cuts (seed {seed}): {} of {} steps, {} writes and flushes; faults: {}",
        moments.len(),
        cuts.marks.len(),
        STEPS.len(),
        log.entries.len(),
        faults.len()
    );
    for (seen, times) in told {
        eprintln!("{times:5} × {seen}");
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!("seed {seed}\n{}", faults.join("\n\n"))),
    }
}

/// Has the machine do all steps; returns it with what it said was there after each.
fn work(mut machine: Machine) -> Result<(Machine, Vec<String>), String> {
    let tail = u64::from(SIZE) * 2048;
    let mut script = format!("TAIL={tail}\n{STATE}{PREPARE}");
    for (number, step) in STEPS.iter().enumerate() {
        let _ = write!(
            script,
            "\n{{ {step}; }} > /tmp/said || {{ cat /tmp/said; exit 1; }}\nmark {number}\necho == state {number}\nstate $COCKER_HOME\n"
        );
    }
    script += "cd /; sync; umount /power; echo == end\n";
    let outcome = machine.boot(&script, here(PATIENCE));
    if outcome.status != 0 {
        let tail: Vec<&str> = outcome.output.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return Err(format!("the machine failed\n{}", tail.join("\n")));
    }
    let states = (0..STEPS.len()).map(|number| {
        let state = section(&outcome.output, &format!("state {number}"));
        state.ok_or_else(|| format!("it did not say what was there after step {number}"))
    });
    let states = states.collect::<Result<_, _>>()?;
    Ok((machine, states))
}

/// Where in the log each step was answered.
struct Cuts<'a> {
    log: &'a Log,
    marks: Vec<usize>,
}

impl<'a> Cuts<'a> {
    fn of(log: &'a Log) -> Result<Cuts<'a>, String> {
        let end = u64::from(SIZE) << 20;
        let mut marks = Vec::new();
        for (at, entry) in log.entries.iter().enumerate() {
            if !matches!(entry, Entry::Write { offset, .. } if *offset == end) {
                continue;
            }
            let bytes = log.bytes(entry).map_err(|why| why.to_string())?;
            let text = String::from_utf8_lossy(&bytes);
            let number = text.lines().next().and_then(|line| line.parse().ok());
            if number != Some(marks.len()) {
                return Err(format!("mark {} says `{}`", marks.len(), text.trim_end()));
            }
            marks.push(at);
        }
        match marks.len() == STEPS.len() {
            true => Ok(Cuts { log, marks }),
            false => Err(format!("{} marks of {}", marks.len(), STEPS.len())),
        }
    }

    /// Moments in every step by turns, and in each where it may; in their order.
    fn choose(&self, dice: &mut Dice, count: usize) -> Vec<usize> {
        let moments = (0..count).map(|n| {
            let step = n % (self.marks.len() + 1);
            let from = step
                .checked_sub(1)
                .map_or(0, |before| self.marks[before] + 1);
            let to = self.marks.get(step).copied();
            let to = to.unwrap_or(self.log.entries.len());
            from + dice.roll(to + 1 - from)
        });
        let mut moments: Vec<usize> = moments.collect();
        moments.sort_unstable();
        moments
    }

    /// The last step that had been answered.
    fn answered_before(&self, moment: usize) -> Option<usize> {
        self.marks.iter().rposition(|mark| *mark < moment)
    }
}

/// The disk at one moment after the other.
struct Replay<'a> {
    log: &'a Log,
    /// All that was flushed, up to `done`.
    flushed: File,
    flushed_path: std::path::PathBuf,
    done: usize,
    cut: std::path::PathBuf,
}

impl<'a> Replay<'a> {
    fn begin(log: &'a Log, pristine: &Path) -> Result<Replay<'a>, String> {
        Ok(Replay {
            log,
            flushed: open(pristine)?,
            flushed_path: pristine.into(),
            done: 0,
            cut: folder().join("cut.ext4"),
        })
    }

    /// Makes the disk as a cut at this moment leaves it; says how that was.
    fn cut(&mut self, moment: usize, dice: &mut Dice) -> Result<String, String> {
        let failed = |why: std::io::Error| format!("cannot make the disk after a cut: {why}");
        let flush = self.log.last_flush_before(moment);
        for entry in &self.log.entries[self.done..flush.max(self.done)] {
            self.log
                .replay(entry, &self.flushed, || true)
                .map_err(failed)?;
        }
        self.done = self.done.max(flush);
        copy(&self.flushed_path, &self.cut)?;
        let cut = open(&self.cut)?;
        // How many of sixteen pieces last.
        let kept = [0, 16, 8, 1, 15][dice.roll(5)];
        let later = &self.log.entries[self.done..moment];
        for entry in later {
            self.log
                .replay(entry, &cut, || dice.roll(16) < kept)
                .map_err(failed)?;
        }
        let writes = later.len();
        Ok(format!("{kept}/16 of {writes} writes after the last flush"))
    }
}

/// What cocker finds on a disk; the fault, or in a few words what was seen.
fn look(disk: &Path, states: &[String], answered: Option<usize>) -> Result<String, String> {
    let script = format!("{STATE}{LOOK}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--propagation", "private", "sh", "-c"]);
    command.arg(&script).arg("sh").arg(disk);
    let program = crate::program_under_test();
    let folder = program.parent().expect("it lies in a folder").display();
    command.env_clear();
    command.env("PATH", format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin"));
    let said = command
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("cannot execute `unshare`: {why}"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let part =
        |name| section(&said, name).ok_or_else(|| format!("it could not be looked at\n{said}"));
    let (check, pruned, again) = (part("check")?, part("prune")?, part("again")?);
    let (state, converted) = (part("state")?, part("converted")?);
    part("end").map(drop)?;
    if check.contains("WRONG") {
        return Err(format!("check says\n{check}"));
    }
    if again.trim() != "[]" || !pruned.ends_with("OK\n") {
        return Err(format!("prune says\n{pruned}\nand then check\n{again}"));
    }
    if converted.trim() != "[]" {
        return Err(format!(
            "once all containers are images, check says\n{converted}"
        ));
    }
    let before = answered.map_or("", |step| &states[step]);
    let next = answered.map_or(0, |step| step + 1);
    let after = states.get(next).map_or(before, String::as_str);
    if state != before && state != after {
        let difference = |name: &str, expected: &str| {
            format!(
                "against what was there {name}:\n{}",
                differing(expected, &state)
            )
        };
        return Err(format!(
            "during `{}`\n{}{}",
            STEPS.get(next).unwrap_or(&"the end"),
            difference("before", before),
            difference("after", after)
        ));
    }
    let kinds = pruned.lines().filter_map(|line| line.split(' ').next());
    let mut kinds: Vec<&str> = kinds.filter(|kind| *kind != "OK").collect();
    kinds.sort_unstable();
    kinds.dedup();
    let which = match (state == before, state == after) {
        (true, true) => "no difference to be seen",
        (true, false) => "as before the command",
        _ => "as after the command",
    };
    Ok(match kinds.is_empty() {
        true => which.into(),
        false => format!("{which}; swept: {}", kinds.join(", ")),
    })
}

/// The lines that only one of two texts has, some of them.
fn differing(expected: &str, found: &str) -> String {
    let only = |sign: char, one: &str, other: &str| {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        let lines = one.lines().filter(|line| !other.contains(line));
        let lines: Vec<String> = lines.map(|line| format!("{sign} {line}\n")).collect();
        let more = lines.len().saturating_sub(12);
        let shown: String = lines.into_iter().take(12).collect();
        match more {
            0 => shown,
            more => format!("{shown}{sign} and {more} more\n"),
        }
    };
    only('-', expected, found) + &only('+', found, expected)
}

/// What stands between a line `== name` and the next of its kind.
fn section(text: &str, name: &str) -> Option<String> {
    let head = format!("== {name}");
    let mut lines = text.lines().skip_while(|line| *line != head);
    lines.next()?;
    let lines = lines.take_while(|line| !line.starts_with("== "));
    Some(lines.map(|line| format!("{line}\n")).collect())
}

fn open(path: &Path) -> Result<File, String> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|why| format!("cannot open {}: {why}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let mut copy = Command::new("cp");
    copy.args(["--sparse=always", "--reflink=auto"]);
    output(copy.arg(from).arg(to)).map(drop)
}
