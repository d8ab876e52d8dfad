//! Messages to many, formatted once for all receivers whose subscriptions have the same name.
//!
//! Clients number their subscriptions, so that the instances of one program name the same interest alike. What such
//! receivers get is the same bytes: a lane holds them, and the queues of the receivers refer to a part of it.

use std::ops::Range;

use bytes::Bytes;

use crate::chunk::{recycle, take_buffer};
use crate::outbound::SHARE_MIN;

/// Names for which there are lanes at a time. Receivers of other names get their bytes formatted one by one.
const LANES_MAX: usize = 4;
/// Receivers without a lane, in excess of those with one, after which looking for lanes is not worth it.
const IN_VAIN_MAX: u32 = 16;
/// Bytes of all lanes after which everything staged is to be handed over.
const BYTES_MAX: usize = 128 * 1024;

/// A publisher's lanes since its last batch.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    /// Bytes of all lanes.
    bytes: usize,
    /// Number of the message that is being delivered.
    message: u64,
    /// Receivers without a lane, less those with one.
    in_vain: u32,
}

struct Lane {
    sid: Vec<u8>,
    bytes: Vec<u8>,
    /// The message that was added last, and where it begins.
    message: u64,
    start: usize,
    /// The bytes, once nothing more is added.
    frozen: Option<Bytes>,
}

/// Part of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    lane: usize,
    range: Range<usize>,
}

/// Goes back to the pool of the thread that is done with it last.
struct Pooled(Vec<u8>);

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.0));
    }
}

impl Place {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Takes in a place that follows immediately; false if it is another one.
    pub(crate) fn extend(&mut self, next: &Self) -> bool {
        let follows = self.lane == next.lane && self.range.end == next.range.start;
        if follows {
            self.range.end = next.range.end;
        }
        follows
    }
}

impl Lanes {
    /// What [`Lanes::place`] is called with from here on is another message.
    pub(crate) fn begin_message(&mut self) {
        self.message += 1;
    }

    /// True if everything staged is to be handed over before more is added.
    pub(crate) fn are_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    /// Where the message stands for receivers that call their subscription `sid`; `write` adds it if it is not there
    /// yet. `None` if there would be lanes for too many names.
    #[inline]
    pub(crate) fn place(&mut self, sid: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Option<Place> {
        if self.in_vain > IN_VAIN_MAX {
            return None;
        }
        let at = match self.lanes.iter().position(|lane| lane.sid == sid) {
            Some(at) => at,
            None => self.begin_lane(sid)?,
        };
        self.in_vain = self.in_vain.saturating_sub(1);
        let lane = &mut self.lanes[at];
        if lane.message != self.message {
            lane.message = self.message;
            lane.start = lane.bytes.len();
            write(&mut lane.bytes);
            self.bytes += lane.bytes.len() - lane.start;
        }
        Some(Place { lane: at, range: lane.start..lane.bytes.len() })
    }

    fn begin_lane(&mut self, sid: &[u8]) -> Option<usize> {
        let at = self.lanes.len();
        if at == LANES_MAX {
            self.in_vain += 1;
            return None;
        }
        let (sid, bytes) = (sid.to_vec(), take_buffer());
        self.lanes.push(Lane { sid, bytes, message: 0, start: 0, frozen: None });
        Some(at)
    }

    /// The bytes of a place.
    pub(crate) fn bytes(&self, place: &Place) -> &[u8] {
        let Some(lane) = self.lanes.get(place.lane) else { return &[] };
        let bytes = lane.frozen.as_deref().unwrap_or(&lane.bytes);
        bytes.get(place.range.clone()).unwrap_or_default()
    }

    /// Nothing more is added until [`Lanes::clear`].
    pub(crate) fn freeze(&mut self) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.bytes.len() >= SHARE_MIN) {
            lane.frozen = Some(Bytes::from_owner(Pooled(std::mem::take(&mut lane.bytes))));
        }
    }

    /// The bytes of a place for a queue to refer to. `None` if they are to be copied: before [`Lanes::freeze`], and if
    /// they are little or a small part of what a waiting queue would hold on to.
    pub(crate) fn share(&self, place: &Place) -> Option<Bytes> {
        let frozen = self.lanes.get(place.lane)?.frozen.as_ref()?;
        let is_worth_it = place.len() >= SHARE_MIN && place.len() >= frozen.len() / 4 * 3;
        is_worth_it.then(|| frozen.slice(place.range.clone()))
    }

    /// Ends all lanes, whose messages have been handed over.
    pub(crate) fn clear(&mut self) {
        self.bytes = 0;
        self.in_vain = 0;
        self.lanes.drain(..).for_each(|lane| recycle(lane.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(lanes: &mut Lanes, sid: &[u8], body: &[u8]) -> Option<Place> {
        lanes.place(sid, |out| out.extend_from_slice(body))
    }

    #[test]
    fn a_message_stands_once_in_each_lane() {
        let mut lanes = Lanes::default();
        lanes.begin_message();
        let first = add(&mut lanes, b"1", b"abc").unwrap();
        assert_eq!(add(&mut lanes, b"1", b"abc"), Some(first.clone()));
        let other = add(&mut lanes, b"2", b"xyz").unwrap();
        assert_eq!((lanes.bytes(&first), lanes.bytes(&other)), (&b"abc"[..], &b"xyz"[..]));
        lanes.begin_message();
        let mut both = first;
        assert!(both.extend(&add(&mut lanes, b"1", b"def").unwrap()));
        assert_eq!(lanes.bytes(&both), b"abcdef");
        assert!(!both.extend(&other));
        for sid in 3..=LANES_MAX {
            assert!(add(&mut lanes, sid.to_string().as_bytes(), b"").is_some());
        }
        assert_eq!(add(&mut lanes, b"one too many", b""), None);
    }

    #[test]
    fn queues_refer_to_large_parts_only() {
        let mut lanes = Lanes::default();
        let body = vec![7; SHARE_MIN];
        let places: Vec<Place> = (0..4)
            .map(|_| {
                lanes.begin_message();
                add(&mut lanes, b"1", &body).unwrap()
            })
            .collect();
        let joined = |places: &[Place]| {
            let mut all = places[0].clone();
            assert!(places[1..].iter().all(|place| all.extend(place)));
            all
        };
        assert_eq!(lanes.share(&joined(&places)), None, "more may be added");
        lanes.freeze();
        assert_eq!(lanes.share(&joined(&places)).unwrap().len(), 4 * SHARE_MIN);
        assert_eq!(lanes.share(&joined(&places[1..])).unwrap().len(), 3 * SHARE_MIN);
        assert_eq!(lanes.share(&joined(&places[2..])), None);
        assert_eq!(lanes.bytes(&places[3]), body);
    }

    #[test]
    fn lanes_are_handed_over_before_they_grow_large() {
        let mut lanes = Lanes::default();
        lanes.begin_message();
        add(&mut lanes, b"1", &vec![7; BYTES_MAX - 1]);
        assert!(!lanes.are_full());
        add(&mut lanes, b"2", b"x");
        assert!(lanes.are_full());
        lanes.clear();
        assert!(!lanes.are_full());
        lanes.begin_message();
        assert_eq!(
            add(&mut lanes, b"2", b"y").map(|place| lanes.bytes(&place).to_vec()),
            Some(b"y".to_vec())
        );
    }
}
