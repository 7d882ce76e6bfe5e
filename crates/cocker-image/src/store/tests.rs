//! The store as its users see it: what is published can be found, and what fails leaves nothing.

mod change;
mod listing;
mod renaming;

use super::*;
use crate::{Name, Reference, Version};
use rustix::process::geteuid;
use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A home that vanishes with the test.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("home")
    }
    fn store(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }
    /// The entries of a folder of the home, sorted.
    fn entries(&self, folder: &str) -> Vec<String> {
        entries(&self.path().join(folder))
    }
    fn assert_holds(&self, layers: usize, images: &[&str]) {
        assert_eq!(
            self.entries("layers").len(),
            layers,
            "layers: {:?}",
            self.entries("layers")
        );
        assert_eq!(self.entries("images"), images);
    }
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// A staged layer with one file of `size` bytes.
fn staged(store: &Store, size: usize) -> StagedLayer {
    let staged = store.stage().unwrap();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(staged.tree(), "file", flags, Mode::RUSR).unwrap();
    std::io::Write::write_all(&mut fs::File::from(file), &vec![7; size]).unwrap();
    staged
}

fn publish(store: &Store, text: &str, size: usize) -> Result<ImageRecord, StoreError> {
    let reference = reference(text);
    let version = reference.version.unwrap_or(Version::none());
    let layer = staged(store, size);
    let names = store.lock()?;
    make_image(store, &names, layer, &reference.name, &version, &[])
}

fn make_image(
    store: &Store,
    names: &StoreLock,
    layer: StagedLayer,
    name: &Name,
    version: &Version,
    base: &[LayerId],
) -> Result<ImageRecord, StoreError> {
    let published = store.publish(names, NewImage::of(layer, name, version, base), vec![]);
    published.map(|(record, _)| record)
}

#[test]
fn opening_makes_the_home_and_its_folders_for_the_owner_alone() {
    let outer = tempfile::tempdir().unwrap();
    let home = outer.path().canonicalize().unwrap().join("a/b/home");
    let store = Store::open(&home).unwrap();
    assert_eq!(store.home(), home);
    for folder in ["", LAYERS, IMAGES, CONTAINERS, IDS] {
        assert_eq!(
            fs::metadata(home.join(folder)).unwrap().mode() & 0o7777,
            0o700,
            "{folder}"
        );
    }
    drop(store);
    Store::open(&home).unwrap();
    let link = outer.path().join("link");
    symlink(&home, &link).unwrap();
    assert_eq!(Store::open(&link).unwrap().home(), home);
}

#[test]
fn a_home_that_others_may_enter_is_refused_unless_it_is_empty() {
    let home = Home::new();
    fs::DirBuilder::new()
        .mode(0o755)
        .create(home.path())
        .unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    home.store();
    assert_eq!(fs::metadata(home.path()).unwrap().mode() & 0o777, 0o700);

    for mode in [0o755, 0o710, 0o702] {
        fs::set_permissions(home.path(), Permissions::from_mode(mode)).unwrap();
        let error = Store::open(&home.path()).err().unwrap();
        assert!(matches!(error, StoreError::OpenToOthers { .. }), "{error}");
        assert!(
            error
                .hint()
                .unwrap()
                .contains(&format!("chmod 700 {}", home.path().display()))
        );
    }
}

#[test]
fn a_home_or_folder_of_another_user_is_refused() {
    let home = Home::new();
    home.store();
    for folder in ["", LAYERS, IMAGES, CONTAINERS, IDS] {
        let path = home.path().join(folder);
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let error = Store::open(&home.path()).err().unwrap();
        assert!(
            matches!(error, StoreError::ForeignOwner { owner: 12345, .. }),
            "{folder}: {error}"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .starts_with(&format!("chown {} ", geteuid().as_raw()))
        );
        std::os::unix::fs::chown(&path, Some(geteuid().as_raw()), None).unwrap();
    }
    fs::set_permissions(home.path().join(LAYERS), Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(
        Store::open(&home.path()),
        Err(StoreError::OpenToOthers { .. })
    ));
}

