//! Compares what clients were told with what the server has after a restart. Pure, so that it can be shown to find
//! what it looks for.

use std::collections::{BTreeMap, BTreeSet};

/// What clients have been told by the server.
#[derive(Clone, Default)]
pub(super) struct Promises {
    pub(super) streams: Vec<StreamPromises>,
    /// Names of consumers that were answered as created, and of those answered as deleted.
    pub(super) created: BTreeSet<String>,
    pub(super) deleted: BTreeSet<String>,
}

/// What was said about one stream.
#[derive(Clone, Default)]
pub(super) struct StreamPromises {
    /// Sequence and number of every acknowledged message.
    pub(super) acknowledged: BTreeMap<u64, u64>,
    /// Stream sequences whose acknowledgement was confirmed to the consumer.
    pub(super) confirmed: BTreeSet<u64>,
}

/// What a server has after a restart.
#[derive(Clone, Default)]
pub(super) struct Found {
    pub(super) streams: Vec<FoundStream>,
    pub(super) consumers: BTreeSet<String>,
}

/// What one stream has.
#[derive(Clone, Default)]
pub(super) struct FoundStream {
    /// Sequence and number of every message as it was read; no number if the message is not whole.
    pub(super) messages: Vec<(u64, Option<u64>)>,
    /// State of the stream's consumer: highest stream sequence delivered, the acknowledgement floor, how many pend.
    pub(super) delivered: u64,
    pub(super) floor: u64,
    pub(super) pending: u64,
}

/// A broken promise. Streams are meant by their place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Two messages were acknowledged with one sequence.
    AcknowledgedTwice { stream: usize, seq: u64 },
    /// A message came after its acknowledgement had been confirmed.
    CameAgain { stream: usize, seq: u64 },
    /// A message that was acknowledged is not there.
    Lost { stream: usize, seq: u64 },
    /// Where one message was acknowledged there is another.
    Replaced { stream: usize, seq: u64, acknowledged: u64, found: u64 },
    /// One message stands at two sequences.
    Duplicate { stream: usize, number: u64 },
    /// Part of a message is missing or is something else.
    NotWhole { stream: usize, seq: u64 },
    /// Sequences are not 1, 2, 3 and so on in the order they are read.
    OutOfOrder { stream: usize, seq: u64, expected: u64 },
    /// The consumer does not know of a delivery whose acknowledgement was confirmed.
    DeliveryForgotten { stream: usize, confirmed: u64, delivered: u64 },
    /// More messages pend than can, given how many were confirmed.
    AcknowledgementForgotten { stream: usize, confirmed_above_floor: u64, pending: u64 },
    /// A consumer whose creation was answered is not there.
    ConsumerLost(String),
    /// A consumer whose deletion was answered is there.
    ConsumerBack(String),
}

impl Promises {
    /// Records that a publisher was answered.
    pub(super) fn acknowledge(&mut self, stream: usize, seq: u64, number: u64) -> Result<(), Violation> {
        match self.streams[stream].acknowledged.insert(seq, number) {
            None => Ok(()),
            Some(_) => Err(Violation::AcknowledgedTwice { stream, seq }),
        }
    }

    /// Records that a consumer's acknowledgement was confirmed.
    pub(super) fn confirm(&mut self, stream: usize, seq: u64) -> Result<(), Violation> {
        if self.streams[stream].confirmed.insert(seq) {
            return Ok(());
        }
        Err(Violation::CameAgain { stream, seq })
    }
}

/// Every promise that does not hold.
pub(super) fn check(promises: &Promises, found: &Found) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (stream, promised) in promises.streams.iter().enumerate() {
        let has = found.streams.get(stream).cloned().unwrap_or_default();
        check_messages(stream, promised, &has, &mut violations);
        check_consumer(stream, promised, &has, &mut violations);
    }
    let lost = promises.created.difference(&found.consumers).cloned();
    violations.extend(lost.map(Violation::ConsumerLost));
    let back = promises.deleted.intersection(&found.consumers).cloned();
    violations.extend(back.map(Violation::ConsumerBack));
    violations
}

fn check_messages(stream: usize, promised: &StreamPromises, has: &FoundStream, out: &mut Vec<Violation>) {
    let mut numbers = BTreeSet::new();
    for ((seq, number), expected) in has.messages.iter().copied().zip(1..) {
        if seq != expected {
            out.push(Violation::OutOfOrder { stream, seq, expected });
        }
        match number {
            None => out.push(Violation::NotWhole { stream, seq }),
            Some(number) if !numbers.insert(number) => out.push(Violation::Duplicate { stream, number }),
            Some(_) => {}
        }
    }
    let by_seq: BTreeMap<u64, Option<u64>> = has.messages.iter().copied().collect();
    for (&seq, &acknowledged) in &promised.acknowledged {
        match by_seq.get(&seq) {
            None => out.push(Violation::Lost { stream, seq }),
            Some(&Some(found)) if found != acknowledged => {
                out.push(Violation::Replaced { stream, seq, acknowledged, found });
            }
            Some(_) => {}
        }
    }
}

/// Which messages pend is not told, only how many; between the floor and the last delivery there has to be room for
/// them beside those that were confirmed.
fn check_consumer(stream: usize, promised: &StreamPromises, has: &FoundStream, out: &mut Vec<Violation>) {
    let (delivered, floor, pending) = (has.delivered, has.floor, has.pending);
    if let Some(&confirmed) = promised.confirmed.last()
        && delivered < confirmed
    {
        out.push(Violation::DeliveryForgotten { stream, confirmed, delivered });
    }
    let above = promised.confirmed.range(floor + 1..).count() as u64;
    if delivered.saturating_sub(floor) < pending + above {
        out.push(Violation::AcknowledgementForgotten { stream, confirmed_above_floor: above, pending });
    }
}

