use std::io::{self, IoSlice, Write};

use tokio::net::TcpStream;

/// Writes to a socket of the runtime without waiting.
pub(super) struct NonBlocking<'a>(pub(super) &'a TcpStream);

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
