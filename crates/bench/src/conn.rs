use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::frames::{self, Frame};

/// Longer than any healthy server is silent when it owes an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// What the kernel may hold of what was written. With the megabytes it takes by itself, data leaves the processor's
/// caches between writing and reading: a sink that only reads then gets less than half of what it gets with this.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
    \"protocol\":1,\"lang\":\"rust\",\"version\":\"0\",\"name\":\"bench\"}\r\nPING\r\n";

/// A read buffer that many connections can share, one after the other.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    /// Large enough for one read of everything a socket holds.
    pub(crate) fn large() -> Self {
        Self(vec![0; 256 * 1024])
    }
}

/// A client connection: a socket and the incomplete frame at the end of the last read.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    carry: Vec<u8>,
}

impl Conn {
    /// Connects and waits until the server has accepted the client.
    pub(crate) fn open(addr: SocketAddr, scratch: &mut Scratch) -> Result<Self> {
        let stream = TcpStream::connect(addr).with_context(|| format!("cannot connect to {addr}"))?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        stream.set_read_timeout(Some(READ_TIMEOUT)).context("read timeout")?;
        stream.set_write_timeout(Some(READ_TIMEOUT)).context("write timeout")?;
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES).context("SO_SNDBUF")?;
        let mut conn = Self { stream, carry: Vec::new() };
        conn.send(CONNECT)?;
        conn.await_pong(scratch)?;
        Ok(conn)
    }

    /// The socket, for those who wait on many.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes everything.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("writing to the server")
    }

    /// Waits until the server has processed everything sent so far. Messages that arrive meanwhile are dropped.
    pub(crate) fn flush(&mut self, scratch: &mut Scratch) -> Result<()> {
        self.send(b"PING\r\n")?;
        self.await_pong(scratch)
    }

    fn await_pong(&mut self, scratch: &mut Scratch) -> Result<()> {
        let mut seen = false;
        while !seen {
            self.read(scratch, |frame| {
                seen |= matches!(frame, Frame::Pong);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// One read, and a call for each frame that is complete with it. An -ERR is an error.
    pub(crate) fn read(
        &mut self,
        scratch: &mut Scratch,
        mut on_frame: impl FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        self.read_bytes(scratch, |input| {
            let mut used = 0;
            while let Some((frame, length)) = frames::decode(&input[used..])? {
                used += length;
                if let Frame::Err(text) = frame {
                    bail!("the server sent -ERR {}", String::from_utf8_lossy(text));
                }
                on_frame(frame)?;
            }
            Ok(used)
        })
    }

    /// One read of which only the number of messages matters.
    pub(crate) fn read_count(&mut self, scratch: &mut Scratch) -> Result<u64> {
        let mut messages = 0;
        self.read_bytes(scratch, |input| {
            let (found, used) = frames::count(input)?;
            messages = found;
            Ok(used)
        })?;
        Ok(messages)
    }

    fn read_bytes(
        &mut self,
        scratch: &mut Scratch,
        consume: impl FnOnce(&[u8]) -> Result<usize>,
    ) -> Result<()> {
        let buffer = &mut scratch.0;
        let carried = self.carry.len();
        if buffer.len() < carried * 2 {
            buffer.resize(carried * 2, 0);
        }
        buffer[..carried].copy_from_slice(&self.carry);
        let read = loop {
            match self.stream.read(&mut buffer[carried..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading from the server"),
            }
        };
        let input = &buffer[..carried + read];
        let used = consume(input)?;
        self.carry.clear();
        self.carry.extend_from_slice(&input[used..]);
        Ok(())
    }
}
