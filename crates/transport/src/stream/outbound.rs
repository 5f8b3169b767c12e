//! Connections that we open.
//!
//! *Invariant:* a TLS connection is returned only after the peer has proved the
//! name that was asked for; there is no way around it.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::listener::{prepare, shake_hands};
use super::session::Session;
use super::{Connection, StreamOptions};
use crate::tls::ClientTls;

/// Opens a TCP connection.
pub async fn connect(remote: SocketAddr, options: &StreamOptions) -> io::Result<Connection> {
    let socket = open(remote, options).await?;
    Connection::new(socket, None, options.outbox_bytes)
}

/// Opens a TLS connection to the server that is `name` (a DNS name or an address).
///
/// RFC 5922 §4: the name is the one of the request's URI, before DNS.
pub async fn connect_tls(
    remote: SocketAddr,
    name: &str,
    tls: &ClientTls,
    options: &StreamOptions,
) -> io::Result<Connection> {
    let host = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let wrong_name = |e| io::Error::new(io::ErrorKind::InvalidInput, e);
    let name = ServerName::try_from(host).map_err(wrong_name)?;
    let socket = open(remote, options).await?;
    let session = Session::client(tls.config(), name)?;
    let connection = Connection::new(socket, Some(session), options.outbox_bytes)?;
    Box::pin(shake_hands(connection, options.handshake_timeout)).await
}

async fn open(remote: SocketAddr, options: &StreamOptions) -> io::Result<TcpStream> {
    let socket = match remote {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    let source = options.source;
    if let Some(source) = source.filter(|source| source.is_ipv4() == remote.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let connected = timeout(options.connect_timeout, socket.connect(remote)).await;
    let socket = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    prepare(&SockRef::from(&socket))?;
    Ok(socket)
}
