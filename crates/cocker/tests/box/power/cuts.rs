//! Machines whose power is cut while commands work, again and again: each goes on where the last one was cut.
//!
//! What had been written when qemu is killed stays, so these cuts lose less than those of `replay`; but everything that happens at a
//! start of the machine happens here.

use super::{Dice, count};
use crate::host::here;
use crate::machine::{Accelerator, Disk, Machine, NOT_DONE};
use std::fmt::Write as _;
use std::time::Duration;

/// How many cuts, unless more are wanted.
const CUTS: usize = 2;
/// How long until a machine has looked at what the last one left, and has done something.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// A cut comes at some moment of so long, on a usual machine.
const AT_MOST: Duration = Duration::from_secs(2);

pub fn a_machine_goes_on_after_each_cut() -> Result<(), String> {
    let kernel = crate::kernel()?;
    let slowness = Accelerator::of_this_machine(kernel).slowness();
    let (mut dice, seed) = Dice::new();
    let mut machine = Machine::new(kernel).disk(Disk::debian()?);
    let mut answered: Vec<String> = Vec::new();
    let cuts = count(CUTS)?;
    for cut in 0..=cuts {
        let expected: String = answered.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "is_whole {line}");
            text
        });
        let is_last = cut == cuts;
        let work = match is_last {
            true => String::new(),
            false => format!("round={cut}\n{WORK}"),
        };
        let script = format!("{COMMON}{LOOK}{expected}echo all is whole\n{work}");
        let mut running = machine.start(&script);
        let fault = |why: &str| format!("seed {seed}, after {cut} cuts: {why}");
        if is_last {
            let outcome = running.outcome(here(PATIENCE));
            if outcome.status != 0 {
                return Err(fault(&outcome.output));
            }
            break;
        }
        running.until_prints("OK ", here(PATIENCE));
        let moment =
            AT_MOST * slowness * u32::try_from(dice.roll(1000)).expect("it is small") / 1000;
        let mut lines = Vec::new();
        // It is never done by itself.
        match running.until_off(moment, |line| lines.push(line.to_string())) {
            Ok(status) => {
                return Err(fault(&format!(
                    "exit status {status}\n{}",
                    lines.join("\n")
                )));
            }
            Err(why) if why.starts_with(NOT_DONE) => running.cut(),
            Err(why) => return Err(fault(&why)),
        }
        answered.extend(
            lines
                .iter()
                .filter_map(|line| line.strip_prefix("OK "))
                .map(String::from),
        );
    }
    eprintln!(
        "{cuts} times the power was cut (seed {seed}); {} images had been answered, and are whole",
        answered.len()
    );
    Ok(())
}

const COMMON: &str = r#"
set -eu
exec 2>&1
trap 'status=$?; [ $status = 0 ] || echo "failed: $status"' EXIT
# The digest of all files of an image's own layer, with their modes and owners.
digest() (
    layer=$(cocker history $1 --format json | sed -n 's/.*"layer_id": "\([0-9a-f]*\)".*/\1/p' | head -n 1)
    cd /var/cocker/layers/$layer/tree
    { find . -printf '%y %m %U:%G %p %l\n' | sort; find . -type f -print0 | sort -z | xargs -0r sha256sum; } | sha256sum | cut -c1-64
)
is_whole() { [ "$(digest $1)" = $2 ] || { echo "image $1 is not whole"; exit 1; }; }
"#;

/// What the last machine left is swept by the first commands of this one, and then nothing is wrong.
const LOOK: &str = r#"
cocker -s containers > /dev/null
cocker prune
said=$(cocker check) || { echo "$said"; exit 1; }
[ -z "$said" ] || { echo "$said"; exit 1; }
"#;

/// Images that are to last, and all kinds of other work.
const WORK: &str = r#"
for left in /var/cocker/containers/gone-*; do
    [ ! -d $left ] || cocker -a destroy -c ${left##*/} > /dev/null
done
[ ! -d /var/cocker/images/copy ] || cocker -a del_image -m copy > /dev/null
number=0
while :; do
    number=$((number + 1)); name=keep-$round-$number
    mkdir -p /tmp/tree/etc /tmp/tree/usr/bin
    for file in 1 2 3 4 5 6 7 8; do head -c $((file * file * 500)) /dev/urandom > /tmp/tree/usr/bin/$file; done
    ln -s bin/1 /tmp/tree/usr/link; echo $name > /tmp/tree/etc/name
    tar -C /tmp/tree -czf /tmp/$name:1.cockerimage etc usr; rm -r /tmp/tree
    cocker -a import --image-file /tmp/$name:1.cockerimage > /dev/null; rm /tmp/$name:1.cockerimage
    echo "OK $name:1 $(digest $name:1)"
    cocker -a create -m $name -c churn-$round-$number > /dev/null
    cocker -a to_image --from-container churn-$round-$number --to-image made-$round-$number > /dev/null
    echo "OK made-$round-$number $(digest made-$round-$number)"
    cocker -a create -m $name --net BRIDGE -c gone-$round-$number > /dev/null
    cocker -a vip -c gone-$round-$number --vip 166.88.0.200 > /dev/null
    cocker -a copy_image --from-image $name:1 --to-image copy > /dev/null
    cocker -a destroy -c gone-$round-$number > /dev/null
    cocker -a del_image -m copy > /dev/null
done
"#;
