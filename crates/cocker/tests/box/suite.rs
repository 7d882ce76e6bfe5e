//! Tests of `tests/containers/` in the box: one machine runs all that are wanted, and each result is a result here.

use crate::host::here;
use crate::machine::{Accelerator, CACHE, Disk, Machine};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, mem};

/// The tests of the main job and of limits: what begins so runs in the box too.
const SET: &[&str] = &[
    "quick_start::",
    "boot::",
    "run::a_closed_output_ends_the_command",
    "run::a_command_is_reaped_and_leaves_no_zombie",
    "run::a_command_may_have_a_terminal",
    "run::exit_statuses_come_back",
    "run::signals_to_the_client_reach_the_command",
    "run::standard_input_is_passed_on_unchanged",
    "shutdown::",
    "volumes::",
    "isolation::root_inside_cannot_change_the_kernel",
    "isolation::kernel::no_mask_comes_off",
    "isolation::kernel::neither_proc_nor_sysfs_is_mounted_anew",
    "limits::",
    "rootless::a_delegated_cgroup_is_used",
    "rootless::limits_hold_in_a_delegated_cgroup",
    "systemd::",
    "lab::",
    "network::bridge::a_container_has_the_address_that_create_was_told",
    "network::bridge::a_stopped_container_is_gone_from_the_network",
    "network::bridge::containers_reach_each_other_and_see_who_asks",
    "network::bridge::outside_sees_the_host_in_place_of_a_container",
    "network::bridge::the_namespace_is_pinned_while_booted",
    "network::mappings::a_mapped_port_leads_clients_from_outside_with_their_own_address",
    "network::mappings::a_mapping_ends_with_shutdown_and_holds_again_after_boot",
    "network::mappings::the_host_uses_a_mapping_by_each_of_its_addresses",
    // Before Linux 6.10 the kernel does not count elements.
    "network::repair::maps_that_were_flushed_or_deleted_lead_to_all_containers_again",
];

/// Of these, what is too slow on an emulated processor for what it would show besides.
const TOO_SLOW: &[&str] = &[
    "quick_start::the_quick_start_works_ten_times_in_a_row",
    "shutdown::hundreds_of_processes_end_with_their_container",
    "limits::a_boot_that_was_killed_leaves_no_cgroup_once_the_next_command_ran",
];

/// How long all of them may take together.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// The names that the machine is to run, with blanks between. Set where this program is in the box.
const WANTED: &str = "COCKER_BOX_TESTS";

/// Whether this program is in the box, to run tests there.
pub fn is_in_the_box() -> bool {
    env::var_os(WANTED).is_some()
}

/// In the box: runs the wanted tests as `tests/containers/` does.
pub fn run_in_the_box() -> ExitCode {
    if let Err(why) = crate::host::enter_namespaces(&[]) {
        eprintln!("Error: {why}");
        return ExitCode::FAILURE;
    }
    let wanted = env::var(WANTED).unwrap_or_default();
    let mut trials = crate::topics();
    trials.retain(|trial| wanted.split(' ').any(|name| name == trial.name()));
    let ended = libtest_mimic::run(&Arguments::from_args(), trials);
    if let Err(left) = crate::host::clear_away() {
        eprintln!("Error: the tests left something behind\n{left}");
        return ExitCode::FAILURE;
    }
    ended.exit_code()
}

/// A trial for each test of the set, which waits for its result, and one for what they all leave behind.
pub fn trials(arguments: &Arguments) -> Vec<Trial> {
    let mut topics = crate::topics();
    topics.retain(|trial| is_of_the_set(trial.name()));
    let names: Vec<String> = topics.iter().map(|trial| trial.name().into()).collect();
    topics.retain(|trial| !arguments.is_filtered_out(trial));
    let wanted: Vec<&str> = topics.iter().map(Trial::name).collect();
    SUITE.lock().wanted = wanted.join(" ");
    let of_one = |name: String| {
        Trial::test(name.clone(), move || {
            SUITE.result_of(&name).map_err(Failed::from)
        })
    };
    let every_name = all_names_are_of_tests();
    let mut trials: Vec<Trial> = names.into_iter().map(of_one).collect();
    trials.push(Trial::test(
        "suite::every_name_of_the_set_is_of_a_test",
        move || every_name.map_err(Failed::from),
    ));
    trials.push(Trial::test(
        "suite::nothing_is_left_behind_in_the_box",
        || SUITE.end().map_err(Failed::from),
    ));
    trials
}

