//! `$COCKER_HOME/config.toml`: what the administrator says of the network, and of sessions.
//!
//! ```toml
//! [network]
//! bridge = "cocker0"          # at most 12 bytes: `-1` to `-15` follow where one bridge is not enough
//! subnet = "166.88.0.1/24"    # the first bridge's, told by the host's own address in it
//! subnet6 = "fd42::1/64"      # none by default
//! mtu = 1500                  # by default that of the link which leads out
//!
//! [sessions]
//! record = true               # every command and session is recorded in its container's folder; false by default
//! record-size = "16M"         # how large one recording may get; a container's together get ten times as large
//! ```
//!
//! Read only when something of that is asked for, and then as a whole. A missing file is an empty one. What is not known is an error,
//! so that a misspelt key is not taken for a default.

use crate::size::parse_size;
use cocker_image::Store;
use cocker_network::{BadSubnet, Subnet4, Subnet6};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

const FILE: &str = "config.toml";

const NETWORK: &str = "network";
const SECTIONS: [&str; 2] = [NETWORK, "sessions"];

/// No sensible file comes near this size, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Of a bridge's name, in bytes: the kernel takes 15 for a link (`IFNAMSIZ`), and `-15` may follow.
const LONGEST_BRIDGE: usize = 12;

/// What an IPv4 network must be able to carry (RFC 791, 576) up to what a packet's length can say.
const MTU: RangeInclusive<i64> = 576..=65_535;

/// What an IPv6 network must be able to carry (RFC 8200).
const LEAST_MTU_OF_IPV6: u32 = 1280;

/// Of one recording, in bytes: room for more than a screen, and for what a disk holds.
const RECORD_SIZE: RangeInclusive<u64> = 64 << 10..=1 << 40;

/// All that the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Config {
    network: NetworkConfig,
    sessions: SessionsConfig,
}

/// What is kept of commands and sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionsConfig {
    /// Whether each of them is recorded.
    pub record: bool,
    /// How large one recording may get, in bytes.
    pub record_size: u64,
}

/// How containers of this store are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkConfig {
    /// Name of the first bridge.
    pub bridge: String,
    /// The first bridge's subnet.
    pub subnet: Subnet4,
    /// The same for IPv6; none: containers have none.
    pub subnet6: Option<Subnet6>,
    /// Bytes; none: that of the link which leads out.
    pub mtu: Option<u32>,
}

/// `config.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use `{}`: {why}", path.display())]
    NoConfig { path: PathBuf, why: &'static str },
    #[error("cannot understand line {line} of `{}`: {why}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        why: String,
    },
    #[error("cannot use `{key}` in line {line} of `{}`", path.display())]
    Setting {
        path: PathBuf,
        line: usize,
        /// With its section: `network.mtu`.
        key: String,
        #[source]
        source: BadSetting,
    },
}

/// What is wrong with one key of `config.toml`.
#[derive(Debug, thiserror::Error)]
pub enum BadSetting {
    #[error("there is no such key")]
    UnknownKey,
    #[error("there is no such section")]
    UnknownSection,
    #[error("it must be {expected}, not {found}")]
    Type {
        expected: &'static str,
        found: &'static str,
    },
    #[error("`{name}` cannot be the name of a bridge: {why}")]
    Bridge { name: String, why: &'static str },
    #[error(transparent)]
    Subnet(#[from] BadSubnet),
    #[error("`{mtu}` is not a number of bytes from {} to {}", MTU.start(), MTU.end())]
    Mtu { mtu: String },
    #[error("`{size}` is not a size from 64K to 1T")]
    RecordSize { size: String },
    #[error("{mtu} bytes are too few for `subnet6`: IPv6 needs {LEAST_MTU_OF_IPV6}")]
    MtuForIpv6 { mtu: u32 },
}

impl ConfigError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Read { .. } => None,
            ConfigError::NoConfig { .. } => {
                Some("put a text file there, or none: then the defaults hold.".into())
            }
            ConfigError::Syntax { .. } => {
                Some("a line is `[network]` or, below it, as `bridge = \"cocker0\"`.".into())
            }
            ConfigError::Setting { key, source, .. } => Some(setting_hint(key, source)),
        }
    }
}

