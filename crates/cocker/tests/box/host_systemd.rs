//! cocker on a host whose process 1 is systemd: each container is in a scope of its own, and systemd knows it.

use crate::host::here;
use crate::machine::{Accelerator, Disk, Machine};
use libtest_mimic::Trial;
use std::time::Duration;

/// How long all of a test may take.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

pub fn trials() -> Vec<Trial> {
    let scope = "host_systemd::a_container_has_a_scope_that_goes_with_it_however_it_ends";
    let service = "host_systemd::containers_are_booted_and_shut_down_with_the_host";
    vec![
        Trial::test(scope, || Ok(run(&[IMAGE, SCOPE, KILLED].concat())?)),
        Trial::test(service, || Ok(boot_twice()?)),
    ]
}

/// Lays the unit down as `make install` does, has the machine go off by systemd, and looks what the next boot finds.
fn boot_twice() -> Result<(), String> {
    let kernel = crate::kernel()?;
    let slowness = Accelerator::of_this_machine(kernel).slowness();
    let head = format!("patience=$((10 * {slowness}))\n{COMMON}");
    let unit = include_str!("../../../../packaging/cocker.service");
    let unit = unit.replace("@PREFIX@/bin/cocker", "/box/cocker");
    let unit = format!("cat > /etc/systemd/system/cocker.service <<'END'\n{unit}END\n");
    let mut machine = Machine::new(kernel).disk(Disk::debian()?).with_systemd();

    let mut running = machine.start(&[&head, &unit, IMAGE, ENABLE, AGAIN, OFF].concat());
    running.until_prints("going off", here(PATIENCE));
    // The command is stopped with everything else, and says no more.
    let _ = running.until_off(here(PATIENCE), |_| ());
    drop(running);

    let outcome = machine.boot(&format!("{head}{NEXT_BOOT}"), here(PATIENCE));
    match outcome.status {
        0 => Ok(()),
        status => Err(format!("exit status {status}\n{}", outcome.output)),
    }
}

/// Runs a script in a machine of its own; it ends at the first thing that is not as it should be.
fn run(script: &str) -> Result<(), String> {
    let kernel = crate::kernel()?;
    let slowness = Accelerator::of_this_machine(kernel).slowness();
    let mut machine = Machine::new(kernel).disk(Disk::debian()?).with_systemd();
    let script = format!("patience=$((10 * {slowness}))\n{COMMON}{script}");
    let outcome = machine.boot(&script, here(PATIENCE));
    match outcome.status {
        0 => Ok(()),
        status => Err(format!("exit status {status}\n{}", outcome.output)),
    }
}

/// What the scripts say with.
const COMMON: &str = r#"
set -eu
exec 2>&1
# Shows what has led to the failure.
trap 'status=$?; [ $status = 0 ] || { systemctl list-units --all "cocker*"; ls /sys/fs/cgroup/cocker.slice || true; journalctl -n 30 --no-pager; }' EXIT
same() { [ "$1" = "$2" ] || { echo "\`$1\` is not \`$2\`"; exit 1; }; }
holds() { case $1 in *"$2"*) ;; *) echo "no \`$2\` in \`$1\`"; exit 1 ;; esac; }
eventually() {
    end=$(($(date +%s) + patience))
    until "$@"; do [ $(date +%s) -lt $end ] || { echo "waited in vain for $*"; exit 1; }; sleep 0.1; done
}
# The pid of a booted container's root process.
root() { cocker -s containers | sed -n "s/^$1 .*RUNNING(\([0-9]*\)).*/\1/p"; }
parent() { sed -n 's/^PPid:\t//p' /proc/$1/status; }
units() { systemctl list-units --all --plain --no-legend 'cocker-*'; }
nothing_is_left() { [ -z "$(units)" ] && [ -z "$(find /sys/fs/cgroup -name 'cocker-*')" ]; }
same "$(cat /proc/1/comm)" systemd
"#;

const IMAGE: &str = r#"
holds "$(cocker -a install_test)" OK
holds "$(cocker create -m test -c web)" OK
"#;

