//! Reading attributes: kinds and payloads, in the order in which they lie there.

/// The attributes in `bytes`. What is cut short or lies about its length ends the walk.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

/// The bits of a kind that say how the payload is encoded, not what it is.
const FLAGS: u16 = 0xc000;

impl<'a> Attributes<'a> {
    /// The payload of the first attribute of this kind.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, payload)| payload)
    }

    /// The attributes inside the first one of this kind; none where it is missing.
    pub(crate) fn nest(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or_default())
    }
}

impl<'a> IntoIterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = Walk<'a>;

    fn into_iter(self) -> Walk<'a> {
        Walk(self.0)
    }
}

pub(crate) struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let header = self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !FLAGS;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// A number of 32 bits in the machine's byte order.
pub(crate) fn number_ne(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().copied().map(u32::from_ne_bytes)
}

/// A number of 32 bits in the network's byte order, as nf_tables has them.
pub(crate) fn number_be(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().copied().map(u32::from_be_bytes)
}

/// Text up to the first NUL; what is no UTF-8 is replaced.
pub(crate) fn text(payload: &[u8]) -> String {
    let end = payload.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&payload[..end.unwrap_or(payload.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_walked_and_damage_ends_the_walk() {
        let bytes = [
            5, 0, 1, 0, b'x', 0, 0, 0, // kind 1: "x", padded
            8, 0, 2, 0x80, 4, 0, 3, 0, // kind 2, a nest: kind 3, empty
            200, 0, 4, 0, // says more than there is
        ];
        let attributes = Attributes(&bytes);
        assert_eq!(attributes.into_iter().count(), 2);
        assert_eq!(attributes.find(1), Some(b"x".as_slice()));
        assert_eq!(attributes.nest(2).find(3), Some([].as_slice()));
        assert_eq!(attributes.find(4), None);
        for length in 0..bytes.len() {
            Attributes(&bytes[..length]).into_iter().for_each(drop);
        }
        assert_eq!(Attributes(&[0, 0, 1, 0]).into_iter().count(), 0);
    }
}
