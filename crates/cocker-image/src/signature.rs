//! Signatures of images: OpenSSH's own, as `ssh-keygen -Y sign` makes them and `ssh-keygen -Y verify` checks them.
//!
//! ```text
//! text      what is signed: a line or a few, in memory
//! SSHSIG    version, public key, namespace `cocker-image`, hash, signature over all of it   (PROTOCOL.sshsig of OpenSSH)
//! armour    SSHSIG in base64 between -----BEGIN SSH SIGNATURE----- and -----END SSH SIGNATURE-----
//! ```
//!
//! A [`SigningKey`] signs: a private key file, or a key that the user's agent holds. [`AllowedSigners`] says who may have
//! signed: ALLOWED SIGNERS of ssh-keygen(1). No program is run. A signature comes from strangers: its key is looked up
//! among the allowed ones before anything is computed with it. Nobody is asked for anything here; a passphrase comes
//! from whoever opens the key.

mod agent;
mod allowed;
mod line;
mod signing;

pub use agent::AgentError;
pub use allowed::AllowedSigners;
pub use line::{BadLine, LineError, WrittenTime};
pub use signing::{Passphrase, SigningKey};

use crate::quote::quote;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// What the signatures are for; one that was made for something else is not accepted.
pub const NAMESPACE: &str = "cocker-image";

/// The hash inside a signature that is made here; sha256 is accepted as well.
const HASH: HashAlg = HashAlg::Sha512;

/// RSA keys below are within reach of those who try, in bits.
const LEAST_RSA: usize = 2048;

/// RSA keys above are not computed with, in bits.
const MOST_RSA: usize = 8192;

/// Why nothing was signed, or why a signature is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("cannot read key `{path}`")]
    ReadKey {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What it is, if it is one, is not said: the file may be any.
    #[error("cannot read `{path}` as a key: it is neither a private nor a public key of OpenSSH")]
    NotAKey { path: PathBuf },
    /// `ssh-keygen -p -f KEY` writes such a key anew.
    #[error("cannot read key `{path}`: it is a private key in another format than OpenSSH's")]
    OtherFormat { path: PathBuf },
    /// As ssh refuses it; `mode` has the permission bits.
    #[error("cannot use private key `{path}`: others than its owner may read it (mode {mode:04o})")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("cannot use private key `{path}`: it is encrypted, and its passphrase is not known")]
    NoPassphrase { path: PathBuf },
    #[error("cannot use private key `{path}`: the passphrase is wrong")]
    WrongPassphrase { path: PathBuf },
    #[error("cannot use private key `{path}`")]
    DamagedKey {
        path: PathBuf,
        #[source]
        source: ssh_key::Error,
    },
    #[error("cannot use key `{path}`: nothing is signed with keys of type {algorithm}")]
    KeyType { path: PathBuf, algorithm: String },
    #[error("cannot use key `{path}`: {bits} bits are not between 2048 and 8192 for RSA")]
    KeySize { path: PathBuf, bits: usize },
    /// A public key, or one in a security key; there is no agent to sign with its private half.
    #[error(
        "cannot sign with key `{path}`: only an agent can hold its private half, and there is none"
    )]
    NoAgent { path: PathBuf },
    #[error("cannot sign with key `{path}`: the agent at `{socket}` does not hold it")]
    NotInAgent { path: PathBuf, socket: PathBuf },
    #[error("cannot sign with key `{path}` by the agent at `{socket}`")]
    Agent {
        path: PathBuf,
        socket: PathBuf,
        #[source]
        source: AgentError,
    },
    #[error("cannot sign with key `{path}`")]
    Sign {
        path: PathBuf,
        #[source]
        source: ssh_key::Error,
    },

    #[error("cannot read the allowed signers `{path}`")]
    ReadAllowed {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the allowed signers `{path}`: more than {limit} bytes")]
    ManyAllowed { path: PathBuf, limit: usize },
    #[error("cannot verify the signature: it is larger than {limit} bytes")]
    LargeSignature { limit: usize },
    #[error(
        "cannot verify the signature: it is not one of OpenSSH, from -----BEGIN to -----END SSH SIGNATURE-----"
    )]
    NotASignature,
    #[error("cannot verify the signature: it is damaged")]
    DamagedSignature {
        #[source]
        source: ssh_key::Error,
    },
    /// No version of OpenSSH writes such a thing.
    #[error("cannot verify the signature: it says more than is understood")]
    ReservedField,
    #[error("cannot verify the signature: it was made for `{namespace}`, not for `cocker-image`")]
    OtherNamespace { namespace: String },
    #[error(
        "cannot verify the signature: it was made with a certificate, and only plain keys are read"
    )]
    Certificate,
    /// SHA-1 with RSA, or a type of key that nothing is verified with.
    #[error("cannot verify the signature: {algorithm} is not accepted")]
    Algorithm { algorithm: String },
    #[error(
        "cannot verify the signature: an RSA key of {bits} bits is not accepted, only 2048 to 8192"
    )]
    SignerKeySize { bits: usize },
    /// Sources are the first line of the file that was passed over, if one was.
    #[error("cannot accept the signature: the signer is not in `{path}` (key {fingerprint})")]
    UnknownSigner {
        path: PathBuf,
        fingerprint: String,
        #[source]
        passed_over: Option<BadLine>,
    },
    #[error(
        "cannot accept the signature: line {line} of `{path}` allows its key for other namespaces only"
    )]
    NotForImages { path: PathBuf, line: usize },
    #[error("cannot accept the signature: line {line} of `{path}` has its key expired")]
    Expired { path: PathBuf, line: usize },
    #[error("cannot accept the signature: line {line} of `{path}` has its key not valid yet")]
    NotYetValid { path: PathBuf, line: usize },
    #[error("cannot accept the signature: line {line} of `{path}` names nobody whose key this is")]
    Nobody { path: PathBuf, line: usize },
    #[error("cannot accept the signature: it does not fit the content")]
    Mismatch,
}

