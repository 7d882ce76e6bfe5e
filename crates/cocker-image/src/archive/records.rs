//! Records of pax extended headers: `LENGTH KEY=VALUE\n`, the length counting the whole record (pax(1), "pax Extended Header").

use super::attributes;

/// Before the name of an extended attribute.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// Appends one record. Neither a NUL nor a newline in the value needs care, since the length bounds it.
pub(super) fn append(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + b" =\n".len();
    let mut length = rest + 1;
    while rest + digits(length) != length {
        length = rest + digits(length);
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.ilog10() as usize + 1
}

/// Appends an extended attribute. A key ends at the first `=`, so `=` in a name is written as GNU tar does: `%3D`, and `%` as `%25`.
pub(super) fn append_attribute(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut key = ATTRIBUTE.to_vec();
    for &byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            other => key.push(other),
        }
    }
    append(records, &key, value);
}

/// The name of the extended attribute that a key stands for, if it does.
pub(super) fn attribute_name(key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key.strip_prefix(ATTRIBUTE)?;
    let mut name = Vec::with_capacity(rest.len().min(attributes::LONGEST_NAME));
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, tail) = match (byte, tail) {
            (b'%', [b'2', b'5', tail @ ..]) => (b'%', tail),
            (b'%', [b'3', b'D', tail @ ..]) => (b'=', tail),
            (byte, tail) => (byte, tail),
        };
        name.push(byte);
        rest = tail;
    }
    Some(name)
}

/// What is wrong with records: they are not of the form above.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadRecords;

/// The records in their order, each as key and value.
pub(super) struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    pub fn new(bytes: &'a [u8]) -> Records<'a> {
        Records(bytes)
    }

    fn take_one(&mut self) -> Result<(&'a [u8], &'a [u8]), BadRecords> {
        let space = self
            .0
            .iter()
            .take(21)
            .position(|&byte| byte == b' ')
            .ok_or(BadRecords)?;
        let length = super::numbers::decimal(&self.0[..space]).ok_or(BadRecords)?;
        let length = usize::try_from(length).map_err(|_| BadRecords)?;
        let record = self.0.get(space + 1..length).ok_or(BadRecords)?;
        let record = record.strip_suffix(b"\n").ok_or(BadRecords)?;
        let equals = record
            .iter()
            .position(|&byte| byte == b'=')
            .ok_or(BadRecords)?;
        self.0 = &self.0[length..];
        Ok((&record[..equals], &record[equals + 1..]))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), BadRecords>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.take_one();
        if record.is_err() {
            self.0 = &[];
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_counts_itself() {
        for length in 0..1200 {
            let mut records = Vec::new();
            append(&mut records, b"k", &vec![b'\n'; length]);
            append(&mut records, b"next", b"a=b\0");
            let read: Vec<_> = Records::new(&records).map(Result::unwrap).collect();
            assert_eq!(read[0], (&b"k"[..], &vec![b'\n'; length][..]));
            assert_eq!(read[1], (&b"next"[..], &b"a=b\0"[..]));
        }
    }

    #[test]
    fn names_of_attributes_come_back_whatever_is_in_them() {
        let names: [&[u8]; 4] = [b"user.a=b", b"user.100%", b"user.%3D%25", b"user.\xff\n="];
        for name in names {
            let mut records = Vec::new();
            append_attribute(&mut records, name, b"=\n\0");
            let (key, value) = Records::new(&records).next().unwrap().unwrap();
            assert_eq!(attribute_name(key).as_deref(), Some(name));
            assert_eq!(value, b"=\n\0");
        }
        assert_eq!(attribute_name(b"path"), None);
        assert_eq!(
            attribute_name(b"SCHILY.xattr.user.%3d%").as_deref(),
            Some(&b"user.%3d%"[..])
        );
    }

    #[test]
    fn what_is_no_record_is_an_error_and_the_end() {
        let malformed: [&[u8]; 9] = [
            b"path=x\n",
            b"5 a=b",
            b"6 a=b",
            b"99 a=b\n",
            b"2 a=b\n",
            b"0 a=b\n",
            b"6 abc\n",
            b"+6 a=b\n",
            b"18446744073709551615 a=b\n",
        ];
        for bytes in malformed {
            let read: Vec<_> = Records::new(bytes).collect();
            assert_eq!(
                read,
                [Err(BadRecords)],
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
