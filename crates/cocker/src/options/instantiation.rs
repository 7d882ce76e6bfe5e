//! What `instantiate` means: templates, and where their rules come from.

use super::meaning::name;
use super::said;
use crate::failure::Failure;
use cocker_engine::{Name, Rules, Unruled};
use std::ffi::OsString;
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
    pub set: Rules,
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
fn rules(said: &[OsString]) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    for rule in said {
        let bytes = rule.as_bytes();
        let place = bytes.iter().position(|&byte| byte == b'=');
        let Some(place) = place.filter(|&place| place > 0) else {
            return Err(Failure::usage(format!(
                "`--set {}` is not KEY=VALUE",
                rule.to_string_lossy()
            )));
        };
        let (key, value) = (&bytes[..place], &bytes[place + 1..]);
        if rules.set(key.to_vec(), value.to_vec()).is_some() {
            return Err(Failure::usage(format!(
                "`--set` gives key `{}` twice",
                String::from_utf8_lossy(key)
            )));
        }
    }
    Ok(rules)
}
