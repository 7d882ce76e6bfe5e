//! What is written about layers, apart from images.

use super::record::{self, LayerJson};
use super::{LAYERS, Store, StoreError};
use crate::descent::open_beneath;
use crate::staging::StagedFolder;
use crate::{Digest, LayerId};
use cocker_sys::fault;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

const RECORD: &str = "layer.json";

/// Where a layer's files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerOrigin {
    /// The host's own programs.
    HostPrograms,
    /// The writable layer of the container of this name.
    Container(String),
    /// The archive with this file name, without its folders.
    Archive(String),
    /// A layer of a foreign image: what made it, as that image's history says.
    Foreign(String),
}

/// One layer of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRecord {
    pub id: LayerId,
    /// In whole seconds.
    pub made: SystemTime,
    /// Bytes of its regular files.
    pub size: u64,
    /// The layers that it was made on, lowest first.
    pub base: Vec<LayerId>,
    pub origin: Option<LayerOrigin>,
    /// SHA-256 of the layer packed as an archive, with whiteouts as devices, once that was known.
    pub digest: Option<Digest>,
    /// SHA-256 of the tar stream that it was in a foreign image: what has the same is the same layer.
    pub diff_id: Option<Digest>,
}

impl Store {
    /// What is written about a layer.
    pub fn layer(&self, id: &LayerId) -> Result<LayerRecord, StoreError> {
        let path = self.home.join(LAYERS).join(id.as_str()).join(RECORD);
        let name = CString::new(format!("{id}/layer.json")).expect("an id holds no NUL");
        let unknown = || StoreError::UnknownLayer { layer: id.clone() };
        let record: Option<LayerJson> = record::read(self.layers.as_fd(), &name, &path)?;
        let LayerJson {
            made,
            size,
            base,
            origin,
            digest,
            diff_id,
            ..
        } = record.ok_or_else(unknown)?;
        let made = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(made));
        Ok(LayerRecord {
            id: id.clone(),
            made: made.unwrap_or(SystemTime::UNIX_EPOCH),
            size,
            base,
            origin,
            digest,
            diff_id,
        })
    }

    /// Writes down what a layer's digest was found to be. The layer itself never changes.
    pub fn record_digest(&self, id: &LayerId, digest: &Digest) -> Result<(), StoreError> {
        let path = self.home.join(LAYERS).join(id.as_str()).join(RECORD);
        let failed = |source| StoreError::WriteLayerRecord {
            layer: id.clone(),
            source,
        };
        let name = CString::new(id.as_str()).expect("an id holds no NUL");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = open_beneath(self.layers.as_fd(), &name, flags)
            .map_err(|errno| failed(errno.into()))?;
        let record: Option<LayerJson> = record::read(folder.as_fd(), c"layer.json", &path)?;
        let mut record = record.ok_or_else(|| StoreError::UnknownLayer { layer: id.clone() })?;
        record.digest = Some(digest.clone());
        // Whoever reads sees the old record or the new one; two that write at once write the same. Of a writer that dies, nothing is
        // left in the layer.
        let staged =
            StagedFolder::make(self.layers.as_fd()).map_err(|source| StoreError::Stage {
                path: self.home.join(LAYERS),
                source,
            })?;
        record::write(staged.folder(), RECORD, &record)
            .and_then(|file| fault::step("layer.record.sync", || file.sync_all()))
            .map_err(failed)?;
        let rename = || rustix::fs::renameat(staged.folder(), RECORD, &folder, RECORD);
        fault::step("layer.record.rename", rename).map_err(|errno| failed(errno.into()))
    }

    /// Bytes of a layer that is staged or leaving, where its record is there and says it.
    pub fn staged_layer_size(&self, name: &CStr) -> Option<u64> {
        let name = name.to_str().ok()?;
        let path = CString::new(format!("{name}/layer.json")).ok()?;
        let shown = self.home.join(LAYERS).join(name);
        let record: LayerJson = record::read(self.layers.as_fd(), &path, &shown).ok()??;
        Some(record.size)
    }

    /// The ids of all layers, sorted, whether an image needs them or not.
    pub fn layer_ids(&self) -> Result<Vec<LayerId>, StoreError> {
        self.entries(self.layers.as_fd(), self.home.join(LAYERS), LayerId::parse)
    }
}
