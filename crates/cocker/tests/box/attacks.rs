//! Attacks whose success would be the end of the machine. In the box it may end.

use crate::host::here;
use crate::inside::RESTART_WORD;
use crate::machine::{Disk, Machine};
use libtest_mimic::Trial;
use std::time::Duration;

/// How long a boot and some containers may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

pub fn trials() -> Vec<Trial> {
    let test = || Ok(a_restart_inside_ends_the_container_and_one_outside_the_machine()?);
    let name = "attacks::a_restart_inside_ends_the_container_and_one_outside_the_machine";
    vec![Trial::test(name, test)]
}

/// Row 15: reboot(2), in a container of each kind and, as the control, on the host.
fn a_restart_inside_ends_the_container_and_one_outside_the_machine() -> Result<(), String> {
    let script = format!(
        r#"set -eu
exec 2>&1
attack="{RESTART_WORD}"
cocker -a install_test
for options in "" "--seccomp unconfined" "--privileged"; do
    cocker create -m test -c web $options --volume /box/tests:/attacker:ro -b
    cocker run web -- /attacker $attack || true
    until cocker -s containers | grep -q STOPPED; do sleep 0.1; done
    cocker destroy web
    echo "outlived [$options]"
done
/box/tests $attack
echo "outlived by the host"
"#
    );
    let mut machine = Machine::new(crate::kernel()?).disk(Disk::debian()?);
    let mut running = machine.switch_on(&script)?;
    let mut printed = String::new();
    let ended = running.until_off(here(PATIENCE), |line| printed += &format!("{line}\n"));
    for options in ["", "--seccomp unconfined", "--privileged"] {
        if !printed.contains(&format!("outlived [{options}]\n")) {
            return Err(format!("not outlived [{options}]: {ended:?}\n{printed}"));
        }
    }
    // The control: the machine was gone before its command had ended.
    match ended {
        Err(why) if why.starts_with("the machine went off before its command had ended") => Ok(()),
        other => Err(format!("the host was not restarted: {other:?}\n{printed}")),
    }
}
