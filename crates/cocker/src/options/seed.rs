//! The seed's spelling: `cocker -a ACTION …`, `cocker -s WHAT …`, options in any order.
//!
//! Read by hand: it is a short table, and a listing must not pay for a parser that knows every command's help.

use super::meaning::{self, Command, Options};
use super::said::{
    self, AContainer, BootOptions, ConfinementOptions, CreateOptions, Everywhere, LimitOptions,
    Said, TheContainer, TheImage,
};
use crate::failure::Failure;
use std::ffi::OsString;

/// All commands and options.
pub const HELP: &str = include_str!("help.txt");

const HOW_TO_GET_HELP: &str = "`cocker --help` shows all commands and options.";

/// Understands a command line that begins with an option.
pub fn parse(arguments: Vec<OsString>) -> Result<Options, Failure> {
    understand(arguments).map_err(|failure| failure.hint(HOW_TO_GET_HELP))
}

fn understand(arguments: Vec<OsString>) -> Result<Options, Failure> {
    // `--version` takes a version elsewhere; alone it can only be the question.
    if arguments.len() == 1 && arguments[0] == "--version" {
        return Ok(Options::of(Command::Version));
    }
    // Whatever else is said: `--cmd=--help` is how such a value is said.
    if arguments.iter().any(|argument| argument == "--help") {
        return Ok(Options::of(Command::Help(HELP.into())));
    }
    let mut words = Words::read(arguments)?;
    let everywhere = Everywhere {
        debug: words.flag("--debug"),
        forcely: words.flag("--forcely"),
    };
    let (what, said) = words.command()?;
    words.refuse_what_is_left(&what)?;
    meaning::of(said, everywhere)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    Values,
}

/// Long name, short name, what it takes.
const OPTIONS: &[(&str, &str, Takes)] = &[
    ("--action", "-a", Takes::Value),
    ("--show", "-s", Takes::Value),
    ("--print-version", "-v", Takes::Nothing),
    ("--debug", "-d", Takes::Nothing),
    ("--forcely", "-f", Takes::Nothing),
    ("--quiet", "-q", Takes::Nothing),
    ("--format", "", Takes::Value),
    ("--container", "-c", Takes::Value),
    ("--image", "-m", Takes::Value),
    ("--boot", "-b", Takes::Nothing),
    ("--attach", "-t", Takes::Nothing),
    ("--exec", "-e", Takes::Value),
    ("--shutdown", "-h", Takes::Nothing),
    ("--cmd", "", Takes::Value),
    ("--user", "", Takes::Value),
    ("--workdir", "", Takes::Value),
    ("--env", "", Takes::Values),
    ("--detach", "", Takes::Nothing),
    ("--record", "", Takes::Value),
    ("--version", "", Takes::Value),
    ("--timeout", "", Takes::Value),
    ("--new", "", Takes::Nothing),
    ("--session", "", Takes::Value),
    ("--read-only", "", Takes::Nothing),
    ("--tty", "", Takes::Nothing),
    ("--end", "", Takes::Value),
    ("--volume", "", Takes::Values),
    ("--host", "", Takes::Value),
    ("--net", "", Takes::Value),
    ("--host-eth", "", Takes::Value),
    ("--vip", "", Takes::Value),
    ("--port-mapping", "", Takes::Value),
    ("--privileged", "", Takes::Nothing),
    ("--userns", "", Takes::Value),
    ("--seccomp", "", Takes::Value),
    ("--cap-add", "", Takes::Values),
    ("--cap-drop", "", Takes::Values),
    ("--device", "", Takes::Values),
    ("--no-new-privs", "", Takes::Nothing),
    ("--hardened", "", Takes::Nothing),
    ("--security", "", Takes::Value),
    ("--restart", "", Takes::Value),
    ("--after", "", Takes::Value),
    ("--all", "", Takes::Nothing),
    ("--all-enabled", "", Takes::Nothing),
    ("--cpus", "", Takes::Value),
    ("--cpu-quota", "", Takes::Value),
    ("--cpu-weight", "", Takes::Value),
    ("--mem-limit", "", Takes::Value),
    ("--swap-limit", "", Takes::Value),
    ("--oom-kill-group", "", Takes::Value),
    ("--pids-limit", "", Takes::Value),
    ("--io-weight", "", Takes::Value),
    ("--io-max", "", Takes::Values),
    ("--hugepages", "", Takes::Values),
    ("--nofile", "", Takes::Value),
    ("--from-container", "", Takes::Value),
    ("--to-container", "", Takes::Value),
    ("--from-image", "", Takes::Value),
    ("--to-image", "", Takes::Value),
    ("--path", "", Takes::Value),
    ("--keep", "", Takes::Nothing),
    ("--live", "", Takes::Nothing),
    ("--interval", "", Takes::Value),
    ("--dry-run", "", Takes::Nothing),
    ("--fix", "", Takes::Nothing),
    ("--deep", "", Takes::Nothing),
    ("--compress", "", Takes::Value),
    ("--image-file", "", Takes::Value),
    ("--ref", "", Takes::Value),
    ("--no-base", "", Takes::Nothing),
    ("--allow-devices", "", Takes::Nothing),
    ("--max-size", "", Takes::Value),
    ("--follow", "", Takes::Nothing),
    ("--tail", "", Takes::Value),
    ("--since", "", Takes::Value),
    ("--srepo", "", Takes::Value),
    ("--match", "", Takes::Value),
    ("--layers", "", Takes::Nothing),
    ("--sign", "", Takes::Value),
    ("--verify", "", Takes::Value),
    ("--template-file", "", Takes::Values),
    ("--mapping-file", "", Takes::Value),
    ("--instance-file", "", Takes::Value),
    ("--set", "", Takes::Values),
    ("--env-prefix", "", Takes::Value),
    ("--strict", "", Takes::Nothing),
    ("--src-file", "", Takes::Value),
    ("--dst-file", "", Takes::Value),
];

