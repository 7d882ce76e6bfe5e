//! Lists in documents of others: Go writes an empty one as `null`, and a hostile one has millions of entries.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a list or `null`; more than `MOST` entries are an error, found before they are in memory.
pub(super) fn list<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(List::<T, MOST>(PhantomData))
}

struct List<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::custom(format_args!(
                    "a list has more than {MOST} entries"
                )));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u32>, String> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        list::<_, u32, 3>(&mut deserializer).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_may_be_null_and_must_not_be_too_long() {
        assert_eq!(read("null"), Ok(vec![]));
        assert_eq!(read("[]"), Ok(vec![]));
        assert_eq!(read("[1,2,3]"), Ok(vec![1, 2, 3]));
        assert!(read("[1,2,3,4]").unwrap_err().contains("more than 3"));
        assert!(read("{}").is_err());
        assert!(read("\"a\"").is_err());
    }
}
