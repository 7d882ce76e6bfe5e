//! What `instantiate` means: templates, and where their rules come from.

use super::meaning::name;
use super::said;
use crate::failure::Failure;
use cocker_engine::{Name, Unruled};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[derive(Debug, PartialEq, Eq)]
pub struct Instantiation {
    pub container: Name,
    /// Inside the container; at least one.
    pub templates: Vec<PathBuf>,
    /// Inside the container; only with one template.
    pub instance: Option<PathBuf>,
    /// On the host.
    pub mapping_file: Option<PathBuf>,
    /// Keys and values.
    pub set: Vec<(Vec<u8>, Vec<u8>)>,
    pub env_prefix: Option<OsString>,
    pub unruled: Unruled,
    pub is_dry_run: bool,
}

pub fn of(said: said::Instantiate) -> Result<Instantiation, Failure> {
    let templates: Vec<PathBuf> = said.template_file.into_iter().map(PathBuf::from).collect();
    if templates.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(Failure::usage("`--template-file` names no file"));
    }
    if said.instance_file.is_some() && templates.len() > 1 {
        return Err(Failure::usage(format!(
            "`--instance-file` means nothing with {} templates",
            templates.len()
        )));
    }
    if said.mapping_file.is_none() && said.set.is_empty() && said.env_prefix.is_none() {
        return Err(Failure::usage("there is no rule").hint(
            "say where values come from: `--mapping-file M`, `--set KEY=VALUE` or `--env-prefix P`.",
        ));
    }
    if said
        .env_prefix
        .as_ref()
        .is_some_and(|prefix| prefix.is_empty())
    {
        return Err(Failure::usage("`--env-prefix` is empty"));
    }
    Ok(Instantiation {
        container: name(said.container.name())?,
        templates,
        instance: said.instance_file.map(PathBuf::from),
        mapping_file: said.mapping_file.map(PathBuf::from),
        set: rules(&said.set)?,
        env_prefix: said.env_prefix,
        unruled: match said.strict {
            true => Unruled::Refused,
            false => Unruled::Stays,
        },
        is_dry_run: said.dry_run,
    })
}

/// Up to the first `=` it is the key.
fn rules(said: &[OsString]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Failure> {
    let mut rules: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for rule in said {
        let bytes = rule.as_bytes();
        let Some(place) = bytes
            .iter()
            .position(|&byte| byte == b'=')
            .filter(|&at| at > 0)
        else {
            return Err(Failure::usage(format!(
                "`--set {}` is not KEY=VALUE",
                rule.to_string_lossy()
            )));
        };
        let (key, value) = (&bytes[..place], &bytes[place + 1..]);
        if rules.iter().any(|(known, _)| known == key) {
            return Err(Failure::usage(format!(
                "`--set` gives key `{}` twice",
                OsStr::from_bytes(key).to_string_lossy()
            )));
        }
        rules.push((key.to_vec(), value.to_vec()));
    }
    Ok(rules)
}
