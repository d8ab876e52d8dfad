//! The HTTP listener. axum's own `serve` has no bounds on time and size of a request's head, so connections are
//! driven by hyper here, with axum's router as the service.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use linnet_broker::AcceptPause;
use linnet_tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::monitor::{Monitor, Pages};
use crate::pages;

/// Time for the head of a request, also between two requests of a connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// Lines of a request's head.
const HEAD_LINES_MAX: usize = 512;
/// Connections at a time; others wait in the kernel.
const CONNECTIONS_MAX: usize = 512;
/// A connection takes no further request after this long, so that readers that never finish do not use all of them
/// up.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);
/// What an answer may take after that.
const LAST_ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Answer to plain HTTP at a port for HTTPS, in nats-server's words.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

impl Monitor {
    /// Opens the listener of the pages, over TLS if `is_secure`; called once. The future serves them until it is
    /// dropped, which closes every connection.
    pub async fn bind(
        self: &Arc<Self>,
        addr: SocketAddr,
        is_secure: bool,
    ) -> io::Result<(SocketAddr, impl Future<Output = ()> + Send + 'static)> {
        let (listener, addr) = linnet_broker::listen(addr)?;
        // The cell is empty: pages are opened once.
        let _ = self.pages.set(Pages { addr, is_secure });
        Ok((addr, run(listener, self.clone(), is_secure)))
    }
}

async fn run(listener: TcpListener, monitor: Arc<Monitor>, is_secure: bool) {
    let router = pages::router(monitor.clone());
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, permit) = accept(&listener, &permits) => {
                let tls = is_secure.then(|| monitor.state.tls.load_full());
                connections.spawn(serve(stream, tls, permit, router.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed; without a permit the connection would merely not be counted.
    let permit = permits.clone().acquire_owned().await.ok();
    let mut pause = AcceptPause::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(e) => pause.after("monitoring", &e).await,
        }
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<Option<Arc<Acceptor>>>,
    permit: Option<OwnedSemaphorePermit>,
    router: Router,
) {
    match tls {
        None => answer(stream, router).await,
        Some(acceptor) => {
            let shaking = tokio::time::timeout(HEAD_TIME_MAX, secure(stream, acceptor));
            if let Ok(Some(stream)) = shaking.await {
                answer(stream, router).await;
            }
        }
    }
    drop(permit);
}

/// Shakes hands; who speaks plain HTTP is told so. `None` if nothing can come of it.
async fn secure(mut stream: TcpStream, acceptor: Option<Arc<Acceptor>>) -> Option<TlsStream<TcpStream>> {
    let mut first = [0];
    let read = stream.peek(&mut first).await.ok()?;
    if read == 1 && first[0].is_ascii_alphabetic() {
        // A browser that was given the wrong scheme; whether it reads this is its affair.
        let _ = stream.write_all(PLAIN_HTTP).await;
        return None;
    }
    TlsAcceptor::from(acceptor?.pages.clone()).accept(stream).await.ok()
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX)
        // Scripts that look for `Content-Type` do exist.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    if tokio::time::timeout(CONNECTION_AGE_MAX, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // Whether the last answer was taken or not, the connection ends.
        let _ = tokio::time::timeout(LAST_ANSWER_TIME_MAX, connection).await;
    }
}