/// A test that is renamed must not leave the set unnoticed.
fn all_names_are_of_tests() -> Result<(), String> {
    let topics = crate::topics();
    let is_of_none = |head: &&str| !topics.iter().any(|trial| trial.name().starts_with(*head));
    let of_none: Vec<&str> = SET
        .iter()
        .chain(TOO_SLOW)
        .copied()
        .filter(|head| is_of_none(head))
        .collect();
    match of_none.is_empty() {
        true => Ok(()),
        false => Err(format!("no test begins with {of_none:?}")),
    }
}

fn is_of_the_set(name: &str) -> bool {
    SET.iter().any(|head| name.starts_with(head)) && !TOO_SLOW.contains(&name)
}

/// Waits until the machine is off, if it ever was on.
pub fn finish() {
    let running = SUITE.lock().running.take();
    if let Some(running) = running {
        let _ = running.join();
    }
}

/// The machine of all tests, and what came of it so far.
static SUITE: Suite = Suite {
    state: Mutex::new(State {
        wanted: String::new(),
        running: None,
        results: BTreeMap::new(),
        said: String::new(),
        ended: None,
    }),
    changed: Condvar::new(),
};

struct Suite {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    wanted: String,
    running: Option<JoinHandle<()>>,
    /// By the names of the tests.
    results: BTreeMap<String, Result<(), String>>,
    /// What the tests wrote beside their results, which belongs to the next failure.
    said: String,
    /// The status of the whole, or why there is none.
    ended: Option<Result<i32, String>>,
}

impl Suite {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|test| test.into_inner())
    }

    /// Waits until `found` is something. The first who waits has the machine switched on.
    fn wait_for<T>(&self, mut found: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.lock();
        if state.running.is_none() {
            let wanted = state.wanted.clone();
            state.running = Some(thread::spawn(move || {
                let ended = run(&wanted, |line| SUITE.take(line));
                SUITE.lock().ended = Some(ended);
                SUITE.changed.notify_all();
            }));
        }
        loop {
            if let Some(found) = found(&mut state) {
                return found;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(|test| test.into_inner());
        }
    }

    fn result_of(&self, name: &str) -> Result<(), String> {
        self.wait_for(|state| {
            let result = state.results.remove(name);
            result.or_else(|| Some(Err(format!("it was not run: {}", state.why_no_more()?))))
        })
    }

    fn end(&self) -> Result<(), String> {
        self.wait_for(|state| match state.ended.as_ref()? {
            // 101 is for failed tests, which have results of their own.
            Ok(0 | 101) => Some(Ok(())),
            Ok(status) => Some(Err(format!("exit status {status}\n{}", state.said))),
            Err(_) => Some(Err(state.why_no_more()?)),
        })
    }

    /// Takes a line of what the tests write: a result as JSON, or anything else.
    fn take(&self, line: &str) {
        let mut state = self.lock();
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            state.said.push_str(line);
            state.said.push('\n');
            return;
        };
        let result = match event["event"].as_str() {
            Some("ok") => Ok(()),
            Some("failed") => Err(mem::take(&mut state.said)),
            _ => return,
        };
        if let ("test", Some(name)) = (
            event["type"].as_str().unwrap_or_default(),
            event["name"].as_str(),
        ) {
            state.results.insert(name.into(), result);
            self.changed.notify_all();
        }
    }
}

impl State {
    /// Why no further result will come, where that is so. All of it is told once.
    fn why_no_more(&mut self) -> Option<String> {
        match self.ended.as_mut()? {
            Ok(status) => Some(format!(
                "the tests ended with status {status}\n{}",
                mem::take(&mut self.said)
            )),
            Err(why) => Some(mem::replace(why, "see the first failure".into())),
        }
    }
}

/// Runs the wanted tests in a machine; returns their status.
fn run(wanted: &str, take: impl FnMut(&str)) -> Result<i32, String> {
    let kernel = crate::kernel()?;
    let slowness = Accelerator::of_this_machine(kernel).slowness();
    let mut machine = Machine::new(kernel)
        .disk(Disk::debian()?)
        .variable(WANTED, wanted)
        .variable("COCKER_TEST_PROGRAM", "/box/cocker")
        .variable("COCKER_TEST_CACHE", CACHE)
        .variable("COCKER_TEST_SLOWNESS", &slowness.to_string());
    let mut running = machine.switch_on("exec /box/tests --format json")?;
    running.until_off(here(PATIENCE), take)
}
