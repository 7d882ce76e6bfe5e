//! The session of the manual, word for word: what is typed, and all that the screen shows.

use crate::host::{Host, Terminal, on_an_empty_store, with_image_test};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = on_an_empty_store![
        the_quick_start_shows_what_the_manual_says,
        the_quick_start_shows_the_same_in_the_modern_spelling,
        listings_of_an_empty_store_print_nothing,
    ];
    trials.extend(with_image_test![
        the_quick_start_works_ten_times_in_a_row,
        installing_again_changes_nothing_for_a_container_that_exists,
        an_image_of_that_name_that_was_made_otherwise_is_not_replaced,
        images_are_listed_to_the_letter,
        containers_are_listed_to_the_letter,
        a_container_without_a_name_is_named_as_its_first_image,
        create_with_boot_boots_at_once,
    ]);
    trials
}

/// As printed in the manual.
const SESSION: &str = "\
# cocker -a install_test
OK
# cocker -a create -m test -c test
OK
# cocker -a boot -c test -t
connect to container ok
--- Welcome to cocker container ---

[root@test /root] exit
logout
# cocker -a shutdown -c test
OK
# cocker -a destroy -c test
OK
";

/// The host's prompt, the container's, and how each is known on the screen.
const PROMPTS: [&str; 2] = ["# ", "[root@test /root] "];

/// Types what a printed session types, each line when its prompt is there; returns the screen as it was printed.
#[track_caller]
fn retype(host: &Host, session: &str) -> String {
    let mut terminal = Terminal::of_a_shell(host);
    for line in session.lines() {
        if let Some((prompt, typed)) = PROMPTS
            .iter()
            .find_map(|prompt| Some((prompt, line.strip_prefix(prompt)?)))
        {
            terminal.expect(prompt);
            terminal.type_line(typed);
            // What is typed is echoed before its effect shows.
            terminal.expect(typed);
        }
    }
    terminal.expect("# ");
    terminal.type_line("exit");
    terminal.exits(0);
    let screen = terminal.screen().replace("\r\n", "\n");
    screen
        .strip_suffix("# exit\n")
        .unwrap_or(&screen)
        .to_string()
}

fn the_quick_start_shows_what_the_manual_says(host: &Host) {
    assert_eq!(retype(host, SESSION), SESSION);
    host.nothing_is_left();
}

fn the_quick_start_shows_the_same_in_the_modern_spelling(host: &Host) {
    let session = SESSION
        .replace("cocker -a install_test", "cocker install-test")
        .replace(
            "cocker -a create -m test -c test",
            "cocker create -m test -c test",
        )
        .replace("cocker -a boot -c test -t", "cocker boot test -t")
        .replace("cocker -a shutdown -c test", "cocker shutdown test")
        .replace("cocker -a destroy -c test", "cocker destroy test");
    assert!(!session.contains("-a "));
    assert_eq!(retype(host, &session), session);
    host.nothing_is_left();
}

fn the_quick_start_works_ten_times_in_a_row(host: &Host) {
    for _ in 0..10 {
        assert_eq!(retype(host, SESSION), SESSION);
        host.nothing_is_left();
    }
    // Each time the image was made anew, and what it was before is gone.
    let layers = std::fs::read_dir(host.home().join("layers")).expect("the store is ours");
    assert_eq!(layers.count(), 1);
}

fn installing_again_changes_nothing_for_a_container_that_exists(host: &Host) {
    let layers = || {
        let layers = std::fs::read_dir(host.home().join("layers")).expect("the store is ours");
        layers.count()
    };
    host.cocker("-a create -m test -c web -b").ok();
    let inode = host.inside("web", "stat -c %i /bin/bash");
    host.cocker("-a install_test").ok();
    // The container stands on the old layer, booted and at its next boot.
    assert_eq!(layers(), 2);
    assert_eq!(host.inside("web", "stat -c %i /bin/bash"), inode);
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "stat -c %i /bin/bash"), inode);
    host.cocker("-a create -m test -c second -b").ok();
    assert_ne!(host.inside("second", "stat -c %i /bin/bash"), inode);
}

fn an_image_of_that_name_that_was_made_otherwise_is_not_replaced(host: &Host) {
    let record = host.home().join("images/test/_/image.json");
    let text = std::fs::read_to_string(&record).expect("the store is ours");
    let made_otherwise = text.replace("\"origin\"", "\"unknown\"");
    assert_ne!(text, made_otherwise);
    std::fs::remove_file(&record).expect("the store is ours");
    std::fs::write(&record, &made_otherwise).expect("the store is ours");
    host.cocker("-a install_test").fails(1, &["test", "exists"]);
    let after = std::fs::read_to_string(&record).expect("it is there");
    assert_eq!(after, made_otherwise);
}

fn listings_of_an_empty_store_print_nothing(host: &Host) {
    for listing in ["-s images", "images", "-s containers", "containers", "ps"] {
        host.cocker(listing).succeeds().prints("").complains("");
    }
}

fn images_are_listed_to_the_letter(host: &Host) {
    let listing = host.cocker("-s images").succeeds().complains("").stdout();
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(lines.len(), 3, "{listing}");
    assert_eq!(
        lines[0],
        "image_id                       version    modify_datetime     size      "
    );
    assert_eq!(lines[1], "-".repeat(68));
    let (named, rest) = lines[2].split_at("image_id                       version    ".len());
    assert_eq!(named, "test                           _          ");
    let (time, size) = rest.split_at("2018-11-10T09:21:12 ".len());
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00 ");
    let (number, unit) = size.trim_end().split_once(' ').expect("a size has a unit");
    assert!(
        number.parse::<f64>().is_ok_and(|number| number > 0.0),
        "{size}"
    );
    assert!(["B", "KB", "MB", "GB"].contains(&unit), "{size}");
    host.cocker("images").succeeds().prints(&listing);
}

fn containers_are_listed_to_the_letter(host: &Host) {
    const HEAD: &str = "container_id         image                hostname   net        netns            size       status\n";
    let head = format!("{HEAD}{}\n", "-".repeat(107));
    let line = |status: &str| {
        format!(
            "test                 test                 test       HOST                        0 B        {status}\n"
        )
    };
    host.cocker("-a create -m test -c test").ok();
    host.cocker("-s containers")
        .succeeds()
        .prints(&format!("{head}{}", line("STOPPED")))
        .complains("");

    host.cocker("-a boot -c test").ok();
    let pid = host.root_process("test");
    host.cocker("-s containers")
        .succeeds()
        .prints(&format!("{head}{}", line(&format!("RUNNING({pid})"))));
    host.cocker("ps")
        .succeeds()
        .prints(&format!("{head}{}", line(&format!("RUNNING({pid})"))));
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("the root process runs");
    assert_eq!(name, "cockerinit\n");

    host.cocker("-a shutdown -c test").ok();
    let listing = host.cocker("-s containers").succeeds().stdout();
    assert!(listing.trim_end().ends_with("STOPPED"), "{listing}");
}

fn a_container_without_a_name_is_named_as_its_first_image(host: &Host) {
    host.add_image("above", |_| ());
    host.cocker("-a create -m test,above").ok();
    assert_eq!(host.status("test"), "STOPPED");
}

fn create_with_boot_boots_at_once(host: &Host) {
    host.cocker("-a create -m test -c web -b").ok();
    host.root_process("web");
    assert_eq!(host.inside("web", "hostname"), "web");
}
