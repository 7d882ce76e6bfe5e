//! An initramfs: a cpio archive in the format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The kernel unpacks several archives one after the other, so what differs from boot to boot is an archive of its own.

/// An archive that grows by what is added to it.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
}

impl Archive {
    /// Adds a folder; the one above it is there.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, b"");
    }

    /// Adds a file that root may execute.
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, 0o100_755, contents);
    }

    /// Ends the archive.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.inodes += 1;
        let size = u32::try_from(contents.len()).expect("a file of an initramfs is small");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        let links = 1;
        // Inode, mode, owner, group, links, time, size, four numbers of devices, size of the name, checksum (unused).
        let fields = [
            self.inodes,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    /// Names and contents begin at multiples of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