fn option_named(word: &str) -> Option<(&'static str, Takes)> {
    let found = OPTIONS
        .iter()
        .find(|(long, short, _)| *long == word || (!short.is_empty() && *short == word));
    found.map(|(long, _, takes)| (*long, *takes))
}

/// The options given and not yet asked for, by long name.
struct Words {
    given: Vec<(&'static str, Option<OsString>)>,
}

impl Words {
    fn read(arguments: Vec<OsString>) -> Result<Words, Failure> {
        let mut words = Words { given: Vec::new() };
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let (word, value) = split_at_equals(&argument);
            let Some((option, takes)) = word.as_deref().and_then(option_named) else {
                return Err(unexpected(&argument));
            };
            let value = match (takes, value) {
                (Takes::Nothing, None) => None,
                (Takes::Nothing, Some(_)) => {
                    return Err(Failure::usage(format!("`{option}` takes no value")));
                }
                (_, Some(value)) => Some(value),
                (_, None) => Some(
                    arguments
                        .next_if(|next| !is_option(next))
                        .ok_or_else(|| no_value(option))?,
                ),
            };
            if takes != Takes::Values && words.given.iter().any(|(given, _)| *given == option) {
                return Err(Failure::usage(format!("`{option}` is given twice")));
            }
            words.given.push((option, value));
        }
        Ok(words)
    }

    /// The command, and what the user called it.
    fn command(&mut self) -> Result<(String, Said), Failure> {
        if self.flag("--print-version") {
            return Ok(("-v".into(), Said::Version));
        }
        match (self.text("--action")?, self.text("--show")?) {
            (Some(action), None) => {
                let what = format!("-a {action}");
                Ok((what, self.action(&action)?))
            }
            (None, Some(listing)) => {
                let what = format!("-s {listing}");
                Ok((what, self.show(&listing)?))
            }
            (Some(_), Some(_)) => Err(Failure::usage("`-a` and `-s` exclude each other")),
            (None, None) => Err(Failure::usage(
                "nothing to do: neither `-a ACTION` nor `-s WHAT` is given",
            )),
        }
    }

