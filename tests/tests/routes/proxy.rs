//! A listener that passes on to another, and remembers what went through.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes that are remembered at most.
const KEPT_MAX: usize = 64 << 20;

/// The listener. It accepts until the test is over.
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// Passes on to `target`.
    pub(super) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let memory = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(near) = stream else { return };
                let Ok(far) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], target))) else {
                    continue;
                };
                pass(near.try_clone().unwrap(), far.try_clone().unwrap(), memory.clone());
                pass(far, near, memory.clone());
            }
        });
        Self { port, seen }
    }

    /// How often the bytes went through, in either direction.
    pub(super) fn count(&self, needle: &[u8]) -> usize {
        self.seen.lock().windows(needle.len()).filter(|window| *window == needle).count()
    }

    /// Bytes that went through.
    pub(super) fn len(&self) -> usize {
        self.seen.lock().len()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, memory: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..count];
            {
                let mut memory = memory.lock();
                if memory.len() + count <= KEPT_MAX {
                    memory.extend_from_slice(bytes);
                }
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        // Whoever is still reading or writing on either side is told.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