impl Config {
    /// What the store's `config.toml` says, and the defaults for what it does not say.
    fn read(store: &Store) -> Result<Config, ConfigError> {
        let path = store.home().join(FILE);
        match read_text(store, &path)? {
            Some(text) => parse(&text, &path),
            None => Ok(Config::default()),
        }
    }
}

impl SessionsConfig {
    /// What the store's `config.toml` says, and the defaults for what it does not say.
    pub(crate) fn read(store: &Store) -> Result<SessionsConfig, ConfigError> {
        Config::read(store).map(|config| config.sessions)
    }

    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), BadSetting> {
        match key {
            "record" => {
                let said = value.as_bool();
                self.record = said.ok_or_else(|| wrong_type("true or false", value))?;
            }
            "record-size" => self.record_size = record_size_of(text_of(value)?)?,
            _ => return Err(BadSetting::UnknownKey),
        }
        Ok(())
    }
}

impl Default for SessionsConfig {
    fn default() -> SessionsConfig {
        SessionsConfig {
            record: false,
            record_size: 16 << 20,
        }
    }
}

impl NetworkConfig {
    /// What the store's `config.toml` says, and the defaults for what it does not say.
    pub(crate) fn read(store: &Store) -> Result<NetworkConfig, ConfigError> {
        Config::read(store).map(|config| config.network)
    }

    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), BadSetting> {
        match key {
            "bridge" => self.bridge = checked_bridge(text_of(value)?)?,
            "subnet" => self.subnet = text_of(value)?.parse()?,
            "subnet6" => self.subnet6 = Some(text_of(value)?.parse()?),
            "mtu" => self.mtu = Some(mtu_of(value)?),
            _ => return Err(BadSetting::UnknownKey),
        }
        Ok(())
    }
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            bridge: "cocker0".into(),
            subnet: Subnet4 {
                host: Ipv4Addr::new(166, 88, 0, 1),
                prefix: 24,
            },
            subnet6: None,
            mtu: None,
        }
    }
}