const SCOPE: &str = r#"
cocker boot web --mem-limit 64M --pids-limit 100
pid=$(root web)
own=$(cut -d: -f3 /proc/$pid/cgroup)
unit=${own#/cocker.slice/}; unit=${unit%/sandbox}
same "$own" "/cocker.slice/$unit/sandbox"
holds "$unit" cocker-web.
same "$(cut -d: -f3 /proc/$(parent $pid)/cgroup)" "/cocker.slice/$unit/supervisor"
same "$(cat /proc/$pid/comm) $(cat /proc/$(parent $pid)/comm)" "cockerinit cocker-supervis"
same "$(systemctl show -P ActiveState $unit) $(systemctl show -P Delegate $unit)" "active yes"
holds "$(systemctl status --no-pager $unit)" cockerinit
holds "$(systemd-cgls --no-pager)" "$unit"

# The limits hold, also when systemd has looked at everything anew.
limits() { cat /sys/fs/cgroup$own/memory.max /sys/fs/cgroup$own/pids.max | tr '\n' ' '; }
same "$(limits)" "67108864 100 "
same "$(systemctl show -P TasksMax $unit)" infinity
systemctl daemon-reload
systemctl set-property --runtime cocker.slice CPUWeight=50
same "$(limits)" "67108864 100 "
status=0; cocker run web -- sh -c 'head -c 100M /dev/zero | tail -c 100M > /dev/null; exit $?' || status=$?
[ $status != 0 ] || { echo "100 MiB fit into 64"; exit 1; }
holds "$(cat /sys/fs/cgroup$own/memory.events)" "oom_kill 1"
same "$(cocker run web -- echo here)" here
cocker set-limits web --cpu-quota 25% --pids-limit 50
same "$(limits)" "67108864 50 "
same "$(cat /sys/fs/cgroup$own/cpu.max)" "25000 100000"
holds "$(cocker stats web --format json)" 67108864
cocker pause web
same "$(cat /sys/fs/cgroup$own/cgroup.freeze)" 1
cocker resume web

# It ends with its container, and the next boot finds the way free.
for round in 1 2 3; do cocker shutdown web; cocker boot web; done
same "$(cut -d: -f3 /proc/$(root web)/cgroup)" "$own"
cocker shutdown web
eventually nothing_is_left

# Whoever stops the unit shuts the container down.
cocker boot web
cocker run web --detach -- sh -c 'trap "echo > /root/asked; exit" TERM; touch /root/ready; while :; do sleep 0.1; done'
eventually cocker run web -- test -e /root/ready
systemctl stop $unit
holds "$(cocker -s containers)" STOPPED
eventually nothing_is_left
test -e /var/cocker/containers/web/files/upper/root/asked

# What systemd refuses is told in its words, and nothing is left of the try.
systemctl stop cocker.slice
systemctl mask --runtime cocker.slice
status=0; said=$(cocker boot web 2>&1) || status=$?
same $status 1
holds "$said" "cannot have unit \`$unit\`: systemd says"
holds "$said" masked
systemctl unmask --runtime cocker.slice
eventually nothing_is_left
"#;

const KILLED: &str = r#"
cocker boot web
kill -9 $(parent $(root web))
eventually nothing_is_left
holds "$(cocker -s containers)" STOPPED
cocker boot web
kill -9 $(root web)
eventually nothing_is_left
# The client, at some moments of a boot: then it is booted whole, or not at all.
settled() {
    cocker -s containers > /dev/null
    nothing_is_left || { [ -n "$(root web)" ] && cocker kill web && nothing_is_left; }
}
for moment in 0.05 0.2 0.4; do
    cocker boot web & client=$!
    sleep $moment
    kill -9 $client || true
    wait $client || true
    eventually settled
done

# A scope that systemd takes for one that is lived in, though its process had ended before: as a client's that was killed.
sh -c 'sleep 0 & exec sleep 10000' & keeper=$!
ended() { zombie=$(ps --ppid $keeper -o pid=,stat= | sed -n 's/^ *\([0-9]*\) Z.*/\1/p'); [ -n "$zombie" ]; }
eventually ended
leave_empty() {
    busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit \
        'ssa(sv)a(sa(sv))' $unit fail 2 Slice s cocker.slice PIDs au 1 $zombie 0
    eventually systemctl --quiet is-active $unit
}
leave_empty
cocker -s containers
nothing_is_left
leave_empty
cocker boot web
cocker shutdown web
eventually nothing_is_left
leave_empty
cocker destroy web
nothing_is_left
"#;

/// Two containers that note when they begin and end, one after the other.
const ENABLE: &str = r#"
cocker destroy web
mkdir -p /var/notes
note() { echo "/bin/sh -c 'trap \"echo $1 ends >> /notes/all; exit\" TERM; echo $1 begins >> /notes/all; while :; do sleep 0.1; done'"; }
for name in web db; do
    cocker create -m test -c $name --privileged --volume /var/notes:/notes
    cocker boot $name -e "$(note $name)"
    cocker kill $name
done
cocker create -m test -c other
cocker enable web --after db
cocker enable db
rm -f /var/notes/all
systemctl daemon-reload
systemctl enable cocker.service
systemctl start cocker.service
begun() { [ "$(grep -c begins /var/notes/all)" = 2 ]; }
eventually begun
[ -n "$(root web)" ] && [ -n "$(root db)" ] && [ -z "$(root other)" ]
systemctl stop cocker.service
same "$(root web)$(root db)" ""
same "$(grep ends /var/notes/all)" "web ends
db ends"
systemctl start cocker.service
cocker boot other
"#;

/// The restart policy, where a scope must go before the next one of its name comes.
const AGAIN: &str = r#"
cocker create -m test -c again --restart always
cocker boot again
own=$(cut -d: -f3 /proc/$(root again)/cgroup)
before=
another() { now=$(root again); [ -n "$now" ] && [ "$now" != "$before" ]; }
for round in 1 2 3; do
    before=$(root again)
    kill -9 $before
    eventually another
    same "$(cut -d: -f3 /proc/$(root again)/cgroup)" "$own"
done
# Whoever boots it again notes that once it has; only then nobody writes any more.
noted() { grep -q '^stage=booted' /var/cocker/containers/again/restart; }
eventually noted
printf '%-511s\n' 'stage=booted failures=20 due=0 why=often' | dd of=/var/cocker/containers/again/restart conv=notrunc status=none
kill -9 $(root again)
waits() { systemctl --quiet is-active "cocker.waits-again.*.scope" && ! ls -d /sys/fs/cgroup/cocker.slice/cocker-again.*; }
eventually waits
holds "$(cocker -s containers)" "RESTARTING(in "
systemctl stop "cocker.waits-again.*.scope"
holds "$(cocker -s containers | grep ^again)" STOPPED
cocker boot again
cocker shutdown again
"#;

const OFF: &str = r#"
rm /var/notes/all; touch /var/notes/all
sync
echo going off
systemctl poweroff --no-block
sleep 1000
"#;

const NEXT_BOOT: &str = r#"
# They were shut down in their order before systemd stopped what it knows of them.
same "$(head -n 2 /var/notes/all)" "web ends
db ends"
started() { systemctl --quiet is-active cocker.service; }
eventually started
begun() { [ "$(grep -c begins /var/notes/all)" = 2 ]; }
eventually begun
[ -n "$(root web)" ] && [ -n "$(root db)" ]
holds "$(cocker -s containers | grep ^other)" STOPPED
# One that cannot be booted is told, and the others stay.
cocker enable again
mv /var/cocker/containers/again/container.json /var/cocker/containers/again/away
before=$(root web)
systemctl restart cocker.service
[ -n "$(root web)" ] && [ "$(root web)" != "$before" ]
eventually started
holds "$(journalctl -u cocker.service --no-pager)" "1 problem"
mv /var/cocker/containers/again/away /var/cocker/containers/again/container.json
systemctl stop cocker.service
same "$(root web)$(root db)" ""
"#;
