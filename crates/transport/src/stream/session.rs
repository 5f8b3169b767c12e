//! TLS without buffers of its own: records in, plaintext and records out.
//!
//! rustls' unbuffered connection decrypts in the caller's buffer, so a session at
//! rest holds keys and nothing else.
//!
//! *Invariant:* bytes that rustls has not consumed stay at the front of the next
//! input, unchanged, as its deframer demands.

use std::fmt::Display;
use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, ServerConfig};

/// Header, explicit nonce, content type and tag of one record, rounded up.
const RECORD_OVERHEAD: usize = 64;
const RECORD_PAYLOAD: usize = 16_384;
/// Steps on one input: a stop for a peer that sends tiny records.
const STEPS_MAX: usize = 65_536;

pub(super) enum Session {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What to do once the session may send.
#[derive(Clone, Copy)]
enum Wish<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    CloseNotify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Again,
    Idle,
    Granted,
    PeerClosed,
}

/// What became of the input.
pub(super) struct Processed {
    /// Bytes at the front of the input that are done with.
    pub(super) consumed: usize,
    pub(super) peer_closed: bool,
}

impl Session {
    pub(super) fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(invalid)?;
        Ok(Self::Server(Box::new(session)))
    }

    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        Ok(Self::Client(Box::new(session)))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Self::Server(session) => session.is_handshaking(),
            Self::Client(session) => session.is_handshaking(),
        }
    }

    /// Processes `wire` in place: plaintext is appended to `plain`, records that
    /// must go out to `records`. On an error `records` may hold an alert to send.
    pub(super) fn receive(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        records: &mut Vec<u8>,
    ) -> io::Result<Processed> {
        let (consumed, step) = self.run(wire, Wish::Nothing, plain, records)?;
        Ok(Processed {
            consumed,
            peer_closed: step == Step::PeerClosed,
        })
    }

    /// Appends `data` as records. `partial` is the unconsumed input.
    pub(super) fn encrypt(
        &mut self,
        partial: &mut [u8],
        data: &[u8],
        records: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.grant(partial, Wish::Encrypt(data), records)
    }

    /// Appends the alert that ends the session (RFC 8446 §6.1).
    pub(super) fn close_notify(
        &mut self,
        partial: &mut [u8],
        records: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.grant(partial, Wish::CloseNotify, records)
    }

    fn grant(
        &mut self,
        partial: &mut [u8],
        wish: Wish<'_>,
        records: &mut Vec<u8>,
    ) -> io::Result<()> {
        // `partial` holds no complete record, so nothing is consumed or decrypted.
        match self.run(partial, wish, &mut Vec::new(), records)? {
            (0, Step::Granted) => Ok(()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn run(
        &mut self,
        wire: &mut [u8],
        wish: Wish<'_>,
        plain: &mut Vec<u8>,
        records: &mut Vec<u8>,
    ) -> io::Result<(usize, Step)> {
        let mut consumed = 0;
        for _ in 0..STEPS_MAX {
            let rest = wire.get_mut(consumed..).unwrap_or_default();
            let (discard, step) = self.step(rest, wish, plain, records);
            consumed += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(step) => return Ok((consumed, step)),
                Err(error) => {
                    let rest = wire.get_mut(consumed..).unwrap_or_default();
                    // The alert that explains it comes first in the next step.
                    let _ = self.step(rest, Wish::Nothing, &mut Vec::new(), records);
                    return Err(error);
                }
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn step(
        &mut self,
        rest: &mut [u8],
        wish: Wish<'_>,
        plain: &mut Vec<u8>,
        records: &mut Vec<u8>,
    ) -> (usize, io::Result<Step>) {
        match self {
            Self::Server(session) => {
                settle(session.process_tls_records(rest), wish, plain, records)
            }
            Self::Client(session) => {
                settle(session.process_tls_records(rest), wish, plain, records)
            }
        }
    }
}

fn settle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    wish: Wish<'_>,
    plain: &mut Vec<u8>,
    records: &mut Vec<u8>,
) -> (usize, io::Result<Step>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(invalid(error)),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Again),
                Some(Err(error)) => break Err(invalid(error)),
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, records).map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(traffic)) => fulfil(traffic, wish, records),
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Idle),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::PeerClosed),
        // Early data is never offered or accepted (RFC 8446 §8: replay).
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
    };
    (discard, step)
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, records: &mut Vec<u8>) -> io::Result<()> {
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
        return Ok(());
    };
    let start = records.len();
    records.resize(start + size.required_size, 0);
    data.encode(&mut records[start..])
        .map(|_| ())
        .map_err(invalid)
}

fn fulfil<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    wish: Wish<'_>,
    records: &mut Vec<u8>,
) -> io::Result<Step> {
    let data = match wish {
        Wish::Nothing => return Ok(Step::Idle),
        Wish::Encrypt(data) => data,
        Wish::CloseNotify => &[],
    };
    let start = records.len();
    let room = data.len() + (data.len() / RECORD_PAYLOAD + 1) * RECORD_OVERHEAD;
    records.resize(start + room, 0);
    let written = match wish {
        Wish::CloseNotify => traffic.queue_close_notify(&mut records[start..]),
        _ => traffic.encrypt(data, &mut records[start..]),
    };
    records.truncate(start + *written.as_ref().unwrap_or(&0));
    written.map(|_| Step::Granted).map_err(|error| match error {
        EncryptError::EncryptExhausted => io::ErrorKind::ConnectionAborted.into(),
        short => invalid(short),
    })
}

fn invalid(error: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
