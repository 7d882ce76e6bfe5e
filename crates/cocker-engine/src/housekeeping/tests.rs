//! Housekeeping of stores made by hand: no container is ever booted here.

use super::*;
use crate::container::{ContainerSettings, FORMAT, NetworkSettings, UPPER, WORK, write_settings};
use crate::engine::{Engine, Settings};
use crate::failure::EngineError;
use crate::ids;
use crate::request::{Isolation, OnError};
use crate::state::StateFile;
use cocker_image::{LayerId, Name, NewImage, Version};
use rustix::fd::{AsFd, OwnedFd};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A store that vanishes with the test.
struct Home(TempDir);

impl Home {
    fn new() -> (Home, Engine) {
        let home = Home(tempfile::tempdir().unwrap());
        let settings = Settings {
            home: home.0.path().join("home"),
            cgroup_parent: "none".into(),
            supervisor: &[],
            init: &[],
        };
        let engine = Engine::open(settings).unwrap();
        (home, engine)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("home").join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Publishes an image whose own layer has one file of `size` bytes.
fn publish(engine: &Engine, image: &str, size: usize, base: &[LayerId]) -> Vec<LayerId> {
    let store = &engine.store;
    let staged = store.stage().unwrap();
    let tree = format!("layers/.new-{}/tree/file", staged.layer());
    fs::write(store.home().join(tree), vec![b'x'; size]).unwrap();
    let image = name(image);
    let image = store.publish(
        &store.lock().unwrap(),
        NewImage::of(staged, &image, &Version::none(), base),
        vec![],
    );
    image.unwrap().0.layers
}

/// Makes a container's folder with a writable layer that was last measured at `size` bytes; returns the folder.
fn make_container(engine: &Engine, container: &str, layers: &[LayerId], size: u64) -> OwnedFd {
    let path = engine.store.home().join("containers").join(container);
    for folder in [UPPER, WORK] {
        fs::create_dir_all(path.join(folder)).unwrap();
    }
    let folder = OwnedFd::from(File::open(&path).unwrap());
    let id_slot = {
        let offer = ids::Offer::of_host();
        ids::take(&engine.store, &name(container), &offer)
            .unwrap()
            .unwrap()
    };
    let settings = ContainerSettings {
        format: FORMAT,
        id: "0".repeat(16),
        image: "any".into(),
        layers: layers.to_vec(),
        hostname: container.into(),
        volumes: Vec::new(),
        isolation: Isolation::Contained,
        confinement: crate::confinement::ConfinementSettings::default(),
        network: NetworkSettings::Host,
        id_slot,
        root_process: None,
        limits: Default::default(),
        restart: crate::restart::RestartPolicy::default(),
        enabled: None,
        converted_from: None,
        environment: Vec::new(),
        image_config: None,
    };
    write_settings(&folder, &settings).unwrap();
    StateFile::make(folder.as_fd(), size).unwrap();
    folder
}

fn prune(engine: &Engine) -> Vec<Pruned> {
    engine.prune(PruneMode::Remove, OnError::Stop).unwrap()
}

fn remove_image(engine: &Engine, image: &str) {
    let image = name(image);
    drop(
        engine
            .store
            .remove_image(
                &engine.store.lock().unwrap(),
                &image,
                &Version::none(),
                vec![],
            )
            .unwrap(),
    );
}

#[test]
fn a_layer_goes_when_neither_image_nor_container_needs_it() {
    let (home, engine) = Home::new();
    let base = publish(&engine, "base", 100, &[]);
    let top = publish(&engine, "top", 20, &base);
    let lone = publish(&engine, "lone", 3, &[]);
    make_container(&engine, "web", &top, 0);
    assert_eq!(engine.check().unwrap(), []);
    for image in ["base", "top", "lone"] {
        remove_image(&engine, image);
    }
    let expected = [Pruned {
        kind: PrunedKind::Layer,
        name: lone[0].to_string(),
        size: 3,
    }];
    let said = engine.prune(PruneMode::DryRun, OnError::Stop).unwrap();
    assert_eq!(said, expected);
    assert_eq!(home.names("layers").len(), 3);
    assert_eq!(prune(&engine), expected);
    assert_eq!(home.names("layers").len(), 2);
    assert_eq!(engine.check().unwrap(), []);

    fs::remove_dir_all(engine.store.home().join("containers/web")).unwrap();
    let sizes: Vec<_> = prune(&engine).iter().map(|it| (it.kind, it.size)).collect();
    assert_eq!(sizes.len(), 3);
    for expected in [
        (PrunedKind::Ids, 0),
        (PrunedKind::Layer, 100),
        (PrunedKind::Layer, 20),
    ] {
        assert!(sizes.contains(&expected), "{sizes:?}");
    }
    assert!(home.names("layers").is_empty());
    assert!(home.names("ids").is_empty());
}

#[test]
fn what_is_shared_counts_once() {
    let (_home, engine) = Home::new();
    let base = publish(&engine, "base", 100, &[]);
    let top = publish(&engine, "top", 20, &base);
    publish(&engine, "gone", 3, &[]);
    remove_image(&engine, "gone");
    make_container(&engine, "web", &top, 4096);
    make_container(&engine, "api", &base, 4);
    for (name, text) in [("console.log", "hello"), ("console.times", "..")] {
        let web = engine.store.home().join("containers/web");
        fs::write(web.join(name), text).unwrap();
    }
    fs::create_dir(engine.store.home().join("layers/.new-1")).unwrap();

    let usage = engine.usage().unwrap();
    let kind = |it: KindUsage| (it.count, it.size, it.reclaimable, it.unmeasured);
    assert_eq!(kind(usage.layers.all), (3, 123, 3, 0));
    assert_eq!(usage.layers.shared, 100);
    assert_eq!(kind(usage.containers), (2, 4100, 0, 0));
    assert_eq!(kind(usage.logs), (1, 7, 0, 0));
    assert_eq!(kind(usage.staging), (1, 0, 0, 1));
    let images: Vec<_> = usage.images.iter().map(|it| (it.own, it.shared)).collect();
    assert_eq!(images, [(0, 100), (20, 100)]);
    let containers = usage.each_container.iter();
    let containers: Vec<_> = containers.map(|it| (it.own, it.logs, it.shared)).collect();
    assert_eq!(containers, [(4, 0, 100), (4096, 7, 120)]);
    assert!(usage.free > 0);
}

#[test]
fn what_cannot_be_read_may_need_any_layer() {
    let (home, engine) = Home::new();
    publish(&engine, "gone", 3, &[]);
    remove_image(&engine, "gone");
    make_container(&engine, "web", &[], 0);
    fs::write(
        engine.store.home().join("containers/web/container.json"),
        "{",
    )
    .unwrap();
    for mode in [PruneMode::DryRun, PruneMode::Remove] {
        let error = engine.prune(mode, OnError::Stop).unwrap_err();
        assert!(matches!(error, EngineError::Prune { .. }), "{error}");
        assert!(error.hint().unwrap().contains("destroy --forcely web"));
    }
    assert_eq!(engine.prune(PruneMode::Remove, OnError::GoOn).unwrap(), []);
    assert_eq!(home.names("layers").len(), 1);
    assert_eq!(engine.usage().unwrap().layers.all.reclaimable, 0);
}

#[test]
fn a_record_that_is_being_written_stays() {
    let (home, engine) = Home::new();
    make_container(&engine, "web", &[], 0);
    let folder = engine.store.home().join("containers/web");
    fs::write(folder.join(".new-container.json"), "{").unwrap();
    let writer = File::open(&folder).unwrap();
    writer.lock().unwrap();
    assert_eq!(prune(&engine), []);
    assert_eq!(engine.check().unwrap(), []);
    drop(writer);
    assert_eq!(engine.check().unwrap().len(), 1);
    assert_eq!(prune(&engine).len(), 1);
    assert!(
        !home
            .names("containers/web")
            .contains(&".new-container.json".into())
    );
}

#[test]
fn a_range_is_given_back_by_the_one_that_has_it() {
    let (home, engine) = Home::new();
    make_container(&engine, "web", &[], 0);
    ids::give_back(&engine.store, &name("other"), 0).unwrap();
    assert_eq!(home.names("ids"), ["0"]);
    ids::give_back(&engine.store, &name("web"), 0).unwrap();
    assert!(home.names("ids").is_empty());
}

#[test]
fn entries_of_containers_that_have_something_else_are_stale() {
    let (home, engine) = Home::new();
    make_container(&engine, "web", &[], 0);
    let ids = engine.store.home().join("ids");
    symlink("web", ids.join("3")).unwrap();
    symlink("no name", ids.join("4")).unwrap();
    symlink("web", ids.join("not a number")).unwrap();
    let pruned: Vec<_> = prune(&engine).into_iter().map(|it| it.name).collect();
    assert_eq!(pruned, ["3", "4"]);
    assert_eq!(home.names("ids"), ["0", "not a number"]);
    let left = engine.check().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].thing, "entry ids/not a number");
}
