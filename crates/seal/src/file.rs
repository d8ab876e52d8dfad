//! One encrypted file.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use linnet_env::{DiskFile, Rng};
use parking_lot::RwLock;

use crate::header::{HEADER_BYTES, Header, PARTS_MAX, Part};
use crate::key::{KeyRing, SALT_BYTES};
use crate::keystream::{END, Keystream};

/// Bytes encrypted and handed on at a time.
const CHUNK: usize = 256 << 10;
/// Zeros that stand for themselves: a sector nobody has written.
const SECTOR: u64 = 512;
const SECTOR_LEN: usize = 512;

thread_local! {
    /// What is encrypted before it is written.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An encrypted file.
///
/// Two texts encrypted with the same keystream give each other away, so no place is written twice with one:
///
/// | Owner | Then |
/// |---|---|
/// | creates a file, or opens one whose content is void | new salt |
/// | writes behind the end, or where there are zeros | the place was never used |
/// | writes over something in a file that was there before | the part gets a salt of its own, in the header, first |
/// | writes the same again | the same bytes |
///
/// Whoever creates a file writes no place of it twice with different content while it is open. Whole sectors of zeros
/// are left as they are by [`DiskFile::write_zeros_at`] and read as zeros: a log tells by them what was never written.
pub(crate) struct SealedFile {
    file: Arc<dyn DiskFile>,
    ring: Arc<KeyRing>,
    rng: Arc<dyn Rng>,
    state: RwLock<State>,
}

struct State {
    stage: Stage,
    /// `None` if the file has no header that can be read.
    header: Option<Header>,
    whole: Keystream,
    parts: Vec<(Range<u64>, Keystream)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no header in the file yet.
    Unwritten,
    /// The file was made by this handle.
    New,
    /// The file was there before.
    Old,
}

impl State {
    fn new(stage: Stage, header: Header, ring: &KeyRing) -> io::Result<Self> {
        let key = ring.find(&header.key).ok_or(io::ErrorKind::PermissionDenied)?;
        let keystream = |salt: &[u8]| key.keystream(header.cipher, &header.salt, salt);
        let parts = header.parts.iter().map(|part| (part.start..part.end, keystream(&part.salt))).collect();
        Ok(Self { stage, whole: keystream(&[]), parts, header: Some(header) })
    }

    /// Encrypts or decrypts what stands at `offset`.
    fn apply(&self, mut data: &mut [u8], mut offset: u64) {
        while !data.is_empty() {
            let (keystream, end) = self.at(offset);
            let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
            let (piece, rest) = data.split_at_mut(len.max(1));
            keystream.apply(piece, offset);
            offset += piece.len() as u64;
            data = rest;
        }
    }

    /// The keystream of a place and how far it reaches.
    fn at(&self, offset: u64) -> (&Keystream, u64) {
        let found = self.parts.iter().rposition(|(range, _)| range.contains(&offset));
        let (keystream, end, later) = match found.and_then(|at| Some((at, self.parts.get(at)?))) {
            Some((at, (range, keystream))) => (keystream, range.end, at + 1),
            None => (&self.whole, END, 0),
        };
        let next = self.parts.iter().skip(later).map(|(range, _)| range.start).filter(|s| *s > offset).min();
        (keystream, next.map_or(end, |next| next.min(end)))
    }
}

impl SealedFile {
    fn with(file: Arc<dyn DiskFile>, ring: Arc<KeyRing>, rng: Arc<dyn Rng>, state: State) -> Self {
        Self { file, ring, rng, state: RwLock::new(state) }
    }

    /// A file without a byte, or with none that counts.
    pub(crate) fn unwritten(file: Arc<dyn DiskFile>, ring: Arc<KeyRing>, rng: Arc<dyn Rng>) -> Self {
        let header = Header::new(&ring, &*rng);
        let state = State::new(Stage::Unwritten, header, &ring).expect("a new header is of the ring's key");
        Self::with(file, ring, rng, state)
    }

    /// A file with this header.
    pub(crate) fn written(
        file: Arc<dyn DiskFile>,
        ring: Arc<KeyRing>,
        rng: Arc<dyn Rng>,
        header: Header,
    ) -> io::Result<Self> {
        let state = State::new(Stage::Old, header, &ring)?;
        Ok(Self::with(file, ring, rng, state))
    }

    /// A file whose header cannot be read. The keystream is that of no file.
    pub(crate) fn noise(file: Arc<dyn DiskFile>, ring: Arc<KeyRing>, rng: Arc<dyn Rng>) -> Self {
        let whole = ring.present().1.keystream(ring.cipher, &[0; SALT_BYTES], b"noise");
        let state = State { stage: Stage::Old, header: None, whole, parts: Vec::new() };
        Self::with(file, ring, rng, state)
    }

    /// Puts the header in front of what will be written.
    pub(crate) fn begin(&self) -> io::Result<()> {
        let mut state = self.state.write();
        if state.stage == Stage::Unwritten
            && let Some(header) = &state.header
        {
            header.write_new(&*self.file, &self.ring.present().1)?;
            state.stage = Stage::New;
        }
        Ok(())
    }

    /// Makes sure that these bytes may be written here.
    fn prepare(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let end = offset.checked_add(len).filter(|end| *end < END).ok_or(io::ErrorKind::FileTooLarge)?;
        let state = self.state.read();
        if state.header.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the header of an encrypted file is damaged",
            ));
        }
        let stage = state.stage;
        drop(state);
        match stage {
            Stage::Unwritten => self.begin(),
            Stage::New => {
                let is_first = || self.is_first_use(parts, offset) != Some(false);
                debug_assert!(is_first(), "a place of a new file is written twice");
                Ok(())
            }
            Stage::Old => {
                // What cannot be read is mended by writing it.
                if self.is_first_use(parts, offset) == Some(true) { Ok(()) } else { self.renew(offset..end) }
            }
        }
    }

    /// Whether nothing was written at this place, or the same; `None` if it cannot be read.
    fn is_first_use(&self, parts: &[&[u8]], offset: u64) -> Option<bool> {
        let mut at = offset;
        let mut zeros = true;
        let mut same = true;
        for piece in parts.iter().flat_map(|part| part.chunks(CHUNK)) {
            let mut there = vec![0; piece.len()];
            let Ok(read) = self.file.read_at(&mut there, HEADER_BYTES + at) else { return None };
            there.truncate(read);
            zeros &= there.iter().all(|b| *b == 0);
            if same {
                let mut ours = piece.to_vec();
                self.state.read().apply(&mut ours, at);
                same = ours.starts_with(&there);
            }
            at += piece.len() as u64;
            if !(zeros || same) {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Gives a part another keystream, durably.
    fn renew(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = self.state.write();
        let Some(mut header) = state.header.clone() else { return Ok(()) };
        header.parts.retain(|part| part.start < range.start || part.end > range.end);
        if header.parts.len() >= PARTS_MAX {
            let text = "too many parts of an encrypted file were written again";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        header.parts.push(Part::new(range.start, range.end, &*self.rng));
        let key = self.ring.find(&header.key).ok_or(io::ErrorKind::PermissionDenied)?;
        header.replace(&*self.file, key)?;
        *state = State::new(Stage::Old, header, &self.ring)?;
        Ok(())
    }

    fn flush(&self, chunk: &mut Vec<u8>, at: &mut u64) -> io::Result<()> {
        self.state.read().apply(chunk, *at);
        self.file.write_all_at(chunk, HEADER_BYTES + *at)?;
        *at += chunk.len() as u64;
        chunk.clear();
        Ok(())
    }

    /// True if nobody has written the sector that holds `offset`.
    fn is_blank(&self, offset: u64) -> bool {
        let mut sector = [0; SECTOR_LEN];
        let start = offset - offset % SECTOR;
        matches!(self.file.read_at(&mut sector, HEADER_BYTES + start), Ok(SECTOR_LEN)) && is_zero(&sector)
    }

    /// Decrypts what was read, except sectors that nobody has written.
    fn decrypt(&self, data: &mut [u8], offset: u64) {
        let state = self.state.read();
        let mut at = 0;
        // Start of what is to be decrypted, which goes up to `at`.
        let mut from = 0;
        while at < data.len() {
            let within = usize::try_from((offset + at as u64) % SECTOR).unwrap_or(0);
            let len = (SECTOR_LEN - within).min(data.len() - at);
            let piece = data.get(at..at + len).unwrap_or_default();
            if is_zero(piece) && (len == SECTOR_LEN || self.is_blank(offset + at as u64)) {
                if let Some(before) = data.get_mut(from..at) {
                    state.apply(before, offset + from as u64);
                }
                from = at + len;
            }
            at += len;
        }
        if let Some(rest) = data.get_mut(from..) {
            state.apply(rest, offset + from as u64);
        }
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

impl DiskFile for SealedFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end < END);
        end.ok_or(io::ErrorKind::FileTooLarge)?;
        let read = self.file.read_at(out, HEADER_BYTES + offset)?;
        self.decrypt(out.get_mut(..read).unwrap_or_default(), offset);
        Ok(read)
    }

    fn try_read_exact_at(&self, out: &mut [u8], offset: u64) -> bool {
        let is_inside = offset.checked_add(out.len() as u64).is_some_and(|end| end < END);
        let is_there = is_inside && self.file.try_read_exact_at(out, HEADER_BYTES + offset);
        if is_there {
            self.decrypt(out, offset);
        }
        is_there
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_all_at(&[data], offset)
    }

    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.prepare(parts, offset)?;
        SCRATCH.with_borrow_mut(|chunk| {
            chunk.clear();
            let mut at = offset;
            for part in parts {
                let mut rest = *part;
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(rest.len().min(CHUNK - chunk.len()));
                    chunk.extend_from_slice(piece);
                    rest = behind;
                    if chunk.len() == CHUNK {
                        self.flush(chunk, &mut at)?;
                    }
                }
            }
            if chunk.is_empty() { Ok(()) } else { self.flush(chunk, &mut at) }
        })
    }

    fn write_zeros_at(&self, len: usize, offset: u64) -> io::Result<()> {
        if offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR_LEN) {
            self.prepare(&[], offset)?;
            return self.file.write_zeros_at(len, HEADER_BYTES + offset);
        }
        self.write_all_at(&vec![0; len], offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len().map(|len| len.saturating_sub(HEADER_BYTES))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.prepare(&[], 0)?;
        self.file.set_len(HEADER_BYTES + len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_certainly(&self) -> io::Result<()> {
        self.file.sync_certainly()
    }
}
