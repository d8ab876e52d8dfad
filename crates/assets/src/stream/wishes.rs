use linnet_wire::headers;

use super::cleaning;

/// What the headers of a publish ask for. A header without a value asks for nothing, but where that is said.
#[derive(Clone, Copy, Default)]
pub(super) struct Wishes<'a> {
    pub(super) id: &'a [u8],
    pub(super) expected_stream: Option<&'a [u8]>,
    pub(super) expected_last: Option<&'a [u8]>,
    pub(super) expected_last_of_subject: Option<&'a [u8]>,
    pub(super) expected_subject: Option<&'a [u8]>,
    pub(super) expected_last_id: Option<&'a [u8]>,
    pub(super) rollup: Option<&'a [u8]>,
    pub(super) ttl: Option<&'a [u8]>,
    pub(super) source: Option<&'a [u8]>,
    pub(super) incr: Option<&'a [u8]>,
    pub(super) schedule: Option<&'a [u8]>,
    pub(super) scheduler: Option<&'a [u8]>,
    pub(super) schedule_next: Option<&'a [u8]>,
    pub(super) batch: Option<&'a [u8]>,
    pub(super) batch_seq: Option<&'a [u8]>,
    /// Also one without a value: it is wrong, not absent.
    pub(super) batch_commit: Option<&'a [u8]>,
    pub(super) api_level: Option<&'a [u8]>,
    /// A header that is not stored as it came may be among them.
    pub(super) is_unclean: bool,
}

impl<'a> Wishes<'a> {
    /// Reads a header block. Of several headers with the same key the first counts.
    pub(super) fn read(block: &'a [u8]) -> Self {
        let mut wishes = Self::default();
        for (key, value) in headers::iter(block) {
            let Some(key) = key.strip_prefix(b"Nats-") else { continue };
            if let Some(wish) = wishes.slot(key) {
                wish.get_or_insert(value);
            } else if key == b"Msg-Id" && wishes.id.is_empty() {
                wishes.id = value;
            } else if cleaning::is_about(key) {
                wishes.is_unclean = true;
            }
        }
        for key in OF_VALUE {
            if let Some(wish) = wishes.slot(key) {
                wish.take_if(|value| value.is_empty());
            }
        }
        wishes
    }

    fn slot(&mut self, key: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        Some(match key {
            b"Expected-Stream" => &mut self.expected_stream,
            b"Expected-Last-Sequence" => &mut self.expected_last,
            b"Expected-Last-Subject-Sequence" => &mut self.expected_last_of_subject,
            b"Expected-Last-Subject-Sequence-Subject" => &mut self.expected_subject,
            b"Expected-Last-Msg-Id" => &mut self.expected_last_id,
            b"Rollup" => &mut self.rollup,
            b"TTL" => &mut self.ttl,
            b"Stream-Source" => &mut self.source,
            b"Incr" => &mut self.incr,
            b"Schedule" => &mut self.schedule,
            b"Scheduler" => &mut self.scheduler,
            b"Schedule-Next" => &mut self.schedule_next,
            b"Batch-Id" => &mut self.batch,
            b"Batch-Sequence" => &mut self.batch_seq,
            b"Batch-Commit" => &mut self.batch_commit,
            b"Required-Api-Level" => &mut self.api_level,
            _ => return None,
        })
    }

    /// True if it names something that the message is to follow.
    pub(super) fn expects(&self) -> bool {
        [
            self.expected_stream,
            self.expected_last,
            self.expected_last_of_subject,
            self.expected_subject,
            self.expected_last_id,
        ]
        .iter()
        .any(Option::is_some)
    }
}

/// Headers that ask for nothing without a value.
const OF_VALUE: [&[u8]; 15] = [
    b"Expected-Stream",
    b"Expected-Last-Sequence",
    b"Expected-Last-Subject-Sequence",
    b"Expected-Last-Subject-Sequence-Subject",
    b"Expected-Last-Msg-Id",
    b"Rollup",
    b"TTL",
    b"Stream-Source",
    b"Incr",
    b"Schedule",
    b"Scheduler",
    b"Schedule-Next",
    b"Batch-Id",
    b"Batch-Sequence",
    b"Required-Api-Level",
];
