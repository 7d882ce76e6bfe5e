//! Reads a file into staged layers that nobody sees yet.

use super::Progress;
use super::description::{BadDescription, BaseLayer, Description};
use super::foreign::unpack_foreign;
use crate::archive::{
    Devices, Limits, Refusal, UnpackError, UnpackOptions, Unpacked, Whiteouts, decompress, unpack,
};
use crate::oci::{self, Chosen, OciError};
use crate::stack::StackError;
use crate::{Digest, LayerId, LayerOrigin, Reference, StagedLayer, Store, StoreError};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatvfs, openat};
use rustix::io::Errno;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an archive of images may have beside its files, in bytes.
const SPOOL_SLACK: u64 = 16 << 20;

/// What the names of files that hold an image end with.
const EXTENSIONS: [&str; 12] = [
    ".cockerimage",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.zst",
    ".tzst",
    ".tar.xz",
    ".txz",
    ".gz",
    ".zst",
    ".xz",
    ".oci",
];

/// Whether an image comes with what it was built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Refused where the store does not have it.
    Needed,
    /// The image gets its own layer alone.
    LeftOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// The most bytes in all files together. None: as many as the disk has room for.
    pub max_size: Option<u64>,
    pub devices: Devices,
    pub base: Base,
}

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot open `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("it is neither a regular file nor a folder with an OCI layout")]
    NoFile,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot find out how much room there is")]
    Room {
        #[source]
        source: io::Error,
    },
    #[error("cannot begin to read")]
    Begin {
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Foreign(#[from] OciError),
    #[error("cannot fit what layer {number} hides to the layers below it")]
    Whiteouts {
        /// Counted from 1, the lowest.
        number: usize,
        #[source]
        source: StackError,
    },
    #[error("cannot use the description in the archive")]
    Description {
        #[source]
        source: BadDescription,
    },
    #[error("cannot believe the archive: its digest is {found}, and its description says {said}")]
    Digest { said: Digest, found: Digest },
    #[error("cannot find what the image was built on: {}", wanted(image.as_deref(), digest))]
    NoBase {
        /// What it was called where the archive was written.
        image: Option<String>,
        digest: Digest,
    },
}

impl ImportError {
    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            ImportError::Store(source) => source.hint(),
            ImportError::Foreign(OciError::Unpack { source, .. }) => unpack_hint(source),
            ImportError::Foreign(source) => source.hint(),
            ImportError::Whiteouts { source, .. } => source.hint(),
            ImportError::NoBase { .. } => {
                Some("import that first, or import this image's own files alone: --no-base".into())
            }
            ImportError::Unpack(source) => unpack_hint(source),
            _ => None,
        }
    }
}

fn unpack_hint(error: &UnpackError) -> Option<String> {
    match error {
        UnpackError::Malformed { offset: 0, .. } | UnpackError::Truncated { offset: 0..512 } => Some(
            "a .cockerimage, a tar of a file system, an OCI layout or what docker saved can be imported."
                .into(),
        ),
        UnpackError::Refused { reason, .. } => match reason {
            Refusal::Device => Some("where you trust the archive: --allow-devices".into()),
            Refusal::Size(_) => {
                Some("make room, or allow more where you trust the archive: --max-size".into())
            }
            _ => None,
        },
        error if error.is_disk_full() => Some(
            "make room: `cocker df` shows what takes it, `cocker prune` removes what nothing needs."
                .into(),
        ),
        _ => None,
    }
}

fn wanted(image: Option<&str>, digest: &Digest) -> String {
    match image {
        Some(image) => format!("`{}` ({digest})", crate::quote::quote(image)),
        None => format!("a layer with digest {digest}"),
    }
}

/// A file that was opened and looked at.
pub struct Source {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// A tar of one layer.
    Archive {
        file: File,
        /// Bytes.
        length: u64,
    },
    /// An image of others.
    Foreign(Box<Chosen>),
}

/// What came out of a file: not visible yet, and gone unless it is published.
pub struct Imported {
    /// Layers of the store that the image stands on, lowest first.
    pub base: Vec<LayerId>,
    /// Lowest first; one at least.
    pub layers: Vec<StagedLayer>,
    pub config: Option<Value>,
}

impl Source {
    /// Opens what is at `path`, which is the user's: links on the way are followed. Of several foreign images in it, the one
    /// called `reference` is meant.
    pub fn open(
        store: &Store,
        path: &Path,
        reference: Option<&str>,
        options: &ImportOptions,
    ) -> Result<Source, ImportError> {
        // Headers and padding come to what is in the files.
        let size = limits(store, options)?.size;
        let limit = size.saturating_add(size / 8).saturating_add(SPOOL_SLACK);
        let kind = match oci::recognise(path, store.folder(), limit)? {
            Some(foreign) => Kind::Foreign(Box::new(foreign.choose(reference)?)),
            None => open_archive(path)?,
        };
        let path = path.into();
        Ok(Source { path, kind })
    }

    /// What the image may be called: what a foreign image says, else the file's name without what says that it is an
    /// archive.
    pub fn suggested_name(&self) -> Option<Reference> {
        let said = match &self.kind {
            Kind::Foreign(image) => image.suggested_name(),
            Kind::Archive { .. } => None,
        };
        match said {
            Some((name, version)) => Some(Reference { name, version }),
            None => name_of_file(self.path.file_name()?.to_str()?),
        }
    }

    /// Unpacks into staged layers. This is the long part, done without the store's lock.
    pub fn unpack(
        self,
        store: &Store,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, ImportError> {
        let file_name = self.path.file_name().unwrap_or_default();
        let origin = LayerOrigin::Archive(file_name.to_string_lossy().into_owned());
        match self.kind {
            Kind::Archive { file, length } => {
                unpack_archive(store, file, length, origin, options, progress)
            }
            Kind::Foreign(image) => unpack_foreign(store, &image, &origin, options, progress),
        }
    }
}

fn open_archive(path: &Path) -> Result<Kind, ImportError> {
    let failed = |errno: Errno| ImportError::Open {
        path: path.into(),
        source: errno.into(),
    };
    // Opening must not wait, whatever kind of file stands there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&file).map_err(failed)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(ImportError::NoFile);
    }
    Ok(Kind::Archive {
        file: File::from(file),
        length: u64::try_from(stat.st_size).unwrap_or(0),
    })
}

fn unpack_archive(
    store: &Store,
    file: File,
    length: u64,
    origin: LayerOrigin,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    let passed = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        inner: file,
        passed: passed.clone(),
    };
    unpack_image(store, counted, origin, options, &mut || {
        progress(Progress {
            passed: passed.load(Ordering::Relaxed),
            whole: length,
        });
    })
}

/// Unpacks an archive of one layer that comes as a stream, compressed or not. `tell` is called again and again meanwhile.
pub(crate) fn unpack_image(
    store: &Store,
    from: impl Read + Send + 'static,
    origin: LayerOrigin,
    options: &ImportOptions,
    tell: &mut dyn FnMut(),
) -> Result<Imported, ImportError> {
    let (mut layer, unpacked) = unpack_layer(store, from, origin, options, tell)?;
    let (mut base, mut config) = (Vec::new(), None);
    if let Some(text) = &unpacked.description {
        let description = believe(text, &unpacked)?;
        layer.digest = Some(description.digest);
        config = description.config;
        if options.base == Base::Needed {
            base = find_base(store, &description.base)?;
        }
    }
    layer.measure()?;
    Ok(Imported {
        base,
        layers: vec![layer],
        config,
    })
}

/// The same without believing anything that it says of itself.
pub(crate) fn unpack_layer(
    store: &Store,
    from: impl Read + Send + 'static,
    origin: LayerOrigin,
    options: &ImportOptions,
    tell: &mut dyn FnMut(),
) -> Result<(StagedLayer, Unpacked), ImportError> {
    let mut layer = store.stage()?;
    layer.origin = Some(origin);
    let mut watched = Watched {
        inner: decompress(from).map_err(|source| ImportError::Begin { source })?,
        tell,
    };
    let unpacked = unpack(&mut watched, layer.tree(), &unpack_options(store, options)?)?;
    Ok((layer, unpacked))
}

pub(super) fn unpack_options(
    store: &Store,
    options: &ImportOptions,
) -> Result<UnpackOptions, ImportError> {
    Ok(UnpackOptions {
        whiteouts: Whiteouts::Devices,
        devices: options.devices,
        limits: limits(store, options)?,
    })
}

/// What may come out: no more than there is room for, so that a bomb is refused before it has filled the disk.
fn limits(store: &Store, options: &ImportOptions) -> Result<Limits, ImportError> {
    let room = fstatvfs(store.layers_folder()).map_err(|errno| ImportError::Room {
        source: errno.into(),
    })?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    Ok(Limits {
        size: options.max_size.unwrap_or(free),
        ..Limits::default()
    })
}

/// The description, where what it says of the archive is true.
fn believe(text: &[u8], unpacked: &Unpacked) -> Result<Description, ImportError> {
    let description =
        Description::parse(text).map_err(|source| ImportError::Description { source })?;
    match description.digest == unpacked.digest {
        true => Ok(description),
        false => Err(ImportError::Digest {
            said: description.digest,
            found: unpacked.digest.clone(),
        }),
    }
}

/// The layers of the store that have these digests.
fn find_base(store: &Store, base: &[BaseLayer]) -> Result<Vec<LayerId>, ImportError> {
    if base.is_empty() {
        return Ok(Vec::new());
    }
    let known = layers_by_digest(store)?;
    let find = |layer: &BaseLayer| match known.get(&layer.digest) {
        Some(id) => Ok(id.clone()),
        None => Err(ImportError::NoBase {
            image: layer.image.clone(),
            digest: layer.digest.clone(),
        }),
    };
    base.iter().map(find).collect()
}

/// The layers of the store whose digests are known, by them.
pub(crate) fn layers_by_digest(store: &Store) -> Result<HashMap<Digest, LayerId>, ImportError> {
    let mut known = HashMap::new();
    for id in store.layer_ids()? {
        // One that goes meanwhile, or cannot be read, is nothing to stand on.
        if let Some(digest) = store.layer(&id).ok().and_then(|layer| layer.digest) {
            known.insert(digest, id);
        }
    }
    Ok(known)
}

fn name_of_file(file_name: &str) -> Option<Reference> {
    let mut name = file_name;
    // As often as they are stacked: `a.tar.gz.cockerimage` is `a`.
    while let Some(shorter) = EXTENSIONS
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
    {
        name = shorter;
    }
    Reference::parse(name).ok()
}

/// Counts the bytes that another thread reads.
struct Counted<R> {
    inner: R,
    passed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.passed.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Tells at every read.
struct Watched<R, T> {
    inner: R,
    tell: T,
}

impl<R: Read, T: FnMut()> Read for Watched<R, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (self.tell)();
        self.inner.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_as_its_file() {
        for (file, image) in [
            ("web.cockerimage", Some("web")),
            (
                "calvin=rhel-7.4:1.0.0.cockerimage",
                Some("calvin=rhel-7.4:1.0.0"),
            ),
            ("debian.tar.gz", Some("debian")),
            ("debian:12.tar.zst", Some("debian:12")),
            ("alpine.tgz", Some("alpine")),
            ("plain", Some("plain")),
            (".tar", None),
            ("-x.tar", None),
            ("a b.tar", None),
        ] {
            let name = name_of_file(file).map(|name| name.to_string());
            assert_eq!(name.as_deref(), image, "{file}");
        }
    }
}
