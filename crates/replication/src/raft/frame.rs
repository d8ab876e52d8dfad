//! What servers send each other for their groups: one frame per server and pass.

use std::time::Duration;

use bytes::Bytes;
use linnet_ids::{GroupId, PeerId};
use linnet_raft::Message;
use thiserror::Error;

use super::ballot::ClusterId;

const VERSION: u8 = 2;
const BEAT: u8 = 1;
const MESSAGE: u8 = 2;

const NO_HISTORY: u8 = 0;
const UNCERTAIN_HISTORY: u8 = 1;
const EMPTY_HISTORY: u8 = 2;
const HISTORY: u8 = 3;

/// What a server says of itself and of the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// When it was sent, nanoseconds on the sender's clock.
    pub sent: u64,
    /// The receiver's process that the sender heard last.
    pub echo_boot: u64,
    /// When that sent its newest beat that arrived, on the receiver's clock.
    pub echo: u64,
    /// Age of the oldest write of the sender's log that is not done.
    pub oldest_write: Duration,
}

/// The cluster that a server belongs to. Clusters that were founded apart have nothing to tell each other's groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// As it was founded.
    pub cluster: ClusterId,
    /// What is in it.
    pub content: HistoryContent,
}

/// What a server knows of the streams of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryContent {
    /// It cannot say.
    Uncertain,
    /// There are none.
    Nothing,
    /// There are some.
    Streams,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The sender.
    pub from: PeerId,
    /// Number of the sender's process.
    pub boot: u64,
    /// Its cluster; `None` while it knows of none.
    pub history: Option<History>,
    /// What it says of itself.
    pub beat: Option<Beat>,
    /// Messages of groups, in order.
    pub messages: Vec<(GroupId, Message)>,
}

/// A frame that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// It is of another version.
    #[error("a frame of version {0}, this server knows version {VERSION}")]
    Version(u8),
    /// Its bytes are not what they should be.
    #[error("a malformed frame")]
    Malformed,
}

fn take<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8], FrameError> {
    let (taken, rest) = input.split_at_checked(len).ok_or(FrameError::Malformed)?;
    *input = rest;
    Ok(taken)
}

fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], FrameError> {
    let (taken, rest) = input.split_first_chunk().ok_or(FrameError::Malformed)?;
    *input = rest;
    Ok(*taken)
}

impl Frame {
    /// Encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.from.to_bytes());
        out.extend_from_slice(&self.boot.to_le_bytes());
        put_history(&mut out, self.history);
        if let Some(beat) = &self.beat {
            let oldest = u64::try_from(beat.oldest_write.as_nanos()).unwrap_or(u64::MAX);
            out.push(BEAT);
            for word in [beat.sent, beat.echo_boot, beat.echo, oldest] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        for (group, message) in &self.messages {
            put_message(&mut out, *group, message);
        }
        out
    }

    /// Messages in as few encoded frames of at most `bytes_max` bytes as their order allows. One message may be larger: then
    /// it has a frame of its own.
    pub fn encode_all(
        from: PeerId,
        boot: u64,
        history: Option<History>,
        messages: &[(GroupId, Message)],
        bytes_max: usize,
    ) -> Vec<Vec<u8>> {
        let empty = Self { from, boot, history, beat: None, messages: Vec::new() }.encode();
        let mut frames = Vec::new();
        let mut frame = empty.clone();
        for (group, message) in messages {
            let before = frame.len();
            put_message(&mut frame, *group, message);
            if frame.len() > bytes_max && before > empty.len() {
                let mut next = empty.clone();
                next.extend_from_slice(&frame[before..]);
                frame.truncate(before);
                frames.push(std::mem::replace(&mut frame, next));
            }
        }
        if frame.len() > empty.len() {
            frames.push(frame);
        }
        frames
    }

    /// Inverse of [`Frame::encode`]; payloads share `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let mut input: &[u8] = bytes;
        match array::<1>(&mut input)? {
            [VERSION] => {}
            [other] => return Err(FrameError::Version(other)),
        }
        let from = PeerId::from_bytes(array(&mut input)?).map_err(|_| FrameError::Malformed)?;
        let boot = u64::from_le_bytes(array(&mut input)?);
        let history = get_history(&mut input)?;
        let mut frame = Self { from, boot, history, beat: None, messages: Vec::new() };
        while !input.is_empty() {
            match array::<1>(&mut input)? {
                [BEAT] if frame.beat.is_none() => frame.beat = Some(get_beat(&mut input)?),
                [MESSAGE] => {
                    let group = GroupId::from_bytes(array(&mut input)?);
                    let len = u32::from_le_bytes(array(&mut input)?) as usize;
                    let message = bytes.slice_ref(take(&mut input, len)?);
                    let message = Message::decode(&message).map_err(|_| FrameError::Malformed)?;
                    if message.from.peer != from {
                        return Err(FrameError::Malformed);
                    }
                    frame.messages.push((group, message));
                }
                _ => return Err(FrameError::Malformed),
            }
        }
        Ok(frame)
    }
}

