use std::io::{self, BufRead, Read};

use super::{BLOCK_MAX, block, crc};

const STREAM_ID: u8 = 0xff;
const COMPRESSED: u8 = 0;
const PLAIN: u8 = 1;
/// Chunks from here on mean nothing to a reader that does not know them.
const SKIPPABLE: u8 = 0x80;

/// Bytes of a chunk with a block of the largest size that does not compress.
const CHUNK_MAX: usize = BLOCK_MAX + BLOCK_MAX / 32 + 64;

/// Decompresses frames as they are read. It holds one block.
pub struct FrameReader<R> {
    inner: R,
    chunk: Vec<u8>,
    block: Vec<u8>,
    /// Bytes of the block that were read.
    at: usize,
    has_begun: bool,
}

impl<R: Read> FrameReader<R> {
    /// Reads what `inner` holds.
    pub fn new(inner: R) -> Self {
        Self { inner, chunk: Vec::new(), block: Vec::new(), at: 0, has_begun: false }
    }

    /// The kind and length of the next chunk; `None` at the end.
    fn chunk_header(&mut self) -> io::Result<Option<(u8, usize)>> {
        let mut header = [0; 4];
        let mut read = 0;
        while read < header.len() {
            match self.inner.read(&mut header[read..]) {
                Ok(0) if read == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let [kind, low, middle, high] = header;
        Ok(Some((kind, u32::from_le_bytes([low, middle, high, 0]) as usize)))
    }

    /// Reads a chunk. Memory grows with what comes, not with what the chunk says.
    fn read_chunk(&mut self, len: usize) -> io::Result<()> {
        if len > CHUNK_MAX {
            return Err(invalid("compressed block is too large"));
        }
        self.chunk.clear();
        let got = self.inner.by_ref().take(len as u64).read_to_end(&mut self.chunk)?;
        if got == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn skip(&mut self, len: usize) -> io::Result<()> {
        let skipped = io::copy(&mut self.inner.by_ref().take(len as u64), &mut io::sink())?;
        if skipped == len as u64 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads until there is a block with something in it. False at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        self.at = 0;
        self.block.clear();
        while self.block.is_empty() {
            let Some((kind, len)) = self.chunk_header()? else { return Ok(false) };
            if !self.has_begun && kind != STREAM_ID {
                return Err(invalid("not compressed with S2 or snappy"));
            }
            match kind {
                STREAM_ID => self.begin(len)?,
                COMPRESSED | PLAIN => self.read_block(kind, len)?,
                SKIPPABLE.. => self.skip(len)?,
                _ => return Err(invalid("unknown kind of compressed chunk")),
            }
        }
        Ok(true)
    }

    fn begin(&mut self, len: usize) -> io::Result<()> {
        self.read_chunk(len)?;
        if self.chunk != b"S2sTwO" && self.chunk != b"sNaPpY" {
            return Err(invalid("not compressed with S2 or snappy"));
        }
        self.has_begun = true;
        Ok(())
    }

    fn read_block(&mut self, kind: u8, len: usize) -> io::Result<()> {
        self.read_chunk(len)?;
        let (sum, data) = self.chunk.split_first_chunk().ok_or_else(|| invalid("compressed chunk is cut"))?;
        if kind == COMPRESSED {
            block::decode(data, &mut self.block).ok_or_else(|| invalid("compressed block is damaged"))?;
        } else if data.len() > BLOCK_MAX {
            return Err(invalid("block is too large"));
        } else {
            self.block.extend_from_slice(data);
        }
        if crc::masked(&self.block) == u32::from_le_bytes(*sum) {
            Ok(())
        } else {
            Err(invalid("compressed block has a wrong checksum"))
        }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
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
        let mut frames = compressed(b"");
        frames.clear();
        frames.extend(b"\xff\x06\x00\x00S2sTwO");
        frames.extend([0, 0, 0, 0x40, 1, 2, 3, 4, 5]);
        let mut reader = FrameReader::new(frames.as_slice());
        assert!(reader.fill_buf().is_err());
        assert!(reader.chunk.capacity() < 1 << 16);
        frames[13] = 0xff;
        let error = FrameReader::new(frames.as_slice()).fill_buf().unwrap_err();
        assert_eq!(error.to_string(), "compressed block is too large");
    }
}