#[test]
fn a_home_that_others_may_exchange_is_refused() {
    let home = Home::new();
    let parent = home.0.path();
    for (mode, is_safe) in [(0o777, false), (0o1777, true), (0o755, true)] {
        fs::set_permissions(parent, Permissions::from_mode(mode)).unwrap();
        match Store::open(&home.path()) {
            Ok(_) => assert!(is_safe, "{mode:o}"),
            Err(error) => {
                assert!(
                    !is_safe && matches!(error, StoreError::Exchangeable { .. }),
                    "{mode:o}: {error}"
                )
            }
        }
    }
    std::os::unix::fs::chown(parent, Some(12345), None).unwrap();
    assert!(matches!(
        Store::open(&home.path()),
        Err(StoreError::Exchangeable { owner: 12345, .. })
    ));
}

#[test]
fn a_folder_of_the_home_that_is_a_link_is_refused() {
    let home = Home::new();
    home.store();
    fs::remove_dir(home.path().join(LAYERS)).unwrap();
    symlink("/tmp", home.path().join(LAYERS)).unwrap();
    assert!(matches!(
        Store::open(&home.path()),
        Err(StoreError::OpenFolder { .. })
    ));
}

#[test]
fn a_published_image_is_found_as_it_was_made() {
    let home = Home::new();
    let store = home.store();
    let base = publish(&store, "base:1.0", 1000).unwrap();
    let staged = staged(&store, 234);
    let tree = rustix::fs::fstat(staged.tree()).unwrap();
    assert_eq!(
        (tree.st_mode & 0o7777, tree.st_uid, tree.st_gid),
        (0o755, 0, 0)
    );
    let own = staged.layer().clone();
    let names = store.lock().unwrap();
    let (app, none) = (name("app"), Version::none());
    let image = make_image(&store, &names, staged, &app, &none, &base.layers).unwrap();
    drop(names);
    assert_eq!(image.layers, [base.layers[0].clone(), own.clone()]);
    assert_eq!((base.size, image.size), (1000, 234));
    assert_eq!(store.resolve(&reference("app")).unwrap(), image);
    assert_eq!(store.resolve(&reference("app:_")).unwrap(), image);
    assert_eq!(store.resolve(&reference("base:1.0")).unwrap(), base);
    assert_eq!(store.images().unwrap(), [image, base]);
    assert!(store.has_image(&name("app"), &Version::none()).unwrap());
    assert!(!store.has_image(&name("app"), &version("1")).unwrap());
    let layer = store.open_layer(&own).unwrap();
    assert_eq!(
        rustix::fs::statat(&layer, "file", rustix::fs::AtFlags::empty())
            .unwrap()
            .st_size,
        234
    );
    home.assert_holds(2, &["app", "base"]);
    assert_eq!(
        entries(&home.path().join(LAYERS).join(own.as_str())),
        ["layer.json", "tree"]
    );
}

#[test]
fn images_are_listed_by_name_then_version_and_the_highest_is_meant() {
    let home = Home::new();
    let store = home.store();
    assert!(store.images().unwrap().is_empty());
    for text in [
        "web:1.10.0",
        "web",
        "web:1.9.0",
        "db:2",
        "web:1.10",
        "db:10",
    ] {
        publish(&store, text, 1).unwrap();
    }
    fs::create_dir(home.path().join("images/.new-1")).unwrap();
    fs::create_dir(home.path().join("images/not a name")).unwrap();
    let listed: Vec<_> = store
        .images()
        .unwrap()
        .iter()
        .map(|image| format!("{}:{}", image.name, image.version))
        .collect();
    assert_eq!(
        listed,
        [
            "db:2",
            "db:10",
            "web:_",
            "web:1.9.0",
            "web:1.10",
            "web:1.10.0"
        ]
    );
    assert_eq!(
        store.resolve(&reference("web")).unwrap().version,
        version("1.10.0")
    );
    assert_eq!(
        store.resolve(&reference("db")).unwrap().version,
        version("10")
    );
}

