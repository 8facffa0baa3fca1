//! Accepting connections: a bound on how many, no delay on small messages, patience when the process is out of file
//! descriptors (the library's own loop would spin), and an end that the client gets to hear of.

use crate::metrics::{ConnectionCounted, Metrics};
use futures_util::Stream;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long to wait after an accept that failed: for the process's file descriptors, for the most part.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How long the broker listens on after its last word. See [`Connection::poll_shutdown`].
const LINGER: Duration = Duration::from_secs(1);

/// A bound socket that admits a limited number of connections at one time.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    connections: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Binds `address`.
    pub async fn bind(address: SocketAddr, connections_max: u32, metrics: Arc<Metrics>) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { socket, connections: Arc::new(Semaphore::new(connections_max as usize)), metrics })
    }

    /// The address that was bound; its port is real even if port 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Connections as they are admitted. At the bound new ones wait in the kernel's queue.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> {
        futures_util::stream::unfold(self, |listener| async move {
            let connection = listener.accept().await;
            Some((Ok(connection), listener))
        })
    }

    async fn accept(&self) -> Connection {
        let permit = Arc::clone(&self.connections).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    // Without this a small answer waits up to 44 ms for the client's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let counted = self.metrics.connection_opened();
                    return Connection { stream, lingering: None, _permit: permit, _counted: counted };
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }
}

/// An admitted connection; gives its place back when it ends.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Set once the broker has said its last word.
    lingering: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
    _counted: ConnectionCounted,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says that nothing more comes, then reads until the client has closed its side too. If a socket is closed while
    /// bytes wait in it unread, the kernel resets the connection, and a client that was still sending loses what it was
    /// told last: the answers, and why its stream ends.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        let connection = &mut *self;
        let lingering = connection.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        while lingering.as_mut().poll(cx).is_pending() {
            let mut unread = [0; 4096];
            let mut buf = ReadBuf::new(&mut unread);
            match ready!(Pin::new(&mut connection.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
