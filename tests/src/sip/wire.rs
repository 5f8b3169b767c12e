//! Bytes to and from the server: UDP, TCP or TLS, from an address of the test's choice.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message as Frame, WebSocket};

use super::Message;
use crate::certificate::{Files, trusting};

pub struct Wire {
    kind: Kind,
    local: SocketAddr,
    server: SocketAddr,
    buffer: Vec<u8>,
    closed: bool,
}

enum Kind {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// SIP over WebSocket (RFC 7118).
    Wss(Box<WebSocket<StreamOwned<ClientConnection, TcpStream>>>),
    /// The server connected to us.
    TlsAccepted(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Message(Message),
    /// Bytes that are no SIP message: a keep-alive's answer.
    Other(Vec<u8>),
}

impl Wire {
    pub fn udp(ip: Ipv4Addr, server: SocketAddr) -> Wire {
        Wire::from_socket(UdpSocket::bind((ip, 0)).expect("a UDP socket"), server)
    }

    pub fn from_socket(socket: UdpSocket, server: SocketAddr) -> Wire {
        socket.connect(server).expect("connect");
        let local = socket.local_addr().expect("address");
        Wire {
            kind: Kind::Udp(socket),
            local,
            server,
            buffer: Vec::new(),
            closed: false,
        }
    }

    pub fn tcp(server: SocketAddr) -> Wire {
        let stream = TcpStream::connect(server).expect("connect");
        stream.set_nodelay(true).expect("no delay");
        let local = stream.local_addr().expect("address");
        Wire {
            kind: Kind::Tcp(stream),
            local,
            server,
            buffer: Vec::new(),
            closed: false,
        }
    }

    /// TLS that trusts one authority and expects a name.
    pub fn tls(server: SocketAddr, authority: &Path, name: &str) -> Wire {
        let config = trusting(authority);
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("TLS");
        let mut stream = TcpStream::connect(server).expect("connect");
        stream.set_nodelay(true).expect("no delay");
        tls.complete_io(&mut stream).expect("a handshake");
        let local = stream.local_addr().expect("address");
        let kind = Kind::Tls(Box::new(StreamOwned::new(tls, stream)));
        Wire {
            kind,
            local,
            server,
            buffer: Vec::new(),
            closed: false,
        }
    }

    /// WebSocket over TLS, as browsers speak it; nothing where the server is gone.
    pub fn wss(server: SocketAddr, authority: &Path, name: &str) -> Option<Wire> {
        let config = trusting(authority);
        let host = ServerName::try_from(name.to_owned()).ok()?;
        let tls = ClientConnection::new(Arc::new(config), host).ok()?;
        let stream = TcpStream::connect(server).ok()?;
        stream.set_nodelay(true).ok()?;
        let local = stream.local_addr().ok()?;
        let url = format!("wss://{name}:{}/sip", server.port());
        let mut request = url.into_client_request().ok()?;
        let protocol = "sip".parse().ok()?;
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = tungstenite::client(request, StreamOwned::new(tls, stream)).ok()?;
        Some(Wire {
            kind: Kind::Wss(Box::new(socket)),
            local,
            server,
            buffer: Vec::new(),
            closed: false,
        })
    }

    /// A connection that the server opened.
    pub fn accepted(stream: TcpStream) -> Wire {
        Wire::from_stream(stream, Kind::Tcp)
    }

    /// A TLS connection that the server opened; fails as the handshake does.
    pub fn accepted_tls(mut stream: TcpStream, files: &Files) -> std::io::Result<Wire> {
        let chain = CertificateDer::pem_file_iter(&files.chain).expect("a chain");
        let chain = chain.map(|one| one.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("TLS");
        let mut tls = ServerConnection::new(Arc::new(config)).expect("TLS");
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Wire::from_stream(stream, |stream| {
            Kind::TlsAccepted(Box::new(StreamOwned::new(tls, stream)))
        }))
    }

    fn from_stream(stream: TcpStream, kind: impl FnOnce(TcpStream) -> Kind) -> Wire {
        stream.set_nodelay(true).expect("no delay");
        Wire {
            local: stream.local_addr().expect("address"),
            server: stream.peer_addr().expect("address"),
            kind: kind(stream),
            buffer: Vec::new(),
            closed: false,
        }
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub fn server(&self) -> SocketAddr {
        self.server
    }

    pub fn is_datagram(&self) -> bool {
        matches!(self.kind, Kind::Udp(_))
    }

    /// As Via writes it.
    pub fn token(&self) -> &'static str {
        match self.kind {
            Kind::Udp(_) => "UDP",
            Kind::Tcp(_) => "TCP",
            Kind::Tls(_) | Kind::TlsAccepted(_) => "TLS",
            Kind::Wss(_) => "WSS",
        }
    }

