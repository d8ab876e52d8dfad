use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use linnet_launch::Deadline;
use linnet_s2::{Decoder, Encoder, Level};

use super::LONG;

/// A connection that sends and receives bytes as they are.
pub(crate) struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
    is_closed: bool,
    /// Set once both sides compress.
    packing: Option<Box<Packing>>,
}

/// S2 in both directions.
struct Packing {
    encoder: Encoder,
    decoder: Decoder,
    /// Bytes that are no whole frame yet.
    packed: Vec<u8>,
}

impl Raw {
    /// Connects without reading or sending anything.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, LONG).unwrap();
        Self::over(stream)
    }

    /// A connection that is there, whoever opened it.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new(), is_closed: false, packing: None }
    }

    /// Connects, reads INFO and logs in quietly; the server has read CONNECT when this returns.
    pub(crate) fn login(addr: SocketAddr) -> Self {
        let mut raw = Self::connect(addr);
        assert!(raw.line().unwrap().starts_with("INFO "));
        raw.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":0}\r\n");
        raw.ping();
        raw
    }

    /// From here on both sides compress; what has been read behind the last line is compressed already.
    pub(crate) fn pack(&mut self) {
        let packed = std::mem::take(&mut self.unread);
        let (encoder, decoder) = (Encoder::new(Level::Fast), Decoder::default());
        self.packing = Some(Box::new(Packing { encoder, decoder, packed }));
        self.unpack();
    }

    /// Puts what has come whole behind what is unread.
    fn unpack(&mut self) {
        let Some(packing) = &mut self.packing else { return };
        let mut input = packing.packed.as_slice();
        while packing.decoder.next(&mut input, &mut self.unread).expect("frames") {}
        let left = input.to_vec();
        packing.packed = left;
    }

    /// Sends bytes; a connection the server has closed already takes none, which the next read shows.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.packing {
            None => self.send_as_it_is(bytes),
            Some(packing) => {
                let mut frames = Vec::new();
                packing.encoder.stream(&[bytes], &mut frames);
                self.send_as_it_is(&frames);
            }
        }
    }

    /// As [`Raw::send`], never compressed.
    pub(crate) fn send_as_it_is(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).is_err() {
            // What was sent to us before may still be there to be read.
            let _ = self.fill(Deadline::after(LONG));
        }
    }

    /// To send from another thread what is not compressed.
    pub(crate) fn sending_end(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// The next line without its end; `None` once the server has closed the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        let deadline = Deadline::after(LONG);
        loop {
            if let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                return Some(text.trim_end_matches(['\n', '\r']).to_owned());
            }
            if self.is_closed {
                return None;
            }
            assert!(
                self.fill(deadline),
                "nothing came within {LONG:?}; read so far: {:?}",
                self.unread_text()
            );
        }
    }

    /// Exactly this many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let deadline = Deadline::after(LONG);
        while self.unread.len() < count {
            assert!(!self.is_closed, "closed after {:?}", self.unread_text());
            assert!(self.fill(deadline), "{count} bytes did not come; read so far: {:?}", self.unread_text());
        }
        self.unread.drain(..count).collect()
    }

    /// Whether everything sent so far has been worked off: sends PING, skips INFO, expects PONG.
    pub(crate) fn ping(&mut self) {
        self.send(b"PING\r\n");
        loop {
            match self.line().as_deref() {
                Some("PONG") => return,
                Some(info) if info.starts_with("INFO ") => {}
                other => panic!("expected PONG, got {other:?}"),
            }
        }
    }

    /// Waits until the server closes the connection; what it said before.
    pub(crate) fn until_closed(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            lines.push(line);
        }
        lines
    }

    /// Reads what is there; `false` if nothing came in time.
    fn fill(&mut self, deadline: Deadline) -> bool {
        let mut buffer = [0; 64 * 1024];
        let left = deadline.remaining().max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).unwrap();
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(count) => match &mut self.packing {
                None => self.unread.extend_from_slice(&buffer[..count]),
                Some(packing) => {
                    packing.packed.extend_from_slice(&buffer[..count]);
                    self.unpack();
                }
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => self.is_closed = true,
        }
        true
    }

    fn unread_text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}