    fn show(&mut self, what: &str) -> Result<Said, Failure> {
        Ok(match what {
            "images" => Said::Images(self.listing()?),
            "containers" => Said::Containers(self.listing()?),
            "df" => Said::Df(self.for_programs()?),
            "check" => Said::Check(self.for_programs()?),
            "stats" => Said::Stats(said::Stats {
                containers: Vec::new(),
                container: self.text("--container")?,
                live: self.flag("--live"),
                interval: self.text("--interval")?,
                form: self.for_programs()?,
            }),
            "top" => Said::Top(said::Top {
                interval: self.text("--interval")?,
            }),
            "container_root" => Said::Root(self.container()?),
            "sessions" => Said::Sessions(said::Sessions {
                container: self.container()?,
                end: self.text("--end")?,
                listing: self.listing()?,
            }),
            "history" => Said::History(said::History {
                image: self.image()?,
                listing: self.listing()?,
            }),
            "logs" => Said::Logs(said::Logs {
                container: self.container()?,
                follow: self.flag("--follow"),
                tail: self.text("--tail")?,
                since: self.text("--since")?,
                format: self.format()?,
            }),
            "diff" => self.diff()?,
            "whence" => self.whence()?,
            "ssearch" => Said::Ssearch(said::Ssearch {
                repository: self.repository()?,
                pattern: self.text("--match")?,
                listing: self.listing()?,
            }),
            unknown => {
                let hint = "`-s` knows images, containers, stats, top, container_root, sessions, logs, history, diff, whence, df, check, ssearch.";
                return Err(Failure::usage(format!("cannot show `{unknown}`")).hint(hint));
            }
        })
    }

