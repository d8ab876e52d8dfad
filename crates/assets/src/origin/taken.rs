use linnet_ids::StreamSeq;
use serde::{Deserialize, Serialize};

use super::Origin;

/// How far a stream has taken over one of its sources, as its messages say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Newest sequence of the origin that is stored.
    pub seq: StreamSeq,
    /// What the origin was known by.
    pub identity: String,
}

impl Taken {
    /// Reads `Nats-Stream-Source`: origin, sequence, filter, destination, subject there, identity (jetstream,
    /// "Mirrors and sources"). The first, third and fourth tell one source from the others.
    pub(crate) fn parse(header: &[u8]) -> Option<(String, Self)> {
        let mut parts = str::from_utf8(header).ok()?.split(' ');
        let (origin, seq) = (parts.next()?, parts.next()?);
        let (filter, destination) = (parts.next()?, parts.next()?);
        let identity = parts.nth(1).unwrap_or_default().to_owned();
        Some((format!("{origin} {filter} {destination}"), Self { seq: seq.parse().ok()?, identity }))
    }
}

/// The value of `Nats-Stream-Source` for a message that had this sequence and subject at its origin.
pub(crate) fn source_header(origin: &Origin, seq: StreamSeq, subject: &[u8]) -> Vec<u8> {
    let (name, rest) = origin.key.split_once(' ').unwrap_or((&origin.key, "> >"));
    let mut header = format!("{name} {seq} {rest} ").into_bytes();
    header.extend_from_slice(subject);
    if !origin.identity.is_empty() {
        header.push(b' ');
        header.extend_from_slice(origin.identity.as_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use linnet_ids::Mono;
    use linnet_jsapi::StreamSource;

    use super::*;
    use crate::origin::Role;

    #[test]
    fn what_is_written_is_read() {
        let config =
            StreamSource { name: "O".into(), filter_subject: "o.0".into(), ..StreamSource::default() };
        let taken = Taken { seq: 3, identity: "0aAOMRkx".into() };
        let origin = Origin::new(Role::Source, config, 0, &taken, Mono::default());
        let header = source_header(&origin, 4, b"o.0");
        assert_eq!(header, b"O 4 o.0 > o.0 0aAOMRkx");
        let read = Taken::parse(&header);
        assert_eq!(read, Some((origin.key, Taken { seq: 4, identity: "0aAOMRkx".into() })));
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for header in ["", "O", "O 4", "O x > > a", "O 4 >"] {
            assert_eq!(Taken::parse(header.as_bytes()), None, "{header}");
        }
        let old = Taken::parse(b"O 4 > > a").map(|(_, taken)| taken);
        assert_eq!(old, Some(Taken { seq: 4, identity: String::new() }));
    }
}
