use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::sync::OnceLock;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::chunk::{Chunk, recycle};
use crate::tls::Tls;

/// Slices per write call.
const SLICES_MAX: usize = 64;

/// A client's socket and, once there is one, the TLS session over it. The reader task reads and one writer at a time
/// writes, each without waiting; who waits does so at [`Link::tcp`].
pub(crate) struct Link {
    tcp: TcpStream,
    tls: OnceLock<Box<Tls>>,
}

/// Which sockets are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Those that the runtime takes for writable.
    WhenReady,
    /// Any. The kernel calls a socket writable when a third of its buffer is free.
    Anyway,
}

/// Writes to a socket of the runtime without waiting.
pub(crate) struct NonBlocking<'a>(pub(crate) &'a TcpStream, pub(crate) How);

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.1 {
            How::WhenReady => self.0.try_write(bytes),
            How::Anyway => SockRef::from(self.0).send(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.1 {
            How::WhenReady => self.0.try_write_vectored(slices),
            How::Anyway => SockRef::from(self.0).send_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a write attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    All,
    /// The socket is full; the rest stays in the chunks, or encrypted in the session.
    Blocked,
    Failed,
}

impl Link {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, tls: OnceLock::new() }
    }

    /// The socket, to wait for its readiness.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// From here on everything goes through `tls`.
    pub(crate) fn secure(&self, tls: Tls) {
        // A connection shakes hands once.
        let _ = self.tls.set(Box::new(tls));
    }

    /// Reads once, as much as fits into `out`. 0 is the end.
    pub(crate) fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        match self.tls.get() {
            None => read_socket(&self.tcp, out),
            Some(tls) => tls.read(&self.tcp, out),
        }
    }

    /// Writes from the front of `chunks` until all is written or the socket is full. `skip` bytes of the first chunk
    /// are written already; it is 0 after everything is.
    pub(crate) fn write(&self, chunks: &mut VecDeque<Chunk>, skip: &mut usize, how: How) -> Wrote {
        let socket = NonBlocking(&self.tcp, how);
        match self.tls.get() {
            None => write_socket(socket, chunks, skip),
            Some(tls) => tls.write(socket, chunks, skip),
        }
    }

    /// Ends what we send; with `Both` our reader sees the end, too.
    pub(crate) fn shut(&self, ending: Shutdown) {
        if let Some(tls) = self.tls.get() {
            tls.say_goodbye(&self.tcp);
        }
        // Fails only if the peer is gone already.
        let _ = SockRef::from(&self.tcp).shutdown(ending);
    }
}

/// Reads once. Getting less than was asked for means that the socket is empty: its readiness is cleared, which
/// spares the read call that would only say so.
pub(crate) fn read_socket(tcp: &TcpStream, out: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    let result = tcp.try_io(Interest::READABLE, || {
        got = rustix::io::read(tcp, &mut *out)?;
        if got > 0 && got < out.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Ok(()) => Ok(got),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock && got > 0 => Ok(got),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(io::ErrorKind::WouldBlock.into()),
        Err(e) => Err(e),
    }
}

fn write_socket(mut socket: NonBlocking<'_>, chunks: &mut VecDeque<Chunk>, skip: &mut usize) -> Wrote {
    while let Some(first) = chunks.front() {
        let result = if chunks.len() == 1 {
            socket.write(&first.bytes()[*skip..])
        } else {
            with_slices(chunks, *skip, |slices| socket.write_vectored(slices))
        };
        match result {
            Ok(written) => {
                if advance(chunks, skip, written) {
                    *skip = 0;
                    return Wrote::All;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Wrote::Blocked,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Wrote::Failed,
        }
    }
    Wrote::All
}

/// Calls `write` with the bytes that are not written yet.
pub(crate) fn with_slices<T>(
    chunks: &VecDeque<Chunk>,
    skip: usize,
    write: impl FnOnce(&[IoSlice<'_>]) -> T,
) -> T {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut used = 0;
    for (slot, chunk) in slices.iter_mut().zip(chunks.iter()) {
        *slot = IoSlice::new(&chunk.bytes()[if used == 0 { skip } else { 0 }..]);
        used += 1;
    }
    write(&slices[..used])
}

/// Takes `written` bytes off the front. True if that was everything: the last chunk stays, wholly skipped.
pub(crate) fn advance(chunks: &mut VecDeque<Chunk>, skip: &mut usize, mut written: usize) -> bool {
    while let Some(first) = chunks.front() {
        let left = first.bytes().len() - *skip;
        if written < left {
            *skip += written;
            return false;
        }
        written -= left;
        if chunks.len() == 1 {
            *skip += left;
            return true;
        }
        *skip = 0;
        if let Some(Chunk::Owned(buffer)) = chunks.pop_front() {
            recycle(buffer);
        }
    }
    true
}