#[test]
fn what_is_unknown_is_answered_with_what_there_is() {
    let home = Home::new();
    let store = home.store();
    publish(&store, "web:1.0", 1).unwrap();
    publish(&store, "web:2.0", 1).unwrap();
    let error = store.resolve(&reference("nowhere")).unwrap_err();
    assert_eq!(error.to_string(), "cannot find image `nowhere`");
    assert!(error.hint().unwrap().contains("cocker images"));
    let error = store.resolve(&reference("web:3")).unwrap_err();
    assert_eq!(error.to_string(), "cannot find version `3` of image `web`");
    assert!(
        error.hint().unwrap().contains("`1.0`, `2.0`"),
        "{:?}",
        error.hint()
    );
    fs::create_dir(home.path().join("images/hollow")).unwrap();
    for text in ["hollow", "hollow:1"] {
        assert!(matches!(
            store.resolve(&reference(text)),
            Err(StoreError::UnknownImage { .. })
        ));
    }
}

#[test]
fn a_name_in_use_is_refused_and_the_layer_goes() {
    let home = Home::new();
    let store = home.store();
    let first = publish(&store, "web:1", 10).unwrap();
    let error = publish(&store, "web:1", 20).unwrap_err();
    assert!(matches!(error, StoreError::ImageExists { .. }), "{error}");
    assert!(error.to_string().ends_with("image `web:1` exists already"));
    home.assert_holds(1, &["web"]);
    assert_eq!(store.resolve(&reference("web")).unwrap(), first);
}

#[test]
fn an_image_on_a_missing_layer_is_refused() {
    let home = Home::new();
    let store = home.store();
    let missing = LayerId::parse(&"0".repeat(32)).unwrap();
    let (layer, names) = (staged(&store, 1), store.lock().unwrap());
    let (name, version) = (name("web"), version("1"));
    let error = make_image(&store, &names, layer, &name, &version, &[missing]).unwrap_err();
    assert!(matches!(error, StoreError::OpenLayer { .. }), "{error}");
    home.assert_holds(0, &[]);
}

#[test]
fn a_failure_after_the_layer_has_its_name_takes_everything_back() {
    let home = Home::new();
    let store = home.store();
    // A file stands where the folder of versions should be made.
    fs::write(home.path().join("images/web"), b"").unwrap();
    let error = publish(&store, "web:1", 10).unwrap_err();
    assert!(matches!(error, StoreError::ChangeName { .. }), "{error}");
    assert!(error.source().is_some());
    home.assert_holds(0, &["web"]);
}

#[test]
fn a_broken_record_is_named() {
    let home = Home::new();
    let store = home.store();
    publish(&store, "good", 1).unwrap();
    let image = publish(&store, "web:1", 1).unwrap();
    let path = home.path().join("images/web/1/image.json");
    let whole = fs::read_to_string(&path).unwrap();
    let own = image.layers[0].as_str();
    let far = whole.replace("\"modified\": ", "\"modified\": 9999999");
    let broken = [
        String::new(),
        "{".into(),
        "[]".into(),
        whole.replace("\"format\": 1", "\"format\": 0"),
        whole.replace("\"format\": 1", "\"format\": -1"),
        whole.replace(own, "../../../etc"),
        whole.replace(
            &format!("\"own_layer\": \"{own}\""),
            &format!("\"own_layer\": \"{}\"", "0".repeat(32)),
        ),
        far,
        format!("{whole}{}", " ".repeat(2 << 20)),
    ];
    for text in broken {
        fs::write(&path, &text).unwrap();
        for error in [
            store.resolve(&reference("web")).unwrap_err(),
            store.images().unwrap_err(),
        ] {
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        store.resolve(&reference("good")).unwrap();
    }

    fs::write(
        &path,
        whole
            .replace("\"format\": 1", "\"format\": 2")
            .replace("layers", "strata"),
    )
    .unwrap();
    let error = store.resolve(&reference("web")).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerRecord { format: 2, .. }),
        "{error}"
    );

    fs::remove_file(&path).unwrap();
    assert!(matches!(
        store.resolve(&reference("web")),
        Err(StoreError::ReadRecord { .. })
    ));
    symlink("/dev/zero", &path).unwrap();
    assert!(matches!(
        store.resolve(&reference("web")),
        Err(StoreError::ReadRecord { .. })
    ));
    fs::remove_file(&path).unwrap();
    fs::remove_dir(path.parent().unwrap()).unwrap();
    assert!(matches!(
        store.resolve(&reference("web")),
        Err(StoreError::UnknownImage { .. })
    ));
}

