//! The signer's side: a private key from its file, or by the agent that holds it.

use super::agent::{Agent, AgentError};
use super::{HASH, NAMESPACE, SignatureError, is_known, read_bounded, refused_size, shown};
use crate::quote::quote;
use rustix::process::getuid;
use ssh_key::public::KeyData;
use ssh_key::{LineEnding, PrivateKey, PublicKey, Signature, SshSig};
use std::fmt;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest key file, in bytes: an RSA key of 16384 bits has less than 13,000.
const LARGEST_KEY: usize = 64 * 1024;

/// What the first line of a private key's file is, whatever its format.
const PRIVATE: (&[u8], &[u8]) = (b"-----BEGIN ", b"PRIVATE KEY-----");

/// What it is in OpenSSH's format.
const OPENSSH: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----";

/// How the types of certificates end.
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// The passphrase of a private key; it is wiped from memory when it is dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes what was typed, without the end of the line.
    pub fn new(typed: impl Into<Vec<u8>>) -> Passphrase {
        Passphrase(Zeroizing::new(typed.into()))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase")
    }
}

/// A key that can sign.
#[derive(Debug)]
pub struct SigningKey {
    path: PathBuf,
    public: PublicKey,
    holder: Holder,
}

/// Where the private half is.
enum Holder {
    Here(Box<PrivateKey>),
    Agent { agent: Agent, socket: PathBuf },
}

impl fmt::Debug for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Here(_) => formatter.write_str("Here"),
            Holder::Agent { socket, .. } => write!(formatter, "Agent({})", socket.display()),
        }
    }
}

