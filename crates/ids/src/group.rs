use std::fmt;

/// Identity of a replicated group (the meta group or one stream). Never reused, not even for a stream of the
/// same name: two groups that differ in any part never share history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId {
    /// How often the meta group was rescued by an operator before this group was created.
    pub epoch: u32,
    /// Index in the meta log of the entry that created the group; 0 for the meta group itself.
    pub meta_index: u64,
    /// Random bits drawn when the group was created.
    pub random: u64,
}

impl GroupId {
    /// Length of [`GroupId::to_bytes`].
    pub const LEN: usize = 20;
    /// The meta group of a store that was never rescued.
    pub const META: Self = Self { epoch: 0, meta_index: 0, random: 0 };

    /// Fixed-size big-endian form, for disk and wire.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&self.epoch.to_be_bytes());
        out[4..12].copy_from_slice(&self.meta_index.to_be_bytes());
        out[12..].copy_from_slice(&self.random.to_be_bytes());
        out
    }

    /// Inverse of [`GroupId::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let word = |at: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(w)
        };
        let mut epoch = [0; 4];
        epoch.copy_from_slice(&bytes[..4]);
        Self { epoch: u32::from_be_bytes(epoch), meta_index: word(4), random: word(12) }
    }

    /// Parses the text form written by `Display`.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self::from_bytes(bytes.try_into().ok()?))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.to_bytes()))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::META { f.write_str("meta") } else { fmt::Display::fmt(self, f) }
    }
}

#[cfg(test)]
mod tests {
    use super::GroupId;

    #[test]
    fn text_and_bytes_round_trip() {
        let id = GroupId { epoch: 3, meta_index: 77, random: u64::MAX - 5 };
        assert_eq!(GroupId::from_bytes(id.to_bytes()), id);
        assert_eq!(GroupId::parse(&id.to_string()), Some(id));
        assert_eq!(GroupId::parse("zz"), None);
    }
}
