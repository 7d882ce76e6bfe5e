//! Writes an image's own layer as an archive.

use super::Progress;
use super::description::{BaseLayer, Description, FORMAT};
use crate::archive::{Compression, PackError, PackOptions, Watched, Whiteouts, compress, pack};
use crate::oci::{self, Format, ImageConfig, LayerSource, OciError, Writing, foreign_name};
use crate::{Digest, ImageRecord, LayerId, LayerOrigin, LayerRecord, Store, StoreError, Version};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that are written at once where nothing gathers them before.
const PIECE: usize = 256 * 1024;

/// Where an archive goes, from its first byte to its last.
pub trait Output: Write + Send + 'static {
    /// Whether small writes cost no more than large ones.
    const GATHERS: bool = false;

    /// Forgets all that was written: the archive is written once more.
    fn start_again(&mut self) -> io::Result<()>;

    /// An error where nobody takes any more what would be written. Asked during long work that writes nothing yet.
    fn expect_taker(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for File {
    fn start_again(&mut self) -> io::Result<()> {
        self.set_len(0)?;
        self.seek(SeekFrom::Start(0)).map(drop)
    }
}

/// Why an image could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot pack layer `{layer}`")]
    Pack {
        layer: LayerId,
        #[source]
        source: PackError,
    },
    #[error(transparent)]
    Foreign(#[from] OciError),
    #[error("cannot write the archive")]
    Write {
        #[source]
        source: io::Error,
    },
    #[error(
        "cannot write layer `{layer}` as it was when its digest was taken: its files have changed"
    )]
    Changed { layer: LayerId },
}