impl SignatureError {
    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            SignatureError::UnknownSigner { path, .. } => format!(
                "where you trust that key, add a line with a name and the key to `{}`.",
                path.display()
            ),
            SignatureError::Mismatch => {
                "what is there is not what was signed: ask who keeps it.".into()
            }
            SignatureError::Exposed { path, .. } => {
                format!("close it to others: chmod 600 {}", path.display())
            }
            SignatureError::OtherFormat { path } => {
                format!(
                    "write it anew as OpenSSH has it: ssh-keygen -p -f {}",
                    path.display()
                )
            }
            SignatureError::NoPassphrase { .. } => {
                "let an agent hold it (ssh-add), or sign at a terminal.".into()
            }
            SignatureError::NoAgent { .. } | SignatureError::NotInAgent { .. } => {
                "start an agent and give it the key: ssh-add KEY".into()
            }
            _ => return None,
        })
    }
}

/// What is left of a file, or nothing if it has more than `limit` bytes. It is wiped from memory when it is dropped.
fn read_bounded(file: &File, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // All at once: what grows is copied, and leaves its old self behind.
    let mut content = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(limit as u64 + 1).read_to_end(&mut content)?;
    Ok((content.len() <= limit).then_some(content))
}

/// How a key is called where keys are compared by eye: `SHA256:…`, as `ssh-keygen -l` has it.
fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The name of an algorithm that a stranger may have chosen.
fn shown(algorithm: &Algorithm) -> String {
    quote(algorithm.as_str())
}

/// Whether signatures of keys of this type are understood.
fn is_known(key: &KeyData) -> bool {
    matches!(
        key,
        KeyData::Ed25519(_)
            | KeyData::Ecdsa(_)
            | KeyData::Rsa(_)
            | KeyData::SkEd25519(_)
            | KeyData::SkEcdsaSha2NistP256(_)
    )
}

/// The size of an RSA key that is too small or too large to be used, in bits.
fn refused_size(key: &KeyData) -> Option<usize> {
    let modulus = key.rsa()?.n().as_positive_bytes().unwrap_or_default();
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(leading as usize);
    (!(LEAST_RSA..=MOST_RSA).contains(&bits)).then_some(bits)
}
