//! `instantiate`: keys in files of a container become values.

mod difference;

use crate::environment;
use crate::escape::EscapedLines;
use crate::failure::Failure;
use crate::options::Instantiation;
use crate::output::{self, Reader};
use cocker_engine::{InstantiateRequest, MOST_MAPPING_BYTES, Rules};
use rustix::termios::isatty;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn execute(said: &Instantiation) -> Result<(), Failure> {
    let engine = environment::engine_about(Some(&said.container))?;
    let request = InstantiateRequest {
        container: said.container.clone(),
        templates: said.templates.clone(),
        instance: said.instance.clone(),
        rules: rules(said)?,
        unruled: said.unruled,
    };
    if !said.is_dry_run {
        engine.instantiate(&request)?;
        return output::print_ok();
    }
    // One file at a time: all of them together may be large.
    let mut printed = Ok(Reader::There);
    engine.preview_instances(&request, &mut |preview| {
        if let Ok(Reader::There) = printed {
            printed = print(&difference::of(&preview));
        }
    })?;
    printed.map(drop)
}

/// The container wrote what is in its files: on a terminal nothing of it steers.
fn print(told: &[u8]) -> Result<Reader, Failure> {
    if !isatty(io::stdout()) {
        return output::print_on(told);
    }
    let mut lines = EscapedLines::default();
    let shown = lines.push(told) + &lines.finish();
    output::print_on(shown)
}

/// What is said has the last word, then the environment, then the file.
fn rules(said: &Instantiation) -> Result<Rules, Failure> {
    let mut rules = match &said.mapping_file {
        Some(path) => read(path)?,
        None => Rules::default(),
    };
    if let Some(prefix) = &said.env_prefix {
        for (name, value) in environment::variables(prefix) {
            let key = [b"${", name.as_bytes(), b"}"].concat();
            rules.set(key, value.as_bytes().to_vec());
        }
    }
    rules.add(said.set.clone());
    if rules.is_empty() && said.mapping_file.is_none() {
        let prefix = said.env_prefix.as_deref().unwrap_or_default();
        return Err(Failure::not_done(format!(
            "cannot find a rule: no variable begins with `{}`",
            prefix.to_string_lossy()
        )));
    }
    Ok(rules)
}

fn read(path: &Path) -> Result<Rules, Failure> {
    let failed = || Failure::not_done(format!("cannot read mapping file `{}`", path.display()));
    let mut text = Vec::new();
    // More than that is refused below, however large it is.
    let read = File::open(path).and_then(|file| {
        file.take(MOST_MAPPING_BYTES as u64 + 1)
            .read_to_end(&mut text)
    });
    read.map_err(|error| failed().caused_by(&error))?;
    Rules::parse(&text).map_err(|error| failed().caused_by(&error))
}
