//! One current connection, and what outlives it: earlier connections and session tickets.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream,
    TokioRuntime, TransportConfig,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::frames;
use crate::trust::{self, Counted};

const ANY_PORT: &str = "127.0.0.1:0";

#[derive(Default)]
pub struct Session {
    live: Option<Live>,
    /// Earlier connections, which stay open until the process ends.
    earlier: Vec<Live>,
    tickets: Arc<Counted>,
}

struct Live {
    endpoint: Endpoint,
    connection: Connection,
    early: bool,
    streams: HashMap<u64, SendStream>,
    read: mpsc::UnboundedSender<Value>,
    frames: mpsc::UnboundedReceiver<Value>,
    came: Arc<AtomicUsize>,
}

/// Who ended the connection, QUIC's error code, and the reason.
pub struct Failure {
    by: &'static str,
    error: Option<u64>,
    reason: String,
}

impl Failure {
    pub fn client(reason: impl Display) -> Self {
        Failure {
            by: "client",
            error: None,
            reason: reason.to_string(),
        }
    }

    pub fn told(self) -> Value {
        json!({"ok": false, "by": self.by, "error": self.error, "reason": self.reason})
    }
}

impl From<ConnectionError> for Failure {
    fn from(ended: ConnectionError) -> Self {
        let words = |reason: &[u8]| String::from_utf8_lossy(reason).into_owned();
        let (by, error, reason) = match ended {
            ConnectionError::ConnectionClosed(close) => (
                "server",
                Some(close.error_code.into()),
                words(&close.reason),
            ),
            ConnectionError::ApplicationClosed(close) => (
                "server",
                Some(close.error_code.into()),
                words(&close.reason),
            ),
            ConnectionError::TransportError(error) => {
                ("client", Some(error.code.into()), error.reason)
            }
            other => ("client", None, other.to_string()),
        };
        Failure { by, error, reason }
    }
}

fn patience(asked: &Value) -> Duration {
    Duration::from_secs_f64(asked["seconds"].as_f64().unwrap_or(10.0))
}

/// The result of a future, or a failure when the requested time runs out first.
async fn within<T>(asked: &Value, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(patience(asked), work)
        .await
        .map_err(Failure::client)
}

impl Session {
    /// Complete the TLS handshake; the server may still refuse afterwards.
    pub async fn connect(&mut self, asked: &Value) -> Result<Value, Failure> {
        let tls = trust::config(asked, self.tickets.clone()).map_err(Failure::client)?;
        let crypto = QuicClientConfig::try_from(tls).map_err(Failure::client)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let (endpoint_config, transport) = sizes(asked).map_err(Failure::client)?;
        config.transport_config(Arc::new(transport));
        let socket = UdpSocket::bind(ANY_PORT).map_err(Failure::client)?;
        let endpoint = Endpoint::new(endpoint_config, None, socket, Arc::new(TokioRuntime))
            .map_err(Failure::client)?;
        let text = asked["address"].as_str().unwrap_or_default();
        let to: SocketAddr = text.parse().map_err(Failure::client)?;
        let connecting = endpoint
            .connect_with(config, to, "midstreamer.test")
            .map_err(Failure::client)?;
        // 0-RTT data needs a ticket; without a ticket the usual handshake follows.
        let (connection, early) = match asked["early"].as_bool() {
            Some(true) => match connecting.into_0rtt() {
                Ok((connection, _)) => (connection, true),
                Err(connecting) => (within(asked, connecting).await??, false),
            },
            _ => (within(asked, connecting).await??, false),
        };
        let (read, frames) = mpsc::unbounded_channel();
        let (streams, came) = (HashMap::new(), Arc::default());
        let made = Live {
            endpoint,
            connection,
            early,
            streams,
            read,
            frames,
            came,
        };
        self.earlier.extend(self.live.replace(made));
        self.facts()
    }

    /// Send bytes unchanged.
    pub async fn write(&mut self, asked: &Value) -> Result<Value, Failure> {
        let digits = asked["hex"].as_str().unwrap_or_default();
        let data = frames::from_hex(digits).map_err(Failure::client)?;
        self.live()?.send(asked, &data).await?;
        Ok(json!({}))
    }

