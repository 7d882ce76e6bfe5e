//! doctor: what could be wrong with the store, with what containers have left in the kernel, and with the host; and mending it.
//!
//! ```text
//! doctor/sandboxes.rs   what stands in the kernel for containers, and for nobody
//! doctor/host.rs        what the host has and lacks
//! doctor/repair.rs      what can be mended without losing anything
//! housekeeping/check    what lies in the store
//! ```
//!
//! Looking changes nothing and keeps nobody from working. What did not look right may only have been on its way, so it is looked at
//! once more with its container held, or with all names held still. Only what is the store's own is looked at and touched: what
//! bears another store's name, or no name of cocker's, is not.

mod host;
mod repair;
mod sandboxes;

use crate::engine::{Engine, Settings};
use crate::failure::EngineError;
use crate::housekeeping::{Depth, Finding, Grade, StoreFindings};
use cocker_image::StoreError;
use cocker_image::inspection::{chain, shell_word};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What is looked at, and whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoctorRequest {
    pub mode: DoctorMode,
    pub depth: Depth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoctorMode {
    Look,
    /// Mend what can be mended without losing anything.
    Mend,
}

/// Something that was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub finding: Finding,
    /// None where nothing was to be mended.
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Mended,
    /// Why it is as it was.
    Stays(String),
}

/// Why something could not be mended, by what it was.
type Refusals = BTreeMap<String, String>;

/// What was found, what is wrong first. A store that may not be opened as it is, is found to be so.
pub fn doctor(settings: Settings, request: DoctorRequest) -> Result<Vec<Diagnosis>, EngineError> {
    let engine = match Engine::open(settings.clone()) {
        Err(EngineError::Image(error)) => {
            let Some(finding) = unusable(&error) else {
                return Err(error.into());
            };
            let closed = match (&error, request.mode) {
                (StoreError::OpenToOthers { path, .. }, DoctorMode::Mend) => close(path),
                (_, DoctorMode::Look) => return Ok(vec![told(finding)]),
                (_, DoctorMode::Mend) => Err(FOR_YOU.into()),
            };
            if let Err(why) = closed {
                let outcome = Some(Outcome::Stays(why));
                return Ok(vec![Diagnosis { finding, outcome }]);
            }
            let mended = Diagnosis {
                finding,
                outcome: Some(Outcome::Mended),
            };
            // There may be another such thing behind it.
            let mut all = doctor(settings, request)?;
            all.insert(0, mended);
            return Ok(all);
        }
        opened => opened?,
    };
    let mut found = engine.found(request.depth)?;
    found.sort();
    if request.mode == DoctorMode::Look {
        return Ok(found.into_iter().map(told).collect());
    }
    let refusals = engine.mend_all();
    let left = engine.found(request.depth)?;
    let stays = |finding: &Finding| {
        let why = refusals.get(&finding.thing).cloned();
        Outcome::Stays(why.unwrap_or_else(|| FOR_YOU.into()))
    };
    let mut all: Vec<Diagnosis> = Vec::new();
    let only_now = left.iter().filter(|finding| !found.contains(finding));
    for finding in found.iter().chain(only_now) {
        let outcome = match left.contains(finding) {
            true if finding.grade == Grade::Hint => None,
            true => Some(stays(finding)),
            false => Some(Outcome::Mended),
        };
        all.push(Diagnosis {
            finding: finding.clone(),
            outcome,
        });
    }
    Ok(all)
}

/// What is said of what is not mended here.
const FOR_YOU: &str = "something may be lost by it: do as the remedy says";

impl Engine {
    fn found(&self, depth: Depth) -> Result<Vec<Finding>, EngineError> {
        let StoreFindings {
            mut findings,
            unneeded,
        } = self.inspect_store(depth)?;
        // They take nothing but room, and somebody may want to make an image of them yet.
        findings.extend(unneeded.into_iter().map(|finding| Finding {
            grade: Grade::Hint,
            ..finding
        }));
        findings.extend(self.inspect_transfers());
        findings.extend(self.inspect_sandboxes()?);
        findings.extend(self.inspect_host()?);
        findings.sort();
        findings.dedup();
        Ok(findings)
    }
}

fn told(finding: Finding) -> Diagnosis {
    Diagnosis {
        finding,
        outcome: None,
    }
}

/// What keeps the store from being opened, where it is the store itself.
fn unusable(error: &StoreError) -> Option<Finding> {
    let path = match error {
        StoreError::ForeignOwner { path, .. } | StoreError::OpenToOthers { path, .. } => path,
        StoreError::Exchangeable { home, .. } => home,
        StoreError::NewerRecord { path, .. }
        | StoreError::ParseRecord { path, .. }
        | StoreError::ContradictoryRecord { path, .. } => path,
        _ => return None,
    };
    let remedy = match error {
        // Only one record is read to open a store; what it says to be done is not known, and all else is read by itself.
        StoreError::ParseRecord { .. } | StoreError::ContradictoryRecord { .. } => {
            format!(
                "move it away, then look again: mv {} /somewhere/else",
                shell_word(path)
            )
        }
        error => error.hint().unwrap_or_else(|| "mend the disk".into()),
    };
    Some(Finding::wrong(
        format!("store {}", path.display()),
        chain(error),
        remedy,
    ))
}

/// Closes a folder of the store, which is ours, to others.
fn close(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let found = folder.symlink_metadata().map_err(failed)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(FOR_YOU.into());
    }
    let mode = found.permissions().mode() & 0o700;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).map_err(failed)
}
