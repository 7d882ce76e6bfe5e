//! What the user said: one value a command, its options as text. The modern spelling's definitions for clap.
//!
//! Nothing is checked here beyond which options a command has; `meaning.rs` does the rest.

use clap::{Arg, ArgAction, Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::ffi::OsString;

// A `///` on one of the structs below would become the help of the command that has it.

// Allowed on every command.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Everywhere {
    /// Print each step with its time
    #[arg(short, long, global = true)]
    pub debug: bool,
    /// Go on over what can be gone on over
    #[arg(short, long, global = true)]
    pub forcely: bool,
}

#[derive(Subcommand, Debug, PartialEq, Eq)]
#[command(defer = true)]
pub enum Said {
    /// List the images
    Images(Listing),
    /// List the containers
    #[command(visible_alias = "ps")]
    Containers(Listing),
    /// Show what booted containers use of processors, memory, disks and network
    Stats(Stats),
    /// Show the same on the whole screen, sorted by key, again each second
    Top(Top),
    /// Print where a booted container's files can be seen from outside
    Root(TheContainer),
    /// Make image `test` from the host's own programs
    InstallTest(InstallTest),
    /// Give an image another version
    SetVersion(SetVersion),
    /// Give an image's layers a second name; no file is copied
    CopyImage(CopyImage),
    /// Remove an image on which no container stands, with those of its layers that nothing else needs
    RmImage(TheImage),
    /// Convert a stopped container into an image: its own files become the image's
    ToImage(ToImage),
    /// Convert an image into a container: its own files become the container's
    ToContainer(ToContainer),
    /// Write an image into a file, which only its owner may read
    Export(Export),
    /// Read an image from a file: a .cockerimage, a tar of a root file system, an OCI layout, what docker saved
    Import(Import),
    /// List the images of the ssh repository
    Ssearch(Ssearch),
    /// Push an image to the ssh repository, where it appears when it is whole
    Spush(Spush),
    /// Pull an image from the ssh repository; without a version the highest
    Spull(Spull),
    /// Remove an image from the ssh repository
    Srm(Srm),
    /// List an image's layers, the topmost first
    History(History),
    /// List what a container has changed, or what differs between two images
    Diff(Diff),
    /// List the layers that a path comes from, the topmost first
    Whence(Whence),
    /// Remove what neither an image nor a container needs
    Prune(Prune),
    /// Show what takes room
    Df(ForPrograms),
    /// Look whether everything is as it should be; changes nothing
    Check(ForPrograms),
    /// Look for what could be wrong with the store, what is left in the kernel, and the host; say cause and remedy
    Doctor(Doctor),
    /// Make a container from stacked images, the first lowest
    Create(Box<Create>),
    /// Boot a container, or all that are enabled
    Boot(Boot),
    /// Come back to a session of a booted container that nobody looks at, or open a new one
    Attach(Attach),
    /// List the sessions of a booted container, or end one
    Sessions(Sessions),
    /// Run a command in a booted container, with its output and its exit status
    Run(Run),
    /// Print what the root process wrote to the container's console; harmless to a terminal, else as it was written
    // -f is what everybody types to follow a log, and there is nothing to force: by its name this option stands in for the
    // one that is allowed everywhere, and its value comes as that one's.
    #[command(arg = Arg::new("forcely")
        .short('f')
        .long("follow")
        .action(ArgAction::SetTrue)
        .help("Go on with what is written from now on, until the container has ended"))]
    Logs(Logs),
    /// Replace keys in files of a container by values: all of them, or nothing
    Instantiate(Instantiate),
    /// Shut a container down, or all: TERM, wait, KILL
    Shutdown(Shutdown),
    /// Kill a container at once
    Kill(TheContainer),
    /// Remove a container
    Destroy(Destroy),
    /// Give a stopped container of BRIDGE another address
    SetVip(SetVip),
    /// Replace all port mappings of a stopped container of BRIDGE
    SetPortMapping(SetPortMapping),
    /// Say by which link a stopped container of BRIDGE leaves the host
    SetHostEth(SetHostEth),
    /// Replace all volumes of a stopped container
    SetVolume(SetVolume),
    /// Say anew what keeps a stopped container's root from the kernel; what is not said is as usual
    SetIsolation(SetIsolation),
    /// Say what is done when a container has ended by itself, booted or stopped
    SetRestart(SetRestart),
    /// Have a container booted with the host
    Enable(Enable),
    /// Have a container not booted with the host any more
    Disable(TheContainer),
    /// Change what a container may use, booted or stopped: all that is said, or nothing
    SetLimits(SetLimits),
    /// Let every process of a booted container stand still
    Pause(TheContainer),
    /// Let the processes of a paused container go on
    Resume(TheContainer),
    /// Copy a file or a folder into a container, booted or stopped
    Put(FileTransfer),
    /// Copy a file or a folder out of a container, booted or stopped
    Get(FileTransfer),
    /// Print the version
    Version,
    /// Print a script that completes commands in the given shell
    Completion { shell: Shell },
    /// Show all commands, or how one is used
    Help {
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
    /// The last act of a container's supervisor
    #[command(hide = true)]
    Release {
        wait_status: i32,
        /// Whether the client that boots the container has done so
        boot: BootStage,
        /// Whether somebody wanted the end
        manner: EndManner,
        /// How long it was booted
        ran_ms: u64,
    },
    /// What comes after that where the restart policy wants it
    #[command(hide = true)]
    BootAgain {
        /// The descriptor with the lock
        lock: i32,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootStage {
    Done,
    UnderWay,
    BrokenOff,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndManner {
    Asked,
    Unasked,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Print for a program, not for a person
    #[arg(long, value_name = "FORMAT", conflicts_with = "quiet")]
    pub format: Option<Format>,
    /// Print names only
    #[arg(short, long)]
    pub quiet: bool,
}

// A listing that has no names of its own.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct ForPrograms {
    /// Print for a program, not for a person
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The containers' names; by default all that are booted
    #[arg(value_name = "C", conflicts_with = "container")]
    pub containers: Vec<String>,
    /// The container's name
    #[arg(short, long, value_name = "C", hide_short_help = true)]
    pub container: Option<String>,
    /// Go on: again each second, with what was used since the last time
    #[arg(long)]
    pub live: bool,
    /// With --live: how long it is from one time to the next
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub interval: Option<String>,
    #[command(flatten)]
    pub form: ForPrograms,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// How long it is from one look to the next; 1 by default
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub interval: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Doctor {
    /// Mend what can be mended without losing anything
    #[arg(long)]
    pub fix: bool,
    /// Read every file of every layer as well, as `check` does
    #[arg(long)]
    pub deep: bool,
    #[command(flatten)]
    pub form: ForPrograms,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub form: ForPrograms,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
}

// A container, as the first word after the command or by `-c`.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct TheContainer {
    /// The container's name
    #[arg(
        value_name = "C",
        required_unless_present = "container",
        conflicts_with = "container"
    )]
    first_word: Option<String>,
    /// The container's name
    #[arg(short, long, value_name = "C", hide_short_help = true)]
    container: Option<String>,
}

