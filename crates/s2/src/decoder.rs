use thiserror::Error;

use crate::{BLOCK_MAX, CHECKSUM_LEN, HEADER_LEN, block, crc, kind};

/// Bytes of a chunk with a block of the largest size that does not compress.
const CHUNK_MAX: usize = BLOCK_MAX + BLOCK_MAX / 32 + 64;

/// Why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// They begin with something else.
    #[error("not compressed with S2 or snappy")]
    NotFrames,
    /// A chunk that may neither be read nor skipped.
    #[error("unknown kind of compressed chunk")]
    UnknownChunk,
    /// A chunk longer than any that makes sense.
    #[error("compressed block is too large")]
    TooLarge,
    /// A chunk without its checksum.
    #[error("compressed chunk is cut")]
    Cut,
    /// A block that cannot be decompressed.
    #[error("compressed block is damaged")]
    Damaged,
    /// A block that is not what was compressed.
    #[error("compressed block has a wrong checksum")]
    Checksum,
}

/// Decompresses bytes as they come. It holds one chunk that has not come as a whole.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a chunk whose rest has not come.
    kept: Vec<u8>,
    /// Bytes that are still to be thrown away.
    skip: usize,
    has_begun: bool,
}

impl Decoder {
    /// Takes bytes off the front of `input` until a block is decompressed, and appends it to `out`. False: `input` is
    /// used up, and the next block has not come as a whole.
    ///
    /// # Errors
    /// The bytes are no frames. The decoder is of no use any more.
    pub fn next(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, FrameError> {
        loop {
            let skipped = self.skip.min(input.len());
            self.skip -= skipped;
            *input = input.get(skipped..).unwrap_or_default();
            if input.is_empty() {
                return Ok(false);
            }
            if self.kept.is_empty() {
                let Some((kind, len)) = self.whole_header(input)? else {
                    self.keep(input, HEADER_LEN);
                    continue;
                };
                if let Some(chunk) = input.get(HEADER_LEN..HEADER_LEN + len) {
                    *input = input.get(HEADER_LEN + len..).unwrap_or_default();
                    if self.on_chunk(kind, chunk, out)? {
                        return Ok(true);
                    }
                } else {
                    self.keep(input, HEADER_LEN + len);
                }
                continue;
            }
            if self.kept.len() < HEADER_LEN {
                self.keep(input, HEADER_LEN);
            }
            let kept = std::mem::take(&mut self.kept);
            let header = self.whole_header(&kept);
            self.kept = kept;
            let Some((kind, len)) = header? else { continue };
            self.keep(input, HEADER_LEN + len);
            if self.kept.len() == HEADER_LEN + len {
                let mut kept = std::mem::take(&mut self.kept);
                let has_block = self.on_chunk(kind, &kept[HEADER_LEN..], out)?;
                kept.clear();
                self.kept = kept;
                if has_block {
                    return Ok(true);
                }
            }
        }
    }

    /// True if nothing is missing of what has come.
    pub fn is_between_chunks(&self) -> bool {
        self.kept.is_empty() && self.skip == 0
    }

    /// Gives memory back that a large chunk took.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.kept.shrink_to(bytes);
    }

    /// Moves bytes over until `kept` has so many, or `input` is used up. Memory grows with what comes, not with what a
    /// chunk says.
    fn keep(&mut self, input: &mut &[u8], until: usize) {
        let (taken, rest) = input.split_at(until.saturating_sub(self.kept.len()).min(input.len()));
        self.kept.extend_from_slice(taken);
        *input = rest;
    }

    /// Kind and length of the chunk that `bytes` begin with; `None` if that has not come. What is skipped has length 0.
    fn whole_header(&mut self, bytes: &[u8]) -> Result<Option<(u8, usize)>, FrameError> {
        let Some([kind, low, middle, high]) = bytes.first_chunk().copied() else {
            // What cannot become a frame is not waited for.
            let is_frame = self.has_begun || bytes.first() == Some(&kind::STREAM_ID);
            return if is_frame { Ok(None) } else { Err(FrameError::NotFrames) };
        };
        let len = u32::from_le_bytes([low, middle, high, 0]) as usize;
        if !self.has_begun && kind != kind::STREAM_ID {
            return Err(FrameError::NotFrames);
        }
        match kind {
            kind::STREAM_ID if len != 6 => Err(FrameError::NotFrames),
            kind::COMPRESSED | kind::PLAIN if len > CHUNK_MAX => Err(FrameError::TooLarge),
            kind::COMPRESSED | kind::PLAIN | kind::STREAM_ID => Ok(Some((kind, len))),
            kind::SKIPPABLE.. => {
                self.skip = len;
                Ok(Some((kind, 0)))
            }
            _ => Err(FrameError::UnknownChunk),
        }
    }

    /// Acts on a whole chunk. True if it was a block with something in it.
    fn on_chunk(&mut self, kind: u8, chunk: &[u8], out: &mut Vec<u8>) -> Result<bool, FrameError> {
        match kind {
            kind::STREAM_ID if chunk == b"S2sTwO" || chunk == b"sNaPpY" => {
                self.has_begun = true;
                Ok(false)
            }
            kind::STREAM_ID => Err(FrameError::NotFrames),
            kind::COMPRESSED | kind::PLAIN => {
                let start = out.len();
                read_block(kind, chunk, out).inspect_err(|_| out.truncate(start))?;
                Ok(out.len() > start)
            }
            _ => Ok(false),
        }
    }
}

