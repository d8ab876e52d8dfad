/// Sizes that shape blocks and reads. The defaults are for production; tests shrink them so that a few messages
/// exercise what otherwise takes gigabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Data bytes after which a block is closed.
    pub block_max: usize,
    /// Rows after which a block is closed however small its data is.
    pub rows_max: usize,
    /// Unwritten bytes of the newest block after which they are handed out for writing.
    pub extent: usize,
    /// Removed bytes below which a block is not compacted, however large their share is.
    pub squeeze_min: u64,
    /// Bytes read at once for a reader that goes through the stream in order.
    pub read_ahead: usize,
    /// Bytes read at once for a reader that wants one message.
    pub read_one: usize,
    /// Parts of written blocks kept in memory per stream.
    pub cache_extents: usize,
    /// Bytes of records that are compressed together: what reading one of them unpacks.
    pub frame: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            block_max: 8 << 20,
            rows_max: 1 << 18,
            extent: 1 << 20,
            squeeze_min: 64 << 10,
            read_ahead: 256 << 10,
            read_one: 8 << 10,
            cache_extents: 4,
            frame: 64 << 10,
        }
    }
}
