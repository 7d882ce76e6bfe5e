//! `[USER@]HOST[:PORT][/FOLDER]`: which account on which server, and where in it.

use crate::quote::quote;
use std::fmt;

/// More than any path on a server needs, in bytes.
const LONGEST: usize = 1024;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// None: whom ssh's own configuration says.
    pub user: Option<String>,
    /// A name, an address, or what ssh's configuration knows by that name.
    pub host: String,
    /// None: the one that ssh's own configuration says.
    pub port: Option<u16>,
    /// From the account's home, or from the server's root where it begins with `/`. Empty: the home itself.
    pub folder: String,
}

/// Why a text says no repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read `{text}` as USER@HOST[:PORT][/FOLDER]: {why}")]
pub struct BadAddress {
    text: String,
    why: &'static str,
}

impl Address {
    /// Takes a text exactly as it stands, or says what is wrong with it. An IPv6 address is written in brackets.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        parse(text).map_err(|why| BadAddress {
            text: quote(text),
            why,
        })
    }
}

fn parse(text: &str) -> Result<Address, &'static str> {
    if text.len() > LONGEST {
        return Err("it is longer than 1,024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    let (account, folder) = text.split_once('/').unwrap_or((text, ""));
    let (user, server) = match account.rsplit_once('@') {
        Some((user, server)) => (Some(user), server),
        None => (None, account),
    };
    let (host, port) = split_port(server)?;
    for word in user.iter().chain([&host]) {
        if word.is_empty() {
            return Err("a part of it is empty");
        }
        if word.starts_with('-') || word.contains(char::is_whitespace) {
            return Err("neither USER nor HOST begins with `-` or has blanks");
        }
    }
    Ok(Address {
        user: user.map(String::from),
        host: host.into(),
        port: port.map(port_number).transpose()?,
        folder: folder_of(folder),
    })
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`.
fn split_port(server: &str) -> Result<(&str, Option<&str>), &'static str> {
    let Some(bracketed) = server.strip_prefix('[') else {
        return match server.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                Err("an IPv6 address is written in brackets: [::1]")
            }
            Some((host, port)) => Ok((host, Some(port))),
            None => Ok((server, None)),
        };
    };
    let (host, rest) = bracketed
        .split_once(']')
        .ok_or("a bracket is open at its end")?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err("only a port can follow the bracket"),
    }
}

fn port_number(text: &str) -> Result<u16, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or("its port is no number from 1 to 65535")
}

/// Without slashes at the end and without doubled ones; one at the beginning stays.
fn folder_of(text: &str) -> String {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let root = if text.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match self.folder.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.folder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in [
            "calvin@192.168.6.22",
            "calvin@images.example:2222",
            "images",
            "calvin@[fe80::1%eth0]:2222/team/images",
            "calvin@[::1]",
            "calvin@host/images",
            "calvin@host//srv/images",
            "host//",
            "realm@user@host",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        let address = Address::parse("calvin@host:22/a//b/").unwrap();
        assert_eq!(address.user.as_deref(), Some("calvin"));
        assert_eq!((&*address.host, address.port), ("host", Some(22)));
        assert_eq!(address.folder, "a/b");
        assert_eq!(Address::parse("host//").unwrap().folder, "/");
    }

    #[test]
    fn what_says_no_repository_is_refused() {
        for text in [
            "",
            "@host",
            "user@",
            "user@/folder",
            "-oProxyCommand=x",
            "user@-oProxyCommand=x",
            "-l@host",
            "us er@host",
            "user@host:",
            "user@host:0",
            "user@host:65536",
            "user@host:+22",
            "user@host: 22",
            "user@::1",
            "user@[::1",
            "user@[::1]22",
            "user@host/a\nb",
            "user@host\x1b",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(Address::parse(&format!("host/{}", "x".repeat(1100))).is_err());
    }
}
