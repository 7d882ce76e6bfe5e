//! Profiles of system calls as runc, podman and docker read them (the OCI runtime specification's `linux.seccomp`, with the
//! conditions of containers/common and moby): JSON becomes rules.
//!
//! What decides is as it is there, so that a profile means the same here:
//!
//! - Entries hold in their order; the first one whose arguments fit a call decides. One that says what the default says anyway
//!   is left out.
//! - Several comparisons of *one* argument in an entry are alternatives, those of different arguments must all hold.
//! - Where the default is an error, numbers beyond the greatest that the profile names answer ENOSYS: who wrote it could not
//!   know them, and programs fall back.
//! - Calls of an architecture that the profile does not name kill the process.
//!
//! A name that no kernel of this family has is passed over where the entry allows something, since that is how profiles for
//! many machines are written; where it forbids, it would forbid nothing, and is refused.

use super::architecture::{Architecture, X32_BIT};
use super::rules::{Action, Calls, Comparison, Condition, Rule, Rules, Verdict};
use crate::capabilities::{Capability, CapabilitySet};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Comparisons of one entry. More than this nobody writes, and a filter's jumps are short.
const MOST_CONDITIONS: usize = 16;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// The kernel's limit for an errno (`MAX_ERRNO`).
const MOST_ERRNO: u32 = 4095;

/// What the conditions of a profile are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// What root inside may have.
    pub capabilities: CapabilitySet,
    /// The first two numbers of the running kernel's release.
    pub kernel: (u32, u32),
}

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("it is no profile of system calls")]
    Shape {
        #[source]
        source: serde_json::Error,
    },
    #[error("its {field} is `{value}`, which means nothing")]
    Field { field: &'static str, value: String },
    #[error("its entry {number} ({names}) {why}")]
    Entry {
        /// Counted from 1.
        number: usize,
        names: String,
        why: String,
    },
    #[error("it asks a program outside what to do ({what}), which nothing here answers")]
    Notify { what: String },
    #[error("it makes a filter of {length} instructions, and the kernel takes {most}")]
    TooLong { length: usize, most: usize },
    #[error("there is no table of system calls for this kind of machine")]
    UnknownMachine,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchitectureMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    #[serde(rename = "listenerMetadata")]
    _listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchitectureMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u8,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What a profile says: the rules, and whether their answers are to be logged.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub rules: Rules,
    pub flags: Flags,
}

/// Of the filter as a whole (seccomp(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// All answers but `allow` go to the audit log.
    pub log: bool,
    /// The processor may guess as it does without a filter.
    pub spec_allow: bool,
}

/// Reads a profile for machines of `kernel`'s kind (as in `Architecture::family`).
pub fn read(json: &[u8], kernel: &str, here: &Circumstances) -> Result<Read, ProfileError> {
    let family = Architecture::family(kernel);
    let native = *family.first().ok_or(ProfileError::UnknownMachine)?;
    let profile: Profile =
        serde_json::from_slice(json).map_err(|source| ProfileError::Shape { source })?;
    if let Some(path) = &profile.listener_path {
        return Err(ProfileError::Notify {
            what: format!("listenerPath `{path}`"),
        });
    }
    let default = default_action(&profile)?;
    let architectures = architectures(&profile, family, native)?;
    let mut tables: Vec<BTreeMap<u32, Vec<Rule>>> = vec![BTreeMap::new(); architectures.len()];
    for (index, value) in profile.syscalls.iter().flatten().enumerate() {
        let entry = Named::read(index + 1, value)?;
        if !entry.holds(native, here)? {
            continue;
        }
        let rules = entry.rules(default)?;
        for name in entry.names() {
            entry.check_known(name, default)?;
            for (architecture, table) in architectures.iter().zip(&mut tables) {
                if let Some(number) = architecture.number(name) {
                    table
                        .entry(number)
                        .or_default()
                        .extend(rules.iter().cloned());
                }
            }
        }
    }
    let beyond = match default {
        Action::Errno(_) => Action::Errno(ENOSYS),
        other => other,
    };
    let calls = architectures
        .iter()
        .zip(tables)
        .map(|(&architecture, table)| {
            let least = match architecture {
                Architecture::X32 => X32_BIT,
                _ => 0,
            };
            Calls {
                architecture,
                last: table.keys().next_back().copied().unwrap_or(least),
                by_number: table
                    .into_iter()
                    .map(|(number, rules)| (number, verdict(rules, default)))
                    .collect(),
                otherwise: default,
                beyond,
            }
        });
    Ok(Read {
        rules: Rules {
            calls: calls.collect(),
            foreign: Action::KillProcess,
        },
        flags: flags(&profile)?,
    })
}

