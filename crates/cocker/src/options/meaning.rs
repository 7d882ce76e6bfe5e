//! What is meant: names, versions, paths and numbers checked.

use super::instantiation::Instantiation;
use super::repository::{self, Pulling, Pushing, Removing, Searching};
use super::run::{self, Run};
use super::said::{self, BootOptions, Everywhere, Said};
use super::session::{self, Attaching, SessionsOf};
use super::since::{Since, since};
use super::stats::{self, Stats};
use super::{confinement, files, instantiation, limits, network, stack, transfer, volume};
use crate::failure::Failure;
use clap_complete::Shell;
use cocker_engine::{
    Boot, ConfinementRequest, CreateRequest, Depth, DoctorMode, DoctorRequest, End, ExportRequest,
    Follow, GetRequest, IfBooted, ImportRequest, LimitChanges, Name, NewContainer, OnError,
    Original, PortMapping, PruneMode, PutRequest, Reference, RestartPolicy, StackRequest,
    ToContainerRequest, ToImageRequest, Version, ViewPath, VolumeRequest, WhileBooted,
};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// How long `shutdown` waits before it kills.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// One command line, understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub debug: bool,
    pub command: Command,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// The text to print.
    Help(String),
    Version,
    Completion(Shell),
    Images(ListingForm),
    Containers(ListingForm),
    Stats(Stats),
    /// How long it is from one look to the next.
    Top(Duration),
    Root(Name),
    History(Reference, ListingForm),
    Diff(Compared, ListingForm),
    Whence(StackRequest, ViewPath, ListingForm),
    InstallTest(Version),
    SetVersion(Reference, Version),
    CopyImage(Reference, Name, Version),
    RmImage(Reference, OnError),
    Export(ExportRequest),
    Import(ImportRequest),
    Ssearch(Searching, ListingForm),
    Spush(Pushing),
    Spull(Pulling),
    Srm(Removing),
    ToImage(ToImageRequest),
    ToContainer(ToContainerRequest),
    Prune(Pruning),
    Df(OutputForm),
    Check(OutputForm),
    Doctor(DoctorRequest, OutputForm),
    Create(Box<Creation>),
    Boot(Booting),
    /// All that are enabled.
    BootAll,
    Attach(Attaching),
    Sessions(SessionsOf),
    Run(Box<Run>),
    Logs(Logs),
    Instantiate(Instantiation),
    Shutdown(Name, Duration, OnError),
    ShutdownAll(Duration),
    Kill(Name, OnError),
    Destroy(Name, IfBooted, OnError),
    SetVip(Name, Ipv4Addr),
    /// None: all are taken away.
    SetPortMapping(Name, Vec<PortMapping>),
    /// `None`: the default route's link.
    SetHostEth(Name, Option<String>),
    SetVolume(Name, Vec<VolumeRequest>),
    SetIsolation(Name, Box<ConfinementRequest>),
    SetLimits(Name, Box<LimitChanges>),
    SetRestart(Name, RestartPolicy),
    Enable(Name, Vec<Name>, OnError),
    Disable(Name),
    Pause(Name),
    Resume(Name),
    Put(PutSource, PutRequest),
    Get(GetTarget, GetRequest),
    Release(End),
    BootAgain(i32),
}

/// Where the files come from that `put` copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutSource {
    Files,
    /// `-`
    StandardInput,
}

/// Where the files go that `get` copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetTarget {
    Files,
    /// `-`
    StandardOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingForm {
    Table,
    Names,
    Json,
}

/// What a diff is of.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    /// A container, with the layers that it stands on.
    Container(Name),
    /// Before and now.
    Images(Reference, Reference),
}

