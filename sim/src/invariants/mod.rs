//! What must be true, one promise per file.

pub(crate) mod answered;
pub(crate) mod answers;
pub(crate) mod backups;
pub(crate) mod batches;
pub(crate) mod beats;
pub(crate) mod consumers;
pub(crate) mod content;
pub(crate) mod damage;
pub(crate) mod deliveries;
pub(crate) mod duplicates;
pub(crate) mod durability;
pub(crate) mod expectations;
pub(crate) mod fast;
pub(crate) mod markers;
pub(crate) mod origins;
pub(crate) mod pulls;
pub(crate) mod reads;
pub(crate) mod republished;
pub(crate) mod schedules;
pub(crate) mod sealed;
pub(crate) mod secrecy;
pub(crate) mod sequences;
pub(crate) mod starts;
pub(crate) mod state;
pub(crate) mod usage;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
}

pub(crate) type Check = Result<(), Violation>;

/// A broken promise as an error.
pub(crate) fn broken<T>(invariant: &'static str, text: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { invariant, text: text.into() })
}
