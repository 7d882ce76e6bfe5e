//! Images in an account on a server, reached by sftp: nothing is installed there.
//!
//! What lies there, and how it is called, is drawn in `names.rs`. Everything appears by one rename, after all of it is there:
//!
//! ```text
//! push    pack ──▶ .<file>.part ──▶ (as long as it takes) ──▶ lock ──▶ rename ──▶ unlock
//! pull    transfers/<key>/….data ──▶ unpack, at the same time ──▶ digests ──▶ a staged layer, which the engine publishes
//! ```
//!
//! Who gives or takes names holds `.cocker.lock`, a folder, for as long as some requests take. A transfer that is broken off
//! is gone on with when it is asked for again; what is kept for that on this side is in `unfinished.rs`.
//!
//! A repository is never believed: names are taken only where they are those of images, nothing is followed but regular files,
//! what is read is bounded, and what is unpacked is unpacked as any archive is.

mod address;
mod error;
mod fetching;
mod listing;
mod manifest;
mod names;
mod pull;
mod push;
mod remembered;
mod removal;
mod sending;
mod server;
mod stream;
mod unfinished;

pub use address::{Address, BadAddress};
pub use error::RepositoryError;
pub use listing::RemoteImage;
pub use names::ImageId;
pub use pull::{Kept, Pulled, PulledImage, Verifying};
pub use push::{Ahead, Push};
pub(crate) use remembered::STAGED as STAGED_ADDRESS;
pub use remembered::{remember, remembered};
pub(crate) use unfinished::is_transfer;

pub use cocker_sftp::Prompts;

use cocker_sftp::{Session, Ssh};
use std::path::PathBuf;
use std::time::Duration;

/// A server on which nothing moves for this long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an image lies in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The image's own layer in one file, which needs no cocker of this kind to be read.
    File,
    /// All its layers, each of which lies there once for all images that have it.
    Layers,
}

/// An open repository.
pub struct Repository {
    address: Address,
    session: Session,
}

impl Repository {
    /// Connects by the user's own ssh. With [`Prompts::Never`] nothing is asked: what would be asked is an error.
    pub fn open(address: &Address, prompts: Prompts) -> Result<Repository, RepositoryError> {
        let ssh = Ssh {
            program: PathBuf::from("ssh"),
            user: address.user.clone(),
            host: address.host.clone(),
            port: address.port,
            prompts,
            patience: PATIENCE,
        };
        Ok(Repository {
            address: address.clone(),
            session: Session::open(&ssh)?,
        })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where `name` is for the server.
    fn path(&self, name: &str) -> String {
        match &*self.address.folder {
            "" => name.into(),
            "/" => format!("/{name}"),
            folder => format!("{folder}/{name}"),
        }
    }

    /// The repository's folder for the server.
    fn folder(&self) -> &str {
        match &*self.address.folder {
            "" => ".",
            folder => folder,
        }
    }
}
