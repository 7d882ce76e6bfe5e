//! Names of images here and elsewhere.
//!
//! ```text
//! here                 elsewhere
//! alpine:3.19          alpine:3.19, also docker.io/library/alpine:3.19, quay.io/alpine:3.19
//! calvin=rhel-7.4:1    calvin/rhel-7.4:1
//! web:_                web:latest
//! Web.App=x:1          docker.io/web.app/x:1
//! ```
//!
//! Elsewhere names are in lower case, the parts between `/` begin and end with a letter or digit, and between them
//! stand one `.`, one or two `_`, or any number of `-`. What is otherwise here is changed: capital letters to small
//! ones, other separators to `-`. A first part with a `.` would be taken for a registry, so one is put before it.

use crate::{Name, Version};

const REGISTRY: &str = "docker.io";
/// Where images without an owner lie in [`REGISTRY`].
const LIBRARY: &str = "library";
const LATEST: &str = "latest";

/// What an image is called elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignName {
    /// `calvin/rhel-7.4:1`.
    pub reference: String,
    /// Whether it reads back as the same name and version; where not, characters were changed.
    pub is_exact: bool,
}

/// What an image of this name and version is called elsewhere.
pub fn foreign_name(name: &Name, version: &Version) -> ForeignName {
    let parts: Vec<String> = name
        .as_str()
        .split('=')
        .map(foreign_part)
        .filter(|part| !part.is_empty())
        .collect();
    let registry = match parts.as_slice() {
        [first, _, ..] if is_registry(first) => format!("{REGISTRY}/"),
        _ => String::new(),
    };
    let tag = match version {
        none if none.is_none() => LATEST.into(),
        version => version.as_str().replace('=', "-"),
    };
    let reference = format!("{registry}{}:{tag}", parts.join("/"));
    let is_exact =
        suggested(&reference).is_some_and(|read| read == (name.clone(), Some(version.clone())));
    ForeignName {
        reference,
        is_exact,
    }
}

/// The name and version here of an image that is called `reference` elsewhere; `None` where that makes no name.
///
/// The registry is left out, and `latest` is no version. A word alone is a tag without a name.
pub(super) fn suggested(reference: &str) -> Option<(Name, Option<Version>)> {
    if !reference.contains(['/', ':']) {
        return None;
    }
    let split = Split::of(reference);
    let path = match split.path.split_once('/') {
        Some((LIBRARY, rest)) if split.registry == Some(REGISTRY) => rest,
        _ => split.path,
    };
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        let at = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        at(bytes.first()) && at(bytes.last()) && !part.contains('=')
    };
    if !path.split('/').all(is_part) {
        return None;
    }
    let name = Name::parse(&path.replace('/', "=")).ok()?;
    let version = match split.tag {
        None => None,
        Some(LATEST) => Some(Version::none()),
        Some(tag) => Some(
            Version::parse(tag)
                .ok()
                .filter(|version| !version.is_none())?,
        ),
    };
    Some((name, version))
}

/// Whether both name the same image: `alpine`, `docker.io/library/alpine:latest`.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    a == b || canonical(a) == canonical(b)
}

/// With registry and tag: `docker.io/library/alpine:latest`.
pub(super) fn canonical(reference: &str) -> String {
    let split = Split::of(reference);
    let registry = split.registry.unwrap_or(REGISTRY);
    let library = match split.path.contains('/') || registry != REGISTRY {
        true => String::new(),
        false => format!("{LIBRARY}/"),
    };
    format!(
        "{registry}/{library}{}:{}",
        split.path,
        split.tag.unwrap_or(LATEST)
    )
}

struct Split<'a> {
    registry: Option<&'a str>,
    path: &'a str,
    tag: Option<&'a str>,
}

impl Split<'_> {
    /// Takes apart what need not be a reference; a digest behind `@` is left out.
    fn of(reference: &str) -> Split<'_> {
        let named = reference.split_once('@').map_or(reference, |split| split.0);
        let (registry, rest) = match named.split_once('/') {
            Some(("index.docker.io", rest)) => (Some(REGISTRY), rest),
            Some((first, rest)) if is_registry(first) => (Some(first), rest),
            _ => (None, named),
        };
        match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => Split {
                registry,
                path,
                tag: Some(tag),
            },
            _ => Split {
                registry,
                path: rest,
                tag: None,
            },
        }
    }
}

