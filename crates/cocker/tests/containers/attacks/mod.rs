//! What attackers try: root inside a container, the author of an image, another user of the host, a neighbour on the bridge.
//!
//! Every test performs an attack and sees it fail, and performs the same attack where nothing keeps it off, which is its
//! *control*, and sees it succeed: so it is no attack that could not succeed at all. [`Attacker`] is the program that root
//! inside runs, `attacker.c`; what it does is said there.
//!
//! Each test names the row that it is of. P stands where privileged containers are attacked too. What other topics show is not
//! shown here again.
//!
//! ```text
//! row  attack                              tests (without a path: in this topic)
//! 1 P  host's program through /proc/*/exe  programs::no_program_of_the_host_is_had_through_a_process,
//!                                          programs::the_root_process_finds_no_program_of_the_host_beside_it
//! 2 P  leaked descriptor, /proc/self/fd/N  programs::a_process_has_open_what_it_was_given,
//!                                          run::identity::no_folder_is_reached_through_what_a_process_has_open
//! 3 P  links where cocker mounts           places::links_where_cocker_mounts_lead_nowhere_outside,
//!                                          places::a_place_that_is_swapped_while_booting_leads_nowhere_outside, failing_boot::a_link_where_…
//! 4 P  links and files below /dev          places::what_an_image_has_below_dev_is_nothing
//! 5 P  writes to procfs redirected         places::nothing_is_written_to_a_proc_that_is_none
//! 6 P  copies through swapped links        copies::swapped_links_lead_no_copy_outside, files::folders_swapped_for_links_…
//! 7 P  host runs the container's code      programs::no_command_maps_a_file_of_a_container
//! 8    archives that lead out              archives::an_archive_that_leads_out_is_refused, transfer::an_archive_of_an_enemy_…,
//!                                          files::a_hostile_archive_…, cocker-image: archive::tests::hostile
//! 9    whiteouts, devices, set-id files    archives::a_set_id_file_in_the_store_is_worth_nothing,
//!                                          archives::file_capabilities_of_an_archive_are_worth_nothing,
//!                                          archives::a_whiteout_hides_what_lies_below_it_alone, whiteouts::, transfer::device_nodes_…
//! 10   bombs and endless streams           bombs::, transfer::a_bomb_is_stopped, cocker-image: archive::tests::hostile
//! 11   digest or size that does not match  archives::what_does_not_match_its_digest_is_never_seen,
//!                                          transfer::a_file_that_was_changed_is_not_believed, cocker-image: oci::tests
//! 11b  `..` and `/` in names               words::a_name_leads_to_no_other_folder, bad_input::names_that_are_no_names_…
//! 12 P release_agent                       isolation::kernel::no_program_is_named_that_the_host_runs_when_a_cgroup_is_empty
//! 13   settings and secrets of the kernel  isolation::kernel::, isolation::open::
//! 14   devices                             isolation::devices::
//! 15   calls that reach the shared kernel  isolation::system_calls::, in the box attacks::a_restart_inside_…
//! 16   TIOCSTI, TIOCLINUX                  terminals::what_is_pushed_into_a_terminal_stays_inside
//! 17   signals, ptrace, pidfds             neighbours::processes_of_others_are_out_of_reach,
//!                                          neighbours::who_assembles_a_container_is_out_of_reach
//! 18   IPC, abstract sockets               neighbours::what_programs_of_the_host_share_is_not_seen, isolation::ids::keys_of_…,
//!                                          rootless::abstract_sockets_of_the_users_session_are_out_of_reach
//! 19   limits of users                     neighbours::one_container_does_not_use_up_what_another_may,
//!                                          isolation::each_container_has_its_own_range_of_ids
//! 20   maps of ids, rights left over       isolation::ids::
//! 21   users by odd numbers                run::identity::a_number_is_never_taken_for_a_name
//! 22   hostile /etc                        words::hostile_files_of_accounts_and_names_hold_up_nobody,
//!                                          run::identity::accounts_are_read_without_trust
//! 23   control characters                  words::no_listing_prints_what_steers_a_terminal, words::a_name_leads_to_no_other_folder
//! 24   hostile repository                  repository::enemies::
//! 25   sockets of supervisor and init      sockets::
//! 26   floods                              floods::, limits::a_fork_bomb_…, limits::what_holds_more_memory_…, logs::a_flood_…
//! 27   volumes                             places::a_mount_does_not_spread, places::no_volume_takes_the_place_of_the_kernels_files,
//!                                          places::a_host_path_that_is_swapped_is_opened_once
//! 28   the network                         frames::, network::guard::the_hosts_loopback_is_out_of_a_containers_reach
//! 29   reused pids                         reuse::
//! 30   unsafe homes                        surroundings::a_home_that_others_could_exchange_is_refused, bad_input::a_store_…
//! 31   secrets of the host                 surroundings::nothing_of_the_users_environment_is_kept, run::identity::…
//! 32   other interfaces of calls          isolation::system_calls::
//! 33   what nested namespaces open         isolation::nested::, isolation::open::
//! ```

mod archives;
mod bombs;
mod copies;
mod floods;
mod frames;
mod neighbours;
mod places;
mod programs;
mod reuse;
mod sockets;
mod surroundings;
mod terminals;
mod words;

