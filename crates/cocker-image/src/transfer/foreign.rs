//! Unpacks an image of others: all its layers that the store does not have on the same base.
//!
//! What such a layer hides is fitted to what is below it, so its files are those of its tar stream only there.

use super::Progress;
use super::import::{ImportError, ImportOptions, Imported, unpack_options};
use crate::archive::Unpacked;
use crate::oci::{Chosen, ForeignLayer};
use crate::stack::{Tree, fit_whiteouts};
use crate::{LayerId, LayerOrigin, StagedLayer, Store};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::CString;

/// Layers that the store has from another image are not unpacked again, from the lowest to the first that it has not; the
/// highest is always the image's own.
pub(super) fn unpack_foreign(
    store: &Store,
    image: &Chosen,
    origin: &LayerOrigin,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    let options = unpack_options(store, options)?;
    let (own, lower) = image.layers().split_last().expect("an image has a layer");
    let base = shared_layers(store, lower)?;
    let new = lower[base.len()..].iter().chain([own]);
    let whole = new.clone().map(ForeignLayer::size).sum();
    let mut passed = 0;
    let mut size = 0;
    let mut layers = Vec::new();
    for foreign in new {
        progress(Progress { passed, whole });
        let mut layer = store.stage()?;
        // The limit is for the whole image.
        let mut options = options;
        options.limits.size = options.limits.size.saturating_sub(size);
        let unpacked = foreign.unpack_into(layer.tree(), &options)?;
        size += unpacked.size;
        fit(store, &base, &layers, &layer, &unpacked)?;
        layer.origin = Some(match foreign.created_by() {
            Some(made_by) => LayerOrigin::Foreign(made_by.into()),
            None => origin.clone(),
        });
        layer.diff_id = Some(foreign.diff_id().clone());
        layer.measure()?;
        layers.push(layer);
        passed += foreign.size();
    }
    progress(Progress { passed, whole });
    Ok(Imported {
        base,
        layers,
        config: image.config().cloned().map(Value::from),
    })
}

/// Fits what a new layer hides to what is below it. One that hides nothing is not looked at.
fn fit(
    store: &Store,
    base: &[LayerId],
    lower: &[StagedLayer],
    layer: &StagedLayer,
    unpacked: &Unpacked,
) -> Result<(), ImportError> {
    let number = base.len() + lower.len() + 1;
    if unpacked.whiteouts == 0 {
        return Ok(());
    }
    let tree = |number: usize, folder: &str| {
        let path = CString::new(format!("{folder}/tree")).expect("an id holds no NUL");
        Tree::new(store.layers_folder(), path, format!("layer {number}"))
    };
    let base = base.iter().map(LayerId::as_str);
    let folders = base.chain(lower.iter().map(StagedLayer::folder_name));
    let below: Vec<Tree<'_>> = (1..)
        .zip(folders)
        .map(|(number, folder)| tree(number, folder))
        .collect();
    fit_whiteouts(&below, &tree(number, layer.folder_name()))
        .map_err(|source| ImportError::Whiteouts { number, source })
}

/// The layers of the store that are the lowest of these.
///
/// The same layer on another base is another one, since what it hides was fitted to what is below it.
fn shared_layers(store: &Store, layers: &[ForeignLayer]) -> Result<Vec<LayerId>, ImportError> {
    let mut known = HashMap::new();
    for id in store.layer_ids()? {
        // One that goes meanwhile, or cannot be read, is nothing to stand on.
        let Ok(layer) = store.layer(&id) else {
            continue;
        };
        if let Some(diff_id) = layer.diff_id {
            known.insert(id, (diff_id, layer.base));
        }
    }
    let is_known = |(id, layer): (&LayerId, &ForeignLayer)| {
        known
            .get(id)
            .is_some_and(|(diff_id, _)| diff_id == layer.diff_id())
    };
    let chains = known.iter().filter_map(|(id, (_, base))| {
        let chain: Vec<LayerId> = base.iter().chain([id]).cloned().collect();
        let is_lowest = chain.len() <= layers.len() && chain.iter().zip(layers).all(is_known);
        is_lowest.then_some(chain)
    });
    Ok(chains.max_by_key(Vec::len).unwrap_or_default())
}