/// Writes the image's own layer, with what the image was built on, to `to`, which is empty. The same image gives the same
/// bytes.
///
/// The layers' digests are taken where that was not done before, and remembered in the store.
pub fn export(
    store: &Store,
    image: &ImageRecord,
    mut to: impl Output,
    compression: Compression,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ExportError> {
    let (own, base) = image
        .layers
        .split_last()
        .expect("a record has an own layer");
    let mut description = Description {
        format: FORMAT,
        digest: digest_for(store, own, &to)?,
        base: describe(store, base, &to)?,
        config: image.config.clone(),
    };
    let tree = store.open_layer(own)?;
    // The digest that is remembered may be of another host's file system, which has holes elsewhere in sparse files.
    for _ in 0..2 {
        let text = description.to_json();
        let written = write(tree.as_fd(), Some(&text), to, compression, &mut |passed| {
            let whole = image.size;
            progress(Progress { passed, whole });
        });
        let digest;
        (digest, to) = written.map_err(|failure| failure.of(own))?;
        if digest == description.digest {
            return Ok(());
        }
        description.digest = digest;
        to.start_again()
            .map_err(|source| ExportError::Write { source })?;
    }
    Err(ExportError::Changed { layer: own.clone() })
}

/// Writes one layer alone, without a description, to `to`, which is empty. Returns its digest: the one that is remembered,
/// but where the layer came from another host's file system, which has holes elsewhere in sparse files.
pub(crate) fn export_layer(
    store: &Store,
    layer: &LayerId,
    to: impl Output,
    compression: Compression,
    progress: &mut dyn FnMut(u64),
) -> Result<Digest, ExportError> {
    let tree = store.open_layer(layer)?;
    let written = write(tree.as_fd(), None, to, compression, progress);
    let (digest, _) = written.map_err(|failure| failure.of(layer))?;
    Ok(digest)
}

/// Writes the image with all its layers as others load it.
pub fn export_foreign(
    store: &Store,
    image: &ImageRecord,
    to: File,
    format: Format,
    compression: Compression,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ExportError> {
    let trees = image.layers.iter().map(|layer| store.open_layer(layer));
    let trees = trees.collect::<Result<Vec<_>, _>>()?;
    let records = image.layers.iter().map(|layer| store.layer(layer));
    let records = records.collect::<Result<Vec<_>, _>>()?;
    let whole = records.iter().map(|layer| layer.size).sum();
    let config = image.config.clone().map(ImageConfig::from_value);
    let writing = Writing {
        reference: foreign_name(&image.name, &image.version).reference,
        layers: trees.iter().zip(records).map(layer_source).collect(),
        created: image.modified,
        config: config.and_then(Result::ok),
        compression,
    };
    oci::write(to, format, &writing, &mut |passed| {
        progress(Progress { passed, whole });
    })?;
    Ok(())
}

fn layer_source((tree, record): (&OwnedFd, LayerRecord)) -> LayerSource<'_> {
    LayerSource {
        tree: tree.as_fd(),
        created: record.made,
        comment: match record.origin {
            Some(LayerOrigin::Foreign(made_by)) => made_by,
            _ => "cocker".into(),
        },
    }
}

/// Writes one archive; returns its digest without the description, and where it was written to.
fn write<O: Output>(
    tree: BorrowedFd<'_>,
    description: Option<&[u8]>,
    to: O,
    compression: Compression,
    progress: &mut dyn FnMut(u64),
) -> Result<(Digest, O), Failure> {
    let room = if O::GATHERS { 0 } else { PIECE };
    let to = BufWriter::with_capacity(room, to);
    let mut watched = Watched::new(compress(to, compression)?, progress);
    let options = PackOptions {
        whiteouts: Whiteouts::Devices,
        description,
    };
    let packed = pack(tree, &options, &mut watched)?;
    let mut to = watched.into_inner().finish()?;
    // All the way: who takes it may gather bytes too.
    to.flush()?;
    let to = to.into_inner().map_err(|error| error.into_error())?;
    Ok((packed.digest, to))
}

/// What failed while a layer was written.
enum Failure {
    Pack(PackError),
    Write(io::Error),
}

impl Failure {
    fn of(self, layer: &LayerId) -> ExportError {
        match self {
            Failure::Pack(source) => ExportError::Pack {
                layer: layer.clone(),
                source,
            },
            Failure::Write(source) => ExportError::Write { source },
        }
    }
}

impl From<PackError> for Failure {
    fn from(source: PackError) -> Failure {
        Failure::Pack(source)
    }
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Failure {
        Failure::Write(source)
    }
}

/// The digest of a layer, from its record or from its files.
pub(crate) fn digest_of(store: &Store, layer: &LayerId) -> Result<Digest, ExportError> {
    read_digest(store, layer, &mut io::sink())
}

/// The same, given up where nobody takes any more what is to be written.
fn digest_for(store: &Store, layer: &LayerId, to: &impl Output) -> Result<Digest, ExportError> {
    /// Swallows everything while somebody waits for what comes after it.
    struct WhileAwaited<'a, O>(&'a O);

    impl<O: Output> Write for WhileAwaited<'_, O> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.expect_taker().map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    read_digest(store, layer, &mut WhileAwaited(to))
}

fn read_digest(
    store: &Store,
    layer: &LayerId,
    meanwhile: &mut impl Write,
) -> Result<Digest, ExportError> {
    if let Some(digest) = store.layer(layer)?.digest {
        return Ok(digest);
    }
    let tree = store.open_layer(layer)?;
    let options = PackOptions {
        whiteouts: Whiteouts::Devices,
        description: None,
    };
    let packed = pack(tree.as_fd(), &options, meanwhile);
    let packed = packed.map_err(|source| ExportError::Pack {
        layer: layer.clone(),
        source,
    })?;
    store.record_digest(layer, &packed.digest)?;
    Ok(packed.digest)
}

/// What the image was built on, with the names of the images whose own layers they are.
fn describe(
    store: &Store,
    base: &[LayerId],
    to: &impl Output,
) -> Result<Vec<BaseLayer>, ExportError> {
    if base.is_empty() {
        return Ok(Vec::new());
    }
    let images = store.images()?;
    let name_of = |layer: &LayerId| {
        let image = images
            .iter()
            .find(|image| image.layers.last() == Some(layer))?;
        Some(match image.version == Version::none() {
            true => image.name.to_string(),
            false => format!("{}:{}", image.name, image.version),
        })
    };
    let describe = |layer| {
        Ok(BaseLayer {
            digest: digest_for(store, layer, to)?,
            image: name_of(layer),
        })
    };
    base.iter().map(describe).collect()
}
