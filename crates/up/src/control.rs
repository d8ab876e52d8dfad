//! The socket in the directory of a cluster: one line of JSON asks, one answers.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::events::Event;
use crate::{Error, Request, Result};

const SOCKET_FILE: &str = "up.sock";

/// The longest line; a request is far shorter.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How long somebody who has connected may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may take: a restart waits for the end of the server, its start, and its routes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    /// It is done.
    Done(String),
    /// It is not.
    Refused(String),
}

/// The socket, which is removed when this is dropped.
pub(crate) struct Control {
    path: PathBuf,
}

impl Control {
    /// Puts requests into the queue from now on. The caller has the directory's lock, so that a socket found there is
    /// nobody's.
    pub(crate) fn listen(dir: &Path, events: SyncSender<Event>) -> Result<Self> {
        let path = dir.join(SOCKET_FILE);
        let listener = bind(dir).map_err(Error::file(&path))?;
        let serve = move || {
            for stream in listener.incoming().flatten() {
                // Whoever asks notices a broken connection; nobody else has to.
                let _ = serve(&stream, &events);
            }
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(serve).map_err(Error::Events)?;
        Ok(Self { path })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The directory may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

/// A short name of the directory: the address of a socket has room for a hundred bytes.
fn short(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

fn bind(dir: &Path) -> io::Result<UnixListener> {
    let opened = File::open(dir)?;
    let path = short(&opened).join(SOCKET_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn serve(stream: &UnixStream, events: &SyncSender<Event>) -> io::Result<()> {
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    let reply = match serde_json::from_str(&line(stream)?) {
        Ok(request) => answer(request, events),
        Err(error) => Reply::Refused(format!("this is no request: {error}")),
    };
    write_line(stream, &reply)
}

fn answer(request: Request, events: &SyncSender<Event>) -> Reply {
    let (to, reply) = sync_channel(1);
    let stopping = || Reply::Refused("linnet up is stopping".to_owned());
    if events.send(Event::Asked(request, to)).is_err() {
        return stopping();
    }
    reply.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|_| stopping())
}

/// Asks the cluster of this directory.
pub(crate) fn ask(dir: &Path, request: &Request) -> Result<String> {
    let connected = File::open(dir).and_then(|opened| UnixStream::connect(short(&opened).join(SOCKET_FILE)));
    let stream = connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotThere(dir.to_owned()),
        _ => Error::NoAnswer { dir: dir.to_owned(), source: error },
    })?;
    match exchange(&stream, request) {
        Ok(Reply::Done(text)) => Ok(text),
        Ok(Reply::Refused(text)) => Err(Error::Refused(text)),
        Err(source) => Err(Error::NoAnswer { dir: dir.to_owned(), source }),
    }
}

fn exchange(stream: &UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT + ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    write_line(stream, request)?;
    let line = line(stream)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended"));
    }
    Ok(serde_json::from_str(&line)?)
}

fn write_line<T: Serialize>(mut stream: &UnixStream, value: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)
}

fn line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    fn request() -> Request {
        Request { fault: Fault::Kill, server: "n1".to_owned() }
    }

    #[test]
    fn question_and_answer_cross_also_in_a_directory_with_a_long_name() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("d".repeat(200));
        fs::create_dir(&dir).unwrap();
        assert!(matches!(ask(&dir, &request()), Err(Error::NotThere(_))));
        let (to, events) = sync_channel(1);
        let control = Control::listen(&dir, to).unwrap();
        let answering = std::thread::spawn(move || {
            for reply in [Reply::Done("yes".to_owned()), Reply::Refused("no".to_owned())] {
                let Ok(Event::Asked(asked, to)) = events.recv() else { panic!("a request") };
                assert_eq!(asked, request());
                to.send(reply).unwrap();
            }
        });
        assert_eq!(ask(&dir, &request()).unwrap(), "yes");
        assert!(matches!(ask(&dir, &request()), Err(Error::Refused(why)) if why == "no"));
        answering.join().unwrap();
        let Err(Error::Refused(why)) = ask(&dir, &request()) else { panic!("nobody reads the queue") };
        assert_eq!(why, "linnet up is stopping");
        drop(control);
        assert!(matches!(ask(&dir, &request()), Err(Error::NotThere(_))));
    }

    #[test]
    fn nonsense_is_answered_and_does_not_reach_the_queue() {
        let dir = tempfile::tempdir().unwrap();
        let (to, events) = sync_channel(1);
        let _control = Control::listen(dir.path(), to).unwrap();
        let mut stream = UnixStream::connect(dir.path().join(SOCKET_FILE)).unwrap();
        stream.write_all(b"hello\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("this is no request"), "{answer}");
        assert!(events.try_recv().is_err());
    }
}