/// Of what has no names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputForm {
    Plain,
    Json,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Pruning {
    pub mode: PruneMode,
    pub on_error: OnError,
    pub form: OutputForm,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Logs {
    pub container: Name,
    pub follow: Follow,
    pub tail: Option<u64>,
    pub since: Option<Since>,
    pub form: OutputForm,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Creation {
    pub request: CreateRequest,
    /// `-b`.
    pub then_boot: Option<Booting>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Booting {
    pub container: Name,
    /// `-e`: the root process instead of cockerinit.
    pub root_process: Option<Vec<OsString>>,
    pub limits: LimitChanges,
    /// `-t`.
    pub then_attach: bool,
    pub restart: Option<RestartPolicy>,
}

impl Options {
    pub fn of(command: Command) -> Options {
        Options {
            debug: false,
            command,
        }
    }
}

/// Makes sense of what was said.
pub fn of(said: Said, everywhere: Everywhere) -> Result<Options, Failure> {
    let on_error = if everywhere.forcely {
        OnError::GoOn
    } else {
        OnError::Stop
    };
    Ok(Options {
        debug: everywhere.debug,
        command: command(said, on_error)?,
    })
}

fn command(said: Said, on_error: OnError) -> Result<Command, Failure> {
    Ok(match said {
        Said::Images(listing) => Command::Images(listing_form(&listing)),
        Said::Containers(listing) => Command::Containers(listing_form(&listing)),
        Said::Stats(said) => Command::Stats(stats::stats(&said, output_form(&said.form))?),
        Said::Top(said) => stats::top(&said)?,
        Said::Root(container) => Command::Root(name(container.name())?),
        Said::History(said) => Command::History(
            reference(said.image.reference())?,
            listing_form(&said.listing),
        ),
        Said::Diff(said) => Command::Diff(stack::compared(&said)?, listing_form(&said.listing)),
        Said::Whence(said) => {
            let (request, path) = stack::whence(&said)?;
            Command::Whence(request, path, listing_form(&said.listing))
        }
        Said::InstallTest(said) => Command::InstallTest(version_or_none(said.version.as_deref())?),
        Said::SetVersion(said) => Command::SetVersion(
            reference(said.image.reference())?,
            version_or_none(said.version.as_deref())?,
        ),
        Said::CopyImage(said) => {
            let to = reference(&said.to_image)?;
            let version = to.version.unwrap_or(Version::none());
            Command::CopyImage(reference(&said.from_image)?, to.name, version)
        }
        Said::RmImage(image) => Command::RmImage(reference(image.reference())?, on_error),
        Said::Export(said) => Command::Export(transfer::export(&said, on_error)?),
        Said::Import(said) => Command::Import(transfer::import(said)?),
        Said::Ssearch(said) => {
            Command::Ssearch(repository::search(&said)?, listing_form(&said.listing))
        }
        Said::Spush(said) => Command::Spush(repository::push(&said, on_error)?),
        Said::Spull(said) => Command::Spull(repository::pull(said)?),
        Said::Srm(said) => Command::Srm(repository::remove(&said)?),
        Said::ToImage(said) => to_image(&said)?,
        Said::ToContainer(said) => to_container(&said)?,
        Said::Prune(said) => Command::Prune(Pruning {
            mode: match said.dry_run {
                true => PruneMode::DryRun,
                false => PruneMode::Remove,
            },
            on_error,
            form: output_form(&said.form),
        }),
        Said::Df(said) => Command::Df(output_form(&said)),
        Said::Check(said) => Command::Check(output_form(&said)),
        Said::Doctor(said) => {
            let request = DoctorRequest {
                mode: match said.fix {
                    true => DoctorMode::Mend,
                    false => DoctorMode::Look,
                },
                depth: match said.deep {
                    true => Depth::Digests,
                    false => Depth::Sizes,
                },
            };
            Command::Doctor(request, output_form(&said.form))
        }
        Said::Create(said) => create(*said)?,
        Said::Boot(said) => boot_one_or_all(said)?,
        Said::Attach(said) => session::attach(said, on_error)?,
        Said::Sessions(said) => session::sessions(&said)?,
        Said::Run(said) => Command::Run(Box::new(run::run(said, on_error)?)),
        Said::Logs(said) => Command::Logs(logs(&said, on_error)?),
        Said::Instantiate(said) => Command::Instantiate(instantiation::of(said)?),
        Said::Shutdown(said) => {
            let timeout = said
                .timeout
                .as_deref()
                .map_or(Ok(DEFAULT_TIMEOUT), timeout)?;
            match one_or_all("shutdown", &said.container, ("--all", said.all))? {
                Some(container) => Command::Shutdown(container, timeout, on_error),
                None => Command::ShutdownAll(timeout),
            }
        }
        Said::Kill(container) => Command::Kill(name(container.name())?, on_error),
        Said::Destroy(said) => {
            let if_booted = if said.shutdown {
                IfBooted::ShutDownFirst
            } else {
                IfBooted::Refuse
            };
            Command::Destroy(name(said.container.name())?, if_booted, on_error)
        }
        Said::SetVip(said) => {
            Command::SetVip(name(said.container.name())?, network::address(&said.vip)?)
        }
        Said::SetPortMapping(said) => Command::SetPortMapping(
            name(said.container.name())?,
            network::mappings_or_none(&said.port_mapping)?,
        ),
        Said::SetHostEth(said) => Command::SetHostEth(
            name(said.container.name())?,
            said.host_eth.as_deref().map(network::uplink).transpose()?,
        ),
        Said::SetVolume(said) => {
            Command::SetVolume(name(said.container.name())?, volumes(&said.volume)?)
        }
        Said::SetIsolation(said) => confinement::set_isolation(&said)?,
        Said::SetLimits(said) => limits::set_limits(&said)?,
        Said::SetRestart(said) => {
            Command::SetRestart(name(said.container.name())?, restart_policy(&said.restart)?)
        }
        Said::Enable(said) => Command::Enable(
            name(said.container.name())?,
            said.after.as_deref().map_or(Ok(Vec::new()), names)?,
            on_error,
        ),
        Said::Disable(container) => Command::Disable(name(container.name())?),
        Said::Pause(container) => Command::Pause(name(container.name())?),
        Said::Resume(container) => Command::Resume(name(container.name())?),
        Said::Put(said) => files::put(said, on_error)?,
        Said::Get(said) => files::get(said, on_error)?,
        Said::Version => Command::Version,
        Said::Completion { shell } => Command::Completion(shell),
        // Both spellings answer a question for help themselves, each with its own text.
        Said::Help { .. } => Command::Help(super::seed::HELP.into()),
        Said::Release {
            wait_status,
            boot,
            manner,
            ran_ms,
        } => Command::Release(End {
            wait_status,
            boot: match boot {
                said::BootStage::Done => Boot::Done,
                said::BootStage::UnderWay => Boot::UnderWay,
                said::BootStage::BrokenOff => Boot::BrokenOff,
            },
            was_asked_for: manner == said::EndManner::Asked,
            ran: Duration::from_millis(ran_ms),
        }),
        Said::BootAgain { lock } => Command::BootAgain(lock),
    })
}

fn create(said: said::Create) -> Result<Command, Failure> {
    let images = references(&said.image)?;
    let container = match &said.container {
        Some(text) => name(text)?,
        None => images[0].name.clone(),
    };
    let new_container = new_container(container.clone(), &said.options)?;
    let then_boot = match said.boot {
        true => Some(boot(container, said.boot_options)?),
        false => {
            refuse_boot_options(&said.boot_options)?;
            None
        }
    };
    let request = CreateRequest {
        images,
        container: new_container,
    };
    Ok(Command::Create(Box::new(Creation { request, then_boot })))
}

fn new_container(name: Name, said: &said::CreateOptions) -> Result<NewContainer, Failure> {
    Ok(NewContainer {
        name,
        hostname: said.host.as_deref().map(hostname).transpose()?,
        volumes: volumes(&said.volume)?,
        isolation: confinement::isolation(said)?,
        confinement: confinement::confinement(&said.confinement)?,
        network: network::network(said)?,
        restart: said
            .restart
            .as_deref()
            .map_or(Ok(RestartPolicy::No), restart_policy)?,
    })
}

/// A version may stand with the image's name, as elsewhere, or in its own option.
fn to_image(said: &said::ToImage) -> Result<Command, Failure> {
    let image = reference(&said.to_image)?;
    let said_apart = said.version.as_deref().map(version).transpose()?;
    let version = match (image.version, said_apart) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "the version is given twice: with `--to-image` and with `--version`",
            ));
        }
        (with_name, apart) => with_name.or(apart),
    };
    Ok(Command::ToImage(ToImageRequest {
        container: name(&said.from_container)?,
        image: image.name,
        version,
        original: original(said.keep || said.live),
        while_booted: match said.live {
            true => WhileBooted::Freeze,
            false => WhileBooted::Refuse,
        },
    }))
}