impl SigningKey {
    /// Opens the key in the file `path`.
    ///
    /// That is a private key, or a public key whose private half the agent at the socket `agent` holds. The private key
    /// may be encrypted: an agent that holds it signs then, or `passphrase` is asked, once, with the path. A key in
    /// a security key is always the agent's to use, which has ten seconds to say that it holds it. A private key that
    /// others may read is refused, as ssh does.
    pub fn open(
        path: &Path,
        agent: Option<&Path>,
        passphrase: &mut dyn FnMut(&Path) -> Option<Passphrase>,
    ) -> Result<SigningKey, SignatureError> {
        let failed = |source| SignatureError::ReadKey {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let content = read_bounded(&file, LARGEST_KEY)
            .map_err(failed)?
            .ok_or_else(|| SignatureError::NotAKey { path: path.into() })?;
        if !is_private(&content) {
            let public = public_key(path, &content)?;
            return by_agent(path, public, agent);
        }
        refuse_exposed(path, &file.metadata().map_err(failed)?)?;
        if !content.starts_with(OPENSSH) {
            return Err(SignatureError::OtherFormat { path: path.into() });
        }
        let private =
            PrivateKey::from_openssh(&*content).map_err(|source| SignatureError::DamagedKey {
                path: path.into(),
                source,
            })?;
        let public = private.public_key().clone();
        check_key(path, public.key_data())?;
        if needs_touch(public.key_data()) {
            return by_agent(path, public, agent);
        }
        if !private.is_encrypted() {
            return Ok(SigningKey::here(path, private));
        }
        // An agent that is not there, or does not answer, is no reason not to ask.
        if let Some(key) = agent.and_then(|agent| by_agent(path, public, Some(agent)).ok()) {
            return Ok(key);
        }
        let typed =
            passphrase(path).ok_or_else(|| SignatureError::NoPassphrase { path: path.into() })?;
        decrypt(path, &private, &typed).map(|private| SigningKey::here(path, private))
    }

    /// The signature of `message` for [`NAMESPACE`], armoured, with a line feed at its end.
    ///
    /// An agent may have to ask its user first; it gets two minutes.
    pub fn sign(&mut self, message: &[u8]) -> Result<String, SignatureError> {
        let failed = |source| SignatureError::Sign {
            path: self.path.clone(),
            source,
        };
        let signature = match &mut self.holder {
            Holder::Here(private) => {
                let signature = private.sign(NAMESPACE, HASH, message).map_err(failed)?;
                // A computation that went wrong would give the key away, or a signature that nobody accepts.
                self.public
                    .verify(NAMESPACE, message, &signature)
                    .map_err(failed)?;
                signature
            }
            Holder::Agent { agent, socket } => {
                let data = SshSig::signed_data(NAMESPACE, HASH, message).map_err(failed)?;
                ask(agent, &self.public, &data, message).map_err(|source| {
                    SignatureError::Agent {
                        path: self.path.clone(),
                        socket: socket.clone(),
                        source,
                    }
                })?
            }
        };
        let mut armoured = signature.to_pem(LineEnding::LF).map_err(failed)?;
        if !armoured.ends_with('\n') {
            armoured.push('\n');
        }
        Ok(armoured)
    }

    fn here(path: &Path, private: PrivateKey) -> SigningKey {
        SigningKey {
            path: path.into(),
            public: private.public_key().clone(),
            holder: Holder::Here(Box::new(private)),
        }
    }
}

fn is_private(content: &[u8]) -> bool {
    let line = content.split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default().trim_ascii_end();
    line.starts_with(PRIVATE.0) && line.ends_with(PRIVATE.1)
}

/// The key in the content of a `.pub` file.
fn public_key(path: &Path, content: &[u8]) -> Result<PublicKey, SignatureError> {
    let text = str::from_utf8(content).unwrap_or_default().trim();
    match text.split_ascii_whitespace().next() {
        Some(kind) if kind.ends_with(CERTIFICATE) => Err(SignatureError::KeyType {
            path: path.into(),
            algorithm: quote(kind),
        }),
        _ => {
            PublicKey::from_openssh(text).map_err(|_| SignatureError::NotAKey { path: path.into() })
        }
    }
}

/// As sshkey_perm_ok of OpenSSH: a key of another user's is that user's affair.
fn refuse_exposed(path: &Path, about: &Metadata) -> Result<(), SignatureError> {
    let mode = about.mode() & 0o7777;
    if about.uid() == getuid().as_raw() && mode & 0o077 != 0 {
        return Err(SignatureError::Exposed {
            path: path.into(),
            mode,
        });
    }
    Ok(())
}

/// Whether keys of this type and size sign.
fn check_key(path: &Path, key: &KeyData) -> Result<(), SignatureError> {
    if !is_known(key) {
        return Err(SignatureError::KeyType {
            path: path.into(),
            algorithm: shown(&key.algorithm()),
        });
    }
    match refused_size(key) {
        None => Ok(()),
        Some(bits) => Err(SignatureError::KeySize {
            path: path.into(),
            bits,
        }),
    }
}

/// Whether the private half is in a security key, and its file only says which.
fn needs_touch(key: &KeyData) -> bool {
    key.is_sk_ed25519() || key.is_sk_ecdsa_p256()
}

fn decrypt(
    path: &Path,
    private: &PrivateKey,
    typed: &Passphrase,
) -> Result<PrivateKey, SignatureError> {
    private.decrypt(&*typed.0).map_err(|error| match error {
        // Two numbers inside that do not agree, or a seal that does not fit.
        ssh_key::Error::Crypto => SignatureError::WrongPassphrase { path: path.into() },
        source => SignatureError::DamagedKey {
            path: path.into(),
            source,
        },
    })
}

/// The key as the agent holds it.
fn by_agent(
    path: &Path,
    public: PublicKey,
    socket: Option<&Path>,
) -> Result<SigningKey, SignatureError> {
    check_key(path, public.key_data())?;
    let socket = socket.ok_or_else(|| SignatureError::NoAgent { path: path.into() })?;
    let failed = |source| SignatureError::Agent {
        path: path.into(),
        socket: socket.into(),
        source,
    };
    let blob = public
        .to_bytes()
        .map_err(|source| SignatureError::DamagedKey {
            path: path.into(),
            source,
        })?;
    let mut agent = Agent::connect(socket).map_err(failed)?;
    if !agent.holds(&blob).map_err(failed)? {
        return Err(SignatureError::NotInAgent {
            path: path.into(),
            socket: socket.into(),
        });
    }
    Ok(SigningKey {
        path: path.into(),
        public,
        holder: Holder::Agent {
            agent,
            socket: socket.into(),
        },
    })
}

/// The agent's signature, verified: what it answers is not ours to believe.
fn ask(
    agent: &mut Agent,
    public: &PublicKey,
    data: &[u8],
    message: &[u8],
) -> Result<SshSig, AgentError> {
    let blob = public.to_bytes().map_err(|_| AgentError::Answer)?;
    let answer = agent.sign(&blob, data)?;
    let read = || {
        let signature = Signature::try_from(answer.as_slice()).ok()?;
        let signature = SshSig::new(public.key_data().clone(), NAMESPACE, HASH, signature).ok()?;
        public.verify(NAMESPACE, message, &signature).ok()?;
        Some(signature)
    };
    read().ok_or(AgentError::WrongSignature)
}
