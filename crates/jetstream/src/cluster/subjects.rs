//! Subjects between servers: `$LDS.<domain>.<receiver>.<kind>`, in the system account.

use linnet_ids::PeerId;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages of replicated groups.
    Frame,
    /// A question.
    Question,
    /// An answer to one.
    Answer,
    /// A word of the ballot.
    Ballot,
    /// The sender stops.
    Stopping,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Frame, Self::Question, Self::Answer, Self::Ballot, Self::Stopping];

    fn token(self) -> &'static str {
        match self {
            Self::Frame => "F",
            Self::Question => "Q",
            Self::Answer => "A",
            Self::Ballot => "B",
            Self::Stopping => "S",
        }
    }

    /// The kind that a subject ends with.
    pub(super) fn of(subject: &[u8]) -> Option<Self> {
        let token = subject.rsplit(|byte| *byte == b'.').next()?;
        Self::ALL.into_iter().find(|kind| kind.token().as_bytes() == token)
    }
}

/// The subjects of one domain. Servers of others never hear what is sent.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    prefix: String,
}

impl Subjects {
    /// `domain` is empty for none, which is another one than any that has a name.
    pub(super) fn of_domain(domain: &str) -> Self {
        Self { prefix: format!("$LDS._{domain}") }
    }

    /// What a server listens to.
    pub(super) fn everything_for(&self, peer: PeerId) -> String {
        format!("{}.{peer}.*", self.prefix)
    }

    /// Where a message for a server goes.
    pub(super) fn to(&self, peer: PeerId, kind: Kind) -> String {
        format!("{}.{peer}.{}", self.prefix, kind.token())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_name_domain_receiver_and_kind() {
        let (n1, hub, none) = (PeerId::of_name("n1"), Subjects::of_domain("hub"), Subjects::of_domain(""));
        assert_eq!(hub.everything_for(n1), "$LDS._hub.fjFyEjc1.*");
        assert_eq!(none.to(n1, Kind::Frame), "$LDS._.fjFyEjc1.F");
        assert_ne!(none.to(n1, Kind::Frame), Subjects::of_domain("_").to(n1, Kind::Frame));
        for kind in Kind::ALL {
            assert_eq!(Kind::of(hub.to(n1, kind).as_bytes()), Some(kind));
        }
        assert_eq!(Kind::of(b"$LDS._hub.fjFyEjc1.X"), None);
    }
}