use crate::host::{Host, Started, copy_program};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, io::Write};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [
        programs::trials(),
        places::trials(),
        copies::trials(),
        archives::trials(),
        bombs::trials(),
        terminals::trials(),
        neighbours::trials(),
        words::trials(),
        sockets::trials(),
        floods::trials(),
        frames::trials(),
        reuse::trials(),
        surroundings::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Both kinds of containers, by the option that makes them and a name for one.
const KINDS: [(&str, &str); 2] = [("", "plain"), ("--privileged", "mighty")];

/// How often something is tried: `usual` times, or `COCKER_TEST_TRIES` times as often.
fn tries(usual: u64) -> u64 {
    let said = env::var("COCKER_TEST_TRIES").unwrap_or_else(|_| "1".into());
    usual * said.parse::<u64>().expect("COCKER_TEST_TRIES is a number")
}

/// At its end a watcher is told that all is done: also where the test fails, or it would never end.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The program with which root inside attacks; image `attacks` has it as `/attacker`.
struct Attacker;

impl Attacker {
    const IMAGE: &str = "attacks";

    /// Where it lies on the host. It is compiled when first asked for.
    #[track_caller]
    fn on_host(host: &Host) -> PathBuf {
        static COMPILED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let compiled = COMPILED.get_or_init(|| compile(&host.program().with_file_name("attacker")));
        compiled.clone().unwrap_or_else(|why| panic!("{why}"))
    }

    /// Makes container `name` with these options of `create`, and boots it.
    #[track_caller]
    fn booted(host: &Host, name: &str, options: &str) {
        Attacker::created(host, name, options);
        host.cocker_words(&["boot", name]).ok();
    }

    #[track_caller]
    fn created(host: &Host, name: &str, options: &str) {
        let program = Attacker::on_host(host);
        if !host.home().join("images").join(Attacker::IMAGE).exists() {
            host.add_image(Attacker::IMAGE, |tree| {
                copy_program(&program, &tree.join("attacker"), "755");
            });
        }
        let images = format!("test,{}", Attacker::IMAGE);
        host.cocker(&format!("create -m {images} -c {name} {options}"))
            .ok();
    }

    /// Begins an attack in a booted container; its end is the end of its input.
    #[track_caller]
    fn inside(host: &Host, name: &str, attack: &str) -> Started {
        host.start(&format!("run {name} -- /attacker {attack}"))
    }

    /// The same on the host, in the place of somebody who is not contained.
    #[track_caller]
    fn outside(host: &Host, attack: &str) -> Started {
        host.start_program(&Attacker::on_host(host), attack)
    }
}

fn compile(program: &Path) -> Result<PathBuf, String> {
    let mut compiler = Command::new("cc");
    compiler
        .args(["-std=gnu11", "-Wall", "-O1", "-static", "-o"])
        .arg(program)
        .args(["-x", "c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let mut compiler = compiler
        .spawn()
        .map_err(|why| format!("cannot execute `cc`: {why}"))?;
    let mut source = compiler.stdin.take().expect("it is piped");
    source
        .write_all(include_bytes!("attacker.c"))
        .map_err(|why| format!("cannot write to `cc`: {why}"))?;
    drop(source);
    let ended = compiler.wait_with_output().map_err(|why| why.to_string())?;
    match ended.status.success() {
        true => Ok(program.into()),
        false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
    }
}

/// The number behind `word` in what an attack said.
#[track_caller]
fn number(said: &str, word: &str) -> u64 {
    let words: Vec<&str> = said.split_whitespace().collect();
    let behind = words.windows(2).filter(|pair| pair[0] == word);
    let number = behind
        .filter_map(|pair| pair[1].trim_end_matches(':').parse().ok())
        .next_back();
    number.unwrap_or_else(|| panic!("no `{word}` with a number in\n{said}"))
}

/// How `what` ended that an attack tried on `object`.
#[track_caller]
fn came_of<'a>(said: &'a str, what: &str, object: &str) -> &'a str {
    let head = format!("{what} {object}: ");
    said.lines()
        .find_map(|line| line.strip_prefix(&head))
        .unwrap_or_else(|| panic!("no `{head}` in\n{said}"))
}

/// Everything below a folder, with content: what must be the same afterwards.
#[track_caller]
fn picture(folder: &Path) -> Vec<String> {
    fn add(folder: &Path, into: &mut Vec<String>) {
        use std::os::unix::fs::MetadataExt;
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .expect("the folder is ours")
            .map(|entry| entry.expect("the folder is ours").path())
            .collect();
        entries.sort();
        for path in entries {
            let found = path.symlink_metadata().expect("nobody else is here");
            let content = match found.is_file() {
                true => fs::read(&path).expect("the file is ours"),
                false => Vec::new(),
            };
            let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
            into.push(format!(
                "{} {mode:o} {uid} {gid} {content:?}",
                path.display()
            ));
            if found.is_dir() {
                add(&path, into);
            }
        }
    }
    let mut lines = Vec::new();
    add(folder, &mut lines);
    lines
}

/// The numbers of the mounts that a process sees (proc_pid_mountinfo(5)).
fn mount_ids(pid: i32) -> Vec<u64> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect()
}

/// The mounts that the host itself sees.
fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted")
}
