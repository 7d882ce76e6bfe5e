//! Stacked images: which file is seen, how many layers there may be, and that layers never change.

use crate::host::{Host, with_image_test};
use std::fs;
use std::os::unix::fs::symlink;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_later_image_hides_what_an_earlier_one_has,
        images_themselves_never_change,
        five_hundred_layers_boot,
        a_stack_says_so_in_the_listing,
        an_image_twice_in_a_stack_does_no_harm,
        an_image_without_a_shell_boots,
    ]
}

fn a_later_image_hides_what_an_earlier_one_has(host: &Host) {
    host.add_image("a", |tree| {
        fs::write(tree.join("word"), "a\n").expect("the tree is ours");
        fs::write(tree.join("only-a"), "a\n").expect("the tree is ours");
    });
    host.add_image("b", |tree| {
        fs::write(tree.join("word"), "b\n").expect("the tree is ours");
        symlink("word", tree.join("link")).expect("the tree is ours");
    });
    host.cocker("-a create -m test,a,b -c ab").ok();
    host.cocker("-a create -m test,b,a -c ba").ok();
    host.cocker("-a boot -c ab").ok();
    host.cocker("-a boot -c ba").ok();
    assert_eq!(host.inside("ab", "cat /word /only-a /link"), "b\na\nb");
    assert_eq!(host.inside("ba", "cat /word /only-a /link"), "a\na\na");
}

fn images_themselves_never_change(host: &Host) {
    let image = host.add_image("extra", |tree| {
        fs::write(tree.join("word"), "as it was\n").expect("the tree is ours")
    });
    host.cocker("-a create -m test,extra -c web").ok();
    host.cocker("-a boot -c web").ok();
    host.inside("web", "echo changed > /word; rm /etc/profile; rm -r /root");
    assert_eq!(host.inside("web", "cat /word"), "changed");
    assert_eq!(
        fs::read_to_string(image.tree.join("word")).expect("it is there"),
        "as it was\n"
    );
    host.cocker("-a create -m test,extra -c second").ok();
    host.cocker("-a boot -c second").ok();
    assert_eq!(
        host.inside(
            "second",
            "cat /word; test -f /etc/profile && test -d /root && echo whole"
        ),
        "as it was\nwhole"
    );
}

fn five_hundred_layers_boot(host: &Host) {
    host.add_image_of_many_layers("many", 500);
    host.cocker("-a create -m many -c web").ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "cat /top"), "499");
    assert_eq!(
        host.inside("web", "cat /layer-1 /layer-250 /layer-499"),
        "1\n250\n499"
    );
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a boot -c web").ok();
}

fn a_stack_says_so_in_the_listing(host: &Host) {
    host.add_image("extra", |_| ());
    host.cocker("-a create -m test,extra -c web").ok();
    let listing = host.cocker("-s containers").succeeds().stdout();
    let line = listing.lines().last().expect("a listing has lines");
    assert!(
        line.starts_with("web                  test,extra           web        HOST "),
        "{listing}"
    );
}

fn an_image_twice_in_a_stack_does_no_harm(host: &Host) {
    host.cocker("-a create -m test,test -c web").ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn an_image_without_a_shell_boots(host: &Host) {
    host.add_image("empty", |tree| {
        fs::write(tree.join("word"), "").expect("the tree is ours")
    });
    host.cocker("-a create -m empty -c web").ok();
    host.cocker("-a boot -c web").ok();
    host.cocker("run web -- ls").exits(127);
    host.cocker("-a run -c web --cmd ls").exits(127);
    host.cocker("-a shutdown -c web").ok();
}