fn to_container(said: &said::ToContainer) -> Result<Command, Failure> {
    Ok(Command::ToContainer(ToContainerRequest {
        image: reference(&said.from_image)?,
        over: said.image.as_deref().map(references).transpose()?,
        container: new_container(name(&said.to_container)?, &said.options)?,
        original: original(said.keep),
    }))
}

fn original(is_kept: bool) -> Original {
    match is_kept {
        true => Original::Stays,
        false => Original::Goes,
    }
}

fn boot_one_or_all(said: said::Boot) -> Result<Command, Failure> {
    let restart = said.restart.as_deref().map(restart_policy).transpose()?;
    let all = ("--all-enabled", said.all_enabled);
    let Some(container) = one_or_all("boot", &said.container, all)? else {
        let given = restart.map(|_| "--restart");
        let given = given.or_else(|| given_boot_option(&said.options));
        return match given {
            None => Ok(Command::BootAll),
            Some(option) => Err(Failure::usage(format!(
                "`{option}` means nothing with `--all-enabled`"
            ))),
        };
    };
    Ok(Command::Boot(Booting {
        restart,
        ..boot(container, said.options)?
    }))
}

/// None: all that `all` is for.
fn one_or_all(
    command: &str,
    container: &said::AContainer,
    (all, is_given): (&str, bool),
) -> Result<Option<Name>, Failure> {
    match (container.name(), is_given) {
        (Some(text), false) => name(text).map(Some),
        (None, true) => Ok(None),
        (Some(_), true) => Err(Failure::usage(format!(
            "a container and `{all}` exclude each other"
        ))),
        (None, false) => Err(Failure::usage(format!(
            "`{command}` needs a container, or `{all}`"
        ))),
    }
}

