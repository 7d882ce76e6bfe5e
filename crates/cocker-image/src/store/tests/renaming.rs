//! Other versions, second names, removal: what has a name afterwards, and that nothing else has changed.

use super::*;

#[test]
fn another_version_is_the_same_image() {
    let home = Home::new();
    let store = home.store();
    let published = publish(&store, "web", 10).unwrap();
    store
        .set_version(&store.lock().unwrap(), &reference("web"), &version("1.0"))
        .unwrap();
    assert!(matches!(
        store.resolve(&reference("web:_")),
        Err(StoreError::UnknownVersion { .. })
    ));
    let renamed = store.resolve(&reference("web:1.0")).unwrap();
    let expected = ImageRecord {
        version: version("1.0"),
        ..published
    };
    assert_eq!(renamed, expected);
    home.assert_holds(1, &["web"]);
    assert_eq!(home.entries("images/web"), ["1.0"]);
    // The one that it has: nothing to do, and nothing to complain of.
    store
        .set_version(
            &store.lock().unwrap(),
            &reference("web:1.0"),
            &version("1.0"),
        )
        .unwrap();
    assert_eq!(home.entries("images/web"), ["1.0"]);
}

#[test]
fn without_a_version_the_highest_gets_another() {
    let home = Home::new();
    let store = home.store();
    publish(&store, "web:1.9", 1).unwrap();
    publish(&store, "web:1.10", 2).unwrap();
    store
        .set_version(&store.lock().unwrap(), &reference("web"), &version("2"))
        .unwrap();
    assert_eq!(home.entries("images/web"), ["1.9", "2"]);
    assert_eq!(store.resolve(&reference("web:2")).unwrap().size, 2);
}

#[test]
fn a_version_in_use_is_not_given_twice() {
    let home = Home::new();
    let store = home.store();
    publish(&store, "web:1", 1).unwrap();
    publish(&store, "web:2", 2).unwrap();
    let images = store.images().unwrap();
    assert!(matches!(
        store.set_version(&store.lock().unwrap(), &reference("web:1"), &version("2")),
        Err(StoreError::ImageExists { .. })
    ));
    assert!(matches!(
        store.set_version(&store.lock().unwrap(), &reference("none"), &version("2")),
        Err(StoreError::UnknownImage { .. })
    ));
    assert_eq!(store.images().unwrap(), images);
}

#[test]
fn a_copy_shares_the_layers_and_nothing_else() {
    let home = Home::new();
    let store = home.store();
    let base = publish(&store, "base", 10).unwrap();
    let (app, none) = (name("app"), Version::none());
    let (layer, names) = (staged(&store, 20), store.lock().unwrap());
    let app = make_image(&store, &names, layer, &app, &none, &base.layers).unwrap();
    drop(names);
    let copy = store
        .copy_image(
            &store.lock().unwrap(),
            &reference("app"),
            &name("other"),
            &version("3"),
        )
        .unwrap();
    assert_eq!((&copy.layers, copy.size), (&app.layers, app.size));
    assert_eq!(store.resolve(&reference("other")).unwrap(), copy);
    home.assert_holds(2, &["app", "base", "other"]);
    let removed = store.remove_image(&store.lock().unwrap(), &name("app"), &none, vec![]);
    drop(removed.unwrap());
    assert_eq!(store.resolve(&reference("other:3")).unwrap(), copy);
    home.assert_holds(2, &["base", "other"]);
}

#[test]
fn a_copy_under_a_name_in_use_changes_nothing() {
    let home = Home::new();
    let store = home.store();
    publish(&store, "web:1", 1).unwrap();
    publish(&store, "app:1", 2).unwrap();
    let images = store.images().unwrap();
    for to in ["web", "app"] {
        assert!(matches!(
            store.copy_image(
                &store.lock().unwrap(),
                &reference("web:1"),
                &name(to),
                &version("1")
            ),
            Err(StoreError::ImageExists { .. })
        ));
    }
    assert!(matches!(
        store.copy_image(
            &store.lock().unwrap(),
            &reference("none"),
            &name("new"),
            &version("1")
        ),
        Err(StoreError::UnknownImage { .. })
    ));
    assert_eq!(store.images().unwrap(), images);
    home.assert_holds(2, &["app", "web"]);
}

#[test]
fn a_copy_of_what_can_be_made_again_is_not_replaced() {
    let home = Home::new();
    let store = home.store();
    let (test, version) = (name("test"), version("1"));
    let make = || {
        let mut image = NewImage::of(staged(&store, 1), &test, &version, &[]);
        image.origin = Some(Origin::HostPrograms);
        let made = store.publish_or_replace(&store.lock().unwrap(), image, vec![]);
        made.map(|(record, _)| record)
    };
    let first = make().unwrap();
    let second = make().unwrap();
    assert_ne!(first.layers, second.layers);
    assert_eq!(store.images().unwrap(), [second]);
    assert_eq!(home.entries("images"), ["test"]);
    store
        .copy_image(
            &store.lock().unwrap(),
            &reference("test"),
            &name("kept"),
            &version,
        )
        .unwrap();
    let removed = store.remove_image(&store.lock().unwrap(), &test, &version, vec![]);
    drop(removed.unwrap());
    let copy = store
        .copy_image(&store.lock().unwrap(), &reference("kept"), &test, &version)
        .unwrap();
    assert_eq!(copy.origin, None);
    assert!(matches!(make(), Err(StoreError::ImageExists { .. })));
    assert_eq!(store.resolve(&reference("test:1")).unwrap(), copy);
}

#[test]
fn an_image_that_is_removed_leaves_its_name_and_its_neighbours() {
    let home = Home::new();
    let store = home.store();
    publish(&store, "web:1", 1).unwrap();
    let other = publish(&store, "web:2", 2).unwrap();
    let removed = store.remove_image(&store.lock().unwrap(), &name("web"), &version("1"), vec![]);
    drop(removed.unwrap());
    assert_eq!(store.images().unwrap(), [other]);
    home.assert_holds(2, &["web"]);
    let removed = store.remove_image(&store.lock().unwrap(), &name("web"), &version("2"), vec![]);
    drop(removed.unwrap());
    assert!(matches!(
        store.remove_image(&store.lock().unwrap(), &name("web"), &version("2"), vec![]),
        Err(StoreError::ChangeName { .. })
    ));
    home.assert_holds(2, &[]);
}
