//! Power cuts: whatever was answered with `OK` is whole afterwards, what was not is whole or not there, and nothing is left.
//!
//! ```text
//! log.rs      what the machine did to its disk, and the disk as a cut may have left it
//! replay.rs   many cuts of one run, each looked at on this host
//! cuts.rs     machines whose power is cut, and which go on
//! reboot.rs   containers that were booted when the power went
//! ```

mod cuts;
mod log;
mod reboot;
mod replay;

use libtest_mimic::{Failed, Trial};

pub fn trials() -> Vec<Trial> {
    type Test = fn() -> Result<(), String>;
    let tests: [(&str, Test); 3] = [
        (
            "what_was_answered_with_ok_outlives_any_power_cut",
            replay::what_was_answered_with_ok_outlives_any_power_cut,
        ),
        (
            "a_machine_goes_on_after_each_cut",
            cuts::a_machine_goes_on_after_each_cut,
        ),
        (
            "what_was_booted_is_stopped_after_a_cut_and_boots_again",
            reboot::what_was_booted_is_stopped_after_a_cut_and_boots_again,
        ),
    ];
    let trial = |(name, test): (&str, Test)| {
        Trial::test(format!("power::{name}"), move || Ok::<_, Failed>(test()?))
    };
    tests.map(trial).into()
}

/// How many cuts: `usual`, or `COCKER_TEST_TRIES` times as many.
fn count(usual: usize) -> Result<usize, String> {
    let said = std::env::var("COCKER_TEST_TRIES").unwrap_or_else(|_| "1".into());
    let times: usize = said
        .parse()
        .map_err(|_| format!("COCKER_TEST_TRIES is a number, not `{said}`"))?;
    Ok(usual * times)
}

/// Numbers that look random. They are the same in every run that says the same `COCKER_TEST_SEED`.
struct Dice(u64);

impl Dice {
    fn new() -> (Dice, u64) {
        let said = std::env::var("COCKER_TEST_SEED").ok();
        let seed = said.and_then(|text| text.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = seed.unwrap_or_else(|| now.map_or(1, |now| now.as_secs()));
        (Dice(seed), seed)
    }

    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

/// Functions of `sh` that say all that lasts in a store, a line for each entry: its kind, mode, owner, path, target, and of files
/// the digest. What a container that is called `live-…` has written itself is its own business, as are logs and locks.
const STATE: &str = r#"
export LC_ALL=C
entries() {
    for folder in images layers ids addresses containers ../out; do
        [ ! -d $folder ] || find $folder -mindepth 1 \( -name lock -o -name control -o -name 'resolv.conf*' -o -name 'console.*' \
            -o -path 'containers/*/files/work' -o -path 'containers/live-*/files/upper' \) -prune -o "$@"
    done
}
state() (
    cd "$1"
    entries -printf '%y %m %U:%G %p %l\n' | sort
    entries -path 'layers/*/layer.json' -prune -o -type f -print0 | sort -z | xargs -0r sha256sum
    # An export notes the digest as soon as it knows it.
    for record in layers/*/layer.json; do
        [ ! -e $record ] || echo "$(sed '/"digest"/d; s/,$//' $record | sha256sum) $record"
    done
)
"#;
