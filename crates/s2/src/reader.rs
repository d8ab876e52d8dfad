use std::io::{self, BufRead, Read};

use crate::{Decoder, FrameError};

/// Bytes read per call.
const READ_MAX: usize = 32 * 1024;

/// Decompresses frames as they are read. It holds one chunk and one block.
pub struct FrameReader<R> {
    inner: R,
    decoder: Decoder,
    /// What was read, and how much of it the decoder has had.
    input: Vec<u8>,
    taken: usize,
    block: Vec<u8>,
    /// Bytes of the block that were read.
    at: usize,
}

impl<R: Read> FrameReader<R> {
    /// Reads what `inner` holds.
    pub fn new(inner: R) -> Self {
        Self { inner, decoder: Decoder::default(), input: Vec::new(), taken: 0, block: Vec::new(), at: 0 }
    }

    /// Reads until there is a block with something in it, or the end.
    fn next_block(&mut self) -> io::Result<()> {
        self.at = 0;
        self.block.clear();
        loop {
            let mut left = self.input.get(self.taken..).unwrap_or_default();
            let has_block = self.decoder.next(&mut left, &mut self.block).map_err(invalid)?;
            self.taken = self.input.len() - left.len();
            if has_block {
                return Ok(());
            }
            if !self.read()? {
                let is_whole = self.decoder.is_between_chunks();
                return if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// False at the end.
    fn read(&mut self) -> io::Result<bool> {
        self.taken = 0;
        self.input.resize(READ_MAX, 0);
        loop {
            match self.inner.read(&mut self.input) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    self.input.truncate(*read.as_ref().unwrap_or(&0));
                    return read.map(|count| count > 0);
                }
            }
        }
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<R: Read> BufRead for FrameReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.block.len() {
            self.next_block()?;
        }
        Ok(self.block.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn compressed(data: &[u8]) -> Vec<u8> {
        let mut writer = snap::write::FrameEncoder::new(Vec::new());
        writer.write_all(data).unwrap();
        writer.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        FrameReader::new(bytes).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn frames_are_read_and_those_without_meaning_skipped() {
        let data: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut frames = compressed(&data);
        // Padding, which a reader must not take a step deeper for each time.
        for _ in 0..100_000 {
            frames.extend([0xfe, 1, 0, 0, 0]);
        }
        assert_eq!(read(&frames).unwrap(), data);
    }

    #[test]
    fn every_cut_and_every_flip_is_noticed() {
        let data = b"message message message message".repeat(3);
        let frames = compressed(&data);
        for len in 11..frames.len() {
            assert!(read(&frames[..len]).is_err(), "cut at {len}");
        }
        for at in 0..frames.len() {
            let mut flipped = frames.clone();
            flipped[at] ^= 0x10;
            assert!(read(&flipped).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn a_chunk_that_claims_more_than_comes_takes_no_memory() {
        let mut frames = b"\xff\x06\x00\x00S2sTwO".to_vec();
        frames.extend([0, 0, 0, 0x40, 1, 2, 3, 4, 5]);
        let mut reader = FrameReader::new(frames.as_slice());
        assert!(reader.fill_buf().is_err());
        assert!(reader.input.capacity() + reader.block.capacity() < 1 << 16);
        frames[13] = 0xff;
        let error = FrameReader::new(frames.as_slice()).fill_buf().unwrap_err();
        assert_eq!(error.to_string(), "compressed block is too large");
    }
}
