//! Media types: what the content behind a descriptor is said to be.
//!
//! Whether a layer is compressed is not taken from here but recognised by its content.

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
/// Of old, what an uncompressed layer of Docker was called.
const DOCKER_PLAIN_LAYER: &str = "application/vnd.docker.container.image.rootfs.diff+x-gtar";
const ENCRYPTED: &str = "+encrypted";

/// What a descriptor of an index points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Index,
    Manifest,
    Schema1,
    Unknown,
}

/// What a descriptor of a manifest points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Files,
    /// Its files are to be had elsewhere only.
    Foreign,
    Encrypted,
    Unknown,
}

pub(super) fn document(media_type: &str) -> Document {
    match media_type {
        OCI_INDEX | DOCKER_INDEX => Document::Index,
        OCI_MANIFEST | DOCKER_MANIFEST => Document::Manifest,
        other if other.starts_with(DOCKER_SCHEMA_1) => Document::Schema1,
        _ => Document::Unknown,
    }
}

pub(super) fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

pub(super) fn layer(media_type: &str) -> Layer {
    if media_type.ends_with(ENCRYPTED) {
        return Layer::Encrypted;
    }
    let (kind, compression) = match media_type.split_once(".tar") {
        Some((kind, compression)) => (&media_type[..kind.len() + ".tar".len()], compression),
        None => (media_type, ""),
    };
    match (kind, compression) {
        (DOCKER_PLAIN_LAYER, "") | (OCI_LAYER, "" | "+gzip" | "+zstd") => Layer::Files,
        (DOCKER_LAYER, "" | ".gzip" | ".zstd") => Layer::Files,
        (OCI_FOREIGN_LAYER, "" | "+gzip" | "+zstd") => Layer::Foreign,
        (DOCKER_FOREIGN_LAYER, "" | ".gzip" | ".zstd") => Layer::Foreign,
        _ => Layer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_apart_by_their_media_types() {
        for (media_type, is) in [
            ("application/vnd.oci.image.layer.v1.tar", Layer::Files),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Layer::Files),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Layer::Files),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                Layer::Files,
            ),
            ("application/vnd.docker.image.rootfs.diff.tar", Layer::Files),
            (DOCKER_PLAIN_LAYER, Layer::Files),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                Layer::Encrypted,
            ),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                Layer::Foreign,
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                Layer::Foreign,
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+brotli",
                Layer::Unknown,
            ),
            ("application/vnd.in-toto+json", Layer::Unknown),
            ("", Layer::Unknown),
        ] {
            assert_eq!(layer(media_type), is, "{media_type}");
        }
    }

    #[test]
    fn documents_are_told_apart_by_their_media_types() {
        assert_eq!(document(OCI_INDEX), Document::Index);
        assert_eq!(document(DOCKER_MANIFEST), Document::Manifest);
        for suffix in ["json", "prettyjws"] {
            assert_eq!(
                document(&format!("{DOCKER_SCHEMA_1}{suffix}")),
                Document::Schema1
            );
        }
        assert_eq!(document("text/plain"), Document::Unknown);
    }
}
