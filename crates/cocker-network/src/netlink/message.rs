//! Building messages.

use super::numbers::NLA_F_NESTED;

/// Messages that are sent in one datagram, each with what it does, for whoever has to say that it could not be done.
#[derive(Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

pub(super) struct Part {
    pub start: usize,
    pub what: String,
}

/// One message under construction; complete when it is dropped.
pub(crate) struct Message<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

/// Length of nlmsghdr.
pub(super) const HEADER: usize = 16;
const LENGTH: usize = 4;
pub(super) const FLAGS: usize = 6;
pub(super) const SEQUENCE: usize = 8;

impl Messages {
    pub(crate) fn new() -> Messages {
        Messages::default()
    }

    /// Begins the next message. `what` finishes the sentence "cannot …"; `header` is the family's own header.
    pub(crate) fn begin(
        &mut self,
        what: impl Into<String>,
        kind: u16,
        flags: u16,
        header: &[u8],
    ) -> Message<'_> {
        let start = self.bytes.len();
        let what = what.into();
        self.parts.push(Part { start, what });
        self.bytes.extend([0; LENGTH]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend([0; 8]);
        let mut message = Message {
            bytes: &mut self.bytes,
            start,
        };
        message.append(header);
        message
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn into_parts(self) -> (Vec<u8>, Vec<Part>) {
        (self.bytes, self.parts)
    }
}

impl Message<'_> {
    pub(crate) fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(payload.len() + 4).expect("an attribute is shorter than 64 KiB");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.append(payload);
        self
    }

    /// With the NUL at its end that the kernel expects.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// In the machine's byte order.
    pub(crate) fn put_number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.put(kind, &number.to_ne_bytes())
    }

    /// In the network's byte order, as nf_tables wants them.
    pub(crate) fn put_number_be(&mut self, kind: u16, number: u32) -> &mut Self {
        self.put(kind, &number.to_be_bytes())
    }

    /// An attribute that holds those that `fill` puts.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NLA_F_NESTED).to_ne_bytes());
        fill(self);
        let length =
            u16::try_from(self.bytes.len() - start).expect("a nest is shorter than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Bytes that are no attribute, such as a header inside a nest.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + LENGTH].copy_from_slice(&length.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Attributes;

    #[test]
    fn a_message_says_its_length_and_its_attributes_can_be_read_back() {
        let mut messages = Messages::new();
        messages
            .begin("test", 7, 1, &[9; 4])
            .put_text(1, "abc")
            .nest(2, |nest| {
                nest.put_number(3, 5).put(4, &[1]);
            });
        messages.begin("test", 8, 0, &[]);
        let (bytes, parts) = messages.into_parts();
        assert_eq!(
            (parts[0].start, parts[1].start),
            (0, 16 + 4 + 8 + 4 + 8 + 8)
        );
        assert_eq!(bytes[..4], 48u32.to_ne_bytes());
        assert_eq!(bytes.len(), 48 + 16);
        let attributes = Attributes(&bytes[20..48]);
        assert_eq!(attributes.find(1), Some(b"abc\0".as_slice()));
        assert_eq!(attributes.nest(2).find(4), Some([1].as_slice()));
    }
}