/// Whether the first of several parts is a registry's host and not an owner.
fn is_registry(first: &str) -> bool {
    let is_host = first.starts_with(|character: char| character.is_ascii_alphanumeric());
    is_host && (first.contains(['.', ':']) || first == "localhost")
}

/// One part of a name as it may stand elsewhere; empty where it holds separators only.
fn foreign_part(part: &str) -> String {
    let is_separator = |character: char| !character.is_ascii_alphanumeric();
    let lowered = part.to_ascii_lowercase();
    let mut foreign = String::new();
    let mut rest = lowered.trim_matches(is_separator);
    while let Some(at) = rest.find(is_separator) {
        let (word, behind) = rest.split_at(at);
        let after = behind.trim_start_matches(is_separator);
        let separator = &behind[..behind.len() - after.len()];
        foreign.push_str(word);
        foreign.push_str(match separator {
            "." | "_" | "__" => separator,
            dashes if dashes.bytes().all(|byte| byte == b'-') => dashes,
            _ => "-",
        });
        rest = after;
    }
    foreign + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(name: &str, version: &str) -> (String, bool) {
        let name = foreign_name(
            &Name::parse(name).unwrap(),
            &Version::parse(version).unwrap(),
        );
        (name.reference, name.is_exact)
    }

    fn back(reference: &str) -> Option<String> {
        suggested(reference).map(|(name, version)| match version {
            Some(version) => format!("{name}:{version}"),
            None => name.to_string(),
        })
    }

    #[test]
    fn names_from_elsewhere_lose_their_registry() {
        for (reference, expected) in [
            ("docker.io/library/alpine:3.19", Some("alpine:3.19")),
            ("index.docker.io/library/alpine:3.19", Some("alpine:3.19")),
            ("alpine:3.19", Some("alpine:3.19")),
            ("alpine:latest", Some("alpine:_")),
            ("docker.io/library/alpine", Some("alpine")),
            ("calvin/rhel-7.4:1", Some("calvin=rhel-7.4:1")),
            ("library/alpine:1", Some("library=alpine:1")),
            ("localhost/web:1", Some("web:1")),
            ("localhost:5000/a/b:1", Some("a=b:1")),
            ("quay.io/a/b@sha256:00", Some("a=b")),
            ("alpine:3.19@sha256:00", Some("alpine:3.19")),
            ("3.19", None),
            ("", None),
            ("latest", None),
            (":1", None),
            ("a:", None),
            ("a:_", None),
            ("../a:1", None),
            ("a/../b:1", None),
            ("a//b:1", None),
            ("/a:1", None),
            ("a/:1", None),
            ("a:-1", None),
            ("a b:1", None),
            ("é/a:1", None),
            ("a\n:1", None),
        ] {
            assert_eq!(back(reference).as_deref(), expected, "{reference}");
        }
        assert_eq!(back(&format!("{}:1", "x".repeat(65))), None);
        assert_eq!(back(&format!("a:{}", "1".repeat(65))), None);
    }

    #[test]
    fn names_go_out_in_a_form_that_others_take() {
        for (name, version, reference, is_exact) in [
            ("calvin=rhel-7.4", "1", "calvin/rhel-7.4:1", true),
            ("web", "_", "web:latest", true),
            ("debian.12", "1", "debian.12:1", true),
            ("rhel-7.4=web", "1", "docker.io/rhel-7.4/web:1", true),
            ("localhost=web", "1", "docker.io/localhost/web:1", true),
            ("library=web", "1", "library/web:1", true),
            ("a__b--c", "1.0-RC_1", "a__b--c:1.0-RC_1", true),
            ("Web", "1", "web:1", false),
            ("a___b..c", "1", "a-b-c:1", false),
            ("a=.-=b_", "1", "a/b:1", false),
            ("a=", "1=2", "a:1-2", false),
            ("web", "latest", "web:latest", false),
        ] {
            assert_eq!(
                out(name, version),
                (reference.into(), is_exact),
                "{name}:{version}"
            );
        }
    }

    #[test]
    fn the_same_image_is_known_by_short_and_long_names() {
        assert!(is_same("alpine", "docker.io/library/alpine:latest"));
        assert!(is_same("a/b:1", "docker.io/a/b:1"));
        assert!(is_same("localhost/a:1", "localhost/a:1"));
        assert!(!is_same("quay.io/a:1", "a:1"));
        assert!(!is_same("a:1", "a:2"));
        assert_eq!(canonical("quay.io/a"), "quay.io/a:latest");
    }
}