    /// Send one frame; if the frame has a field "request", the next received frame is its answer.
    pub async fn ask(&mut self, asked: &Value) -> Result<Value, Failure> {
        let pad = asked["pad"].as_u64().unwrap_or(0) as usize;
        let data = frames::encoded(&asked["frame"], pad).map_err(Failure::client)?;
        let live = self.live()?;
        let (began, before) = (Instant::now(), live.came.load(Ordering::Relaxed));
        live.send(asked, &data).await?;
        if asked["frame"]["request"].is_null() {
            return Ok(json!({"sent_bytes": data.len()}));
        }
        let frame = live.next(asked).await?;
        Ok(json!({
            "frame": frame,
            "sent_bytes": data.len(),
            "came_bytes": live.came.load(Ordering::Relaxed) - before,
            "took_s": began.elapsed().as_secs_f64(),
        }))
    }

    pub async fn receive(&mut self, asked: &Value) -> Result<Value, Failure> {
        Ok(json!({"frame": self.live()?.next(asked).await?}))
    }

    /// Wait for the server to close the connection; the reason is reported as a failure.
    pub async fn end(&mut self, asked: &Value) -> Result<Value, Failure> {
        Err(within(asked, self.live()?.connection.closed())
            .await?
            .into())
    }

    /// Continue from another port, with another connection id.
    pub fn migrate(&mut self) -> Result<Value, Failure> {
        let socket = UdpSocket::bind(ANY_PORT).map_err(Failure::client)?;
        self.live()?
            .endpoint
            .rebind(socket)
            .map_err(Failure::client)?;
        Ok(json!({}))
    }

    pub fn update_keys(&mut self) -> Result<Value, Failure> {
        self.live()?.connection.force_key_update();
        Ok(json!({}))
    }

    pub fn facts(&mut self) -> Result<Value, Failure> {
        let (tickets, live) = (self.tickets.count(), self.live()?);
        // quinn does not report whether a session was resumed; early data shows that it was.
        Ok(json!({"early": live.early, "resumed": live.early, "tickets": tickets}))
    }

    pub fn close(&mut self) -> Result<Value, Failure> {
        self.live()?.connection.close(0u32.into(), b"");
        Ok(json!({}))
    }

    fn live(&mut self) -> Result<&mut Live, Failure> {
        self.live.as_mut().ok_or(Failure::client("not connected"))
    }
}

/// The size limits of a datagram, in both directions.
fn sizes(asked: &Value) -> Result<(EndpointConfig, TransportConfig), quinn::ConfigError> {
    let (mut endpoint, mut transport) = (EndpointConfig::default(), TransportConfig::default());
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    if let Some(bytes) = asked["packet_bytes"].as_u64().filter(|bytes| *bytes > 0) {
        endpoint.max_udp_payload_size(bytes as u16)?;
        transport
            .initial_mtu(bytes as u16)
            .mtu_discovery_config(None);
    }
    Ok((endpoint, transport))
}

impl Live {
    async fn send(&mut self, asked: &Value, data: &[u8]) -> Result<(), Failure> {
        let id = asked["stream"].as_u64().unwrap_or(0);
        while !self.streams.contains_key(&id) {
            let (sending, receiving) = self.connection.open_bi().await?;
            let opened = sending.id().index() * 4;
            self.streams.insert(opened, sending);
            tokio::spawn(read(receiving, self.read.clone(), self.came.clone()));
        }
        let stream = self.streams.get_mut(&id).expect("it was opened");
        match within(asked, stream.write_all(data)).await? {
            Err(quinn::WriteError::ConnectionLost(ended)) => Err(ended.into()),
            Err(error) => Err(Failure::client(error)),
            Ok(()) => Ok(()),
        }
    }

    async fn next(&mut self, asked: &Value) -> Result<Value, Failure> {
        let connection = self.connection.clone();
        tokio::select! {
            biased;
            Some(frame) = self.frames.recv() => Ok(frame),
            ended = connection.closed() => Err(ended.into()),
            () = tokio::time::sleep(patience(asked)) => Err(Failure::client("no frame came")),
        }
    }
}

/// Read frames from a stream until the stream ends.
async fn read(
    mut stream: RecvStream,
    frames: mpsc::UnboundedSender<Value>,
    came: Arc<AtomicUsize>,
) {
    let mut head = [0; 4];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut body = vec![0; u32::from_be_bytes(head) as usize];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        came.fetch_add(head.len() + body.len(), Ordering::Relaxed);
        if !body.is_empty() && frames.send(crate::frames::decoded(&body)).is_err() {
            return;
        }
    }
}
