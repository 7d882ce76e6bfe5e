//! Which machine an image is made for.

use super::documents::Platform;
use std::fmt;

/// The one operating system whose images can be containers here.
pub(super) const OS: &str = "linux";

/// What Go, and with it every image, calls this machine's architecture.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl Platform {
    /// Whether an image for this platform runs here; what an image does not say is no obstacle.
    pub fn runs_here(&self) -> bool {
        let fits = |said: &str, here: &str| said.is_empty() || said == here;
        fits(&self.os, OS) && fits(&self.architecture, architecture())
    }

    /// Whether it is for a certain kind of processor only, such as `v3`.
    pub fn is_special(&self) -> bool {
        self.variant
            .as_deref()
            .is_some_and(|variant| !variant.is_empty())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |text: &'_ str| if text.is_empty() { "unknown" } else { text }.to_owned();
        write!(
            f,
            "{}/{}",
            or_unknown(&self.os),
            or_unknown(&self.architecture)
        )?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}
