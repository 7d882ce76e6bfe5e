//! Digests of contents: `sha256:` and 64 lower-case hexadecimal digits, as the OCI image specification writes them
//! (image-spec, descriptor.md, "Digests").

use crate::quote::quote;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read, Write};

const ALGORITHM: &str = "sha256:";

/// The SHA-256 of some content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: it must be `sha256:` and 64 lower-case hexadecimal digits")]
pub struct BadDigest {
    text: String,
}

impl Digest {
    /// Takes a text exactly as it stands.
    pub fn parse(text: &str) -> Result<Digest, BadDigest> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.strip_prefix(ALGORITHM) {
            Some(digits) if digits.len() == 64 && digits.bytes().all(is_digit) => {
                Ok(Digest(text.into()))
            }
            _ => Err(BadDigest { text: quote(text) }),
        }
    }

    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut digester = Digester::new(io::sink());
        digester.count(bytes);
        digester.finish().0
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits; safe as the name of a file.
    pub fn hex(&self) -> &str {
        &self.0[ALGORITHM.len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;
    fn try_from(text: String) -> Result<Digest, BadDigest> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

/// Passes bytes on, in either direction, and counts them with their digest.
pub struct Digester<T> {
    inner: T,
    hash: Sha256,
    length: u64,
}

impl<T> Digester<T> {
    pub fn new(inner: T) -> Digester<T> {
        Digester {
            inner,
            hash: Sha256::new(),
            length: 0,
        }
    }

    /// The digest and the number of bytes that have passed, and what was wrapped.
    pub fn finish(self) -> (Digest, u64, T) {
        (written(self.hash), self.length, self.inner)
    }

    /// The digest of what has passed so far.
    pub(crate) fn so_far(&self) -> Digest {
        written(self.hash.clone())
    }

    /// How many bytes have passed.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Counts bytes that were passed on otherwise.
    pub(crate) fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }
}

fn written(hash: Sha256) -> Digest {
    let mut text = String::from(ALGORITHM);
    for byte in hash.finalize() {
        text.push_str(&format!("{byte:02x}"));
    }
    Digest(text)
}

impl<W: Write> Write for Digester<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Digester<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.count(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's own example, as NIST publishes it.
    const OF_ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_digest_of_what_passed_is_that_of_the_whole() {
        assert_eq!(Digest::of(b"abc").as_str(), OF_ABC);
        let mut writer = Digester::new(Vec::new());
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        let (digest, length, bytes) = writer.finish();
        assert_eq!((digest.as_str(), length), (OF_ABC, 3));
        assert_eq!(bytes, b"abc");
        let mut reader = Digester::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish().0.as_str(), OF_ABC);
    }

    #[test]
    fn only_whole_digests_are_taken() {
        let digest = Digest::parse(OF_ABC).unwrap();
        assert_eq!(digest.hex(), &OF_ABC[7..]);
        let upper = OF_ABC.to_uppercase();
        for text in [
            "",
            "sha256:",
            &OF_ABC[..70],
            "sha512:00",
            &upper,
            &OF_ABC[7..],
        ] {
            assert!(Digest::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
