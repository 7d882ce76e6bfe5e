//! What is written about layers, apart from images.

use super::record::{self, LayerJson};
use super::{LAYERS, Store, StoreError};
use crate::{Digest, LayerId};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

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
}

impl Store {
    /// What is written about a layer.
    pub fn layer(&self, id: &LayerId) -> Result<LayerRecord, StoreError> {
        let path = self.home.join(LAYERS).join(id.as_str()).join("layer.json");
        let name = CString::new(format!("{id}/layer.json")).expect("an id holds no NUL");
        let unknown = || StoreError::UnknownLayer { layer: id.clone() };
        let record: Option<LayerJson> = record::read(self.layers.as_fd(), &name, &path)?;
        let LayerJson {
            made,
            size,
            base,
            origin,
            digest,
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
        })
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
