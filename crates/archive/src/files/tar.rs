//! Tar as older servers write it: POSIX headers with PAX extensions, regular files only.
//!
//! It is read here because nothing that reads tar bounds what an extension may make it hold.

use std::io::{self, BufRead, Read};

use crate::Error;

const BLOCK: usize = 512;
/// Bytes of the extensions before a file: a few times, and a path.
const EXTENSION_MAX: u64 = 64 << 10;
/// Extensions in a row before a file.
const EXTENSIONS_MAX: usize = 4;

/// Name and size of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) size: u64,
}

/// Files one behind the other. It reads as the content of the one that [`Tar::next_member`] told of.
pub(super) struct Tar<R> {
    inner: R,
    /// Bytes of the file that were not read.
    left: u64,
    /// Bytes behind the file, up to the next block.
    padding: u64,
}

/// What a header says.
struct Header {
    name: String,
    size: u64,
    kind: u8,
}

impl<R: BufRead> Tar<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// Goes to the next file; `None` at the end, which is more than the end of the bytes.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>, Error> {
        let mut extension = Extension::default();
        for _ in 0..=EXTENSIONS_MAX {
            self.skip_rest()?;
            let mut block = [0; BLOCK];
            self.inner.read_exact(&mut block).map_err(cut)?;
            if block == [0; BLOCK] {
                return Ok(None);
            }
            let header = Header::parse(&block).ok_or(Error::NotAnArchive)?;
            let size = extension.size.filter(|_| header.kind != b'x').unwrap_or(header.size);
            self.left = size;
            self.padding = size.next_multiple_of(BLOCK as u64) - size;
            match header.kind {
                b'x' | b'g' => extension.read(self, header.kind)?,
                b'0' | 0 => {
                    let name = extension.path.unwrap_or(header.name);
                    return Ok(Some(Member { name, size }));
                }
                _ => return Err(Error::File { name: header.name, reason: "not a regular file" }),
            }
        }
        Err(Error::Entry("too many extensions"))
    }

    /// Bytes of the file that were not read.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn skip_rest(&mut self) -> Result<(), Error> {
        let rest = self.left + self.padding;
        self.left = 0;
        self.padding = 0;
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink()).map_err(cut)?;
        if skipped == rest { Ok(()) } else { Err(Error::Truncated) }
    }
}

/// What reading says when the bytes end.
pub(super) fn cut(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { Error::Truncated } else { Error::Io(error) }
}

impl<R: BufRead> BufRead for Tar<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = self.inner.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(bytes.get(..left).unwrap_or(bytes))
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.left -= (count as u64).min(self.left);
    }
}

impl<R: BufRead> Read for Tar<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl Header {
    /// Reads a header; `None` if it is none, which its checksum says.
    fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let sum = 148..156;
        let counted =
            |(at, byte): (usize, &u8)| if sum.contains(&at) { u64::from(b' ') } else { u64::from(*byte) };
        if block.iter().enumerate().map(counted).sum::<u64>() != number(&block[sum.clone()])? {
            return None;
        }
        let (mut name, prefix) = (text(&block[..100])?, text(&block[345..500])?);
        if block[257..263] == *b"ustar\0" && !prefix.is_empty() {
            name = format!("{prefix}/{name}");
        }
        let size = number(&block[124..136]).filter(|size| *size < 1 << 62)?;
        Some(Self { name, size, kind: block[156] })
    }
}

fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8(field[..end].to_vec()).ok()
}

