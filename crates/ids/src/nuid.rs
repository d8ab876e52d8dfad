/// Length of a NUID in characters.
pub const NUID_LEN: usize = 22;
const PREFIX_LEN: usize = 12;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const MAX_SEQUENCE: u64 = 62_u64.pow(10);

/// A source of NATS unique ids: a random 12-character prefix followed by a 10-character counter that starts and
/// steps at random. The caller draws a fresh one when [`NuidSequence::next`] says that the counter is used up.
#[derive(Clone, Debug)]
pub struct NuidSequence {
    prefix: [u8; PREFIX_LEN],
    sequence: u64,
    step: u64,
}

impl NuidSequence {
    /// Builds a sequence from 28 bytes of entropy.
    pub fn new(entropy: [u8; 28]) -> Self {
        let mut prefix = [0; PREFIX_LEN];
        for (out, byte) in prefix.iter_mut().zip(entropy) {
            *out = DIGITS[usize::from(byte) % 62];
        }
        let word = |at: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&entropy[at..at + 8]);
            u64::from_be_bytes(w)
        };
        Self { prefix, sequence: word(12) % MAX_SEQUENCE, step: 33 + word(20) % 300 }
    }

    /// The next id, or `None` when this sequence is exhausted.
    #[allow(clippy::should_implement_trait, reason = "not an iterator: exhaustion asks for new entropy")]
    pub fn next(&mut self) -> Option<[u8; NUID_LEN]> {
        self.sequence = self.sequence.checked_add(self.step).filter(|s| *s < MAX_SEQUENCE)?;
        let mut id = [0; NUID_LEN];
        id[..PREFIX_LEN].copy_from_slice(&self.prefix);
        let mut rest = self.sequence;
        for out in id[PREFIX_LEN..].iter_mut().rev() {
            *out = DIGITS[usize::try_from(rest % 62).unwrap_or(0)];
            rest /= 62;
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::NuidSequence;

    #[test]
    fn ids_are_distinct_and_of_base62() {
        let mut entropy = [0; 28];
        entropy.iter_mut().zip(1_u8..).for_each(|(b, n)| *b = n.wrapping_mul(91));
        let mut source = NuidSequence::new(entropy);
        let ids: std::collections::HashSet<_> = (0..1000).filter_map(|_| source.next()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().flatten().all(u8::is_ascii_alphanumeric));
    }
}