fn restart_policy(text: &str) -> Result<RestartPolicy, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format!("`--restart {text}` is no restart policy"))
            .hint("there are no, on-failure, on-failure:N with N from 1 on, and always.")
    })
}

fn names(text: &str) -> Result<Vec<Name>, Failure> {
    text.split(',').map(name).collect()
}

fn boot(container: Name, said: BootOptions) -> Result<Booting, Failure> {
    let root_process = said.exec.as_deref().map(root_process).transpose()?;
    Ok(Booting {
        container,
        root_process,
        limits: limits::changes(&said.limits)?,
        then_attach: said.attach,
        restart: None,
    })
}

/// `-f` is `--follow` here, wherever it stands.
fn logs(said: &said::Logs, on_error: OnError) -> Result<Logs, Failure> {
    let tail = said.tail.as_deref().map(|text| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_plain);
        number.ok_or_else(|| Failure::usage(format!("`--tail {text}` is not a number of lines")))
    });
    Ok(Logs {
        container: name(said.container.name())?,
        follow: match said.follow || on_error == OnError::GoOn {
            true => Follow::ToTheEnd,
            false => Follow::No,
        },
        tail: tail.transpose()?,
        since: said.since.as_deref().map(since).transpose()?,
        form: match said.format {
            Some(said::Format::Json) => OutputForm::Json,
            None => OutputForm::Plain,
        },
    })
}

