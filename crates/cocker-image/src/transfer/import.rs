//! Reads a file into staged layers that nobody sees yet.

use super::Progress;
use super::description::{BadDescription, BaseLayer, Description};
use crate::archive::{
    Devices, Limits, UnpackError, UnpackOptions, Unpacked, Whiteouts, decompress, unpack,
};
use crate::{Digest, LayerId, LayerOrigin, Reference, StagedLayer, Store, StoreError};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatvfs, openat};
use rustix::io::Errno;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

#[derive(Clone, Copy, Debug)]
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
    #[error("cannot import `{}`: it is not a regular file", path.display())]
    NoFile { path: PathBuf },
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
            ImportError::NoBase { .. } => Some(
                "import that first, or import this image's own files alone: --no-base".into(),
            ),
            ImportError::Unpack(UnpackError::Refused { reason, .. }) => {
                use crate::archive::Refusal;
                match reason {
                    Refusal::Device => Some("where you trust the archive: --allow-devices".into()),
                    Refusal::Size(_) => Some(
                        "make room, or allow more where you trust the archive: --max-size".into(),
                    ),
                    _ => None,
                }
            }
            ImportError::Unpack(error) if error.is_disk_full() => Some(
                "make room: `cocker df` shows what takes it, `cocker prune` removes what nothing needs."
                    .into(),
            ),
            _ => None,
        }
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
    file: File,
    path: PathBuf,
    /// Bytes.
    length: u64,
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
    /// Opens the file at `path`, which is the user's: links on the way are followed.
    pub fn open(path: &Path) -> Result<Source, ImportError> {
        let failed = |errno: Errno| ImportError::Open {
            path: path.into(),
            source: errno.into(),
        };
        // Opening must not wait, whatever kind of file stands there.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(ImportError::NoFile { path: path.into() });
        }
        Ok(Source {
            file: File::from(file),
            path: path.into(),
            length: u64::try_from(stat.st_size).unwrap_or(0),
        })
    }

    /// What the image may be called: the file's name without what says that it is an archive.
    pub fn suggested_name(&self) -> Option<Reference> {
        name_of_file(self.path.file_name()?.to_str()?)
    }

    /// Unpacks into a staged layer. This is the long part, done without the store's lock.
    pub fn unpack(
        self,
        store: &Store,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, ImportError> {
        let origin = self.path.file_name().unwrap_or_default();
        let origin = LayerOrigin::Archive(origin.to_string_lossy().into_owned());
        let mut layer = store.stage()?;
        let unpacked = self.unpack_into(store, &layer, options, progress)?;
        layer.origin = Some(origin);
        let description = match &unpacked.description {
            Some(text) => Some(believe(text, &unpacked)?),
            None => None,
        };
        let mut imported = Imported {
            base: Vec::new(),
            layers: Vec::new(),
            config: None,
        };
        if let Some(description) = description {
            layer.digest = Some(description.digest);
            imported.config = description.config;
            if options.base == Base::Needed {
                imported.base = find_base(store, &description.base)?;
            }
        }
        layer.seal()?;
        imported.layers.push(layer);
        Ok(imported)
    }

    fn unpack_into(
        self,
        store: &Store,
        layer: &StagedLayer,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Unpacked, ImportError> {
        let options = UnpackOptions {
            whiteouts: Whiteouts::Devices,
            devices: options.devices,
            limits: limits(store, options)?,
        };
        let whole = self.length;
        let passed = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: self.file,
            passed: passed.clone(),
        };
        let unpacked = decompress(counted).map_err(|source| ImportError::Begin { source })?;
        let mut watched = Watched {
            inner: unpacked,
            tell: || {
                progress(Progress {
                    passed: passed.load(Ordering::Relaxed),
                    whole,
                });
            },
        };
        Ok(unpack(&mut watched, layer.tree(), &options)?)
    }
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
    let mut known = std::collections::HashMap::new();
    for id in store.layer_ids()? {
        // One that goes meanwhile, or cannot be read, is nothing to stand on.
        if let Ok(Some(digest)) = store.layer(&id).map(|layer| layer.digest) {
            known.insert(digest, id);
        }
    }
    let find = |layer: &BaseLayer| match known.get(&layer.digest) {
        Some(id) => Ok(id.clone()),
        None => Err(ImportError::NoBase {
            image: layer.image.clone(),
            digest: layer.digest.clone(),
        }),
    };
    base.iter().map(find).collect()
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