    fn action(&mut self, action: &str) -> Result<Said, Failure> {
        Ok(match action {
            "install_test" => Said::InstallTest(said::InstallTest {
                version: self.text("--version")?,
            }),
            "create" => Said::Create(Box::new(said::Create {
                image: self.needed_text("--image")?,
                container: self.text("--container")?,
                options: self.create_options()?,
                boot: self.flag("--boot"),
                boot_options: self.boot_options()?,
            })),
            "boot" => Said::Boot(said::Boot {
                container: AContainer::by_option(self.text("--container")?),
                all_enabled: self.flag("--all-enabled"),
                restart: self.text("--restart")?,
                options: self.boot_options()?,
            }),
            "attach" => Said::Attach(said::Attach {
                container: self.container()?,
                new: self.flag("--new"),
                session: self.text("--session")?,
                read_only: self.flag("--read-only"),
                record: self.value("--record"),
            }),
            "run" => Said::Run(said::Run {
                container: self.container()?,
                cmd: Some(self.needed("--cmd")?),
                user: self.text("--user")?,
                workdir: self.value("--workdir"),
                env: self.every("--env"),
                tty: self.flag("--tty"),
                detach: self.flag("--detach"),
                timeout: self.text("--timeout")?,
                record: self.value("--record"),
                arguments: Vec::new(),
            }),
            "shutdown" => Said::Shutdown(said::Shutdown {
                container: AContainer::by_option(self.text("--container")?),
                all: self.flag("--all"),
                timeout: self.text("--timeout")?,
            }),
            "kill" => Said::Kill(self.container()?),
            "destroy" => Said::Destroy(said::Destroy {
                container: self.container()?,
                shutdown: self.flag("--shutdown"),
            }),
            "vip" => Said::SetVip(said::SetVip {
                container: self.container()?,
                vip: self.needed_text("--vip")?,
            }),
            "port_mapping" => Said::SetPortMapping(said::SetPortMapping {
                container: self.container()?,
                port_mapping: self.needed_text("--port-mapping")?,
            }),
            "host_eth" => Said::SetHostEth(said::SetHostEth {
                container: self.container()?,
                host_eth: self.text("--host-eth")?,
            }),
            "volume" => {
                let first = self.needed("--volume")?;
                let mut volume = vec![first];
                volume.extend(self.every("--volume"));
                Said::SetVolume(said::SetVolume {
                    container: self.container()?,
                    volume,
                })
            }
            "set_isolation" => Said::SetIsolation(said::SetIsolation {
                container: self.container()?,
                confinement: self.confinement_options()?,
            }),
            "set_limits" => Said::SetLimits(said::SetLimits {
                container: self.container()?,
                limits: self.limit_options()?,
            }),
            "set_restart" => Said::SetRestart(said::SetRestart {
                container: self.container()?,
                restart: self.needed_text("--restart")?,
            }),
            "enable" => Said::Enable(said::Enable {
                container: self.container()?,
                after: self.text("--after")?,
            }),
            "disable" => Said::Disable(self.container()?),
            "pause" => Said::Pause(self.container()?),
            "resume" => Said::Resume(self.container()?),
            "version" => Said::SetVersion(said::SetVersion {
                image: self.image()?,
                version: self.text("--version")?,
            }),
            "copy_image" => Said::CopyImage(said::CopyImage {
                from_image: self.needed_text("--from-image")?,
                to_image: self.needed_text("--to-image")?,
            }),
            "del_image" => Said::RmImage(self.image()?),
            "prune" => Said::Prune(said::Prune {
                dry_run: self.flag("--dry-run"),
                form: self.for_programs()?,
            }),
            "doctor" => Said::Doctor(said::Doctor {
                fix: self.flag("--fix"),
                deep: self.flag("--deep"),
                form: self.for_programs()?,
            }),
            "to_image" => Said::ToImage(said::ToImage {
                from_container: self.needed_text("--from-container")?,
                version: self.text("--version")?,
                to_image: self.needed_text("--to-image")?,
                keep: self.flag("--keep"),
                live: self.flag("--live"),
            }),
            "to_container" => Said::ToContainer(said::ToContainer {
                from_image: self.needed_text("--from-image")?,
                image: self.text("--image")?,
                options: self.create_options()?,
                to_container: self.needed_text("--to-container")?,
                keep: self.flag("--keep"),
            }),
            "export" => Said::Export(said::Export {
                image: self.image()?,
                image_file: self.value("--image-file"),
                format: self.text("--format")?,
                compress: self.text("--compress")?,
            }),
            "import" => Said::Import(said::Import {
                first_word: None,
                image_file: Some(self.needed("--image-file")?),
                image: self.text("--image")?,
                reference: self.text("--ref")?,
                unpacking: self.unpacking()?,
            }),
            "rplfile" => {
                let mut template_file = vec![self.needed("--template-file")?];
                template_file.extend(self.every("--template-file"));
                Said::Instantiate(said::Instantiate {
                    container: self.container()?,
                    template_file,
                    mapping_file: self.value("--mapping-file"),
                    set: self.every("--set"),
                    env_prefix: self.value("--env-prefix"),
                    instance_file: self.value("--instance-file"),
                    strict: self.flag("--strict"),
                    dry_run: self.flag("--dry-run"),
                })
            }
            "putfile" => Said::Put(self.file_transfer()?),
            "getfile" => Said::Get(self.file_transfer()?),
            "spush" => Said::Spush(said::Spush {
                image: self.image()?,
                repository: self.repository()?,
                layers: self.flag("--layers"),
                compress: self.text("--compress")?,
                sign: self.value("--sign"),
            }),
            "spull" => Said::Spull(said::Spull {
                image: self.image()?,
                repository: self.repository()?,
                verify: self.value("--verify"),
                unpacking: self.unpacking()?,
            }),
            "srm" => Said::Srm(said::Srm {
                image: self.image()?,
                repository: self.repository()?,
            }),
            unknown => return Err(Failure::usage(format!("there is no action `{unknown}`"))),
        })
    }

