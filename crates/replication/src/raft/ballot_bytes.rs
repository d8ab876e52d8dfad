//! Words and records of a ballot as bytes.

use std::collections::BTreeSet;

use linnet_ids::PeerId;
use linnet_raft::{MEMBERS_MAX, Replica};

use super::ballot::{BallotMessage, BallotRecord, ClusterId, Founding};

const ASK: u8 = 1;
const STAND: u8 = 2;
const PROPOSE: u8 = 3;
const ACCEPTED: u8 = 4;
const DECIDED: u8 = 5;
const RULE_OUT: u8 = 6;
const PROMISED: u8 = 7;
const DISSOLVED: u8 = 8;

/// What is not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn word(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self) -> Option<usize> {
        self.array().map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    fn clusters(&mut self) -> Option<BTreeSet<ClusterId>> {
        let count = self.count()?;
        (0..count).map(|_| self.array()).collect()
    }

    /// `None` inside: nothing stands there.
    fn option(&mut self) -> Option<Option<Founding>> {
        match self.array()? {
            [0] => Some(None),
            [1] => self.founding().map(Some),
            _ => None,
        }
    }

    fn founding(&mut self) -> Option<Founding> {
        let cluster = self.array()?;
        let count = self.count().filter(|count| (1..=MEMBERS_MAX).contains(count))?;
        let mut voters: Vec<Replica> = Vec::with_capacity(count);
        for _ in 0..count {
            let peer = PeerId::from_bytes(self.array()?).ok()?;
            if voters.last().is_some_and(|before| before.peer >= peer) {
                return None;
            }
            voters.push(Replica { peer, incarnation: self.word()? });
        }
        Some(Founding { cluster, voters })
    }

    /// What was read, if that was everything.
    fn whole<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

fn put_founding(out: &mut Vec<u8>, founding: &Founding) {
    out.extend_from_slice(&founding.cluster);
    // A group has no more members than fit here.
    out.extend_from_slice(&u16::try_from(founding.voters.len()).unwrap_or(u16::MAX).to_le_bytes());
    for voter in &founding.voters {
        out.extend_from_slice(&voter.peer.to_bytes());
        out.extend_from_slice(&voter.incarnation.to_le_bytes());
    }
}

fn put_clusters(out: &mut Vec<u8>, clusters: &BTreeSet<ClusterId>) {
    out.extend_from_slice(&u16::try_from(clusters.len()).unwrap_or(u16::MAX).to_le_bytes());
    clusters.iter().for_each(|cluster| out.extend_from_slice(cluster));
}

fn put_option(out: &mut Vec<u8>, founding: Option<&Founding>) {
    out.push(u8::from(founding.is_some()));
    if let Some(founding) = founding {
        put_founding(out, founding);
    }
}

impl BallotMessage {
    /// Encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut cluster = |tag, cluster: &ClusterId| {
            out.push(tag);
            out.extend_from_slice(cluster);
        };
        match self {
            Self::Ask => out.push(ASK),
            Self::Accepted(id) => cluster(ACCEPTED, id),
            Self::Promised(id) => cluster(PROMISED, id),
            Self::Dissolved(id) => cluster(DISSOLVED, id),
            Self::Stand { life, accepted, founded } => {
                out.push(STAND);
                out.extend_from_slice(&life.to_le_bytes());
                put_option(&mut out, accepted.as_ref());
                put_option(&mut out, founded.as_ref());
            }
            Self::Propose(founding) | Self::Decided(founding) | Self::RuleOut(founding) => {
                out.push(match self {
                    Self::Propose(_) => PROPOSE,
                    Self::Decided(_) => DECIDED,
                    _ => RULE_OUT,
                });
                put_founding(&mut out, founding);
            }
        }
        out
    }

    /// Inverse of [`BallotMessage::encode`]; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let [tag] = reader.array()?;
        let message = match tag {
            ASK => Self::Ask,
            STAND => {
                let life = reader.word()?;
                Self::Stand { life, accepted: reader.option()?, founded: reader.option()? }
            }
            PROPOSE => Self::Propose(reader.founding()?),
            ACCEPTED => Self::Accepted(reader.array()?),
            DECIDED => Self::Decided(reader.founding()?),
            RULE_OUT => Self::RuleOut(reader.founding()?),
            PROMISED => Self::Promised(reader.array()?),
            DISSOLVED => Self::Dissolved(reader.array()?),
            _ => return None,
        };
        reader.whole(message)
    }
}

