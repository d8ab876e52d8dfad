use crate::{CHECKSUM_LEN, STREAM_ID, crc, kind};

/// Bytes of a block before it is compressed. Larger blocks would find a little more to copy, and fall out of the caches.
const WRITE_MAX: usize = 64 * 1024;
/// The tables of [`Level::Best`] take megabytes, which are cleared for each block: blocks below this size are not worth
/// it and are compressed as at [`Level::Better`].
const BEST_MIN: usize = 4 * 1024;

/// How much work compression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// None: frames around what is not compressed.
    Uncompressed,
    /// Little.
    Fast,
    /// More.
    Better,
    /// Most.
    Best,
}

/// Compresses into frames. It keeps its tables from one block to the next.
pub struct Encoder {
    level: Level,
    blocks: minlz::Encoder,
    /// Small parts that become one block.
    gathered: Vec<u8>,
}

impl Encoder {
    /// One that compresses at this level.
    pub fn new(level: Level) -> Self {
        Self { level, blocks: minlz::Encoder::new(), gathered: Vec::new() }
    }

    /// Compresses at this level from the next stream on.
    pub fn set_level(&mut self, level: Level) {
        if self.level != level {
            // The tables of another level are not needed any more.
            self.blocks = minlz::Encoder::new();
            self.level = level;
        }
    }

    /// Appends a whole stream with what the parts hold, one behind the other.
    pub fn stream(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) {
        out.extend_from_slice(STREAM_ID);
        let mut gathered = std::mem::take(&mut self.gathered);
        for part in parts {
            for piece in part.chunks(WRITE_MAX) {
                if gathered.len() + piece.len() > WRITE_MAX {
                    self.block(&gathered, out);
                    gathered.clear();
                }
                if gathered.is_empty() && piece.len() >= WRITE_MAX / 2 {
                    self.block(piece, out);
                } else {
                    gathered.extend_from_slice(piece);
                }
            }
        }
        self.block(&gathered, out);
        gathered.clear();
        self.gathered = gathered;
    }

    fn block(&mut self, data: &[u8], out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        let compressed = match self.level {
            Level::Uncompressed => None,
            Level::Fast => Some(self.blocks.encode(data)),
            Level::Best if data.len() >= BEST_MIN => Some(self.blocks.encode_best(data)),
            Level::Better | Level::Best => Some(self.blocks.encode_better(data)),
        };
        let sum = crc::masked(data);
        // What hardly gets smaller is not worth the work of decompressing it.
        match compressed.filter(|block| block.len() < data.len() - data.len() / 32) {
            Some(block) => chunk(kind::COMPRESSED, sum, &block, out),
            None => chunk(kind::PLAIN, sum, data, out),
        }
    }
}

fn chunk(kind: u8, sum: u32, data: &[u8], out: &mut Vec<u8>) {
    // A block of this crate's size never needs the fourth byte.
    let [low, middle, high, _] = u32::try_from(data.len() + CHECKSUM_LEN).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&[kind, low, middle, high]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn stream(level: Level, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new(level).stream(parts, &mut out);
        out
    }

    /// As nats-server 2.15.1 sends them.
    #[test]
    fn a_ping_is_framed_as_elsewhere() {
        let expected = b"\xff\x06\x00\x00S2sTwO\x01\x0a\x00\x00";
        for level in [Level::Uncompressed, Level::Fast, Level::Better, Level::Best] {
            let bytes = stream(level, &[b"PING\r\n"]);
            assert_eq!(&bytes[..14], expected, "{level:?}");
            assert_eq!(&bytes[18..], b"PING\r\n");
        }
    }

    #[test]
    fn levels_differ_in_size_and_random_bytes_stay_as_they_are() {
        let text: Vec<u8> = (0..30_000_u32)
            .flat_map(|n| {
                format!("orders.{}.{{\"id\":{}}} ", n % 97, n.wrapping_mul(2_654_435_761) % 10_000)
                    .into_bytes()
            })
            .collect();
        let sizes = [Level::Uncompressed, Level::Fast, Level::Better, Level::Best]
            .map(|level| stream(level, &[&text]).len());
        assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
        let mut seed = 1_u32;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        })
        .take(100_000)
        .collect();
        assert!(stream(Level::Fast, &[&random]).len() < random.len() + 64);
    }

    #[test]
    fn parts_of_every_size_come_behind_one_another() {
        let parts: Vec<Vec<u8>> =
            [1, 0, 10, WRITE_MAX / 2, 3, WRITE_MAX, WRITE_MAX - 1, 2 * WRITE_MAX + 5, 7]
                .iter()
                .enumerate()
                .map(|(n, len)| (0..*len).map(|at| (at / 3 + n) as u8).collect())
                .collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut encoder = Encoder::new(Level::Better);
        let mut bytes = Vec::new();
        encoder.stream(&slices, &mut bytes);
        encoder.set_level(Level::Fast);
        encoder.stream(&slices, &mut bytes);
        let mut out = Vec::new();
        crate::FrameReader::new(bytes.as_slice()).read_to_end(&mut out).unwrap();
        assert!(out == [parts.concat(), parts.concat()].concat());
    }
}