    fn diff(&mut self) -> Result<Said, Failure> {
        let said = said::Diff {
            words: Vec::new(),
            container: self.text("--container")?,
            from_image: self.text("--from-image")?,
            to_image: self.text("--to-image")?,
            listing: self.listing()?,
        };
        match (&said.container, &said.from_image, &said.to_image) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(Said::Diff(said)),
            (Some(_), _, _) => Err(Failure::usage("a container and images exclude each other")),
            (None, None, None) => Err(Failure::usage(
                "neither `--container` nor `--from-image` and `--to-image` are given",
            )),
            (None, Some(_), None) => Err(Failure::usage("`--to-image` is missing")),
            (None, None, Some(_)) => Err(Failure::usage("`--from-image` is missing")),
        }
    }

    fn whence(&mut self) -> Result<Said, Failure> {
        let said = said::Whence {
            words: Vec::new(),
            container: self.text("--container")?,
            image: self.text("--image")?,
            path: Some(self.needed("--path")?),
            listing: self.listing()?,
        };
        match (&said.container, &said.image) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "`--container` and `--image` exclude each other",
            )),
            (None, None) => Err(Failure::usage(
                "neither `--image` nor `--container` is given",
            )),
            _ => Ok(Said::Whence(said)),
        }
    }

    fn for_programs(&mut self) -> Result<said::ForPrograms, Failure> {
        let format = self.format()?;
        Ok(said::ForPrograms { format })
    }

    fn format(&mut self) -> Result<Option<said::Format>, Failure> {
        match self.text("--format")?.as_deref() {
            None => Ok(None),
            Some("json") => Ok(Some(said::Format::Json)),
            Some(other) => Err(Failure::usage(format!(
                "there is no format `{other}`; there is json"
            ))),
        }
    }

    fn listing(&mut self) -> Result<said::Listing, Failure> {
        let format = self.format()?;
        let quiet = self.flag("--quiet");
        if quiet && format.is_some() {
            return Err(Failure::usage(
                "`--format` and `--quiet` exclude each other",
            ));
        }
        Ok(said::Listing { format, quiet })
    }

    fn container(&mut self) -> Result<TheContainer, Failure> {
        self.needed_text("--container").map(TheContainer::by_option)
    }

    fn image(&mut self) -> Result<TheImage, Failure> {
        self.needed_text("--image").map(TheImage::by_option)
    }

    fn create_options(&mut self) -> Result<CreateOptions, Failure> {
        Ok(CreateOptions {
            volume: self.every("--volume"),
            host: self.text("--host")?,
            net: self.text("--net")?,
            host_eth: self.text("--host-eth")?,
            vip: self.text("--vip")?,
            port_mapping: self.text("--port-mapping")?,
            privileged: self.flag("--privileged"),
            userns: self.text("--userns")?,
            restart: self.text("--restart")?,
            confinement: self.confinement_options()?,
        })
    }

    fn confinement_options(&mut self) -> Result<ConfinementOptions, Failure> {
        Ok(ConfinementOptions {
            seccomp: self.value("--seccomp"),
            cap_add: self.every_text("--cap-add")?,
            cap_drop: self.every_text("--cap-drop")?,
            device: self.every("--device"),
            no_new_privs: self.flag("--no-new-privs"),
            hardened: self.flag("--hardened"),
            security: self.text("--security")?,
        })
    }

    fn boot_options(&mut self) -> Result<BootOptions, Failure> {
        Ok(BootOptions {
            attach: self.flag("--attach"),
            exec: self.value("--exec"),
            limits: self.limit_options()?,
        })
    }

    fn limit_options(&mut self) -> Result<LimitOptions, Failure> {
        Ok(LimitOptions {
            cpus: self.text("--cpus")?,
            cpu_quota: self.text("--cpu-quota")?,
            cpu_weight: self.text("--cpu-weight")?,
            mem_limit: self.text("--mem-limit")?,
            swap_limit: self.text("--swap-limit")?,
            oom_kill_group: self.text("--oom-kill-group")?,
            pids_limit: self.text("--pids-limit")?,
            io_weight: self.text("--io-weight")?,
            io_max: self.every_text("--io-max")?,
            hugepages: self.every_text("--hugepages")?,
            nofile: self.text("--nofile")?,
        })
    }

    fn unpacking(&mut self) -> Result<said::Unpacking, Failure> {
        Ok(said::Unpacking {
            no_base: self.flag("--no-base"),
            allow_devices: self.flag("--allow-devices"),
            max_size: self.text("--max-size")?,
        })
    }

    fn repository(&mut self) -> Result<said::TheRepository, Failure> {
        let srepo = self.text("--srepo")?;
        Ok(said::TheRepository { srepo })
    }

    fn file_transfer(&mut self) -> Result<said::FileTransfer, Failure> {
        Ok(said::FileTransfer {
            words: Vec::new(),
            container: Some(self.needed_text("--container")?),
            src_file: Some(self.needed("--src-file")?),
            dst_file: Some(self.needed("--dst-file")?),
        })
    }

    fn take(&mut self, option: &str) -> Option<Option<OsString>> {
        let place = self.given.iter().position(|(given, _)| *given == option)?;
        Some(self.given.remove(place).1)
    }

    fn flag(&mut self, option: &str) -> bool {
        self.take(option).is_some()
    }

    fn value(&mut self, option: &str) -> Option<OsString> {
        self.take(option).flatten()
    }

    fn every(&mut self, option: &str) -> Vec<OsString> {
        std::iter::from_fn(|| self.value(option)).collect()
    }

    fn every_text(&mut self, option: &str) -> Result<Vec<String>, Failure> {
        std::iter::from_fn(|| self.text(option).transpose()).collect()
    }

    fn needed(&mut self, option: &str) -> Result<OsString, Failure> {
        self.value(option)
            .ok_or_else(|| Failure::usage(format!("`{option}` is missing")))
    }

    fn text(&mut self, option: &str) -> Result<Option<String>, Failure> {
        let text = self.value(option).map(OsString::into_string).transpose();
        text.map_err(|bytes| {
            Failure::usage(format!(
                "`{option} {}` is not UTF-8",
                bytes.to_string_lossy()
            ))
        })
    }

    fn needed_text(&mut self, option: &str) -> Result<String, Failure> {
        self.text(option)?
            .ok_or_else(|| Failure::usage(format!("`{option}` is missing")))
    }

    fn refuse_what_is_left(&self, command: &str) -> Result<(), Failure> {
        match self.given.first() {
            None => Ok(()),
            Some((option, _)) => Err(Failure::usage(format!(
                "`{option}` means nothing with `{command}`"
            ))),
        }
    }
}

/// `--opt=value`; the value may be any bytes, the name is text or unknown.
fn split_at_equals(argument: &OsString) -> (Option<String>, Option<OsString>) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = argument.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(place) => (
            &bytes[..place],
            Some(OsString::from_vec(bytes[place + 1..].to_vec())),
        ),
        None => (bytes, None),
    };
    (String::from_utf8(name.to_vec()).ok(), value)
}

/// A forgotten value is noticed where an option follows; `--opt=--value` says such a value all the same.
fn is_option(argument: &OsString) -> bool {
    argument
        .to_str()
        .is_some_and(|word| option_named(word).is_some())
}

fn no_value(option: &str) -> Failure {
    Failure::usage(format!("`{option}` needs a value"))
}

fn unexpected(argument: &OsString) -> Failure {
    let word = argument.to_string_lossy();
    if word.starts_with('-') {
        Failure::usage(format!("there is no option `{word}`"))
    } else {
        Failure::usage(format!("`{word}` belongs to no option"))
    }
}