fn read_block(kind: u8, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let (sum, data) = chunk.split_first_chunk::<CHECKSUM_LEN>().ok_or(FrameError::Cut)?;
    let start = out.len();
    if kind == kind::COMPRESSED {
        block::decode(data, out).ok_or(FrameError::Damaged)?;
    } else if data.len() > BLOCK_MAX {
        return Err(FrameError::TooLarge);
    } else {
        out.extend_from_slice(data);
    }
    if crc::masked(&out[start..]) == u32::from_le_bytes(*sum) { Ok(()) } else { Err(FrameError::Checksum) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Encoder, Level};

    /// Everything that the bytes hold, given to the decoder in pieces of this size.
    fn decoded(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, bool), FrameError> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while decoder.next(&mut piece, &mut out)? {}
        }
        Ok((out, decoder.is_between_chunks()))
    }

    fn stream(level: Level, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new(level).stream(parts, &mut out);
        out
    }

    #[test]
    fn a_new_stream_may_begin_at_any_chunk() {
        let mut bytes = stream(Level::Fast, &[b"PING\r\n"]);
        bytes.extend(stream(Level::Uncompressed, &[b"PONG\r\n"]));
        bytes.extend(b"\xff\x06\x00\x00sNaPpY");
        // Padding and an index, which mean nothing here.
        bytes.extend([0xfe, 3, 0, 0, 1, 2, 3, 0x99, 0, 0, 0]);
        bytes.extend(stream(Level::Best, &[b"+OK\r\n"]));
        for piece in [1, 3, 7, 1000] {
            assert_eq!(decoded(&bytes, piece), Ok((b"PING\r\nPONG\r\n+OK\r\n".to_vec(), true)), "{piece}");
        }
        assert!(!decoded(&bytes[..bytes.len() - 1], 5).unwrap().1);
        assert!(
            !decoded(&[b"\xff\x06\x00\x00S2sTwO".as_slice(), &[0xfe, 9, 0, 0, 1]].concat(), 5).unwrap().1
        );
    }

    #[test]
    fn what_is_no_frame_is_refused_at_once() {
        let begun = |rest: &[u8]| decoded(&[b"\xff\x06\x00\x00S2sTwO", rest].concat(), 4).unwrap_err();
        assert_eq!(decoded(b"P", 1), Err(FrameError::NotFrames));
        assert_eq!(decoded(b"\xff\x06\x00\x00S2sTwX", 1), Err(FrameError::NotFrames));
        assert_eq!(decoded(b"\xff\x07\x00\x00S2sTwO", 1), Err(FrameError::NotFrames));
        assert_eq!(begun(&[0x02, 1, 0, 0, 0]), FrameError::UnknownChunk);
        assert_eq!(begun(&[0, 0xff, 0xff, 0xff, 0]), FrameError::TooLarge);
        assert_eq!(begun(&[1, 3, 0, 0, 0, 0, 0]), FrameError::Cut);
        assert_eq!(begun(&[1, 5, 0, 0, 0, 0, 0, 0, b'a']), FrameError::Checksum);
        assert_eq!(begun(&[0, 5, 0, 0, 0, 0, 0, 0, 1]), FrameError::Damaged);
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// What Go's library writes for the same lines, as fast and as well as it can.
    #[test]
    fn streams_of_the_other_implementation_are_read() {
        let lines: String =
            (0..40).map(|n| format!("RMSG $G orders.{}.new 11\r\nhello world\r\n", n * 7 % 5)).collect();
        let fast = "ff06000053327354774f00f3000005cf81abf00b94524d5347202447206f72646572732e302e6e65772031310d0a\
            68656c6c6f20776f726c640d0a3a2600003215001d003415001d003115001d003315001d003015001d003215001d\
            003415001d003115001d003315001d003015001d003215001d003415001d003115001d003315001d003015001d00\
            3215001d003415001d003115001d003315001d003015001d003215001d003415001d003115001d003315001d0030\
            15001d003215001d003415001d003115001d003315001d003015001d003215001d003415001d003115001d003315\
            001d003015001d003215001d003415001d003115001d003315000e";
        let best = "ff06000053327354774f004a000005cf81abf00b94524d5347202447206f72646572732e302e6e65772031310d0a\
            68656c6c6f20776f726c640d0a3a2600003215001d003415001d003115001d003315001d11be19001704";
        for stream in [fast, best] {
            assert_eq!(decoded(&bytes(stream), 9), Ok((lines.clone().into_bytes(), true)));
        }
    }

    /// A few bytes that stand for megabytes give one block at a time.
    #[test]
    fn a_bomb_gives_one_block_at_a_time() {
        let bomb = stream(Level::Fast, &[vec![b'x'; 1 << 20].as_slice(); 40]);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let mut decoder = Decoder::default();
        let (mut input, mut out, mut total) = (bomb.as_slice(), Vec::new(), 0);
        while decoder.next(&mut input, &mut out).unwrap() {
            assert!(out.len() <= BLOCK_MAX);
            total += out.len();
            out.clear();
        }
        assert_eq!(total, 40 << 20);
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back_however_it_is_cut(
            parts in proptest::collection::vec(proptest::collection::vec(0..5_u8, 0..40_000), 0..6),
            level in 0..4_usize,
            piece in 1..70_000_usize,
        ) {
            let level = [Level::Uncompressed, Level::Fast, Level::Better, Level::Best][level];
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(decoded(&stream(level, &slices), piece), Ok((parts.concat(), true)));
        }

        #[test]
        fn garbage_takes_no_more_than_it_is(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            let begun = [b"\xff\x06\x00\x00S2sTwO", bytes.as_slice()].concat();
            let mut input = begun.as_slice();
            while let Ok(true) = decoder.next(&mut input, &mut out) {
                out.clear();
            }
            prop_assert!(decoder.kept.len() <= begun.len());
        }
    }
}