/// Octal digits, or with the highest bit set a number as it is.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if *first & 0x80 != 0 {
        let first = u64::from(first & 0x7f);
        return rest.iter().try_fold(first, |n, byte| Some(n.checked_mul(256)? | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// What extensions say of the file behind them.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    size: Option<u64>,
}

impl Extension {
    fn read(&mut self, tar: &mut Tar<impl BufRead>, kind: u8) -> Result<(), Error> {
        if tar.left > EXTENSION_MAX {
            return Err(Error::Entry("impossible length"));
        }
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).map_err(cut)?;
        if kind == b'x' {
            self.take(&bytes).ok_or(Error::Entry("an extension"))?;
        }
        Ok(())
    }

    /// Reads records: a length in digits that counts the whole record, a blank, a key, `=`, a value, a line end.
    fn take(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let blank = records.iter().position(|b| *b == b' ')?;
            let len: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
            let (record, rest) = records.split_at_checked(len)?;
            let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
            let (key, value) = std::str::from_utf8(record).ok()?.split_once('=')?;
            match key {
                "path" => self.path = Some(value.to_owned()),
                "size" => self.size = Some(value.parse().ok().filter(|size| *size < 1 << 62)?),
                _ => {}
            }
            records = rest;
        }
        Some(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of a file, or of an extension.
    pub(crate) fn header(name: &str, size: usize, kind: u8) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[148..156].fill(b' ');
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    /// A file as it stands in a tar.
    pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, content.len(), b'0').to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut tar = Tar::new(bytes);
        let mut all = Vec::new();
        while let Some(member) = tar.next_member()? {
            let mut content = Vec::new();
            tar.read_to_end(&mut content).map_err(cut)?;
            all.push((member.name, content));
        }
        Ok(all)
    }

    #[test]
    fn files_are_read_one_behind_the_other() {
        let mut bytes = [file("a", b"one"), file("b/c", &[7; 513]), file("d", b"")].concat();
        bytes.extend([0; 2 * BLOCK]);
        let all = read_all(&bytes).unwrap();
        let expected = [("a", b"one".to_vec()), ("b/c", vec![7; 513]), ("d", Vec::new())];
        assert_eq!(all, expected.map(|(name, content)| (name.to_owned(), content)));
        for len in 0..bytes.len() - BLOCK {
            assert!(matches!(read_all(&bytes[..len]), Err(Error::Truncated)), "cut at {len}");
        }
    }

    #[test]
    fn what_was_not_read_of_a_file_is_skipped() {
        let bytes = [file("a", &[1; 2000]), file("b", b"two"), vec![0; BLOCK]].concat();
        let mut tar = Tar::new(bytes.as_slice());
        tar.next_member().unwrap();
        tar.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(tar.next_member().unwrap().unwrap().name, "b");
    }

    #[test]
    fn extensions_name_paths_and_sizes() {
        let records = b"22 mtime=1700000000.5\n15 path=long/x\n9 size=2\n";
        let mut bytes = header("x", records.len(), b'x').to_vec();
        bytes.extend(records);
        bytes.resize(2 * BLOCK, 0);
        bytes.extend(file("short", b"hi"));
        bytes.extend([0; BLOCK]);
        assert_eq!(read_all(&bytes).unwrap(), [("long/x".to_owned(), b"hi".to_vec())]);
        let broken = [header("x", 9, b'x').to_vec(), b"99 path=a".to_vec(), vec![0; BLOCK]].concat();
        assert_eq!(read_all(&broken).unwrap_err().to_string(), "backup has an invalid entry: an extension");
    }

    #[test]
    fn links_and_other_nonsense_are_refused() {
        let link = [header("l", 0, b'2').to_vec(), vec![0; BLOCK]].concat();
        assert_eq!(
            read_all(&link).unwrap_err().to_string(),
            "backup has an invalid file l: not a regular file"
        );
        let mut broken = file("a", b"one");
        broken[3] ^= 1;
        assert!(matches!(read_all(&broken), Err(Error::NotAnArchive)));
        let large = header("x", 1 << 20, b'x');
        assert_eq!(
            read_all(&large).unwrap_err().to_string(),
            "backup has an invalid entry: impossible length"
        );
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read_all(&bytes);
            let mut extension = Extension::default();
            let _ = extension.take(&bytes);
        }
    }
}
