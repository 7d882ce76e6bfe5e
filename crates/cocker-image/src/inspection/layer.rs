//! Layers: their records, and whether their files are those that were recorded. This is what takes long.

use super::{Depth, Finding, chain};
use crate::archive::{PackOptions, Whiteouts, pack};
use crate::descent::open_beneath;
use crate::{LayerId, LayerRecord, Store, StoreError, measure_tree};
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A layer's folder, as it was looked at.
pub struct SeenLayer {
    id: LayerId,
    identity: Option<(u64, u64)>,
    pub findings: Vec<Finding>,
}

impl Store {
    /// What is wrong with a layer, its files among it; `None` where there is none.
    pub fn inspect_layer(&self, id: &LayerId, depth: Depth) -> Option<SeenLayer> {
        let thing = format!("layer {id}");
        let shown = format!("layers/{id}");
        let mut findings =
            self.inspect_folder(self.layers_folder(), id.as_str(), &thing, &shown)?;
        let record = self.layer(id);
        let tree = self.open_tree(id);
        let identity = identity(&tree);
        let whole = match (record, tree) {
            (Ok(record), Ok(tree)) => self.compare(&record, tree.as_fd(), &shown, depth),
            (Err(StoreError::UnknownLayer { .. }), _) => Some((
                "has no `layer.json`".to_string(),
                self.restore_or_remove(&shown),
            )),
            (Err(error), _) => {
                let remedy = error.hint();
                let remedy = remedy.unwrap_or_else(|| self.restore_or_remove(&shown));
                Some((chain(&error), remedy))
            }
            (_, Err(errno)) => Some((
                format!("has no folder of files, `tree`: {errno}"),
                self.restore_or_remove(&shown),
            )),
        };
        findings.extend(whole.map(|(what, remedy)| Finding::wrong(thing, what, remedy)));
        Some(SeenLayer {
            id: id.clone(),
            identity,
            findings,
        })
    }

    /// Whether a layer's folder is still the one that was looked at. The caller holds all names still.
    pub fn is_still(&self, seen: &SeenLayer) -> bool {
        let is_there = self.has_layer(&seen.id);
        is_there && identity(&self.open_tree(&seen.id)) == seen.identity
    }

    fn open_tree(&self, id: &LayerId) -> Result<OwnedFd, Errno> {
        let path = CString::new(format!("{id}/tree")).expect("an id holds no NUL");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        open_beneath(self.layers_folder(), &path, flags)
    }

    /// What does not agree between a record and the files, and the remedy.
    fn compare(
        &self,
        record: &LayerRecord,
        tree: BorrowedFd<'_>,
        shown: &str,
        depth: Depth,
    ) -> Option<(String, String)> {
        let place = self.shown_path(shown);
        let remedy = format!(
            "its files were changed since it was made: restore {place} from a backup, or remove what stands on it and import it again"
        );
        let what = match measure_tree(tree) {
            Err(error) => Some(chain(&error)),
            Ok(size) if size != record.size => {
                let recorded = record.size;
                Some(format!(
                    "holds {size} bytes, and its record says {recorded}"
                ))
            }
            Ok(_) if depth == Depth::Sizes => None,
            Ok(_) => digest_differs(record, tree),
        };
        what.map(|what| (what, remedy))
    }
}

/// A layer with a digest is packed once more, for nobody, and compared.
fn digest_differs(record: &LayerRecord, tree: BorrowedFd<'_>) -> Option<String> {
    let recorded = record.digest.as_ref()?;
    let options = PackOptions {
        whiteouts: Whiteouts::Devices,
        description: None,
    };
    match pack(tree, &options, &mut io::sink()) {
        Err(error) => Some(chain(&error)),
        Ok(packed) if packed.digest != *recorded => Some(format!(
            "has digest {}, and its record says {recorded}",
            packed.digest
        )),
        Ok(_) => None,
    }
}

/// Device and inode; `None` where it cannot be opened.
fn identity(folder: &Result<OwnedFd, Errno>) -> Option<(u64, u64)> {
    let stat = fstat(folder.as_ref().ok()?).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
