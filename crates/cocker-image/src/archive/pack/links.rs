//! Which files have several names, and which of these came first.

use rustix::fs::Stat;
use std::collections::HashMap;
use std::collections::hash_map;

/// Files of which not all names were seen, by device and inode.
#[derive(Default)]
pub(super) struct Links(HashMap<(u64, u64), Names>);

struct Names {
    first: Box<[u8]>,
    to_come: u64,
}

impl Links {
    /// The path by which the file was seen before; `None` the first time, when `path` is remembered.
    /// A file is forgotten with its last name.
    pub fn first_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        match self.0.entry((stat.st_dev, stat.st_ino)) {
            hash_map::Entry::Vacant(place) => {
                place.insert(Names {
                    first: path.into(),
                    to_come: stat.st_nlink - 1,
                });
                None
            }
            hash_map::Entry::Occupied(mut place) => {
                place.get_mut().to_come -= 1;
                match place.get().to_come {
                    0 => Some(place.remove().first.into()),
                    _ => Some(place.get().first.to_vec()),
                }
            }
        }
    }
}
