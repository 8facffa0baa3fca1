//! One connection to a broker, with the transport settings that were measured to matter.
//!
//! A [`Client`] is cheap to clone; all clones share one HTTP/2 connection, which the transport opens again by itself
//! after it broke. Calls that were under way when it broke fail with [`ClientError::ConnectionLost`]: whether to
//! repeat them is the caller's decision.

use super::ClientError;
use super::error::cause_of;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// The port a broker listens on when nothing else is said.
pub const BROKER_PORT_DEFAULT: u16 = 7171;

/// Bytes in flight towards us on one stream, and on the whole connection. Below the product of bandwidth and delay
/// the sender stops and waits.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// We advertise this, and it bounds what the broker sends us in one HTTP/2 frame: 1.5 to 2.3 times faster downloads
/// than the 16 KiB that HTTP/2 begins with.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// The largest reply we accept: the largest fetch, with the record that may go over it, and framing.
pub(super) const REPLY_BYTES_MAX: usize = (crate::limits::FETCH_BYTES_MAX + crate::limits::REQUEST_BYTES_MAX) as usize;

/// A quiet connection is probed this often, and given up when the probe is not answered.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect, and how long to wait.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Give up connecting after this.
    pub connect_timeout: Duration,
    /// Give up waiting for the answer to one call after this. Streams have no such limit.
    pub call_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), call_timeout: Duration::from_secs(30) }
    }
}

/// A connection to a broker. Everything else of the client begins here.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) channel: Channel,
    address: Arc<str>,
    call_timeout: Duration,
}

impl Client {
    /// Connects to the broker at `address`: `host:port`, `host` or `http://host:port`.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), millstream::client::ClientError> {
    /// let client = millstream::client::Client::connect("127.0.0.1:7171").await?;
    /// println!("the broker runs version {}", client.server_info().await?.version);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(address, &ClientOptions::default()).await
    }

    /// Connects with other than the default options.
    pub async fn connect_with(address: &str, options: &ClientOptions) -> Result<Self, ClientError> {
        let bad = |what: String| ClientError::BadAddress { address: address.to_owned(), what };
        let uri = uri_of(address).map_err(|what| bad(what.to_owned()))?;
        let endpoint = Endpoint::from_shared(uri)
            .and_then(|endpoint| endpoint.user_agent(concat!("millstream/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| bad(cause_of(&error)))?
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_adaptive_window(false)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| ClientError::Unreachable { address: address.to_owned(), cause: cause_of(&error) })?;
        Ok(Self { channel, address: address.into(), call_timeout: options.call_timeout })
    }

    /// The address as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Awaits the answer to one call, but not for ever.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        self.answer_within(self.call_timeout, call).await
    }

    /// The same for a call that the broker was asked to hold for up to `hold`.
    pub(super) async fn answer_held<T>(
        &self,
        hold: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        self.answer_within(self.call_timeout.saturating_add(hold), call).await
    }

    async fn answer_within<T>(
        &self,
        after: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(after, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(ClientError::TimedOut { after }),
        }
    }
}

/// The generated client of one service over this connection, with our reply limit.
macro_rules! service {
    ($client:expr, $module:ident, $service:ident) => {
        $crate::proto::$module::$service::new($client.channel.clone())
            .max_decoding_message_size($crate::client::connection::REPLY_BYTES_MAX)
    };
}
pub(super) use service;

/// Makes a URI of what people write as an address.
fn uri_of(address: &str) -> Result<String, &'static str> {
    let authority = match address.split_once("://") {
        None => address,
        Some(("http", authority)) => authority.trim_end_matches('/'),
        Some(("https", _)) => return Err("TLS is not supported yet; use http:// or a plain host:port"),
        Some(_) => return Err("only http:// is understood"),
    };
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
        return Err("write it as host:port");
    }
    // An IPv6 address has its colons in brackets, or it could not be told apart from its port.
    let after_brackets = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    match after_brackets.rsplit_once(':') {
        None => Ok(format!("http://{authority}:{BROKER_PORT_DEFAULT}")),
        Some((host, _)) if host.contains(':') => Err("write an IPv6 address in brackets: [::1]:7171"),
        Some((_, port)) if port.parse::<u16>().is_err() => Err("the port is not a number from 0 to 65535"),
        Some(("", _)) if authority == after_brackets => Err("write it as host:port"),
        Some(_) => Ok(format!("http://{authority}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (written, uri) in [
            ("127.0.0.1:7171", "http://127.0.0.1:7171"),
            ("broker", "http://broker:7171"),
            ("http://broker:80/", "http://broker:80"),
            ("[::1]:7000", "http://[::1]:7000"),
            ("[::1]", "http://[::1]:7171"),
        ] {
            assert_eq!(uri_of(written).as_deref(), Ok(uri), "{written}");
        }
        for wrong in
            ["", "http://", "https://broker:1", "ftp://x", "::1:7171", "host:port", "host:99999", ":7171", "a b"]
        {
            assert!(uri_of(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_named() {
        let error = Client::connect("127.0.0.1:1").await.expect_err("nobody listens on port 1");
        assert!(matches!(&error, ClientError::Unreachable { address, .. } if address == "127.0.0.1:1"), "{error}");
    }
}
