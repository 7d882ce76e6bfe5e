//! Archives made by hand, byte by byte.

/// One header block and its contents, padded. The name goes into the header as it is, cut at 100 bytes.
pub struct Raw {
    pub block: [u8; 512],
    contents: Vec<u8>,
}

/// An entry as ustar has it: mode 0644 (folders 0755), root's, of time 1.
pub fn raw(name: impl AsRef<[u8]>, typeflag: u8) -> Raw {
    let mut raw = Raw {
        block: [0; 512],
        contents: Vec::new(),
    };
    let mode = if typeflag == b'5' {
        "0000755"
    } else {
        "0000644"
    };
    let name = name.as_ref();
    raw.put(0, &name[..name.len().min(100)]);
    raw.put(100, mode.as_bytes());
    raw.put(108, b"0000000");
    raw.put(116, b"0000000");
    raw.put(124, b"00000000000");
    raw.put(136, b"00000000001");
    raw.put(156, &[typeflag]);
    raw.put(257, b"ustar\x0000");
    raw
}

/// A regular file.
pub fn file(name: impl AsRef<[u8]>, contents: &[u8]) -> Vec<u8> {
    raw(name, b'0').contents(contents).bytes()
}

pub fn folder(name: impl AsRef<[u8]>) -> Vec<u8> {
    raw(name, b'5').bytes()
}

/// A symbolic (`2`) or hard (`1`) link.
pub fn link(name: impl AsRef<[u8]>, typeflag: u8, target: impl AsRef<[u8]>) -> Vec<u8> {
    let mut raw = raw(name, typeflag);
    raw.put(157, target.as_ref());
    raw.bytes()
}

pub fn device(name: impl AsRef<[u8]>, typeflag: u8, major: u32, minor: u32) -> Vec<u8> {
    let mut raw = raw(name, typeflag);
    raw.put(329, format!("{major:07o}").as_bytes());
    raw.put(337, format!("{minor:07o}").as_bytes());
    raw.bytes()
}

/// A pax header of type `x` or `g`.
pub fn pax(typeflag: u8, records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..)
            .find(|length| length.to_string().len() + rest == *length)
            .unwrap();
        text.extend_from_slice(format!("{length} ").as_bytes());
        text.extend_from_slice(&[key, &b"="[..], value, b"\n"].concat());
    }
    raw("PaxHeaders/x", typeflag).contents(&text).bytes()
}

/// The entries and the end.
pub fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

impl Raw {
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn contents(mut self, contents: &[u8]) -> Raw {
        self.put(124, format!("{:011o}", contents.len()).as_bytes());
        self.contents = contents.to_vec();
        self
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.put(148, b"        ");
        let sum: u32 = self.block.iter().map(|&byte| u32::from(byte)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = [&self.block[..], &self.contents].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}