// A container said so, or several in another way.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct AContainer {
    /// The container's name
    #[arg(value_name = "C", conflicts_with = "container")]
    first_word: Option<String>,
    /// The container's name
    #[arg(short, long, value_name = "C", hide_short_help = true)]
    container: Option<String>,
}

// An image, as the first word after the command or by `-m`.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct TheImage {
    /// The image's name and version
    #[arg(
        value_name = "I[:V]",
        required_unless_present = "image",
        conflicts_with = "image"
    )]
    first_word: Option<String>,
    /// The image's name and version
    #[arg(short = 'm', long, value_name = "I[:V]", hide_short_help = true)]
    image: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct History {
    #[command(flatten)]
    pub image: TheImage,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// A container, or two images: what was there before, what is there now
    #[arg(
        value_name = "C | I1[:V] I2[:V]",
        num_args = 1..=2,
        required_unless_present_any = ["container", "from_image"],
        conflicts_with_all = ["container", "from_image", "to_image"]
    )]
    pub words: Vec<String>,
    /// The container's name
    #[arg(short, long, value_name = "C", hide_short_help = true, conflicts_with_all = ["from_image", "to_image"])]
    pub container: Option<String>,
    /// The image as it was before
    #[arg(
        long,
        value_name = "I1[:V]",
        hide_short_help = true,
        requires = "to_image"
    )]
    pub from_image: Option<String>,
    /// The image as it is now
    #[arg(
        long,
        value_name = "I2[:V]",
        hide_short_help = true,
        requires = "from_image"
    )]
    pub to_image: Option<String>,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Whence {
    /// The images, the first lowest; then the path, from / on
    #[arg(value_name = "I[:V][,I[:V]]… /PATH", num_args = 0..=2)]
    pub words: Vec<OsString>,
    /// Look in the stack of this container instead
    #[arg(short, long, value_name = "C", conflicts_with = "image")]
    pub container: Option<String>,
    /// The images, the first lowest
    #[arg(
        short = 'm',
        long,
        value_name = "I[:V][,I[:V]]…",
        hide_short_help = true
    )]
    pub image: Option<String>,
    /// The path, from / on
    #[arg(long, value_name = "/PATH", hide_short_help = true)]
    pub path: Option<OsString>,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct InstallTest {
    /// The new image's version; none by default
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// The images, the first lowest, the last on top
    #[arg(short = 'm', long, value_name = "I[:V][,I[:V]]…")]
    pub image: String,
    /// The container's name; by default the first image's
    #[arg(short, long, value_name = "C")]
    pub container: Option<String>,
    #[command(flatten)]
    pub options: CreateOptions,
    /// Boot it at once
    #[arg(short, long, help_heading = None)]
    pub boot: bool,
    #[command(flatten)]
    pub boot_options: BootOptions,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// A host's file or folder in the container; repeatable
    #[arg(long, value_name = "HOST[:CONTAINER][:ro][:raw][:nosuid]")]
    pub volume: Vec<OsString>,
    /// The hostname; by default the container's name
    #[arg(long, value_name = "HOSTNAME")]
    pub host: Option<String>,
    /// The network: the host's by default, one of its own on a bridge, or an empty one of its own
    #[arg(long, value_name = "BRIDGE|HOST|CUSTOM")]
    pub net: Option<String>,
    /// BRIDGE: the link by which it leaves the host; by default the default route's
    #[arg(long, value_name = "IF")]
    pub host_eth: Option<String>,
    /// BRIDGE: the container's address; by default the next free one
    #[arg(long, value_name = "IP")]
    pub vip: Option<String>,
    /// BRIDGE: ports of the host that lead into the container; ranges as 8000-8010:9000-9010
    #[arg(
        long,
        value_name = "[ADDR:]HOST:CONTAINER[/udp][,…]",
        allow_hyphen_values = true
    )]
    pub port_mapping: Option<String>,
    /// Root inside is root outside: no own ids, no filter, nothing masked
    #[arg(long)]
    pub privileged: bool,
    /// Whose ids it has: the host's, with few of their rights; by default its own
    #[arg(long, value_name = "host")]
    pub userns: Option<String>,
    /// What is done when it has ended by itself; nothing by default
    #[arg(long, value_name = "no|on-failure[:N]|always")]
    pub restart: Option<String>,
    #[command(flatten)]
    pub confinement: ConfinementOptions,
}