/// Nothing is reached behind a rule without conditions.
fn verdict(mut rules: Vec<Rule>, default: Action) -> Verdict {
    match rules.iter().position(|rule| rule.conditions.is_empty()) {
        Some(place) => {
            let otherwise = rules[place].action;
            rules.truncate(place);
            Verdict { rules, otherwise }
        }
        None => Verdict {
            rules,
            otherwise: default,
        },
    }
}

fn default_action(profile: &Profile) -> Result<Action, ProfileError> {
    let errno = errno_of(profile.default_errno_ret, profile.default_errno.as_deref());
    let errno = errno.ok_or_else(|| ProfileError::Field {
        field: "defaultErrnoRet",
        value: said(profile.default_errno_ret, profile.default_errno.as_deref()),
    })?;
    match action(&profile.default_action, errno) {
        Some(action) => Ok(action),
        None if profile.default_action == NOTIFY => Err(ProfileError::Notify {
            what: "defaultAction".into(),
        }),
        None => Err(ProfileError::Field {
            field: "defaultAction",
            value: profile.default_action.clone(),
        }),
    }
}

/// Those of the family that the profile names; only the native one where it names none.
fn architectures(
    profile: &Profile,
    family: &[Architecture],
    native: Architecture,
) -> Result<Vec<Architecture>, ProfileError> {
    let mut named = vec![native];
    let listed = profile.architectures.iter().flatten();
    for text in listed {
        named.extend(architecture(text, "architectures")?);
    }
    for map in profile.arch_map.iter().flatten() {
        let is_native = architecture(&map.architecture, "archMap")? == Some(native);
        for text in map.sub_architectures.iter().flatten() {
            let sub = architecture(text, "archMap")?;
            named.extend(sub.filter(|_| is_native));
        }
    }
    let is_named = |it: &&Architecture| named.contains(it);
    Ok(family.iter().filter(is_named).copied().collect())
}

/// `None` for one that this crate has no table of: its programs cannot run here.
fn architecture(text: &str, field: &'static str) -> Result<Option<Architecture>, ProfileError> {
    const OTHERS: [&str; 17] = [
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "LOONGARCH64",
        "M68K",
        "SHEB",
    ];
    let unknown = || ProfileError::Field {
        field,
        value: text.escape_default().to_string(),
    };
    match text.strip_prefix("SCMP_ARCH_").ok_or_else(unknown)? {
        "X86_64" => Ok(Some(Architecture::X86_64)),
        "X32" => Ok(Some(Architecture::X32)),
        "X86" => Ok(Some(Architecture::X86)),
        "AARCH64" => Ok(Some(Architecture::Aarch64)),
        "ARM" => Ok(Some(Architecture::Arm)),
        other if OTHERS.contains(&other) => Ok(None),
        _ => Err(unknown()),
    }
}

fn flags(profile: &Profile) -> Result<Flags, ProfileError> {
    let mut flags = Flags::default();
    for flag in profile.flags.iter().flatten() {
        match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => flags.log = true,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => flags.spec_allow = true,
            // Whoever installs it here has one thread.
            "SECCOMP_FILTER_FLAG_TSYNC" => {}
            other => {
                return Err(ProfileError::Field {
                    field: "flags",
                    value: other.escape_default().to_string(),
                });
            }
        }
    }
    Ok(flags)
}

/// An entry with its place, for errors.
struct Named {
    number: usize,
    entry: Entry,
}

