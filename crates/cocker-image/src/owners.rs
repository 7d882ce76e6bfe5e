//! Ids of owners: those that files have on one side, and what they become on the other.

/// So many ids from `from` on become those from `to` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdShift {
    pub from: u32,
    pub to: u32,
    pub count: u32,
    pub others: Others,
}

/// What becomes of an id outside the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// There is nobody whom the file could belong to.
    Refused,
    /// It becomes the id that stands for all that have none (`nobody`, user_namespaces(7)).
    Nobody,
}

/// The kernel's default overflow id.
const NOBODY: u32 = 65_534;

impl IdShift {
    /// Every id stays what it is.
    pub const SAME: IdShift = IdShift {
        from: 0,
        to: 0,
        count: u32::MAX,
        others: Others::Refused,
    };

    /// What `id` becomes; none where it may not.
    pub fn shift(&self, id: u32) -> Option<u32> {
        match (id.checked_sub(self.from), self.others) {
            (Some(offset), _) if offset < self.count => Some(self.to + offset),
            (_, Others::Nobody) => Some(NOBODY),
            (_, Others::Refused) => None,
        }
    }

    pub(crate) fn is_same(&self) -> bool {
        *self == IdShift::SAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_range_are_shifted_and_others_refused_or_nobody() {
        let into = IdShift {
            from: 0,
            to: 0x7000_0000,
            count: 65_536,
            others: Others::Refused,
        };
        assert_eq!(into.shift(0), Some(0x7000_0000));
        assert_eq!(into.shift(65_535), Some(0x7000_ffff));
        assert_eq!(into.shift(65_536), None);
        let out = IdShift {
            from: 0x7000_0000,
            to: 0,
            count: 65_536,
            others: Others::Nobody,
        };
        assert_eq!(out.shift(0x7000_0021), Some(33));
        assert_eq!(out.shift(0), Some(NOBODY));
        assert_eq!(out.shift(0x7001_0000), Some(NOBODY));
        assert_eq!(IdShift::SAME.shift(u32::MAX - 1), Some(u32::MAX - 1));
        assert_eq!(IdShift::SAME.shift(u32::MAX), None, "it means no id at all");
    }
}
