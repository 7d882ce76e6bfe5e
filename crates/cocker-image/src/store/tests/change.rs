//! A change is whole or not there, wherever its writer stopped.

use super::*;
use rustix::fs::RenameFlags;

/// Seen from the home: a container with files, the staged folders of a layer and an image, and what there was before.
fn prepare(home: &Home) {
    for folder in [
        "containers/web/files/upper/etc",
        "layers/.new-1",
        "layers/0old/tree",
        "images/.new-2",
        "ids",
    ] {
        fs::create_dir_all(home.path().join(folder)).unwrap();
    }
    fs::write(home.path().join("ids/7"), "web").unwrap();
    for file in ["images/.new-2/image.json", "layers/.new-1/layer.json"] {
        fs::write(home.path().join(file), "{}").unwrap();
    }
}

/// As a container becomes an image.
fn conversion() -> Change {
    Change {
        before: vec![
            Rename::new("layers/.new-1", "layers/a"),
            Rename::new("containers/web/files/upper", "layers/a/tree"),
        ],
        commit: Commit::Rename(Rename::new("images/.new-2", "images/app/1")),
        afterwards: vec![
            Afterwards::Rename(Rename::new("containers/web", "containers/.gone-3")),
            Afterwards::Unlink("ids/7".into()),
        ],
    }
}

/// Each rename and unlink of a change, in order.
fn steps(change: &Change) -> Vec<Afterwards> {
    let before = change.before.iter().cloned().map(Afterwards::Rename);
    let commit = Afterwards::Rename(change.commit.rename().clone());
    let afterwards = change.afterwards.iter().cloned();
    before.chain([commit]).chain(afterwards).collect()
}

/// Does what a writer did before it died; returns whether it came as far as the commit.
fn die_after(home: &Home, change: &Change, done: usize) -> bool {
    let path = |name: &str| home.path().join(name);
    let record = home.store().record_of(change).unwrap();
    home.store().write_change(&record).unwrap();
    fs::create_dir_all(home.path().join("images/app")).unwrap();
    for step in steps(change).iter().take(done) {
        match step {
            Afterwards::Rename(rename) | Afterwards::Replace(rename) => {
                fs::rename(path(&rename.from), path(&rename.to)).unwrap()
            }
            Afterwards::Unlink(name) => fs::remove_file(path(name)).unwrap(),
        }
    }
    done > change.before.len()
}

fn is_there(home: &Home, path: &str) -> bool {
    home.path().join(path).exists()
}

#[test]
fn a_conversion_is_whole_or_not_there_wherever_its_writer_stopped() {
    let change = conversion();
    for done in 0..=steps(&change).len() {
        let home = Home::new();
        drop(home.store());
        prepare(&home);
        let is_made = die_after(&home, &change, done);
        drop(home.store().lock().unwrap());
        assert_eq!(is_there(&home, "layers/a/tree/etc"), is_made, "{done}");
        assert_eq!(is_there(&home, "images/app/1/image.json"), is_made);
        let files = is_there(&home, "containers/web/files/upper/etc");
        assert_eq!(files, !is_made, "{done}");
        assert_eq!(is_there(&home, "ids/7"), !is_made);
        // Nothing else is there: no record, nothing staged, nothing leaving, no empty folder.
        let layers = if is_made {
            vec!["0old", "a"]
        } else {
            vec!["0old"]
        };
        assert_eq!(home.entries("layers"), layers, "{done}");
        assert_eq!(home.entries("images").len(), usize::from(is_made));
        assert_eq!(home.entries("containers").len(), usize::from(!is_made));
        assert!(!home.store().is_changing());
    }
}

#[test]
fn a_removal_is_whole_or_not_there_wherever_its_writer_stopped() {
    for done in 0..=2 {
        let home = Home::new();
        let layer = publish(&home.store(), "app:1", 5).unwrap().layers[0].clone();
        let change = Change {
            before: vec![],
            commit: Commit::Rename(Rename::new("images/app/1", "images/.gone-1")),
            afterwards: Afterwards::leave_layers([&layer].into_iter()).unwrap(),
        };
        let is_made = die_after(&home, &change, done);
        // Whoever sweeps before it takes the lock removes what tells that the name was left.
        home.store().sweep();
        drop(home.store().lock().unwrap());
        let left = usize::from(!is_made);
        assert_eq!(home.entries("layers").len(), left, "{done}");
        assert_eq!(home.entries("images").len(), left, "{done}");
        assert_eq!(home.store().images().unwrap().len(), left);
    }
}

