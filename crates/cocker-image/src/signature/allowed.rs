//! The verifier's side: who may have signed, and whether one of them did.

use super::line::{self, BadLine, LineError, Signer, WrittenTime};
use super::{NAMESPACE, SignatureError, fingerprint, is_known, read_bounded, refused_size, shown};
use crate::quote::quote;
use ssh_key::encoding::{Base64Reader, Decode, Reader};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, PublicKey, SshSig};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest file of allowed signers, in bytes: some ten thousand keys.
const LARGEST_FILE: usize = 1024 * 1024;

/// The largest armoured signature, in bytes: one by an RSA key of 8192 bits has less than 3,000.
const LARGEST_SIGNATURE: usize = 16 * 1024;

/// What a signature begins with, and what it ends with.
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "\n-----END SSH SIGNATURE-----";

/// The keys whose signatures are accepted, and whose they are.
#[derive(Debug)]
pub struct AllowedSigners {
    path: PathBuf,
    /// With the numbers of their lines, as below.
    signers: Vec<(usize, Signer)>,
    bad: Vec<(usize, LineError)>,
}

impl AllowedSigners {
    /// Reads an allowed signers file as ssh-keygen(1) says; `local` is when the user's clock shows a time, which is asked
    /// for the times in the file that say no zone.
    ///
    /// As with ssh-keygen, a line that cannot be read, or has a type of key that is not known, allows nobody and takes
    /// nothing from the others; see [`bad_lines`](Self::bad_lines).
    pub fn open(
        path: &Path,
        local: &dyn Fn(WrittenTime) -> Option<SystemTime>,
    ) -> Result<AllowedSigners, SignatureError> {
        let failed = |source| SignatureError::ReadAllowed {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let content = read_bounded(&file, LARGEST_FILE)
            .map_err(failed)?
            .ok_or_else(|| SignatureError::ManyAllowed {
                path: path.into(),
                limit: LARGEST_FILE,
            })?;
        let mut allowed = AllowedSigners {
            path: path.into(),
            signers: Vec::new(),
            bad: Vec::new(),
        };
        for (index, text) in content.split(|byte| *byte == b'\n').enumerate() {
            match line::read(text, local) {
                None => {}
                Some(Ok(signer)) => allowed.signers.push((index + 1, signer)),
                Some(Err(why)) => allowed.bad.push((index + 1, why)),
            }
        }
        Ok(allowed)
    }

    /// The lines that allow nobody, in their order: worth a warning, since somebody meant something by them.
    pub fn bad_lines(&self) -> impl Iterator<Item = BadLine> {
        self.bad.iter().map(|(line, why)| BadLine {
            path: self.path.clone(),
            line: *line,
            source: why.clone(),
        })
    }

    /// Who signed `message`: the principals of the first line that allows the signature, as they stand there.
    ///
    /// `armoured` may be anything. It must be a signature for [`NAMESPACE`], by a key of the file that is allowed `now`,
    /// over exactly these bytes.
    pub fn verify(
        &self,
        message: &[u8],
        armoured: &str,
        now: SystemTime,
    ) -> Result<String, SignatureError> {
        let signature = read_signature(armoured)?;
        let key = signature.public_key();
        // Who it is comes first: nothing is computed with a stranger's key.
        let signer = self.allowing(key, now)?;
        if let Some(bits) = refused_size(key) {
            return Err(SignatureError::SignerKeySize { bits });
        }
        PublicKey::from(key.clone())
            .verify(NAMESPACE, message, &signature)
            .map_err(|_| SignatureError::Mismatch)?;
        Ok(String::from_utf8_lossy(&signer.principals).into_owned())
    }

    /// The first line that allows the key, or why the first one that has it does not.
    fn allowing(&self, key: &KeyData, now: SystemTime) -> Result<&Signer, SignatureError> {
        let mut refusal = None;
        for (line, signer) in self.signers.iter().filter(|(_, signer)| signer.key == *key) {
            match self.refuses(*line, signer, now) {
                None => return Ok(signer),
                Some(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        Err(refusal.unwrap_or_else(|| SignatureError::UnknownSigner {
            path: self.path.clone(),
            fingerprint: fingerprint(key),
            passed_over: self.bad_lines().next(),
        }))
    }

    fn refuses(&self, line: usize, signer: &Signer, now: SystemTime) -> Option<SignatureError> {
        let path = self.path.clone();
        let namespaces = signer.namespaces.as_deref();
        // In whole seconds, as the times in the file are: the last one is still within.
        let now = whole_seconds(now);
        if namespaces.is_some_and(|list| !line::list_has(list, NAMESPACE.as_bytes())) {
            Some(SignatureError::NotForImages { path, line })
        } else if signer.valid_after.is_some_and(|after| now < after) {
            Some(SignatureError::NotYetValid { path, line })
        } else if signer.valid_before.is_some_and(|before| now > before) {
            Some(SignatureError::Expired { path, line })
        } else if !line::list_has_somebody(&signer.principals) {
            Some(SignatureError::Nobody { path, line })
        } else {
            None
        }
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        Err(_) => time,
    }
}

/// A signature of a kind that is understood, for our namespace; nothing of it is verified.
fn read_signature(armoured: &str) -> Result<SshSig, SignatureError> {
    if armoured.len() > LARGEST_SIGNATURE {
        return Err(SignatureError::LargeSignature {
            limit: LARGEST_SIGNATURE,
        });
    }
    let base64 = take_off(armoured).ok_or(SignatureError::NotASignature)?;
    let signature =
        decode(&base64).map_err(|source| SignatureError::DamagedSignature { source })?;
    // Nothing is signed over the number, so it cannot have two meanings.
    if signature.version() != SshSig::VERSION {
        return Err(SignatureError::DamagedSignature {
            source: ssh_key::Error::Version {
                number: signature.version(),
            },
        });
    }
    // ssh-keygen verifies as if it were empty, and so must every reader that agrees with it.
    if !signature.reserved().is_empty() {
        return Err(SignatureError::ReservedField);
    }
    if signature.namespace() != NAMESPACE {
        return Err(SignatureError::OtherNamespace {
            namespace: quote(signature.namespace()),
        });
    }
    let key = signature.public_key();
    if key.is_certificate() {
        return Err(SignatureError::Certificate);
    }
    let algorithm = signature.algorithm();
    // `ssh-rsa` as a signature is SHA-1.
    if !is_known(key) || algorithm == (Algorithm::Rsa { hash: None }) {
        return Err(SignatureError::Algorithm {
            algorithm: shown(&algorithm),
        });
    }
    Ok(signature)
}

/// The base64 inside an armour, which may have its lines as it likes; what follows the armour is not looked at.
fn take_off(armoured: &str) -> Option<String> {
    // Not every version of OpenSSH takes another line end here.
    let rest = armoured.strip_prefix(BEGIN)?.strip_prefix('\n')?;
    let (inside, _) = rest.split_once(END)?;
    Some(inside.split_ascii_whitespace().collect())
}

/// By this reader, since it lets nothing stand behind the parts of a signature or the whole.
fn decode(base64: &str) -> Result<SshSig, ssh_key::Error> {
    let mut reader = Base64Reader::new(base64.as_bytes())?;
    let signature = SshSig::decode(&mut reader)?;
    Ok(reader.finish(signature)?)
}
