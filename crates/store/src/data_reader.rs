use std::io;
use std::sync::Arc;

use bytes::Bytes;
use linnet_env::DiskFile;

use crate::jobs::{BlockFile, HEADER};
use crate::packed::{Frame, Key, damaged};

/// Reads the data of a block from its file, packed or not. It holds one frame, so that going through the data in
/// order unpacks each frame once.
pub(crate) struct DataReader {
    handle: Arc<dyn DiskFile>,
    packed: Option<Frames>,
}

struct Frames {
    key: Key,
    all: Arc<[Frame]>,
    /// The frame that was unpacked last, and its data.
    last: Option<(Frame, Vec<u8>)>,
}

impl DataReader {
    pub(crate) fn open(file: &BlockFile) -> io::Result<Self> {
        let handle = file.for_reading()?;
        let packed = file.frames(&*handle)?.map(|all| Frames { key: file.key(), all, last: None });
        Ok(Self { handle, packed })
    }

    pub(crate) fn handle(&self) -> &Arc<dyn DiskFile> {
        &self.handle
    }

    /// Where in the file the data at `at` stands, or the frame that it is packed in.
    pub(crate) fn place(&self, at: usize) -> u64 {
        let frame =
            self.packed.as_ref().and_then(|frames| frames.find(at).ok().map(|found| frames.all[found]));
        frame.map_or(HEADER + at as u64, |frame| frame.place())
    }

    /// Fills `out` with the data from `at` on.
    pub(crate) fn read(&mut self, out: &mut [u8], at: usize) -> io::Result<()> {
        let Some(frames) = &mut self.packed else {
            return self.handle.read_exact_at(out, HEADER + at as u64);
        };
        let mut done = 0;
        while done < out.len() {
            let data = frames.from(&*self.handle, at + done)?;
            let len = data.len().min(out.len() - done);
            out[done..done + len].copy_from_slice(&data[..len]);
            done += len;
        }
        Ok(())
    }

    /// Data around the `needed` bytes at `at`, with where it starts: up to `len` bytes from there as far as they can
    /// be read, or of a packed file the frames in which these are.
    pub(crate) fn read_ahead(&mut self, at: usize, needed: usize, len: usize) -> io::Result<(usize, Bytes)> {
        if let Some(frames) = &mut self.packed {
            return frames.read_ahead(&*self.handle, at, needed, len);
        }
        let mut read = |len: usize| {
            let mut data = vec![0; len];
            self.read(&mut data, at).map(|()| (at, Bytes::from(data)))
        };
        match read(len) {
            Err(_) if needed < len => read(needed),
            outcome => outcome,
        }
    }
}

impl Frames {
    /// Place in the list of the frame that holds the byte at `at`.
    fn find(&self, at: usize) -> io::Result<usize> {
        let found = self.all.partition_point(|frame| frame.span().end <= at);
        let holds = self.all.get(found).is_some_and(|frame| frame.span().contains(&at));
        if holds { Ok(found) } else { Err(damaged()) }
    }

    /// What the frame that holds `at` has from there on.
    fn from(&mut self, handle: &dyn DiskFile, at: usize) -> io::Result<&[u8]> {
        let is_last = self.last.as_ref().is_some_and(|(frame, _)| frame.span().contains(&at));
        if !is_last {
            let frame = self.all[self.find(at)?];
            self.last = Some((frame, frame.read(handle, self.key)?));
        }
        let found = self.last.as_ref().and_then(|(frame, data)| data.get(at - frame.span().start..));
        found.filter(|data| !data.is_empty()).ok_or_else(damaged)
    }

    fn read_ahead(
        &self,
        handle: &dyn DiskFile,
        at: usize,
        needed: usize,
        len: usize,
    ) -> io::Result<(usize, Bytes)> {
        let first = self.find(at)?;
        let start = self.all[first].span().start;
        let (needed_end, end) = (at + needed, at + len);
        let mut data = Vec::new();
        for frame in &self.all[first..] {
            let reached = start + data.len();
            let is_needed = reached < needed_end;
            // One that is only read ahead must follow, and fit.
            if !is_needed && (frame.span().start != reached || frame.span().end > end) {
                break;
            }
            match frame.read(handle, self.key) {
                Ok(bytes) if frame.span().start == reached => data.extend_from_slice(&bytes),
                Ok(_) => return Err(damaged()),
                Err(e) if is_needed => return Err(e),
                Err(_) => break,
            }
        }
        Ok((start, Bytes::from(data)))
    }
}