    /// Sends bytes as they are; says whether the other end still takes them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        match &mut self.kind {
            Kind::Udp(socket) => socket.send(bytes).is_ok(),
            Kind::Tcp(stream) => stream.write_all(bytes).is_ok(),
            Kind::Tls(stream) => written(stream, bytes),
            Kind::TlsAccepted(stream) => written(stream, bytes),
            Kind::Wss(socket) => socket.send(Frame::Binary(bytes.to_vec().into())).is_ok(),
        }
    }

    /// The next message or keep-alive until then, or nothing.
    pub fn receive(&mut self, end: Instant) -> Option<Incoming> {
        loop {
            if let Some(incoming) = self.framed() {
                return Some(incoming);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.closed {
                return None;
            }
            let mut chunk = [0; 65_536];
            let n = self.read(&mut chunk, left)?;
            if self.is_datagram() {
                let bytes = &chunk[..n];
                return Some(
                    Message::parse(bytes)
                        .map_or(Incoming::Other(bytes.to_vec()), Incoming::Message),
                );
            }
            self.closed = n == 0;
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }

    /// Whether the server closes the connection within the time.
    pub fn closes(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.closed {
            if self.receive(end).is_none() && Instant::now() >= end {
                return self.closed;
            }
        }
        true
    }

    fn read(&mut self, chunk: &mut [u8], left: Duration) -> Option<usize> {
        let result = match &mut self.kind {
            Kind::Udp(socket) => {
                socket.set_read_timeout(Some(left)).expect("a timeout");
                socket.recv(chunk)
            }
            Kind::Tcp(stream) => {
                stream.set_read_timeout(Some(left)).expect("a timeout");
                stream.read(chunk)
            }
            Kind::Tls(stream) => {
                stream.sock.set_read_timeout(Some(left)).expect("a timeout");
                stream.read(chunk)
            }
            Kind::TlsAccepted(stream) => {
                stream.sock.set_read_timeout(Some(left)).expect("a timeout");
                stream.read(chunk)
            }
            Kind::Wss(socket) => {
                let tcp = &socket.get_ref().sock;
                tcp.set_read_timeout(Some(left)).expect("a timeout");
                framed_in(socket, chunk)
            }
        };
        match result {
            Ok(n) => Some(n),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => None,
                // The server's port is closed: it is down, and may come back.
                ErrorKind::ConnectionRefused if self.is_datagram() => {
                    std::thread::sleep(Duration::from_millis(10));
                    None
                }
                _ => {
                    self.closed = true;
                    None
                }
            },
        }
    }

    /// RFC 3261 §18.3: Content-Length ends a message on a stream.
    fn framed(&mut self) -> Option<Incoming> {
        let blank = self
            .buffer
            .iter()
            .take_while(|b| b"\r\n".contains(b))
            .count();
        if blank >= 2 {
            let other: Vec<u8> = self.buffer.drain(..blank).collect();
            return Some(Incoming::Other(other));
        }
        let head = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let message = Message::parse(&self.buffer[..head])?;
        let whole = head + message.content_length().unwrap_or(0);
        if self.buffer.len() < whole {
            return None;
        }
        let bytes: Vec<u8> = self.buffer.drain(..whole).collect();
        Message::parse(&bytes).map(Incoming::Message)
    }
}

/// RFC 7118 §5: one message in each frame.
fn framed_in(
    socket: &mut WebSocket<StreamOwned<ClientConnection, TcpStream>>,
    chunk: &mut [u8],
) -> std::io::Result<usize> {
    loop {
        let bytes = match socket.read() {
            Ok(Frame::Binary(bytes)) => bytes,
            Ok(Frame::Text(text)) => text.into(),
            Ok(_) => continue,
            Err(tungstenite::Error::Io(error)) => return Err(error),
            Err(other) => return Err(std::io::Error::other(other)),
        };
        chunk[..bytes.len()].copy_from_slice(&bytes);
        return Ok(bytes.len());
    }
}

fn written(stream: &mut impl Write, bytes: &[u8]) -> bool {
    stream
        .write_all(bytes)
        .and_then(|()| stream.flush())
        .is_ok()
}