mod tests {
    use super::*;

    /// Two streams with four messages each, the last of them not acknowledged; of the first three, the consumer has
    /// confirmed 1 and 3, and 2 pends.
    fn promises() -> Promises {
        let stream = StreamPromises {
            acknowledged: BTreeMap::from([(1, 11), (2, 12), (3, 13)]),
            confirmed: BTreeSet::from([1, 3]),
        };
        Promises {
            streams: vec![stream.clone(), stream],
            created: BTreeSet::from(["A".to_owned(), "B".to_owned()]),
            deleted: BTreeSet::from(["D".to_owned()]),
        }
    }

    fn found() -> Found {
        let messages = vec![(1, Some(11)), (2, Some(12)), (3, Some(13)), (4, Some(14))];
        let stream = FoundStream { messages, delivered: 3, floor: 1, pending: 1 };
        let consumers = BTreeSet::from(["A".to_owned(), "B".to_owned(), "unanswered".to_owned()]);
        Found { streams: vec![stream.clone(), stream], consumers }
    }

    fn after(change: impl FnOnce(&mut Found)) -> Vec<Violation> {
        let mut found = found();
        change(&mut found);
        check(&promises(), &found)
    }

    #[test]
    fn a_history_that_keeps_its_promises_passes() {
        assert_eq!(check(&promises(), &found()), []);
        // What was under way may be there or not.
        assert_eq!(after(|f| f.streams[0].messages.truncate(3)), []);
        assert_eq!(after(|f| f.consumers.retain(|name| name != "unanswered")), []);
        // An acknowledgement may hold although its confirmation never arrived.
        assert_eq!(after(|f| (f.streams[0].floor, f.streams[0].pending) = (3, 0)), []);
    }

    #[test]
    fn a_lost_message_is_found() {
        let lost = after(|f| f.streams[1].messages.truncate(2));
        assert_eq!(lost, [Violation::Lost { stream: 1, seq: 3 }]);
        let hole = after(|f| f.streams[0].messages.retain(|(seq, _)| *seq != 2));
        assert!(hole.contains(&Violation::Lost { stream: 0, seq: 2 }), "{hole:?}");
        assert!(hole.contains(&Violation::OutOfOrder { stream: 0, seq: 3, expected: 2 }), "{hole:?}");
        let nothing = after(|f| f.streams.truncate(1));
        assert_eq!(nothing.iter().filter(|v| matches!(v, Violation::Lost { stream: 1, .. })).count(), 3);
    }

    #[test]
    fn a_changed_order_is_found() {
        let swapped = after(|f| {
            (f.streams[0].messages[0].1, f.streams[0].messages[1].1) = (Some(12), Some(11));
        });
        let replaced = |seq, acknowledged, found| Violation::Replaced { stream: 0, seq, acknowledged, found };
        assert_eq!(swapped, [replaced(1, 11, 12), replaced(2, 12, 11)]);
        let read_backwards = after(|f| f.streams[0].messages.swap(2, 3));
        let out_of_order = |seq, expected| Violation::OutOfOrder { stream: 0, seq, expected };
        assert_eq!(read_backwards, [out_of_order(4, 3), out_of_order(3, 4)]);
    }

    #[test]
    fn a_duplicate_is_found() {
        let twice = after(|f| f.streams[0].messages.push((5, Some(12))));
        assert_eq!(twice, [Violation::Duplicate { stream: 0, number: 12 }]);
    }

    #[test]
    fn a_torn_message_is_found() {
        let torn = after(|f| f.streams[0].messages[1].1 = None);
        assert_eq!(torn, [Violation::NotWhole { stream: 0, seq: 2 }]);
    }

    #[test]
    fn a_lost_confirmed_acknowledgement_is_found() {
        let pends_again = after(|f| f.streams[0].pending = 2);
        let expected =
            Violation::AcknowledgementForgotten { stream: 0, confirmed_above_floor: 1, pending: 2 };
        assert_eq!(pends_again, [expected]);
        let below_the_floor = after(|f| (f.streams[0].floor, f.streams[0].pending) = (0, 2));
        let expected =
            Violation::AcknowledgementForgotten { stream: 0, confirmed_above_floor: 2, pending: 2 };
        assert_eq!(below_the_floor, [expected]);
        let not_delivered = after(|f| (f.streams[0].delivered, f.streams[0].pending) = (2, 0));
        assert_eq!(not_delivered, [Violation::DeliveryForgotten { stream: 0, confirmed: 3, delivered: 2 }]);
        let new = after(|f| (f.streams[0].delivered, f.streams[0].floor, f.streams[0].pending) = (0, 0, 0));
        assert!(
            new.contains(&Violation::DeliveryForgotten { stream: 0, confirmed: 3, delivered: 0 }),
            "{new:?}"
        );
    }

    #[test]
    fn a_lost_answered_call_is_found() {
        let gone = after(|f| f.consumers.retain(|name| name != "B"));
        assert_eq!(gone, [Violation::ConsumerLost("B".to_owned())]);
        let back = after(|f| f.consumers.extend(["D".to_owned()]));
        assert_eq!(back, [Violation::ConsumerBack("D".to_owned())]);
    }

    #[test]
    fn what_contradicts_itself_is_found_as_it_is_said() {
        let mut promises = promises();
        assert_eq!(promises.acknowledge(0, 4, 14), Ok(()));
        assert_eq!(promises.acknowledge(0, 4, 15), Err(Violation::AcknowledgedTwice { stream: 0, seq: 4 }));
        assert_eq!(promises.confirm(0, 2), Ok(()));
        assert_eq!(promises.confirm(0, 2), Err(Violation::CameAgain { stream: 0, seq: 2 }));
    }
}