#[test]
fn an_exchange_is_made_or_not_made() {
    for is_made in [false, true] {
        let home = Home::new();
        drop(home.store());
        prepare(&home);
        fs::create_dir_all(home.path().join("images/app/1/old")).unwrap();
        let places = Rename::new("images/.new-2", "images/app/1");
        let change = Change {
            before: vec![Rename::new("layers/.new-1", "layers/a")],
            commit: Commit::Exchange(places.clone()),
            afterwards: Afterwards::leave_layers([].into_iter()).unwrap(),
        };
        die_after(&home, &change, 1);
        if is_made {
            let path = |name: &str| home.path().join(name);
            let (from, to) = (path(&places.from), path(&places.to));
            let exchange = RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, exchange)
                .unwrap();
        }
        drop(home.store().lock().unwrap());
        assert_eq!(is_there(&home, "images/app/1/image.json"), is_made);
        assert_eq!(is_there(&home, "images/app/1/old"), !is_made);
        assert_eq!(is_there(&home, "layers/a"), is_made);
        assert_eq!(home.entries("images"), ["app"]);
    }
}

#[test]
fn a_change_that_fails_has_not_been_made() {
    let change = conversion();
    for taken in ["layers/a", "images/app/1", "layers/.new-1/tree"] {
        let home = Home::new();
        let store = home.store();
        let names = store.lock().unwrap();
        prepare(&home);
        fs::create_dir_all(home.path().join(taken).join("kept")).unwrap();
        let error = store.carry_out(&names, &change).err().unwrap();
        assert!(matches!(error, StoreError::ChangeName { .. }), "{error}");
        assert!(is_there(&home, "containers/web/files/upper/etc"), "{taken}");
        assert!(is_there(&home, "layers/.new-1/layer.json"));
        assert!(is_there(&home, "images/.new-2/image.json"));
        assert!(is_there(&home, &format!("{taken}/kept")));
        assert!(!store.is_changing());
    }
}

#[test]
fn what_cannot_be_taken_back_is_never_swept() {
    let home = Home::new();
    drop(home.store());
    prepare(&home);
    die_after(&home, &conversion(), 2);
    // Something stands where the files have to go.
    fs::create_dir_all(home.path().join("containers/web/files/upper/other")).unwrap();
    for _ in 0..2 {
        let error = home.store().lock().err().unwrap();
        assert!(error.hint().unwrap().contains("change.json"), "{error}");
        assert!(is_there(&home, "layers/a/tree/etc"));
    }
    fs::remove_dir_all(home.path().join("containers/web/files/upper")).unwrap();
    drop(home.store().lock().unwrap());
    assert!(is_there(&home, "containers/web/files/upper/etc"));
}

#[test]
fn only_what_has_left_its_name_is_removed_and_nobody_takes_it_before() {
    let home = Home::new();
    let store = home.store();
    let names = store.lock().unwrap();
    prepare(&home);
    let mut change = conversion();
    // As an image becomes a container: the files go somewhere that stays.
    let moved = Rename::new("layers/0old/tree", "containers/kept");
    change.afterwards.push(Afterwards::Rename(moved));
    let leaving = store.carry_out(&names, &change).unwrap();
    drop(names);
    // Somebody sweeps at this very moment.
    drop(home.store().lock().unwrap());
    assert_eq!(home.entries("containers"), [".gone-3", "kept"]);
    drop(leaving);
    assert_eq!(home.entries("containers"), ["kept"]);
    assert!(is_there(&home, "layers/a/tree/etc"));
}

#[test]
fn a_record_that_was_not_finished_means_nothing() {
    let home = Home::new();
    drop(home.store());
    fs::write(home.path().join(".new-change.json"), "{\"form").unwrap();
    publish(&home.store(), "app:1", 5).unwrap();
    assert!(!is_there(&home, ".new-change.json"));
    assert!(!home.store().is_changing());
}
