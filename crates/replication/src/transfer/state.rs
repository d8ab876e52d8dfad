use bytes::{Buf, BufMut};
use linnet_assets::StreamSaved;
use linnet_ids::StreamSeq;

/// What a stream is besides its messages.
#[derive(Debug)]
pub(super) struct ReadState {
    /// Sequences that are lost to damage.
    pub(super) damaged: Vec<StreamSeq>,
    /// The rest, as a checkpoint keeps it.
    pub(super) saved: StreamSaved,
    /// The same in its stored form.
    pub(super) stored: Vec<u8>,
}

/// Count of damaged sequences, these, 8 bytes little-endian each, and what a checkpoint keeps.
pub(super) fn encode(saved: &StreamSaved, damaged: &[StreamSeq]) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    out.put_u64_le(damaged.len() as u64);
    damaged.iter().for_each(|seq| out.put_u64_le(*seq));
    serde_json::to_writer(&mut out, saved)?;
    Ok(out)
}

pub(super) fn decode(mut bytes: &[u8]) -> Option<ReadState> {
    let count = usize::try_from(bytes.try_get_u64_le().ok()?).ok()?;
    let (mut sequences, stored) = bytes.split_at_checked(count.checked_mul(8)?)?;
    let damaged = (0..count).map(|_| sequences.get_u64_le()).collect();
    let saved = serde_json::from_slice(stored).ok()?;
    Some(ReadState { damaged, saved, stored: stored.to_vec() })
}
