use std::io;

use linnet_store::{PinReadError, ReplacementError};
use thiserror::Error;

use super::chunk::Part;

/// A chunk cannot be had from a source.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The source is of another transfer.
    #[error("the chunk is one of another transfer")]
    OtherTransfer,
    /// There is no such part.
    #[error("the transfer has no {0}")]
    NoSuchPart(Part),
    /// The disk refused for now.
    #[error(transparent)]
    Read(#[from] PinReadError),
    /// What the stream is besides its messages cannot be written down.
    #[error("the state of the stream: {0}")]
    State(#[from] serde_json::Error),
}

/// What came from the leader is not taken.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The description has a form that this version does not know.
    #[error("the description of the state cannot be read")]
    Description,
    /// The stream keeps its messages elsewhere there.
    #[error("the state is of a stream with another storage type")]
    OtherStorage,
    /// The chunk did not arrive as it was sent.
    #[error("the chunk is damaged")]
    Damaged,
    /// The chunk is of another transfer.
    #[error("the chunk is one of another transfer")]
    OtherTransfer,
    /// The chunk was not asked for.
    #[error("nobody asked for {0}")]
    NotAsked(Part),
    /// The leader says two things that cannot both be so.
    #[error("the state contradicts itself: {0}")]
    Contradiction(String),
    /// Something is missing.
    #[error("the state is not complete")]
    Incomplete,
    /// The records are not taken, or the disk fails.
    #[error(transparent)]
    Replacement(#[from] ReplacementError),
}

impl TransferError {
    /// True if the transfer is over. After other errors nothing has changed, and the chunk can be asked for again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Damaged | Self::OtherTransfer | Self::NotAsked(_))
    }

    /// Why the disk failed, if it did.
    pub fn disk_failure(&self) -> Option<&io::Error> {
        match self {
            Self::Replacement(ReplacementError::Io(error)) => Some(error),
            _ => None,
        }
    }
}