fn given_boot_option(said: &BootOptions) -> Option<&'static str> {
    let given = [("--attach", said.attach), ("--exec", said.exec.is_some())];
    let given = given.iter().find(|(_, given)| *given);
    let given = given.map(|(option, _)| *option);
    given.or_else(|| limits::given(&said.limits))
}

fn refuse_boot_options(said: &BootOptions) -> Result<(), Failure> {
    match given_boot_option(said) {
        None => Ok(()),
        Some(option) => Err(Failure::usage(format!(
            "`{option}` means nothing without `--boot`"
        ))),
    }
}

pub fn listing_form(said: &said::Listing) -> ListingForm {
    match (said.format, said.quiet) {
        (Some(said::Format::Json), _) => ListingForm::Json,
        (None, true) => ListingForm::Names,
        (None, false) => ListingForm::Table,
    }
}

fn output_form(said: &said::ForPrograms) -> OutputForm {
    match said.format {
        Some(said::Format::Json) => OutputForm::Json,
        None => OutputForm::Plain,
    }
}

/// Splits as a shell would, with quotes and backslashes and without expansions.
fn root_process(line: &OsStr) -> Result<Vec<OsString>, Failure> {
    let words = shlex::bytes::split(line.as_bytes());
    match words {
        None => Err(Failure::usage(format!(
            "`--exec {}`: a quote is not closed",
            line.to_string_lossy()
        ))),
        Some(words) if words.first().is_none_or(Vec::is_empty) => {
            Err(Failure::usage("`--exec` names no program"))
        }
        Some(words) => Ok(words.into_iter().map(OsString::from_vec).collect()),
    }
}

fn volumes(said: &[OsString]) -> Result<Vec<VolumeRequest>, Failure> {
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let current_folder: PathBuf = std::env::current_dir().map_err(|error| {
        Failure::not_done("cannot find out the current folder").caused_by(&error)
    })?;
    said.iter()
        .map(|said| volume::parse(said, &current_folder))
        .collect()
}

/// `10`, `2.5`; up to a year.
pub(super) fn timeout(text: &str) -> Result<Duration, Failure> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| is_plain && *seconds <= 31_536_000.0);
    let refused = || Failure::usage(format!("`--timeout {text}` is not a number of seconds"));
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(refused)
}

/// What the kernel and programs inside can stand: the rule for names, without doubled dots.
fn hostname(text: &str) -> Result<String, Failure> {
    match Name::parse(text) {
        Ok(_) if !text.contains("..") => Ok(text.into()),
        Ok(_) => Err(Failure::usage(format!(
            "`{text}` is not a hostname: it has two dots in a row"
        ))),
        Err(error) => Err(Failure::usage(format!("`{text}` is not a hostname")).caused_by(&error)),
    }
}

pub(super) fn name(text: &str) -> Result<Name, Failure> {
    Name::parse(text).map_err(|error| misspelt(&error))
}

fn version(text: &str) -> Result<Version, Failure> {
    Version::parse(text).map_err(|error| misspelt(&error))
}

fn version_or_none(text: Option<&str>) -> Result<Version, Failure> {
    text.map_or(Ok(Version::none()), version)
}

pub(super) fn reference(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text).map_err(|error| misspelt(&error))
}

pub(super) fn references(text: &str) -> Result<Vec<Reference>, Failure> {
    Reference::parse_list(text).map_err(|error| misspelt(&error))
}

pub(super) fn misspelt(error: &(dyn Error + 'static)) -> Failure {
    let failure = Failure::usage(error.to_string());
    match error.source() {
        Some(cause) => failure.caused_by(cause),
        None => failure,
    }
}