fn put_history(out: &mut Vec<u8>, history: Option<History>) {
    let Some(history) = history else { return out.push(NO_HISTORY) };
    out.push(match history.content {
        HistoryContent::Uncertain => UNCERTAIN_HISTORY,
        HistoryContent::Nothing => EMPTY_HISTORY,
        HistoryContent::Streams => HISTORY,
    });
    out.extend_from_slice(&history.cluster);
}

fn get_history(input: &mut &[u8]) -> Result<Option<History>, FrameError> {
    let content = match array::<1>(input)? {
        [NO_HISTORY] => return Ok(None),
        [UNCERTAIN_HISTORY] => HistoryContent::Uncertain,
        [EMPTY_HISTORY] => HistoryContent::Nothing,
        [HISTORY] => HistoryContent::Streams,
        _ => return Err(FrameError::Malformed),
    };
    Ok(Some(History { cluster: array(input)?, content }))
}

fn put_message(out: &mut Vec<u8>, group: GroupId, message: &Message) {
    out.push(MESSAGE);
    out.extend_from_slice(&group.to_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    message.encode(out);
    // A message is bounded by what a group may propose at once.
    let len = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

fn get_beat(input: &mut &[u8]) -> Result<Beat, FrameError> {
    let mut word = || array(input).map(u64::from_le_bytes);
    let (sent, echo_boot, echo, oldest) = (word()?, word()?, word()?, word()?);
    Ok(Beat { sent, echo_boot, echo, oldest_write: Duration::from_nanos(oldest) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use linnet_raft::{Body, Replica};

    fn frame() -> Frame {
        let replica = |name: &str| Replica { peer: PeerId::of_name(name), incarnation: 5 };
        let message = |term, body| {
            let group = GroupId { epoch: 0, meta_index: term, random: 3 };
            (group, Message { from: replica("a"), to: replica("b"), term, body })
        };
        let beat = Beat { sent: 1, echo_boot: 2, echo: 3, oldest_write: Duration::from_millis(4) };
        Frame {
            from: PeerId::of_name("a"),
            boot: 9,
            history: Some(History { cluster: [7; 16], content: HistoryContent::Nothing }),
            beat: Some(beat),
            messages: vec![message(1, Body::GiveWay), message(2, Body::AskLeader)],
        }
    }

    #[test]
    fn a_frame_round_trips_and_cannot_be_cut_inside_a_part() {
        let bytes = Bytes::from(frame().encode());
        assert_eq!(Frame::decode(&bytes), Ok(frame()));
        let whole = (0..bytes.len()).filter(|len| Frame::decode(&bytes.slice(..*len)).is_ok()).count();
        assert_eq!(whole, 3, "with nothing, with a beat, with a beat and a message");
    }

    #[test]
    fn messages_are_divided_among_frames_in_their_order() {
        let Frame { from, boot, history, messages, .. } = frame();
        let many: Vec<_> = messages.iter().cycle().take(9).cloned().collect();
        let sizes = |bytes_max| {
            let frames = Frame::encode_all(from, boot, history, &many, bytes_max);
            let mut seen = Vec::new();
            let mut sizes = Vec::new();
            for bytes in frames {
                let frame = Frame::decode(&Bytes::from(bytes)).unwrap();
                assert_eq!((frame.from, frame.boot, frame.history, frame.beat), (from, boot, history, None));
                sizes.push(frame.messages.len());
                seen.extend(frame.messages);
            }
            assert_eq!(seen, many);
            sizes
        };
        let whole = Frame::encode_all(from, boot, history, &many, usize::MAX)[0].len();
        assert_eq!(sizes(whole), [9]);
        assert_eq!(sizes(whole - 1), [8, 1]);
        assert_eq!(sizes(1), [1; 9], "a message is never cut");
        assert!(Frame::encode_all(from, boot, history, &[], 1).is_empty());
    }

    #[test]
    fn another_version_and_another_senders_message_are_refused() {
        let mut bytes = frame().encode();
        bytes[0] = 3;
        assert_eq!(Frame::decode(&bytes.into()), Err(FrameError::Version(3)));
        let other = Frame { from: PeerId::of_name("c"), ..frame() };
        assert_eq!(Frame::decode(&other.encode().into()), Err(FrameError::Malformed));
    }
}
