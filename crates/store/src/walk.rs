use std::ops::Range;

use linnet_ids::StreamSeq;

use crate::block::Block;
use crate::data_reader::DataReader;
use crate::record::Record;
use crate::store::StreamStore;

impl StreamStore {
    /// Looks at every message with headers from `from` on, in order. What is damaged is left out. It blocks, but reads
    /// each part of a file once, and nothing of messages without headers that stand apart.
    pub fn walk_headers(&self, from: StreamSeq, mut look: impl FnMut(&Record<'_>)) {
        let start = self.blocks.partition_point(|block| block.end() <= from);
        let mut data = Vec::new();
        for block in self.blocks.range(start..) {
            let mut part = Part { block, reader: None, data: &mut data, span: 0..0 };
            let rows = block.rows();
            let seqs = rows.seqs();
            let mut next = rows.next_live(seqs.row_from(from));
            while let Some(row) = next {
                next = rows.next_live(row + 1);
                let seq = seqs.seq_of(row);
                if rows.has_headers(row) && !self.damaged.contains(&seq) {
                    self.walk_to(&mut part, seq, &mut look);
                }
            }
        }
    }

    fn walk_to(&self, part: &mut Part<'_>, seq: StreamSeq, look: &mut impl FnMut(&Record<'_>)) {
        let Some(span) = part.block.locate(seq) else { return };
        let record = match part.block.resident(&span) {
            Some(bytes) => Record::view(bytes).ok().map(|(record, _)| record),
            None => part.bytes(seq, &span, self.layout.read_ahead).and_then(|bytes| self.verify(bytes, seq)),
        };
        if let Some(record) = record.filter(|record| record.seq == seq) {
            look(&record);
        }
    }
}

/// The part of a block's file that was read last.
struct Part<'a> {
    block: &'a Block,
    reader: Option<DataReader>,
    data: &'a mut Vec<u8>,
    span: Range<usize>,
}

impl Part<'_> {
    /// The bytes at `span`, read together with `ahead` bytes of what follows. `None` if they cannot be read.
    fn bytes(&mut self, seq: StreamSeq, span: &Range<usize>, ahead: usize) -> Option<&[u8]> {
        if !(self.span.start <= span.start && span.end <= self.span.end) {
            let wide = self.block.extend_span(seq, span, ahead);
            // What follows may be damaged where the message is not.
            if !self.read(wide) && !self.read(span.clone()) {
                return None;
            }
        }
        self.data.get(span.start - self.span.start..span.end - self.span.start)
    }

    fn read(&mut self, span: Range<usize>) -> bool {
        self.span = 0..0;
        if self.reader.is_none() {
            self.reader = self.block.file.as_ref().and_then(|file| DataReader::open(file).ok());
        }
        let Some(reader) = &mut self.reader else { return false };
        self.data.resize(span.len(), 0);
        if reader.read(self.data, span.start).is_err() {
            return false;
        }
        self.span = span;
        true
    }
}
