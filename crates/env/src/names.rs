use crate::rng::{OsRng, Rng};
use linnet_ids::NuidSequence;

/// Makes unique names.
#[derive(Debug)]
pub struct NameSource(NuidSequence);

impl NameSource {
    /// A source of its own sequence.
    #[allow(clippy::new_without_default, reason = "two sources are never equal")]
    pub fn new() -> Self {
        Self(fresh())
    }

    /// A unique id of 22 characters.
    pub fn unique(&mut self) -> String {
        loop {
            if let Some(id) = self.0.next() {
                return String::from_utf8_lossy(&id).into_owned();
            }
            self.0 = fresh();
        }
    }

    /// A name of eight characters for a consumer that brings none.
    pub fn short(&self) -> String {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut bytes = [0; 8];
        OsRng.fill(&mut bytes);
        bytes.iter().map(|b| char::from(DIGITS[usize::from(*b) % 62])).collect()
    }
}

fn fresh() -> NuidSequence {
    let mut entropy = [0; 28];
    OsRng.fill(&mut entropy);
    NuidSequence::new(entropy)
}
