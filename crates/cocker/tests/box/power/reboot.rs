//! The host goes down with booted containers: afterwards they are stopped, are what they were, and boot again.

use crate::host::here;
use crate::machine::{Accelerator, Disk, Machine};
use std::time::Duration;

/// How long one boot of the machine with all it does may take.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

pub fn what_was_booted_is_stopped_after_a_cut_and_boots_again() -> Result<(), String> {
    let kernel = crate::kernel()?;
    let slowness = Accelerator::of_this_machine(kernel).slowness();
    let mut machine = Machine::new(kernel).disk(Disk::debian()?);
    let mut running = machine.start(&format!("{COMMON}{BEFORE}"));
    running.until_prints("all are booted\n", here(PATIENCE));
    running.cut();
    let script = format!("patience=$((10 * {slowness}))\n{COMMON}{AFTER}");
    let outcome = machine.boot(&script, here(PATIENCE));
    match outcome.status {
        0 => Ok(()),
        status => Err(format!("exit status {status}\n{}", outcome.output)),
    }
}

const COMMON: &str = r#"
set -eu
exec 2>&1
same() { [ "$1" = "$2" ] || { echo "\`$1\` is not \`$2\`"; exit 1; }; }
holds() { case $1 in *"$2"*) ;; *) echo "no \`$2\` in \`$1\`"; exit 1 ;; esac; }
ip link set lo up
# A way out, so that nothing is said of its absence.
ip link add out type veth peer name beyond
ip addr add 10.99.0.2/24 dev out
ip link set out up
ip link set beyond up
ip route add default via 10.99.0.1
# Hints may be given.
sound() { said=$(cocker doctor) || { echo "$said"; exit 1; }; case $said in *WRONG*|*NOTE*) echo "$said"; exit 1 ;; esac; }
# What a container is, apart from whether it runs.
settings() { cocker -s containers --format json | sed 's/"status": "[^"]*"/"status": ""/; /"size"/d; /"pid"/d; /"oom_kills"/d'; }
"#;

const BEFORE: &str = r#"
cocker -a install_test
cocker -a create -m test -c host
cocker -a create -m test --net BRIDGE --port-mapping 8080:80,53:53/udp -c bridge
cocker -a vip -c bridge --vip 166.88.0.77
cocker -a create -m test --net CUSTOM -c custom
cocker -a create -m test --net BRIDGE -c stopped
for container in host bridge custom; do cocker -a boot -c $container --pids-limit 99; done
same "$(cocker -s containers | grep -c RUNNING)" 3
settings > /root/settings
sync -f /root/settings
echo all are booted
exec sleep 10000
"#;

const AFTER: &str = r#"
# What the last run left, as whoever looks first sees it.
found=$(cocker doctor --format json) || true
holds "$found" '"container host"'
same "$(cocker -s containers | grep -c STOPPED)" 4
same "$(settings)" "$(cat /root/settings)"
same "$(ls -A /run/netns 2>/dev/null || true)" ""
same "$(find /sys/fs/cgroup -name 'cocker*')" ""
sound
for container in host bridge custom; do cocker -a boot -c $container; done
same "$(cocker -s containers | grep -c RUNNING)" 3
same "$(cocker run bridge -- sh -c 'hostname')" bridge
holds "$(ip route get 166.88.0.77)" cocker0
same "$(ls /run/netns | wc -l)" 2
sound
for container in host bridge custom; do
    cocker -a to_image --from-container $container --to-image $container --live --keep
    cocker -a shutdown -c $container
done
cocker -a boot -c stopped && cocker -a shutdown -c stopped
for container in host bridge custom stopped; do cocker -a destroy -c $container; done
same "$(ls -A /run/netns /var/cocker/containers /var/cocker/ids /var/cocker/addresses | grep -v : | grep -v '^$' || true)" ""
cocker check
"#;
