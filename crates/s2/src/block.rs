//! One compressed block: a length, then literals and copies of what was written before.

use crate::BLOCK_MAX;

/// Appends a decompressed block to `out`. `None` if it is not one, or says to be larger than blocks may be; `out` has
/// grown by less than that then.
pub(crate) fn decode(block: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let mut input = Input(block);
    let len = usize::try_from(input.uvarint()?).ok().filter(|len| *len <= BLOCK_MAX)?;
    // Not reserved at once: a few bytes may claim megabytes, and every copy has to be paid for.
    let mut last_offset = 0;
    while !input.0.is_empty() {
        match input.tag()? {
            Tag::Literal(count) => {
                let bytes = input.take(count)?;
                if out.len() - start + count > len {
                    return None;
                }
                out.extend_from_slice(bytes);
            }
            Tag::Copy { offset, count } => {
                last_offset = offset;
                copy(out, start, offset, count, len)?;
            }
            Tag::Repeat(count) => copy(out, start, last_offset, count, len)?,
        }
    }
    (out.len() - start == len).then_some(())
}

enum Tag {
    /// So many bytes follow as they are.
    Literal(usize),
    /// Bytes from so far back.
    Copy { offset: usize, count: usize },
    /// Bytes from as far back as the copy before.
    Repeat(usize),
}

/// Copies `count` bytes from `offset` back in the block that begins at `start`; they may overlap with what they become.
fn copy(out: &mut Vec<u8>, start: usize, offset: usize, count: usize, len: usize) -> Option<()> {
    let written = out.len() - start;
    if offset == 0 || offset > written || written + count > len {
        return None;
    }
    let mut from = out.len() - offset;
    let mut left = count;
    while left > 0 {
        let step = left.min(out.len() - from);
        out.extend_from_within(from..from + step);
        from += step;
        left -= step;
    }
    Some(())
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, the lowest first.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let taken = self.take(bytes)?;
        Some(taken.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.number(1)?;
            value |= (byte as u64 & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn tag(&mut self) -> Option<Tag> {
        let tag = self.number(1)?;
        let upper = tag >> 2;
        Some(match tag & 3 {
            0 => Tag::Literal(1 + if upper < 60 { upper } else { self.number(upper - 59)? }),
            1 => match ((tag & 0xe0) << 3 | self.number(1)?, upper & 7) {
                (0, 5) => Tag::Repeat(8 + self.number(1)?),
                (0, 6) => Tag::Repeat(4 + (1 << 8) + self.number(2)?),
                (0, 7) => Tag::Repeat(4 + (1 << 16) + self.number(3)?),
                (0, short) => Tag::Repeat(4 + short),
                (offset, short) => Tag::Copy { offset, count: 4 + short },
            },
            2 => Tag::Copy { offset: self.number(2)?, count: 1 + upper },
            _ => Tag::Copy { offset: self.number(4)?, count: 1 + upper },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(block: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(block, &mut out).map(|()| out)
    }

    #[test]
    fn literals_and_copies_of_every_form_are_read() {
        assert_eq!(decoded(&[3, 2 << 2, b'a', b'b', b'c']).unwrap(), b"abc");
        // Four bytes from one back: a run.
        assert_eq!(decoded(&[5, 0, b'a', 1, 1]).unwrap(), b"aaaaa");
        assert_eq!(decoded(&[4, 1 << 2, b'a', b'b', 1 << 2 | 2, 2, 0]).unwrap(), b"abab");
        assert_eq!(decoded(&[4, 1 << 2, b'a', b'b', 1 << 2 | 3, 2, 0, 0, 0]).unwrap(), b"abab");
        // A literal whose length is behind the tag.
        assert_eq!(decoded(&[2, 60 << 2, 1, b'a', b'b']).unwrap(), b"ab");
    }

    #[test]
    fn a_repeat_copies_from_as_far_back_as_the_copy_before() {
        let start = [1 << 2, b'a', b'b', 3 << 2 | 2, 2, 0];
        let with = |total: &[u8], repeat: &[u8]| decoded(&[total, &start, repeat].concat()).unwrap().len();
        assert_eq!(with(&[10], &[1, 0]), 10);
        assert_eq!(with(&[6 + 8 + 7], &[5 << 2 | 1, 0, 7]), 6 + 8 + 7);
        assert_eq!(with(&[0x8c, 2], &[6 << 2 | 1, 0, 2, 0]), 6 + 4 + 256 + 2);
        assert_eq!(with(&[0x8d, 0x80, 4], &[7 << 2 | 1, 0, 3, 0, 0]), 6 + 4 + 65536 + 3);
    }

    #[test]
    fn a_block_stands_behind_what_was_there_and_copies_nothing_of_it() {
        let mut out = b"before".to_vec();
        decode(&[3, 2 << 2, b'a', b'b', b'c'], &mut out).unwrap();
        assert_eq!(out, b"beforeabc");
        assert_eq!(decode(&[5, 0, b'a', 1, 2], &mut out), None);
    }

    #[test]
    fn what_reaches_before_the_start_or_beyond_the_length_is_refused() {
        assert_eq!(decoded(&[5, 0, b'a', 1, 2]), None, "copy from before the start");
        assert_eq!(decoded(&[4, 1, 0]), None, "repeat without a copy before");
        assert_eq!(decoded(&[4, 0, b'a', 1, 1]), None, "more than announced");
        assert_eq!(decoded(&[9, 0, b'a', 1, 1]), None, "less than announced");
        assert_eq!(decoded(&[9, 8 << 2, b'a']), None, "literal cut short");
        assert_eq!(decoded(&[0x81, 0x80, 0x80, 2, 0]), None, "4 MiB and a byte");
        assert_eq!(decoded(&[0xff; 9]), None);
    }

    proptest! {
        #[test]
        fn what_snappy_compresses_comes_back(data in proptest::collection::vec(0..4_u8, 0..5000)) {
            let block = snap::raw::Encoder::new().compress_vec(&data).unwrap();
            prop_assert_eq!(decoded(&block), Some(data));
        }

        #[test]
        fn garbage_never_grows_beyond_what_it_announces(block in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            let _ = decode(&block, &mut out);
            prop_assert!(out.len() <= BLOCK_MAX);
        }
    }
}