/// `None` where there is no file.
fn read_text(store: &Store, path: &Path) -> Result<Option<String>, ConfigError> {
    let reading = |source| ConfigError::Read {
        path: path.into(),
        source,
    };
    let refused = |why| ConfigError::NoConfig {
        path: path.into(),
        why,
    };
    // Opening must not wait, whatever kind of file stands there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(store.folder(), FILE, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        // A socket, which open(2) refuses so.
        Err(Errno::NXIO) => return Err(refused("it is not a regular file")),
        Err(Errno::LOOP) => return Err(refused("it is a symbolic link")),
        Err(errno) => return Err(reading(errno.into())),
    };
    let status = rustix::fs::fstat(&file).map_err(|errno| reading(errno.into()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(refused("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::from(file)
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(reading)?;
    if bytes.len() as u64 > LARGEST {
        return Err(refused("it is larger than 64 KiB"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(ConfigError::Syntax {
            path: path.into(),
            line: line_at(error.as_bytes(), error.utf8_error().valid_up_to()),
            why: "it is not UTF-8".into(),
        }),
    }
}

fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let line = |span: Range<usize>| line_at(text.as_bytes(), span.start);
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.into(),
        line: line(error.span().unwrap_or_default()),
        why: error.message().into(),
    })?;
    let refused = |span, key: &str, source| ConfigError::Setting {
        path: path.into(),
        line: line(span),
        key: key.escape_debug().take(80).collect(),
        source,
    };

    let mut config = Config::default();
    let mut mtu_span = Range::default();
    for (section, settings) in document.get_ref() {
        let name: &str = section.get_ref();
        if !SECTIONS.contains(&name) {
            return Err(refused(section.span(), name, BadSetting::UnknownSection));
        }
        let DeValue::Table(settings) = settings.get_ref() else {
            let source = wrong_type("a section", settings.get_ref());
            return Err(refused(section.span(), name, source));
        };
        for (key, value) in settings {
            let (setting, value): (&str, _) = (key.get_ref(), value.get_ref());
            let set = match name {
                NETWORK => config.network.set(setting, value),
                _ => config.sessions.set(setting, value),
            };
            set.map_err(|source| refused(key.span(), &format!("{name}.{setting}"), source))?;
            if (name, setting) == (NETWORK, "mtu") {
                mtu_span = key.span();
            }
        }
    }
    match (config.network.mtu, config.network.subnet6) {
        (Some(mtu), Some(_)) if mtu < LEAST_MTU_OF_IPV6 => {
            let source = BadSetting::MtuForIpv6 { mtu };
            Err(refused(mtu_span, "network.mtu", source))
        }
        _ => Ok(config),
    }
}

/// Counted from 1.
fn line_at(text: &[u8], offset: usize) -> usize {
    let before = &text[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn text_of<'a>(value: &'a DeValue<'_>) -> Result<&'a str, BadSetting> {
    value
        .as_str()
        .ok_or_else(|| wrong_type("a text in quotation marks", value))
}

fn mtu_of(value: &DeValue<'_>) -> Result<u32, BadSetting> {
    let Some(number) = value.as_integer() else {
        return Err(wrong_type("a whole number", value));
    };
    let mtu = i64::from_str_radix(number.as_str(), number.radix()).ok();
    mtu.filter(|mtu| MTU.contains(mtu))
        .and_then(|mtu| u32::try_from(mtu).ok())
        .ok_or_else(|| BadSetting::Mtu {
            mtu: number.as_str().chars().take(80).collect(),
        })
}

fn record_size_of(text: &str) -> Result<u64, BadSetting> {
    let size = parse_size(text).filter(|size| RECORD_SIZE.contains(size));
    size.ok_or_else(|| BadSetting::RecordSize {
        size: text.escape_debug().take(80).collect(),
    })
}

fn wrong_type(expected: &'static str, value: &DeValue<'_>) -> BadSetting {
    BadSetting::Type {
        expected,
        found: match value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        },
    }
}

fn checked_bridge(name: &str) -> Result<String, BadSetting> {
    let bad = |why| {
        Err(BadSetting::Bridge {
            name: name.escape_debug().take(80).collect(),
            why,
        })
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => bad("it is empty"),
        long if long.len() > LONGEST_BRIDGE => bad("it is longer than 12 bytes"),
        odd if !odd.chars().all(is_allowed) => bad("only letters, digits and `. _ -` are allowed"),
        "." | ".." => bad("it names a folder"),
        // Each link has a folder of that name beside these two in /proc/sys/net/ipv4/conf.
        "all" | "default" => bad("the kernel has it for itself"),
        good => Ok(good.into()),
    }
}

fn setting_hint(key: &str, source: &BadSetting) -> String {
    match (source, key) {
        (BadSetting::UnknownSection, _) => {
            "there are two sections: [network] and [sessions].".into()
        }
        (BadSetting::UnknownKey, key) if key.starts_with("sessions.") => {
            "[sessions] has record, record-size.".into()
        }
        (BadSetting::UnknownKey, _) => "[network] has bridge, subnet, subnet6, mtu.".into(),
        (BadSetting::MtuForIpv6 { .. }, _) => {
            "raise it, or take it out: then that of the link which leads out holds.".into()
        }
        (_, "network.bridge") => "say it as `bridge = \"cocker0\"`, the default.".into(),
        (_, "network.subnet") => "say it as `subnet = \"166.88.0.1/24\"`, the default.".into(),
        (_, "network.subnet6") => "say it as `subnet6 = \"fd42::1/64\"`.".into(),
        (_, "sessions.record") => "say it as `record = true`.".into(),
        (_, "sessions.record-size") => "say it as `record-size = \"16M\"`, the default.".into(),
        (_, "network.mtu") => "say it as `mtu = 1500`.".into(),
        _ => "say it as `[network]`, and the keys below it.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkfifoat};
    use std::error::Error;
    use std::fs;
    use std::os::unix::net::UnixListener;

    fn read(text: &str) -> Result<NetworkConfig, ConfigError> {
        parse(text, Path::new("/home/config.toml")).map(|config| config.network)
    }

    fn sessions(text: &str) -> Result<SessionsConfig, ConfigError> {
        parse(text, Path::new("/home/config.toml")).map(|config| config.sessions)
    }

    #[track_caller]
    fn refused(text: &str, error: &str, cause: Option<&str>) {
        let refused = read(text).expect_err(text);
        assert_eq!(refused.to_string(), error, "{text}");
        let source = refused.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), cause, "{text}");
        assert!(refused.hint().is_some(), "{text}");
    }

    fn store_with(write: impl Fn(&Path)) -> Result<NetworkConfig, ConfigError> {
        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path()).expect("the folder is ours");
        write(&home.path().join(FILE));
        NetworkConfig::read(&store)
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let default = NetworkConfig::default();
        assert_eq!(default.bridge, "cocker0");
        assert_eq!(default.subnet.to_string(), "166.88.0.1/24");
        assert_eq!((default.subnet6, default.mtu), (None, None));
        assert_eq!(store_with(|_| {}).unwrap(), default);
        for text in [
            "",
            "# nothing\n",
            "[network]\n",
            "[network]\nbridge = \"cocker0\"",
        ] {
            assert_eq!(read(text).unwrap(), default, "{text}");
            let written = store_with(|path| fs::write(path, text).unwrap());
            assert_eq!(written.unwrap(), default, "{text}");
        }
    }

    #[test]
    fn what_is_said_holds() {
        let said = NetworkConfig {
            bridge: "br-1.a_Z".into(),
            subnet: "10.0.0.1/8".parse().unwrap(),
            subnet6: Some("fd42::1/64".parse().unwrap()),
            mtu: Some(9000),
        };
        let lines =
            "bridge = 'br-1.a_Z'\nsubnet = \"10.0.0.1/8\"\nsubnet6 = \"fd42::1/64\"\nmtu = 9_000\n";
        assert_eq!(read(&format!("[network]\n{lines}")).unwrap(), said);
        let dotted = "network.bridge = 'br-1.a_Z'\r\nnetwork.subnet = '10.0.0.1/8'\r\n\
                      network.subnet6 = 'fd42::1/64'\r\nnetwork.mtu = 0x2328";
        assert_eq!(read(dotted).unwrap(), said);
    }

    #[test]
    fn an_error_names_the_file_the_line_and_the_key() {
        refused(
            "[network]\n\nbrigde = \"x\"",
            "cannot use `network.brigde` in line 3 of `/home/config.toml`",
            Some("there is no such key"),
        );
        refused(
            "[network]\n[limits]\n",
            "cannot use `limits` in line 2 of `/home/config.toml`",
            Some("there is no such section"),
        );
        refused(
            "network = 5",
            "cannot use `network` in line 1 of `/home/config.toml`",
            Some("it must be a section, not a whole number"),
        );
        refused(
            "[network]\nmtu = \"1500\"",
            "cannot use `network.mtu` in line 2 of `/home/config.toml`",
            Some("it must be a whole number, not a text"),
        );
        refused(
            "[network]\nsubnet6 = []",
            "cannot use `network.subnet6` in line 2 of `/home/config.toml`",
            Some("it must be a text in quotation marks, not a list"),
        );
        refused(
            "[network]\nsubnet = \"166.88.0.0/24\"",
            "cannot use `network.subnet` in line 2 of `/home/config.toml`",
            Some(
                "`166.88.0.0/24`: the host cannot have the network's own address or its broadcast address",
            ),
        );
        refused(
            "[network]\nbridge = \"thirteenbytes\"",
            "cannot use `network.bridge` in line 2 of `/home/config.toml`",
            Some("`thirteenbytes` cannot be the name of a bridge: it is longer than 12 bytes"),
        );
        refused(
            "[network]\nmtu = 575",
            "cannot use `network.mtu` in line 2 of `/home/config.toml`",
            Some("`575` is not a number of bytes from 576 to 65535"),
        );
        refused(
            "[network]\nmtu = 1279\nsubnet6 = \"fd42::1/64\"",
            "cannot use `network.mtu` in line 2 of `/home/config.toml`",
            Some("1279 bytes are too few for `subnet6`: IPv6 needs 1280"),
        );
        refused(
            "[network]\nbridge = \"a\"\nbridge = \"b\"",
            "cannot understand line 3 of `/home/config.toml`: duplicate key",
            None,
        );
    }

    #[test]
    fn what_is_said_of_sessions_holds() {
        assert_eq!(sessions("").unwrap(), SessionsConfig::default());
        assert!(!SessionsConfig::default().record);
        let said = SessionsConfig {
            record: true,
            record_size: 64 << 10,
        };
        let text = "[network]\nmtu = 9000\n[sessions]\nrecord = true\nrecord-size = '64K'\n";
        assert_eq!(sessions(text).unwrap(), said);
        assert_eq!(read(text).unwrap().mtu, Some(9000));
        refused(
            "[sessions]\nrecords = true",
            "cannot use `sessions.records` in line 2 of `/home/config.toml`",
            Some("there is no such key"),
        );
        refused(
            "[sessions]\nrecord = \"yes\"",
            "cannot use `sessions.record` in line 2 of `/home/config.toml`",
            Some("it must be true or false, not a text"),
        );
        refused(
            "[sessions]\nrecord-size = \"63K\"",
            "cannot use `sessions.record-size` in line 2 of `/home/config.toml`",
            Some("`63K` is not a size from 64K to 1T"),
        );
        for size in ["\"\"", "\"2T\"", "\"1.5M\"", "16", "true", "\"-1\""] {
            assert!(sessions(&format!("[sessions]\nrecord-size = {size}")).is_err());
        }
    }

    #[test]
    fn odd_values_are_refused() {
        for line in [
            "bridge = \"\"",
            "bridge = \".\"",
            "bridge = \"..\"",
            "bridge = \"a/b\"",
            "bridge = \"a b\"",
            "bridge = \"a:1\"",
            "bridge = \"ü\"",
            "bridge = \"a\\u0000\"",
            "bridge = \"all\"",
            "bridge = \"default\"",
            "bridge = true",
            "bridge = { name = \"a\" }",
            "subnet = \"\"",
            "subnet = \"fd42::1/64\"",
            "subnet = 10.0",
            "subnet6 = \"10.0.0.1/8\"",
            "subnet6 = \"\"",
            "mtu = -1500",
            "mtu = 0",
            "mtu = 65536",
            "mtu = 1500.0",
            "mtu = 99999999999999999999999999",
            "mtu = 1979-05-27",
            "mtu =",
            "= 5",
            "mtu",
            "\"\" = 1",
            "[network",
            "[network]",
            "[[network]]",
            "mtu.x = 1",
            "\0",
        ] {
            let error = read(&format!("[network]\n{line}\n")).expect_err(line);
            assert!(error.hint().is_some(), "{line}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
        let deep = "[".repeat(60_000);
        assert!(read(&format!("network = {deep}")).is_err());
        assert!(read(&format!("x = 1\n{deep}")).is_err());
    }

    #[test]
    fn only_a_regular_file_of_text_is_read() {
        let nothing: &dyn Fn(&Path) = &|path| fs::create_dir(path).unwrap();
        let others: [&dyn Fn(&Path); 5] = [
            nothing,
            &|path| mkfifoat(CWD, path, Mode::RUSR).unwrap(),
            &|path| drop(UnixListener::bind(path).unwrap()),
            &|path| std::os::unix::fs::symlink("/dev/null", path).unwrap(),
            &|path| fs::write(path, "#".repeat(LARGEST as usize + 1)).unwrap(),
        ];
        for other in others {
            let error = store_with(other).unwrap_err();
            assert!(matches!(error, ConfigError::NoConfig { .. }), "{error:?}");
        }
        let error = store_with(|path| fs::write(path, b"\n[net\xff").unwrap()).unwrap_err();
        assert!(
            matches!(error, ConfigError::Syntax { line: 2, .. }),
            "{error:?}"
        );
        let largest = store_with(|path| fs::write(path, "#".repeat(LARGEST as usize)).unwrap());
        assert_eq!(largest.unwrap(), NetworkConfig::default());
    }
}