#[test]
fn of_many_threads_publishing_one_image_exactly_one_wins() {
    let home = Home::new();
    for round in 0..3 {
        let text = format!("web:{round}");
        let won: usize = std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let store = home.store();
                        match publish(&store, &text, 10) {
                            Ok(_) => 1,
                            Err(StoreError::ImageExists { .. }) => 0,
                            Err(error) => panic!("{error}: {:?}", error.source()),
                        }
                    })
                })
                .collect();
            publishers
                .into_iter()
                .map(|publisher| publisher.join().unwrap())
                .sum()
        });
        assert_eq!(won, 1);
        home.assert_holds(round + 1, &["web"]);
    }
    assert_eq!(home.store().images().unwrap().len(), 3);
}

#[test]
fn only_one_holds_the_lock() {
    let home = Home::new();
    let store = home.store();
    let lock = store.lock().unwrap();
    let path = home.path().join(LOCK);
    let other = fs::File::open(&path).unwrap();
    let try_lock = || flock(&other, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(try_lock(), Err(rustix::io::Errno::WOULDBLOCK));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    drop(lock);
    assert_eq!(try_lock(), Ok(()));
}

#[test]
fn the_lock_sweeps_all_three_folders() {
    let home = Home::new();
    let store = home.store();
    for leftover in [
        "layers/.new-1/tree/a",
        "images/.new-2",
        "containers/.gone-3/files/upper",
        "containers/web/files",
    ] {
        fs::create_dir_all(home.path().join(leftover)).unwrap();
    }
    let living = store.stage().unwrap();
    drop(store.lock().unwrap());
    assert_eq!(home.entries(LAYERS), [format!(".new-{}", living.layer())]);
    assert!(home.entries(IMAGES).is_empty());
    assert_eq!(home.entries(CONTAINERS), ["web"]);
    drop(living);
    assert!(home.entries(LAYERS).is_empty());
}

/// The other processes of the tests below: this test executed once more, with a role in its environment.
#[test]
fn other_process() {
    let Some(home) = std::env::var_os("OTHER_PROCESS_HOME") else {
        return;
    };
    let store = Store::open(Path::new(&home)).unwrap();
    match std::env::var("OTHER_PROCESS_ROLE").unwrap().as_str() {
        "stage" => {
            let _staged = staged(&store, 100);
            println!("\nready");
            // Ends only by being killed: nobody writes to this pipe.
            std::io::stdin().lines().for_each(drop);
        }
        "publish" => match publish(&store, "web:1", 100) {
            Ok(_) => println!("\nwon"),
            Err(StoreError::ImageExists { .. }) => println!("\nlost"),
            Err(error) => println!("\n{error}"),
        },
        role => panic!("{role}"),
    }
}

fn start_other_process(home: &Home, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::other_process", "--nocapture"])
        .env("OTHER_PROCESS_HOME", home.path())
        .env("OTHER_PROCESS_ROLE", role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_writer_leaves_nothing_after_the_next_lock() {
    let home = Home::new();
    let store = home.store();
    let mut writer = start_other_process(&home, "stage");
    let mut output = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap() == "ready"));
    drop(store.lock().unwrap());
    assert_eq!(
        home.entries(LAYERS).len(),
        1,
        "a living writer keeps its folder"
    );
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(home.entries(LAYERS).len(), 1);
    drop(store.lock().unwrap());
    home.assert_holds(0, &[]);
}

#[test]
fn of_many_processes_publishing_one_image_exactly_one_wins() {
    let home = Home::new();
    let processes: Vec<Child> = (0..6)
        .map(|_| start_other_process(&home, "publish"))
        .collect();
    let outputs: Vec<String> = processes
        .into_iter()
        .map(|process| String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    let count = |word: &str| {
        outputs
            .iter()
            .filter(|output| output.lines().any(|line| line == word))
            .count()
    };
    assert_eq!((count("won"), count("lost")), (1, 5), "{outputs:?}");
    home.assert_holds(1, &["web"]);
}