// What keeps root inside from the kernel.
#[derive(Args, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Isolation")]
pub struct ConfinementOptions {
    /// Which system calls may be made: as a profile in JSON says, or all
    #[arg(long, value_name = "FILE|unconfined")]
    pub seccomp: Option<OsString>,
    /// A capability that root inside has beside the usual ones, or ALL; repeatable
    #[arg(long, value_name = "CAP[,CAP]…")]
    pub cap_add: Vec<String>,
    /// A capability that nobody inside has, or ALL; repeatable
    #[arg(long, value_name = "CAP[,CAP]…")]
    pub cap_drop: Vec<String>,
    /// A device of the host, to be read, written and made; repeatable
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]")]
    pub device: Vec<OsString>,
    /// No program gives more rights than who runs it has: su and sudo do not work
    #[arg(long)]
    pub no_new_privs: bool,
    /// No user namespaces inside, no new ways to mount, only plain kinds of sockets
    #[arg(long)]
    pub hardened: bool,
    /// The profile of AppArmor, or context of SELinux, that it is under
    #[arg(long, value_name = "PROFILE")]
    pub security: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetIsolation {
    #[command(flatten)]
    pub container: TheContainer,
    #[command(flatten)]
    pub confinement: ConfinementOptions,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct BootOptions {
    /// Open a terminal at once
    #[arg(short = 't', long, help_heading = None)]
    pub attach: bool,
    /// The root process, instead of cockerinit
    #[arg(short, long, help_heading = None, value_name = "PROGRAM ARGS", allow_hyphen_values = true)]
    pub exec: Option<OsString>,
    #[command(flatten)]
    pub limits: LimitOptions,
}

// Each is lifted by `none`.
#[derive(Args, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Limits, each of which `none` lifts")]
pub struct LimitOptions {
    /// The processors that may be used
    #[arg(long, value_name = "0,2-3", allow_hyphen_values = true)]
    pub cpus: Option<String>,
    /// The processor time that may be used; 100% is one processor
    #[arg(long, value_name = "25%", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// The share of busy processors, 1 to 10000 where others have 100
    #[arg(long, value_name = "100", allow_hyphen_values = true)]
    pub cpu_weight: Option<String>,
    /// The memory that may be used, with no swap beyond it
    #[arg(long, value_name = "100M", allow_hyphen_values = true)]
    pub mem_limit: Option<String>,
    /// The swap that may be used beyond --mem-limit
    #[arg(long, value_name = "100M", allow_hyphen_values = true)]
    pub swap_limit: Option<String>,
    /// Whether all are killed together when memory runs out, not one process
    #[arg(long, value_name = "on|off")]
    pub oom_kill_group: Option<String>,
    /// How many processes and threads there may be; 32768 by default
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// The share of busy disks, 1 to 10000 where others have 100
    #[arg(long, value_name = "100", allow_hyphen_values = true)]
    pub io_weight: Option<String>,
    /// What may be read from and written to a disk in a second; repeatable, all are replaced
    #[arg(long, value_name = "DEV:rbps=…,wbps=…,riops=…,wiops=…")]
    pub io_max: Vec<String>,
    /// The memory in huge pages that may be used; repeatable for pages of several sizes
    #[arg(long, value_name = "[PAGE=]BYTES", allow_hyphen_values = true)]
    pub hugepages: Vec<String>,
    /// How many files a process may have open, and what it may raise that to
    #[arg(long, value_name = "N[:MOST]", allow_hyphen_values = true)]
    pub nofile: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetLimits {
    #[command(flatten)]
    pub container: TheContainer,
    #[command(flatten)]
    pub limits: LimitOptions,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    #[command(flatten)]
    pub container: AContainer,
    /// Boot all that are enabled and not booted yet, each after what it is to come after
    #[arg(long)]
    pub all_enabled: bool,
    /// What is done when it has ended by itself, from now on
    #[arg(long, value_name = "no|on-failure[:N]|always")]
    pub restart: Option<String>,
    #[command(flatten)]
    pub options: BootOptions,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetRestart {
    #[command(flatten)]
    pub container: TheContainer,
    /// Nothing; boot it again where it has failed, at most N times in a row; or boot it again in any case
    #[arg(long, value_name = "no|on-failure[:N]|always")]
    pub restart: String,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Enable {
    #[command(flatten)]
    pub container: TheContainer,
    /// The containers that are booted before it, where they are enabled
    #[arg(long, value_name = "D[,E]…")]
    pub after: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    #[command(flatten)]
    pub container: TheContainer,
    /// Open a new session in any case; with --session of this name
    #[arg(long)]
    pub new: bool,
    /// Look at this session, also where somebody else looks at it
    #[arg(long, value_name = "N|NAME")]
    pub session: Option<String>,
    /// Only look: what is typed goes nowhere
    #[arg(long)]
    pub read_only: bool,
    /// Write what is shown into a file on the host too, for `asciinema play`; -f replaces the file
    #[arg(long, value_name = "FILE")]
    pub record: Option<OsString>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    #[command(flatten)]
    pub container: TheContainer,
    /// End this session instead: it is hung up, and killed if it does not go
    #[arg(long, value_name = "N|NAME")]
    pub end: Option<String>,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Run {
    #[command(flatten)]
    pub container: TheContainer,
    /// A line for the container's shell
    #[arg(
        long,
        value_name = "LINE",
        allow_hyphen_values = true,
        conflicts_with = "arguments"
    )]
    pub cmd: Option<OsString>,
    /// As whom, by name or number; root by default
    #[arg(long, value_name = "NAME|UID[:GROUP]", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// In which folder of the container; the user's home by default
    #[arg(long, value_name = "/DIR", allow_hyphen_values = true)]
    pub workdir: Option<OsString>,
    /// A variable of its environment; repeatable
    #[arg(long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub env: Vec<OsString>,
    /// Give it a terminal of its own, with ours in front of it
    #[arg(long)]
    pub tty: bool,
    /// Come back once it runs; it goes on without streams for as long as the container does
    #[arg(long)]
    pub detach: bool,
    /// End it after this time: TERM, 10 seconds later KILL; exit status 124
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// Write what it prints into a file on the host too, for `asciinema play`; -f replaces the file
    #[arg(long, value_name = "FILE")]
    pub record: Option<OsString>,
    /// The program and its arguments
    #[arg(last = true, value_name = "CMD", required_unless_present = "cmd")]
    pub arguments: Vec<OsString>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    #[command(flatten)]
    pub container: TheContainer,
    // In the seed's spelling.
    #[arg(skip)]
    pub follow: bool,
    /// Print the last N lines only
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub tail: Option<String>,
    /// Print what was written since then: 90s, 10m, 2h, 3d; 20:00, 2026-11-25, 2026-11-25T20:00:00[+01:00]
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Print for a program: an object a line, with the time
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    #[command(flatten)]
    pub container: AContainer,
    /// Shut all down that are booted, those first that come after others
    #[arg(long)]
    pub all: bool,
    /// How long to wait before KILL; 10 by default
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Destroy {
    #[command(flatten)]
    pub container: TheContainer,
    /// Shut it down first when it is booted
    #[arg(long)]
    pub shutdown: bool,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Ssearch {
    #[command(flatten)]
    pub repository: TheRepository,
    /// Only images whose NAME:VERSION has this in it
    #[arg(long = "match", value_name = "S")]
    pub pattern: Option<String>,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetVersion {
    #[command(flatten)]
    pub image: TheImage,
    /// The other version; none by default
    #[arg(long, value_name = "V2")]
    pub version: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetVip {
    #[command(flatten)]
    pub container: TheContainer,
    /// The address, an IPv4 one
    #[arg(long, value_name = "IP")]
    pub vip: String,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetPortMapping {
    #[command(flatten)]
    pub container: TheContainer,
    /// Ports of the host that lead into the container; `none` takes all away
    #[arg(
        long,
        value_name = "[ADDR:]HOST:CONTAINER[/udp][,…]|none",
        allow_hyphen_values = true
    )]
    pub port_mapping: String,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetHostEth {
    #[command(flatten)]
    pub container: TheContainer,
    /// The link; by default the default route's
    #[arg(long, value_name = "IF")]
    pub host_eth: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct SetVolume {
    #[command(flatten)]
    pub container: TheContainer,
    /// A host's file or folder in the container; repeatable
    #[arg(
        long,
        value_name = "HOST[:CONTAINER][:ro][:raw][:nosuid]",
        required = true
    )]
    pub volume: Vec<OsString>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct ToImage {
    /// The container, which is gone afterwards unless it is kept
    #[arg(long, value_name = "C")]
    pub from_container: String,
    /// The image's version; by default the one that the container was converted from, else none
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
    /// The image's name
    #[arg(long, value_name = "I")]
    pub to_image: String,
    /// Keep the container and copy its files
    #[arg(long)]
    pub keep: bool,
    /// The same also while it is booted: it stands still meanwhile
    #[arg(long)]
    pub live: bool,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct ToContainer {
    /// The image, which is gone afterwards unless it is kept
    #[arg(long, value_name = "I[:V]")]
    pub from_image: String,
    /// The images below, the first lowest; by default what the image was built on
    #[arg(short = 'm', long, value_name = "I[:V][,I[:V]]…")]
    pub image: Option<String>,
    #[command(flatten)]
    pub options: CreateOptions,
    /// The container's name
    #[arg(long, value_name = "C")]
    pub to_container: String,
    /// Keep the image and copy its files
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct CopyImage {
    /// The image
    #[arg(long, value_name = "I[:V]")]
    pub from_image: String,
    /// The second name
    #[arg(long, value_name = "I2[:V2]")]
    pub to_image: String,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Export {
    #[command(flatten)]
    pub image: TheImage,
    /// The file, which -f replaces; by default I[:V].cockerimage, .oci.tar or .docker.tar in the current folder
    #[arg(long, value_name = "F")]
    pub image_file: Option<OsString>,
    /// Write all layers as others load them, instead of the image's own
    #[arg(long, value_name = "oci|docker")]
    pub format: Option<String>,
    /// How it is compressed, with oci its layers; gzip by default, with docker never
    #[arg(long, value_name = "gzip|zstd|none")]
    pub compress: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The file or folder
    #[arg(
        value_name = "F",
        required_unless_present = "image_file",
        conflicts_with = "image_file"
    )]
    pub first_word: Option<OsString>,
    /// The file or folder
    #[arg(long, value_name = "F", hide_short_help = true)]
    pub image_file: Option<OsString>,
    /// What the image is called; by default as it says itself, else as the file without its ending
    #[arg(short = 'm', long, value_name = "I[:V]")]
    pub image: Option<String>,
    /// Which of several images in the file, by its name there
    #[arg(long = "ref", value_name = "NAME")]
    pub reference: Option<String>,
    #[command(flatten)]
    pub unpacking: Unpacking,
}

// What may come out of an image that others have packed.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Unpacking {
    /// Take the image's own files alone, without what it was built on
    #[arg(long)]
    pub no_base: bool,
    /// Let device nodes out of it, which is refused otherwise
    #[arg(long)]
    pub allow_devices: bool,
    /// The most bytes in all its files together, as 500M or 10G; by default what the disk has room for
    #[arg(long, value_name = "10G")]
    pub max_size: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Spush {
    #[command(flatten)]
    pub image: TheImage,
    #[command(flatten)]
    pub repository: TheRepository,
    /// Push all its layers, but none that is there already, instead of its own in one file
    #[arg(long)]
    pub layers: bool,
    /// How it is compressed; gzip by default, with --layers zstd
    #[arg(long, value_name = "gzip|zstd|none")]
    pub compress: Option<String>,
    /// Sign it with this private key, or by the agent that holds this public one
    #[arg(long, value_name = "KEY")]
    pub sign: Option<OsString>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Spull {
    #[command(flatten)]
    pub image: TheImage,
    #[command(flatten)]
    pub repository: TheRepository,
    /// Take it only where one of these signers has signed it (ssh-keygen(1), ALLOWED SIGNERS)
    #[arg(long, value_name = "ALLOWED_SIGNERS")]
    pub verify: Option<OsString>,
    #[command(flatten)]
    pub unpacking: Unpacking,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Srm {
    #[command(flatten)]
    pub image: TheImage,
    #[command(flatten)]
    pub repository: TheRepository,
}

// An account on a server.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct TheRepository {
    /// The repository; without it the one that was said last
    #[arg(long, value_name = "[USER@]HOST[:PORT][/FOLDER]")]
    pub srepo: Option<String>,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct Instantiate {
    #[command(flatten)]
    pub container: TheContainer,
    /// A file with keys in it, or a folder, of which every *.tpl is one; inside the container; repeatable
    #[arg(long, value_name = "T", required = true)]
    pub template_file: Vec<OsString>,
    /// A file of the host that gives keys their values: KEY, blanks, VALUE on each line
    #[arg(long, value_name = "M")]
    pub mapping_file: Option<OsString>,
    /// A key and its value, which has the last word; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub set: Vec<OsString>,
    /// Every variable of this command's environment that begins with P: the rest of its name, in ${}, is a key
    #[arg(long, value_name = "P")]
    pub env_prefix: Option<OsString>,
    /// Where the one template's result goes; by default in place, and of a folder beside each, without .tpl
    #[arg(long, value_name = "F")]
    pub instance_file: Option<OsString>,
    /// Do nothing where a place ${NAME} in a template has no rule
    #[arg(long)]
    pub strict: bool,
    /// Only show what would be changed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct FileTransfer {
    /// The container, what is copied, and where to, as far as no option says them
    #[arg(value_name = "C S D", num_args = 0..=3)]
    pub words: Vec<OsString>,
    /// The container's name
    #[arg(short, long, value_name = "C", hide_short_help = true)]
    pub container: Option<String>,
    /// What is copied; with `put`, - is a tar stream on standard input
    #[arg(long, value_name = "S")]
    pub src_file: Option<OsString>,
    /// Where to, a folder when it ends in `/`; with `get`, - is a tar stream on standard output
    #[arg(long, value_name = "D")]
    pub dst_file: Option<OsString>,
}

impl TheContainer {
    pub fn by_word(first_word: String) -> TheContainer {
        TheContainer {
            first_word: Some(first_word),
            container: None,
        }
    }

    pub fn by_option(container: String) -> TheContainer {
        TheContainer {
            first_word: None,
            container: Some(container),
        }
    }

    pub fn name(&self) -> &str {
        one_of(&self.first_word, &self.container)
    }
}

impl AContainer {
    pub fn by_word(first_word: String) -> AContainer {
        AContainer {
            first_word: Some(first_word),
            container: None,
        }
    }

    pub fn by_option(container: Option<String>) -> AContainer {
        AContainer {
            first_word: None,
            container,
        }
    }

    pub fn name(&self) -> Option<&str> {
        self.first_word.as_deref().or(self.container.as_deref())
    }
}

impl TheImage {
    pub fn by_option(image: String) -> TheImage {
        TheImage {
            first_word: None,
            image: Some(image),
        }
    }

    pub fn reference(&self) -> &str {
        one_of(&self.first_word, &self.image)
    }
}

fn one_of<'a>(first_word: &'a Option<String>, option: &'a Option<String>) -> &'a str {
    let said = first_word.as_ref().or(option.as_ref());
    said.expect("either spelling refuses a command without it")
}