impl Named {
    fn read(number: usize, value: &Value) -> Result<Named, ProfileError> {
        let entry: Entry =
            serde_json::from_value(value.clone()).map_err(|source| ProfileError::Entry {
                number,
                names: names_in(value),
                why: format!("is not as it should be: {source}"),
            })?;
        let entry = Named { number, entry };
        let is_empty = entry.names().next().is_none();
        match is_empty {
            false => Ok(entry),
            true => Err(entry.refused("names no system call".into())),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.entry.names.iter().flatten();
        self.entry.name.iter().chain(names).map(String::as_str)
    }

    fn refused(&self, why: String) -> ProfileError {
        let names: Vec<String> = self
            .names()
            .map(|it| it.escape_default().to_string())
            .collect();
        ProfileError::Entry {
            number: self.number,
            names: shortened(&names),
            why,
        }
    }

    /// Whether it is for here.
    fn holds(&self, native: Architecture, here: &Circumstances) -> Result<bool, ProfileError> {
        let includes = match &self.entry.includes {
            Some(filter) => self.fits(filter, native, here)?.all,
            None => true,
        };
        let excludes = match &self.entry.excludes {
            Some(filter) => self.fits(filter, native, here)?.any,
            None => false,
        };
        Ok(includes && !excludes)
    }

    fn fits(
        &self,
        filter: &Filter,
        native: Architecture,
        here: &Circumstances,
    ) -> Result<Fits, ProfileError> {
        let mut fits = Fits {
            all: true,
            any: false,
        };
        for text in filter.caps.iter().flatten() {
            let capability = Capability::parse(text).ok_or_else(|| {
                self.refused(format!("names capability `{}`", text.escape_default()))
            })?;
            fits.add(here.capabilities.has(capability));
        }
        if let Some(arches) = filter.arches.as_ref().filter(|arches| !arches.is_empty()) {
            // As Go calls them.
            let ours = match native {
                Architecture::X86_64 | Architecture::X32 => "amd64",
                Architecture::X86 => "386",
                Architecture::Aarch64 => "arm64",
                Architecture::Arm => "arm",
            };
            fits.add(arches.iter().any(|arch| arch == ours));
        }
        if let Some(text) = &filter.min_kernel {
            let least = version(text).ok_or_else(|| {
                self.refused(format!("has minKernel `{}`", text.escape_default()))
            })?;
            fits.add(here.kernel >= least);
        }
        Ok(fits)
    }

    /// Empty where it says what the default says.
    fn rules(&self, default: Action) -> Result<Vec<Rule>, ProfileError> {
        let Entry {
            action: text,
            errno_ret,
            errno,
            args,
            ..
        } = &self.entry;
        let number = errno_of(*errno_ret, errno.as_deref()).ok_or_else(|| {
            let value = said(*errno_ret, errno.as_deref());
            self.refused(format!("answers `{value}`, which is no error"))
        })?;
        let action = action(text, number).ok_or_else(|| match text.as_str() {
            NOTIFY => ProfileError::Notify {
                what: format!("entry {}", self.number),
            },
            other => self.refused(format!("has action `{}`", other.escape_default())),
        })?;
        let arguments: &[Argument] = args.as_deref().unwrap_or_default();
        if arguments.len() > MOST_CONDITIONS {
            return Err(self.refused(format!("has more than {MOST_CONDITIONS} arguments")));
        }
        if action == default {
            return Ok(Vec::new());
        }
        let conditions = arguments
            .iter()
            .map(|argument| self.condition(argument))
            .collect::<Result<Vec<_>, _>>()?;
        let of = |index: u8| {
            conditions
                .iter()
                .filter(move |it| it.argument == index)
                .count()
        };
        let has_alternatives = (0..6).any(|index| of(index) > 1);
        Ok(match has_alternatives {
            true => {
                let alone = conditions.into_iter().map(|condition| Rule {
                    conditions: vec![condition],
                    action,
                });
                alone.collect()
            }
            false => vec![Rule { conditions, action }],
        })
    }

    fn condition(&self, argument: &Argument) -> Result<Condition, ProfileError> {
        if argument.index > 5 {
            return Err(self.refused(format!("compares argument {}", argument.index)));
        }
        let comparison = match argument.op.as_str() {
            "SCMP_CMP_EQ" => Comparison::Equal,
            "SCMP_CMP_NE" => Comparison::NotEqual,
            "SCMP_CMP_LT" => Comparison::Less,
            "SCMP_CMP_LE" => Comparison::LessOrEqual,
            "SCMP_CMP_GT" => Comparison::Greater,
            "SCMP_CMP_GE" => Comparison::GreaterOrEqual,
            "SCMP_CMP_MASKED_EQ" => Comparison::MaskedEqual(argument.value),
            other => {
                return Err(self.refused(format!("compares by `{}`", other.escape_default())));
            }
        };
        Ok(Condition {
            argument: argument.index,
            comparison,
            value: match comparison {
                Comparison::MaskedEqual(_) => argument.value_two,
                _ => argument.value,
            },
        })
    }

    /// A name that is nobody's forbids nothing.
    fn check_known(&self, name: &str, default: Action) -> Result<(), ProfileError> {
        const ALL: [Architecture; 5] = [
            Architecture::X86_64,
            Architecture::X32,
            Architecture::X86,
            Architecture::Aarch64,
            Architecture::Arm,
        ];
        let errno = errno_of(self.entry.errno_ret, self.entry.errno.as_deref());
        let action = action(&self.entry.action, errno.unwrap_or(EPERM));
        let forbids = action.is_some_and(|action| !action.lets_through());
        if !default.lets_through() || !forbids {
            return Ok(());
        }
        match ALL.iter().any(|it| it.number(name).is_some()) {
            true => Ok(()),
            false => Err(self.refused(format!(
                "forbids `{}`, which no table of system calls has",
                name.escape_default()
            ))),
        }
    }
}

/// How the parts of a condition hold.
struct Fits {
    all: bool,
    any: bool,
}

impl Fits {
    fn add(&mut self, holds: bool) {
        self.all &= holds;
        self.any |= holds;
    }
}

/// What asks a program that nobody has here.
const NOTIFY: &str = "SCMP_ACT_NOTIFY";

fn action(text: &str, errno: u16) -> Option<Action> {
    Some(match text {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(errno),
        "SCMP_ACT_LOG" => Action::Log,
        _ => return None,
    })
}

/// By number, or by one of the names that profiles use; EPERM where neither is said.
fn errno_of(number: Option<u32>, name: Option<&str>) -> Option<u16> {
    match (number, name) {
        (Some(number), _) => {
            let number = Some(number).filter(|number| *number <= MOST_ERRNO)?;
            u16::try_from(number).ok()
        }
        (None, None | Some("EPERM")) => Some(EPERM),
        (None, Some("ENOSYS")) => Some(ENOSYS),
        (None, Some("EINVAL")) => Some(22),
        (None, Some("EACCES")) => Some(13),
        (None, Some(_)) => None,
    }
}

fn said(number: Option<u32>, name: Option<&str>) -> String {
    match (number, name) {
        (Some(number), _) => number.to_string(),
        (None, name) => name.unwrap_or_default().escape_default().to_string(),
    }
}

/// `4.8`
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What an entry that cannot be read seems to be about.
fn names_in(value: &Value) -> String {
    let names = value["names"].as_array().into_iter().flatten();
    let names = names.chain([&value["name"]]).filter_map(Value::as_str);
    let names: Vec<String> = names.map(|it| it.escape_default().to_string()).collect();
    match names.is_empty() {
        true => "without a name".into(),
        false => shortened(&names),
    }
}

fn shortened(names: &[String]) -> String {
    const MOST: usize = 3;
    let shown = names
        .iter()
        .take(MOST)
        .map(|it| it.chars().take(40).collect::<String>());
    let shown: Vec<String> = shown.collect();
    match names.len() > MOST {
        true => format!("{}, …", shown.join(", ")),
        false => shown.join(", "),
    }
}
