//! Both spellings of every command mean the same, and what means nothing is refused.

use super::*;
use cocker_engine::{
    Boot, BridgeRequest, Compression, CreateRequest, Depth, DoctorMode, DoctorRequest, End, Follow,
    Form, GetRequest, IfBooted, IfThere, Isolation, LimitChanges, Name, NetworkRequest,
    NewContainer, OnError, Original, PortMapping, Program, PruneMode, PutRequest, Reference,
    RestartPolicy, Rules, RunRequest, StackRequest, ToContainerRequest, ToImageRequest, Unruled,
    UserRequest, Variable, Version, VolumeAccess, VolumeRequest, WhileBooted, Who,
};
use std::net::Ipv4Addr;
use std::time::Duration;

fn understood(line: &str) -> Result<Options, Failure> {
    let words = shlex::split(line).expect("the test's quotes are closed");
    parse(words.into_iter().map(OsString::from).collect())
}

fn meant(line: &str) -> Command {
    understood(line)
        .unwrap_or_else(|failure| panic!("{line}: {failure:?}"))
        .command
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Every command of the manual's table: the seed's spelling, the modern one.
pub(super) const SPELLINGS: &[(&str, &str)] = &[
    ("", "help"),
    ("--help", "help"),
    ("-v", "version"),
    ("-s images", "images"),
    ("-s images -q", "images -q"),
    ("-s containers", "containers"),
    ("-s containers --format json", "ps --format json"),
    (
        "-s containers --format=json -d",
        "containers --format=json -d",
    ),
    ("-s stats", "stats"),
    ("-s stats -c C --format json", "stats C --format json"),
    (
        "-s stats --live --interval 2.5",
        "stats --interval=2.5 --live",
    ),
    ("-s top", "top"),
    ("-s top --interval 0.5", "top --interval 0.5"),
    ("-s container_root -c C", "root C"),
    ("-s history -m I:1", "history I:1"),
    ("-s history -m I -q", "history -m I -q"),
    ("-s diff -c C", "diff C"),
    (
        "-s diff -c C --format json",
        "diff --container C --format json",
    ),
    ("-s diff --from-image I --to-image J:2", "diff I J:2"),
    (
        "-s diff --to-image J --from-image I",
        "diff --from-image I --to-image J",
    ),
    ("-s whence -m a,b:1 --path /x", "whence a,b:1 /x"),
    ("-s whence --path /x -m a", "whence -m a --path /x"),
    ("-s whence -m a --path /x", "whence a --path=/x"),
    ("-s whence -c C --path /x -q", "whence -c C /x -q"),
    (
        "-s ssearch --srepo u@h --match x",
        "ssearch --srepo u@h --match x",
    ),
    ("-a install_test", "install-test"),
    (
        "-a install_test --version 1.0",
        "install-test --version 1.0",
    ),
    ("-a prune", "prune"),
    ("-a doctor", "doctor"),
    (
        "-a doctor --fix --deep --format json",
        "doctor --deep --fix --format=json",
    ),
    ("-a prune --dry-run -f", "prune -f --dry-run"),
    ("--format json -a prune", "prune --format json"),
    ("-s df", "df"),
    ("-s df --format json", "df --format=json"),
    ("-s check", "check"),
    ("-s check --format=json -d", "check --format json -d"),
    ("-a create -m a:1,b -c C", "create -m a:1,b -c C"),
    (
        "-a create --image a --container=C",
        "create --image=a --container C",
    ),
    (
        "-a create -m a --volume /x:/y:ro --volume /z --host h --net HOST --privileged -b -t -e 'p \"a b\"'",
        "create -m a --volume /x:/y:ro --volume /z --host h --net HOST --privileged -b -t -e 'p \"a b\"'",
    ),
    ("-c C -m a -b -a create", "create -c C -b -m a"),
    (
        "-a create -m a --net BRIDGE --vip 1.2.3.4",
        "create -m a --net BRIDGE --vip 1.2.3.4",
    ),
    (
        "-a create -m a --net BRIDGE --host-eth eth0",
        "create -m a --net=BRIDGE --host-eth=eth0",
    ),
    (
        "-a create -m a --net BRIDGE --port-mapping 1:2,3:4/udp",
        "create -m a --net BRIDGE --port-mapping 1:2,3:4/udp",
    ),
    ("-a create -m a --net CUSTOM", "create -m a --net CUSTOM"),
    ("-a boot -c C", "boot C"),
    ("-a boot -c C -t", "boot C --attach"),
    (
        "-a boot -c C -e '/bin/x -y'",
        "boot -c C --exec '/bin/x -y'",
    ),
    ("-a boot -c C --cpus 0", "boot C --cpus 0"),
    ("-a boot -c C --cpu-quota 25%", "boot C --cpu-quota 25%"),
    ("-a boot -c C --mem-limit 100M", "boot C --mem-limit 100M"),
    (
        "-a create -m a -b --swap-limit 0 --mem-limit 4M --pids-limit none --oom-kill-group on",
        "create -m a -b --mem-limit 4M --swap-limit 0 --pids-limit none --oom-kill-group on",
    ),
    (
        "-a set_limits -c C --cpu-weight 5 --io-weight 7 --hugepages 2M --hugepages 1G=1G --nofile 100:200",
        "set-limits C --cpu-weight 5 --io-weight=7 --hugepages 2M --hugepages 1G=1G --nofile 100:200",
    ),
    (
        "-a set_limits -c C --io-max /dev/a:wbps=1M --io-max 8:0:riops=5",
        "set-limits C --io-max /dev/a:wbps=1M --io-max 8:0:riops=5",
    ),
    (
        "-a create -m a --restart always",
        "create -m a --restart=always",
    ),
    (
        "-a boot -c C --restart on-failure:3",
        "boot C --restart on-failure:3",
    ),
    ("-a boot --all-enabled", "boot --all-enabled"),
    (
        "-a shutdown --all --timeout 3",
        "shutdown --all --timeout 3",
    ),
    (
        "-a set_restart -c C --restart no",
        "set-restart C --restart no",
    ),
    ("-a enable -c C", "enable C"),
    (
        "-a enable -c C --after a,b -f",
        "enable C --after a,b --forcely",
    ),
    ("-a disable -c C", "disable C"),
    ("-a pause -c C", "pause C"),
    ("-a resume -c C", "resume C"),
    ("-a attach -c C", "attach C"),
    ("-a attach -c C --new", "attach C --new"),
    ("-a attach -c C --session 2", "attach C --session 2"),
    (
        "-a attach -c C --session work --read-only",
        "attach C --session=work --read-only",
    ),
    (
        "-a attach -c C --new --session work",
        "attach C --new --session work",
    ),
    (
        "-a attach -c C --record f -f",
        "attach C --record f --forcely",
    ),
    ("-a run -c C --tty --cmd x", "run C --tty --cmd x"),
    ("-s sessions -c C", "sessions C"),
    ("-s sessions -c C -q", "sessions C -q"),
    (
        "-s sessions -c C --format json",
        "sessions -c C --format json",
    ),
    ("-s sessions -c C --end 2", "sessions C --end 2"),
    ("-s sessions -c C --end work", "sessions C --end work"),
    (
        "-a run -c C --cmd 'echo \"a  b\"'",
        "run C --cmd 'echo \"a  b\"'",
    ),
    ("-a run -c C --cmd=-x", "run C --cmd=-x"),
    (
        "-a run -c C --user bob:adm --workdir /w --env A=1 --env B= --cmd x",
        "run C --env A=1 --user bob:adm --workdir /w --env B= --cmd x",
    ),
    (
        "-a run -c C --detach --env=A==1 --cmd x",
        "run C --detach --env=A==1 --cmd x",
    ),
    (
        "-a run -c C --timeout 2.5 --record /r -f --cmd x",
        "run C -f --record /r --timeout 2.5 --cmd x",
    ),
    ("-s logs -c C", "logs C"),
    ("-s logs -c C -f", "logs C -f"),
    ("-s logs -c C --follow", "logs -c C --follow"),
    ("-f -s logs -c C", "-f logs C"),
    (
        "-s logs -c C --tail 10 --since 2h --format json",
        "logs C --tail=10 --since=2h --format json",
    ),
    ("-a shutdown -c C", "shutdown C"),
    (
        "-a shutdown -c C -f --timeout 2.5",
        "shutdown C --timeout 2.5 --forcely",
    ),
    ("-a kill -c C -f", "kill C -f"),
    ("-a destroy -c C", "destroy C"),
    ("-a destroy -c C -h -f", "destroy C --shutdown -f"),
    (
        "-a version -m a:1 --version 2",
        "set-version a:1 --version 2",
    ),
    ("-a vip -c C --vip 1.2.3.4", "set-vip C --vip 1.2.3.4"),
    (
        "-a port_mapping -c C --port-mapping 1:2",
        "set-port-mapping C --port-mapping 1:2",
    ),
    (
        "-a port_mapping -c C --port-mapping none",
        "set-port-mapping -c C --port-mapping none",
    ),
    (
        "-a host_eth -c C --host-eth eth0",
        "set-host-eth C --host-eth eth0",
    ),
    ("-a host_eth -c C", "set-host-eth C"),
    (
        "-a volume -c C --volume /a --volume /b",
        "set-volume C --volume /a --volume /b",
    ),
    (
        "-a to_image --from-container C --version 1 --to-image I --keep",
        "to-image --from-container C --version 1 --to-image I --keep",
    ),
    (
        "-a to_container --from-image I:1 -m a,b --volume /x --to-container C",
        "to-container --from-image I:1 -m a,b --volume /x --to-container C",
    ),
    (
        "-a copy_image --from-image I --to-image J:2",
        "copy-image --from-image I --to-image J:2",
    ),
    ("-a del_image -m I", "rm-image I"),
    (
        "-a export -m I:1 --compress zstd",
        "export I:1 --compress zstd",
    ),
    (
        "-a import --image-file f.cockerimage",
        "import --image-file f.cockerimage",
    ),
    ("-a spush -m I", "spush I"),
    (
        "-a spush -m I:1 --layers --compress gzip --sign k --srepo u@h:22/f -f",
        "spush -f I:1 --layers --compress gzip --sign k --srepo u@h:22/f",
    ),
    ("-a spull -m I --srepo u@h", "spull -m I --srepo u@h"),
    (
        "-a spull -m I:2 --verify a --no-base --allow-devices --max-size 1G",
        "spull I:2 --verify a --no-base --allow-devices --max-size 1G",
    ),
    ("-a srm -m I:1 --srepo u@h", "srm I:1 --srepo u@h"),
    ("-s ssearch -q", "ssearch -q"),
    (
        "-a rplfile -c C --template-file t --mapping-file m --instance-file i",
        "instantiate C --template-file t --mapping-file m --instance-file i",
    ),
    (
        "-a rplfile -c C --template-file t --template-file u --set 'a=b c' --set d= --env-prefix P_ --strict --dry-run",
        "instantiate C --template-file t --template-file u --set 'a=b c' --set d= --env-prefix P_ --strict --dry-run",
    ),
    (
        "-a putfile -c C --src-file s --dst-file d",
        "put C --src-file s --dst-file d",
    ),
    ("-a putfile -c C --src-file s --dst-file d", "put C s d"),
    (
        "-a putfile -c C --src-file - --dst-file d -f",
        "put -f -c C - d",
    ),
    (
        "-a getfile -c C --src-file s --dst-file d",
        "get C --src-file s --dst-file d",
    ),
    (
        "-a getfile -c C --src-file s --dst-file -",
        "get C --src-file s -",
    ),
];

#[test]
fn both_spellings_of_every_command_mean_the_same() {
    for (seeds, modern) in SPELLINGS {
        assert_eq!(
            understood(seeds).expect(seeds),
            understood(modern).expect(modern),
            "{seeds}"
        );
    }
}

#[test]
fn what_is_said_is_what_is_meant() {
    assert_eq!(meant("-s container_root -c C"), Command::Root(name("C")));
    assert_eq!(
        meant("-a install_test"),
        Command::InstallTest(Version::none())
    );
    let image = |text: &str| Reference::parse(text).unwrap();
    assert_eq!(
        meant("-a version -m a:1"),
        Command::SetVersion(image("a:1"), Version::none())
    );
    assert_eq!(
        meant("set-version a --version 2"),
        Command::SetVersion(image("a"), Version::parse("2").unwrap())
    );
    assert_eq!(
        meant("copy-image --from-image a --to-image b"),
        Command::CopyImage(image("a"), name("b"), Version::none())
    );
    assert_eq!(
        meant("-a copy_image --from-image a:1 --to-image b:2"),
        Command::CopyImage(image("a:1"), name("b"), Version::parse("2").unwrap())
    );
    assert_eq!(
        meant("rm-image a:1 -f"),
        Command::RmImage(image("a:1"), OnError::GoOn)
    );
    assert_eq!(
        meant("destroy C"),
        Command::Destroy(name("C"), IfBooted::Refuse, OnError::Stop)
    );
    assert_eq!(
        meant("-a destroy -h -f -c C"),
        Command::Destroy(name("C"), IfBooted::ShutDownFirst, OnError::GoOn)
    );
    assert_eq!(
        meant("shutdown C"),
        Command::Shutdown(name("C"), Duration::from_secs(10), OnError::Stop)
    );
    let shutdown = Command::Shutdown(name("C"), Duration::from_millis(250), OnError::Stop);
    assert_eq!(meant("shutdown C --timeout .25"), shutdown);
    let words = ["a", "-b", "--", "--help"].map(OsString::from).to_vec();
    let run = Run {
        container: name("C"),
        request: RunRequest {
            program: Program::Arguments(words),
            user: None,
            directory: None,
            environment: vec![],
            patience: None,
        },
        company: Company::Attended {
            on_terminal: false,
            timeout: None,
            record: None,
        },
    };
    assert_eq!(
        meant("run C -- a -b -- --help"),
        Command::Run(Box::new(run))
    );
    let Command::Run(run) = meant("-a run -c C --timeout .5 --record r.cast -f --cmd x") else {
        panic!("not run");
    };
    let attended = Company::Attended {
        on_terminal: false,
        timeout: Some(Duration::from_millis(500)),
        record: Some(("r.cast".into(), IfThere::Replace)),
    };
    assert_eq!(run.company, attended);
    assert_eq!(run.request.program, Program::Shell("x".into()));
    let Command::Run(run) = meant("run C --user 7:g --env A=1 --detach -- x --env B=2") else {
        panic!("not run");
    };
    assert_eq!(run.company, Company::Detached);
    let user = UserRequest {
        user: Who::Id(7),
        group: Some(Who::Name("g".into())),
    };
    assert_eq!(run.request.user, Some(user));
    let variable = Variable {
        name: "A".into(),
        value: "1".into(),
    };
    assert_eq!(run.request.environment, [variable]);
    let end = End {
        wait_status: 256,
        boot: Boot::Done,
        was_asked_for: false,
        ran: Duration::from_millis(1500),
    };
    assert_eq!(
        meant("release 256 done unasked 1500"),
        Command::Release(end)
    );
    let end = End {
        wait_status: 9,
        boot: Boot::UnderWay,
        was_asked_for: true,
        ran: Duration::ZERO,
    };
    assert_eq!(meant("release 9 under-way asked 0"), Command::Release(end));
    assert_eq!(meant("boot-again 65"), Command::BootAgain(65));
    assert_eq!(meant("-s images"), Command::Images(ListingForm::Table));
    assert_eq!(meant("images -q"), Command::Images(ListingForm::Names));
    assert!(understood("-d images").unwrap().debug);
    assert!(!understood("images").unwrap().debug);
}

#[test]
fn figures_are_looked_at_as_it_was_said() {
    let once = Stats {
        containers: Vec::new(),
        live: None,
        form: OutputForm::Plain,
    };
    assert_eq!(meant("stats"), Command::Stats(once));
    let live = Stats {
        containers: vec![name("C"), name("D")],
        live: Some(Duration::from_millis(500)),
        form: OutputForm::Json,
    };
    let line = "stats C D --live --interval 0.5 --format json";
    assert_eq!(meant(line), Command::Stats(live));
    assert_eq!(meant("top"), Command::Top(Duration::from_secs(1)));
    assert_eq!(
        meant("-s top --interval 86400"),
        Command::Top(Duration::from_secs(86_400))
    );
}

#[test]
fn a_log_is_read_as_it_was_said() {
    let whole = Logs {
        container: name("C"),
        follow: Follow::No,
        tail: None,
        since: None,
        form: OutputForm::Plain,
    };
    assert_eq!(meant("logs C"), Command::Logs(whole));
    let followed = || Logs {
        container: name("C"),
        follow: Follow::ToTheEnd,
        tail: Some(0),
        since: Some(Since::Ago(Duration::from_secs(600))),
        form: OutputForm::Json,
    };
    for line in [
        "logs C -f --tail 0 --since 10m --format json",
        "-s logs -c C -f --tail 0 --since 10m --format json",
        "-s logs -c C --follow --tail 0 --since 10m --format json",
    ] {
        assert_eq!(meant(line), Command::Logs(followed()), "{line}");
    }
    // Elsewhere the option is what it was.
    assert!(understood("boot C --follow").is_err());
    assert_eq!(meant("kill C -f"), Command::Kill(name("C"), OnError::GoOn));
    let Command::Help(page) = meant("logs --help") else {
        panic!("help is help")
    };
    assert!(
        page.contains("-f, --follow") && !page.contains("--forcely"),
        "{page}"
    );
}

#[test]
fn keys_are_replaced_as_it_was_said() {
    let mut set = Rules::default();
    set.set(b"${A}".to_vec(), b"x=y".to_vec());
    set.set(b"-B".to_vec(), vec![]);
    let said = Instantiation {
        container: name("C"),
        templates: vec!["/etc/a".into(), "b".into()],
        instance: None,
        mapping_file: Some("m".into()),
        set,
        env_prefix: Some("APP_".into()),
        unruled: Unruled::Refused,
        is_dry_run: true,
    };
    let line = "instantiate C --template-file /etc/a --template-file b --mapping-file m --set '${A}=x=y' \
                --set -B= --env-prefix APP_ --strict --dry-run";
    assert_eq!(meant(line), Command::Instantiate(said));
    let alone = Instantiation {
        container: name("C"),
        templates: vec!["t".into()],
        instance: Some("i".into()),
        mapping_file: Some("m".into()),
        set: Rules::default(),
        env_prefix: None,
        unruled: Unruled::Stays,
        is_dry_run: false,
    };
    let line = "-a rplfile -c C --template-file t --mapping-file m --instance-file i";
    assert_eq!(meant(line), Command::Instantiate(alone));
}

#[test]
fn a_stack_is_looked_at_as_it_was_said() {
    let image = |text: &str| Reference::parse(text).unwrap();
    assert_eq!(
        meant("history a:1"),
        Command::History(image("a:1"), ListingForm::Table)
    );
    assert_eq!(
        meant("diff C -q"),
        Command::Diff(Compared::Container(name("C")), ListingForm::Names)
    );
    assert_eq!(
        meant("diff a b:2"),
        Command::Diff(
            Compared::Images(image("a"), image("b:2")),
            ListingForm::Table
        )
    );
    let path = || cocker_engine::ViewPath::parse(b"/etc/motd").unwrap();
    let images = StackRequest::Images(Reference::parse_list("a,b:1").unwrap());
    assert_eq!(
        meant("whence a,b:1 //etc/./motd/"),
        Command::Whence(images, path(), ListingForm::Table)
    );
    let container = StackRequest::Container(name("C"));
    assert_eq!(
        meant("whence -c C /etc/motd --format json"),
        Command::Whence(container, path(), ListingForm::Json)
    );
    for line in [
        "history",
        "-s history",
        "-s history -m a -c C",
        "diff",
        "-s diff",
        "diff a b c",
        "diff C -c C",
        "diff --from-image a",
        "-s diff --from-image a",
        "-s diff --to-image a",
        "diff a --from-image a --to-image b",
        "-s diff -c C --from-image a --to-image b",
        "-s diff -m a",
        "whence",
        "whence a",
        "whence /x",
        "whence a x",
        "whence a /x/../y",
        "whence a /x /y",
        "whence -c C -m a /x",
        "whence -c C a /x",
        "whence a /x --path /y",
        "-s whence -m a",
        "-s whence --path /x",
        "-s whence -m a -c C --path /x",
    ] {
        assert!(understood(line).is_err(), "{line}");
    }
}

#[test]
fn a_container_is_made_as_it_was_said() {
    let line =
        "create -m base:1,top --volume /x:/y:ro --host web --privileged -b -t -e \"p 'a b'\"";
    let then_boot = Booting {
        container: name("base"),
        root_process: Some(["p", "a b"].map(OsString::from).to_vec()),
        limits: LimitChanges::default(),
        then_attach: true,
        restart: None,
    };
    let container = NewContainer {
        name: name("base"),
        hostname: Some("web".into()),
        volumes: vec![VolumeRequest {
            host: "/x".into(),
            container: "/y".into(),
            access: VolumeAccess::ReadOnly,
            ids: cocker_engine::VolumeIds::Mapped,
            set_id: cocker_engine::VolumeSetId::Kept,
        }],
        isolation: Isolation::Privileged,
        confinement: cocker_engine::ConfinementRequest::default(),
        network: NetworkRequest::Host,
        restart: RestartPolicy::No,
    };
    let images = Reference::parse_list("base:1,top").unwrap();
    let creation = Creation {
        request: CreateRequest { images, container },
        then_boot: Some(then_boot),
    };
    assert_eq!(meant(line), Command::Create(Box::new(creation)));
}

#[test]
fn a_network_is_chosen_as_it_was_said() {
    let network = |line: &str| match meant(line) {
        Command::Create(creation) => creation.request.container.network,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(network("create -m a"), NetworkRequest::Host);
    assert_eq!(
        network("-a create -m a --net CUSTOM"),
        NetworkRequest::Custom
    );
    let line = "create -m a --net BRIDGE --vip 166.88.0.5 --host-eth eth0 --port-mapping 8080:80,53:53/udp";
    let bridge = BridgeRequest {
        address: Some(Ipv4Addr::new(166, 88, 0, 5)),
        uplink: Some("eth0".into()),
        ports: PortMapping::parse_list("8080:80,53:53/udp").unwrap(),
    };
    assert_eq!(network(line), NetworkRequest::Bridge(bridge));
}

#[test]
fn what_is_converted_is_what_was_said() {
    let request = ToImageRequest {
        container: name("web"),
        image: name("app"),
        version: None,
        original: Original::Goes,
        while_booted: WhileBooted::Refuse,
    };
    let line = "-a to_image --from-container web --to-image app";
    assert_eq!(meant(line), Command::ToImage(request.clone()));
    let versioned = ToImageRequest {
        version: Some(Version::parse("1.2").unwrap()),
        ..request.clone()
    };
    for line in [
        "to-image --from-container web --to-image app --version 1.2",
        "to-image --from-container web --to-image app:1.2",
    ] {
        assert_eq!(meant(line), Command::ToImage(versioned.clone()));
    }
    let kept = ToImageRequest {
        original: Original::Stays,
        ..request
    };
    let line = "to-image --from-container web --to-image app --keep";
    assert_eq!(meant(line), Command::ToImage(kept.clone()));
    let live = ToImageRequest {
        while_booted: WhileBooted::Freeze,
        ..kept
    };
    let line = "-a to_image --from-container web --to-image app --live";
    assert_eq!(meant(line), Command::ToImage(live));
    let twice = understood("to-image --from-container web --to-image app:1 --version 1");
    assert!(format!("{:?}", twice.unwrap_err()).contains("given twice"));

    let line = "to-container --from-image app:1 -m base,mid:2 --to-container web --host www --keep";
    let request = ToContainerRequest {
        image: Reference::parse("app:1").unwrap(),
        over: Some(Reference::parse_list("base,mid:2").unwrap()),
        container: NewContainer {
            name: name("web"),
            hostname: Some("www".into()),
            volumes: vec![],
            isolation: Isolation::Contained,
            confinement: cocker_engine::ConfinementRequest::default(),
            network: NetworkRequest::Host,
            restart: RestartPolicy::No,
        },
        original: Original::Stays,
    };
    assert_eq!(meant(line), Command::ToContainer(request.clone()));
    let line = "-a to_container --from-image app:1 --to-container web --host www";
    let alone = ToContainerRequest {
        over: None,
        original: Original::Goes,
        ..request
    };
    assert_eq!(meant(line), Command::ToContainer(alone));
}

#[test]
fn what_happens_after_the_end_is_what_was_said() {
    let on_failure = |most| RestartPolicy::OnFailure { most };
    for (text, policy) in [
        ("no", RestartPolicy::No),
        ("always", RestartPolicy::Always),
        ("on-failure", on_failure(None)),
        ("on-failure:7", on_failure(Some(7))),
    ] {
        let line = format!("set-restart C --restart {text}");
        assert_eq!(meant(&line), Command::SetRestart(name("C"), policy));
        match meant(&format!("create -m a -b --restart {text}")) {
            Command::Create(creation) => {
                assert_eq!(creation.request.container.restart, policy);
                // It is the container's own by then.
                assert_eq!(creation.then_boot.expect("-b is said").restart, None);
            }
            other => panic!("{other:?}"),
        }
        match meant(&format!("boot C --restart {text}")) {
            Command::Boot(booting) => assert_eq!(booting.restart, Some(policy)),
            other => panic!("{other:?}"),
        }
    }
    let after = vec![name("a"), name("b")];
    assert_eq!(
        meant("enable C --after a,b"),
        Command::Enable(name("C"), after, OnError::Stop)
    );
    for line in [
        "set-restart C",
        "set-restart C --restart unless-stopped",
        "set-restart C --restart on-failure:0",
        "create -m a --restart 3",
        "boot",
        "boot C --all-enabled",
        "boot --all-enabled --restart no",
        "boot --all-enabled -t",
        "boot --all-enabled --cpus 0",
        "shutdown",
        "shutdown C --all",
        "enable",
        "enable C --after a,,b",
        "disable C --after a",
    ] {
        assert!(understood(line).is_err(), "{line}");
    }
}

#[test]
fn what_is_set_is_what_was_said() {
    assert_eq!(
        meant("set-vip C --vip 166.88.0.5"),
        Command::SetVip(name("C"), Ipv4Addr::new(166, 88, 0, 5))
    );
    let ports = PortMapping::parse_list("8080:80").unwrap();
    assert_eq!(
        meant("set-port-mapping C --port-mapping 8080:80"),
        Command::SetPortMapping(name("C"), ports)
    );
    assert_eq!(
        meant("-a port_mapping -c C --port-mapping none"),
        Command::SetPortMapping(name("C"), vec![])
    );
    assert_eq!(
        meant("set-host-eth C"),
        Command::SetHostEth(name("C"), None)
    );
    assert_eq!(
        meant("-a host_eth -c C --host-eth eth0"),
        Command::SetHostEth(name("C"), Some("eth0".into()))
    );
    let volume = |host: &str, container: &str, access| VolumeRequest {
        host: host.into(),
        container: container.into(),
        access,
        ids: cocker_engine::VolumeIds::Mapped,
        set_id: cocker_engine::VolumeSetId::Kept,
    };
    let volumes = vec![
        volume("/b", "/b", VolumeAccess::ReadWrite),
        volume("/a", "/c", VolumeAccess::ReadOnly),
    ];
    assert_eq!(
        meant("-a volume -c C --volume /b --volume /a:/c:ro"),
        Command::SetVolume(name("C"), volumes)
    );
}

#[test]
fn a_dash_is_a_stream_and_a_path_that_leads_to_it_is_a_file() {
    let put = |source: &str| PutRequest {
        container: name("C"),
        source: source.into(),
        target: "d".into(),
        on_error: OnError::Stop,
    };
    let get = |target: &str| GetRequest {
        container: name("C"),
        source: "s".into(),
        target: target.into(),
        on_error: OnError::GoOn,
    };
    for (line, command) in [
        (
            "put C - d",
            Command::Put(PutSource::StandardInput, put("-")),
        ),
        ("put C ./- d", Command::Put(PutSource::Files, put("./-"))),
        (
            "get -f C s -",
            Command::Get(GetTarget::StandardOutput, get("-")),
        ),
        ("get -f C s ./-", Command::Get(GetTarget::Files, get("./-"))),
    ] {
        assert_eq!(meant(line), command, "{line}");
    }
}

#[test]
fn what_is_pushed_is_compressed_as_its_form_wants_it() {
    for (line, form, compression) in [
        ("spush a", Form::File, Compression::Gzip),
        ("spush a --compress none", Form::File, Compression::None),
        ("spush a --layers", Form::Layers, Compression::Zstd),
        (
            "-a spush -m a --layers --compress gzip",
            Form::Layers,
            Compression::Gzip,
        ),
    ] {
        let Command::Spush(pushing) = meant(line) else {
            panic!("`{line}` is no push");
        };
        assert_eq!(
            (pushing.form, pushing.compression),
            (form, compression),
            "{line}"
        );
        assert_eq!((pushing.address, pushing.sign), (None, None));
        assert_eq!(pushing.if_there, IfThere::Refuse);
    }
}

#[test]
fn wrong_usage_is_refused() {
    let wrong = [
        "spush a --compress xz",
        "spush a --srepo -x@h",
        "spush a --srepo u@h:x",
        "spush",
        "-a spull -m a --layers",
        "-a srm -m a --sign k",
        "ssearch --srepo=",
        // No command, or none that there is.
        "-d",
        "-c C",
        "-a",
        "-s",
        "-a nonsense",
        "-s nonsense",
        "nonsense",
        "--nonsense",
        "-a boot -s images",
        // Something missing.
        "-a create",
        "create",
        "-a boot",
        "boot",
        "-a run -c C",
        "run C",
        "run -- x",
        "-a version",
        "set-vip C",
        "-a port_mapping -c C",
        "set-volume C",
        "-a volume -c C",
        "set-host-eth",
        "-a host_eth",
        "put C",
        "put C s",
        "get C s d more",
        "get -c C s d --dst-file d",
        "-a putfile -c C --src-file s",
        "-a getfile --src-file s --dst-file d",
        "-a create -m a -c",
        "-a create -m -c C",
        "-a to_image --from-container C",
        "import",
        // Something that means nothing there.
        "-a boot -c C -m a",
        "boot C -m a",
        "-a boot -c C -q",
        "boot C -q",
        "-s images -c C",
        "images C",
        "-v -c C",
        "-a create -m a -t",
        "create -m a -t",
        "-a create -m a -e x",
        "create -m a --cpus 0",
        "-a kill -c C -h",
        "-a attach -c C --cmd x",
        "stats C -c D",
        "stats --interval 1",
        "-s stats --interval 1",
        "stats --live --interval 0",
        "stats --live --interval 0.09",
        "top --interval -1",
        "top --interval 86401",
        "top --interval nan",
        "top --interval +1",
        "top --interval .",
        "top C",
        "-s top -c C",
        "-s top --live",
        "top --format json",
        "attach C D",
        "-a vip -c C --vip 1.2.3.4 --net BRIDGE",
        "set-host-eth C eth0",
        "-a boot C",
        "-a boot -c C extra",
        "run C true",
        "run C --cmd x -- y",
        "run C --detach --timeout 5 -- x",
        "-a run -c C --detach --timeout 5 --cmd x",
        "run C --detach --record f -- x",
        "-a attach -c C --env A=1",
        "-a boot -c C --user bob",
        "boot C -c C",
        // Said twice.
        "-a boot -c C -c C",
        "-a boot -a boot -c C",
        "-a create -m a -m b",
        "create -m a -m b",
        "boot -c C -c D",
        "-a boot -c C -t -t",
        "boot C -t -t",
        "-d -d -s images",
        "-a create -m a --host x --host y",
        // Values that are none.
        "-a boot -c ../x",
        "boot ''",
        "-a create -m a: -c C",
        "create -m a,,b",
        "-a create -m a --net MOON",
        "create -m a --net bridge",
        "create -m a --vip 1.2.3.4",
        "-a create -m a --net HOST --host-eth eth0",
        "create -m a --net CUSTOM --port-mapping 1:2",
        "create -m a --net BRIDGE --vip ::ffff:166.88.0.5",
        "create -m a --net BRIDGE --vip 1.2.3",
        "-a create -m a --net BRIDGE --host-eth a/b",
        "create -m a --net BRIDGE --port-mapping 80",
        "create -m a --net BRIDGE --port-mapping none",
        "-a create -m a --net BRIDGE --port-mapping 80:80,80:81",
        "to-container --from-image I --to-container C --vip 1.2.3.4",
        "-a to_container --from-image I --to-container C --net BRIDGE --port-mapping 0:1",
        "to-container --from-image I --to-container C --host ../x",
        "set-vip C --vip fd42::5",
        "-a vip -c C --vip 01.2.3.4",
        "set-port-mapping C --port-mapping 1:2:3",
        "-a port_mapping -c C --port-mapping ''",
        "set-host-eth C --host-eth ''",
        "-a host_eth -c C --host-eth 0123456789abcdef",
        "set-volume C --volume /x:relative",
        "create -m a --host ../x",
        "run C --user '' -- x",
        "run C --user ' 0' -- x",
        "run C --user +1 -- x",
        "-a run -c C --user=0x0 --cmd x",
        "-a run -c C --user -1 --cmd x",
        "run C --user -1 -- x",
        "run C --user 4294967296 -- x",
        "run C --user a: -- x",
        "-a run -c C --user :g --cmd x",
        "run C --workdir w -- x",
        "run C --workdir '' -- x",
        "run C --env A -- x",
        "-a run -c C --env =1 --cmd x",
        "run C --timeout 0 -- x",
        "run C --timeout 1m -- x",
        "-a run -c C --timeout -1 --cmd x",
        "create -m a --host a..b",
        "create -m a --host 'a b'",
        "create -m a --volume x:y:z",
        "-a create -m a --volume /x:relative",
        "boot C -e ''",
        "boot C -e '\"open'",
        "-a boot -c C -e '   '",
        "instantiate C --mapping-file m",
        "-a rplfile -c C --mapping-file m",
        "instantiate C --template-file t",
        "-a rplfile -c C --template-file t --strict",
        "instantiate C --template-file t --set x",
        "instantiate C --template-file t --set =x",
        "-a rplfile -c C --template-file t --set a=1 --set a=2",
        "instantiate C --template-file t --env-prefix ''",
        "instantiate C --template-file '' --set a=1",
        "instantiate C --template-file t --template-file u --set a=1 --instance-file i",
        "instantiate C --template-file t --set a=1 --instance-file i --instance-file j",
        "instantiate --template-file t --set a=1",
        "logs",
        "-s logs",
        "-a logs -c C",
        "logs C --tail",
        "logs C --tail -1",
        "-s logs -c C --tail many",
        "logs C --tail 1.5",
        "logs C --since ''",
        "-s logs -c C --since yesterday",
        "logs C --since 2026-02-30",
        "logs C -f --follow",
        "logs C --format xml",
        "logs C -q",
        "shutdown C --timeout soon",
        "shutdown C --timeout -1",
        "shutdown C --timeout inf",
        "shutdown C --timeout ''",
        "shutdown C --timeout 1e3",
        "shutdown C --timeout 99999999999999999999",
        "-s images --format xml",
        "-s df --format xml",
        "prune --format xml",
        "-s check -q",
        "check -q",
        "-s df --dry-run",
        "df --dry-run",
        "-a prune --dry-run=yes",
        "-a doctor --fix=yes",
        "doctor web",
        "-s check --fix",
        "prune web",
        "images --format xml",
        "-s images --format json -q",
        "images -q --format json",
        "-a boot -c C --attach=yes",
        "install-test --version a/b",
        "-a install_test --version ''",
        "release x",
        "completion tcsh",
        "-h",
        "help nonsense",
    ];
    for line in wrong {
        let failure = understood(line).expect_err(line);
        assert_eq!(
            failure,
            failure.clone().exit_with(crate::failure::USAGE),
            "{line}"
        );
    }
}

#[test]
fn help_comes_whatever_else_is_said() {
    for line in [
        "-a --help",
        "-a boot --help",
        "--help -c",
        "boot --help",
        "boot -h",
        "help boot",
        "help images",
    ] {
        assert!(matches!(meant(line), Command::Help(_)), "{line}");
    }
    assert!(matches!(meant("--version"), Command::Version));
}

#[test]
fn the_page_of_help_has_every_command() {
    let Command::Help(page) = meant("help") else {
        panic!("help is help")
    };
    for (seeds, modern) in SPELLINGS {
        let first =
            |line: &str, place: usize| line.split(' ').nth(place).unwrap_or_default().to_string();
        assert!(page.contains(&first(modern, 0)), "{modern}");
        if seeds.starts_with("-a") || seeds.starts_with("-s") {
            assert!(page.contains(&first(seeds, 1)), "{seeds}");
        }
    }
    assert!(page.lines().all(|line| line.chars().count() <= 120));
}

#[test]
fn housekeeping_means_what_was_said() {
    let Command::Prune(pruning) = meant("prune --dry-run --format json") else {
        panic!("prune is prune")
    };
    assert_eq!(
        (pruning.mode, pruning.on_error, pruning.form),
        (PruneMode::DryRun, OnError::Stop, OutputForm::Json)
    );
    let Command::Prune(pruning) = meant("-a prune -f") else {
        panic!("prune is prune")
    };
    assert_eq!(
        (pruning.mode, pruning.on_error, pruning.form),
        (PruneMode::Remove, OnError::GoOn, OutputForm::Plain)
    );
    assert_eq!(meant("df"), Command::Df(OutputForm::Plain));
    assert_eq!(
        meant("-s check --format json"),
        Command::Check(OutputForm::Json)
    );
    let look = DoctorRequest {
        mode: DoctorMode::Look,
        depth: Depth::Sizes,
    };
    assert_eq!(meant("-a doctor"), Command::Doctor(look, OutputForm::Plain));
    let mend = DoctorRequest {
        mode: DoctorMode::Mend,
        depth: Depth::Digests,
    };
    let meant = meant("doctor --fix --deep --format json");
    assert_eq!(meant, Command::Doctor(mend, OutputForm::Json));
}
