//! What a command and a session find in their environment: the container's own and nothing of the host's.
//!
//! ```text
//! PATH, LANG                      what every container has
//! what the images say             the lowest first, so that the topmost has the last word
//! HOME, USER, LOGNAME, SHELL      from the container's passwd: images do not say who a user is
//! --env                           what the user says, over all of it
//! ```
//!
//! TERM is the terminal's alone.

use crate::account::Account;
use crate::container::ContainerSettings;
use crate::failure::TalkError;
use crate::request::Variable;
use serde_json::{Value, json};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What belongs to the user, or to the terminal, whatever an image says.
const NOT_THE_IMAGES: [&str; 5] = ["HOME", "USER", "LOGNAME", "SHELL", "TERM"];

/// The most that images may say together, in bytes of JSON: it goes into the config of images made of the container, of
/// which no more than 64 KiB are kept, and leaves room in a request for what the user says.
const MOST_OF_IMAGES: usize = 48 * 1024;

/// What one image says of how its program is run has this key for the environment (OCI image specification, config).
const KEY: &str = "Env";

/// The environment of a command of this user's, as `NAME=value` each.
pub(crate) fn environment(
    settings: &ContainerSettings,
    account: &Account,
    said: &[Variable],
) -> Result<Vec<CString>, TalkError> {
    let mut variables = Variables::default();
    variables.set(b"PATH", PATH.as_bytes());
    variables.set(b"LANG", b"C.UTF-8");
    for variable in &settings.environment {
        if let Some((name, value)) = variable.split_once('=') {
            variables.set(name.as_bytes(), value.as_bytes());
        }
    }
    variables.set(b"HOME", account.home.as_bytes());
    if !account.name.is_empty() {
        variables.set(b"USER", account.name.as_bytes());
        variables.set(b"LOGNAME", account.name.as_bytes());
    }
    variables.set(b"SHELL", account.shell.as_bytes());
    for Variable { name, value } in said {
        variables.set(name.as_bytes(), value.as_bytes());
    }
    variables.into_strings()
}

/// What stacked images say together, the lowest first. What is no `NAME=value`, and what is not theirs to say, is left out;
/// so is all of an image with which it would be too much.
pub(crate) fn of_images<'a>(configs: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut together = Vec::new();
    for config in configs {
        let mut with_this = together.clone();
        let said = config.get(KEY).and_then(Value::as_array);
        for variable in said.into_iter().flatten().filter_map(Value::as_str) {
            let Some((name, _value)) = variable.split_once('=') else {
                continue;
            };
            let is_theirs = !name.is_empty() && !NOT_THE_IMAGES.contains(&name);
            if is_theirs && !variable.contains('\0') {
                with_this.retain(|other: &String| other.split_once('=').unzip().0 != Some(name));
                with_this.push(variable.into());
            }
        }
        if json!(with_this).to_string().len() <= MOST_OF_IMAGES {
            together = with_this;
        } else {
            tracing::warn!("what an image says of its environment is too long and does not count");
        }
    }
    together
}

/// The same as an image says it, for one that is made of a container; none where there is nothing to say.
pub(crate) fn as_config(environment: &[String]) -> Option<Value> {
    // As of every image of which nothing else is known: it has a shell.
    (!environment.is_empty()).then(|| json!({ "Cmd": ["/bin/sh"], KEY: environment }))
}

#[derive(Default)]
struct Variables(Vec<(Vec<u8>, Vec<u8>)>);

impl Variables {
    /// The later word counts, and stands where the first one stood.
    fn set(&mut self, name: &[u8], value: &[u8]) {
        match self.0.iter_mut().find(|(there, _)| there == name) {
            Some((_, there)) => *there = value.into(),
            None => self.0.push((name.into(), value.into())),
        }
    }

    /// An error names the variable and never its value, which may be a secret.
    fn into_strings(self) -> Result<Vec<CString>, TalkError> {
        let strings = self.0.into_iter().map(|(name, value)| {
            CString::new([&name[..], b"=", &value].concat()).map_err(|_| TalkError::BadVariable {
                name: String::from_utf8_lossy(&name)
                    .escape_debug()
                    .take(80)
                    .collect(),
            })
        });
        strings.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_image_has_the_last_word() {
        let low = json!({ "Env": ["PATH=/low", "A=1", "B=2"], "Cmd": ["x"] });
        let high = json!({ "Env": ["PATH=/high:/low", "C=", "A=x=y"] });
        assert_eq!(
            of_images([&low, &high]),
            ["B=2", "PATH=/high:/low", "C=", "A=x=y"]
        );
        assert_eq!(of_images([]), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_variable_or_not_an_images_to_say_is_left_out() {
        let odd = json!({ "Env": ["", "=x", "NAME", 5, null, "N=\0", "HOME=/x", "TERM=x", "USER=x",
            "LOGNAME=x", "SHELL=x", "GOOD=1"] });
        assert_eq!(of_images([&odd]), ["GOOD=1"]);
        for other in [
            json!({ "Env": "A=1" }),
            json!({}),
            json!([]),
            json!({ "Env": null }),
        ] {
            assert_eq!(of_images([&other]), Vec::<String>::new());
        }
    }

    #[test]
    fn one_image_cannot_take_the_room_of_all() {
        let good = json!({ "Env": ["A=1"] });
        let long = json!({ "Env": [format!("B={}", "x".repeat(MOST_OF_IMAGES))] });
        assert_eq!(of_images([&good, &long, &good]), ["A=1"]);
    }

    #[test]
    fn what_a_container_has_of_images_goes_into_an_image_of_it() {
        let environment = ["A=1".to_string()];
        let config = as_config(&environment).unwrap();
        assert_eq!(of_images([&config]), environment);
        assert_eq!(as_config(&[]), None);
    }

    #[test]
    fn the_last_word_counts_and_stands_once() {
        let mut variables = Variables::default();
        variables.set(b"A", b"1");
        variables.set(b"B", b"2");
        variables.set(b"A", b"");
        assert_eq!(
            variables.into_strings().unwrap(),
            [c"A=".into(), CString::from(c"B=2")]
        );
        let mut secret = Variables::default();
        secret.set(b"KEY", b"secret\0");
        let error = secret.into_strings().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