impl BallotRecord {
    /// Encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.life.to_le_bytes().to_vec();
        put_option(&mut out, self.accepted.as_ref());
        put_option(&mut out, self.founded.as_ref());
        put_clusters(&mut out, &self.ruled_out);
        put_clusters(&mut out, &self.dissolved);
        out
    }

    /// Inverse of [`BallotRecord::encode`]; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let life = reader.word()?;
        let (accepted, founded) = (reader.option()?, reader.option()?);
        let ruled_out = reader.clusters()?;
        // Earlier records end here.
        let dissolved = if reader.0.is_empty() { BTreeSet::new() } else { reader.clusters()? };
        reader.whole(Self { life, accepted, ruled_out, founded, dissolved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founding(names: &[&str]) -> Founding {
        let replica =
            |(n, name): (usize, &&str)| Replica { peer: PeerId::of_name(name), incarnation: n as u64 + 1 };
        let mut voters: Vec<Replica> = names.iter().enumerate().map(replica).collect();
        voters.sort_unstable();
        Founding { cluster: [7; 16], voters }
    }

    fn messages() -> Vec<BallotMessage> {
        let (one, three) = (founding(&["a"]), founding(&["a", "b", "c"]));
        vec![
            BallotMessage::Ask,
            BallotMessage::Stand { life: 9, accepted: None, founded: None },
            BallotMessage::Stand { life: 9, accepted: Some(one), founded: Some(three.clone()) },
            BallotMessage::Propose(three.clone()),
            BallotMessage::Accepted([1; 16]),
            BallotMessage::Decided(three.clone()),
            BallotMessage::RuleOut(three),
            BallotMessage::Promised([2; 16]),
            BallotMessage::Dissolved([3; 16]),
        ]
    }

    #[test]
    fn words_round_trip_and_cannot_be_cut_or_lengthened() {
        for message in messages() {
            let mut bytes = message.encode();
            assert_eq!(BallotMessage::decode(&bytes), Some(message));
            assert!((0..bytes.len()).all(|len| BallotMessage::decode(&bytes[..len]).is_none()));
            bytes.push(0);
            assert_eq!(BallotMessage::decode(&bytes), None);
        }
        assert_eq!(BallotMessage::decode(&[99]), None);
    }

    #[test]
    fn records_round_trip_and_cannot_be_cut() {
        let record = BallotRecord {
            life: 77,
            accepted: Some(founding(&["a", "b"])),
            ruled_out: BTreeSet::from([[3; 16], [4; 16]]),
            founded: None,
            dissolved: BTreeSet::from([[5; 16]]),
        };
        for record in [BallotRecord::default(), record] {
            let bytes = record.encode();
            assert_eq!(BallotRecord::decode(&bytes), Some(record.clone()));
            let earlier = bytes.len() - 2 - 16 * record.dissolved.len();
            let read = |len: usize| BallotRecord::decode(&bytes[..len]);
            assert!((0..bytes.len()).all(|len| read(len).is_some() == (len == earlier)));
            assert_eq!(read(earlier), Some(BallotRecord { dissolved: BTreeSet::new(), ..record }));
        }
    }

    #[test]
    fn voters_are_distinct_and_in_order_and_there_are_some() {
        let mut wrong = founding(&["a", "b"]);
        wrong.voters.reverse();
        let mut double = founding(&["a"]);
        double.voters.push(double.voters[0]);
        for founding in [wrong, double, founding(&[])] {
            assert_eq!(BallotMessage::decode(&BallotMessage::Propose(founding).encode()), None);
        }
    }
}
