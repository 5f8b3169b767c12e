//! Connections over loopback: plain and TLS, with slow, silent and hostile peers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig};
use sidetone_transport::stream::{
    Connection, Listener, ListenerOptions, StreamOptions, WriteError, connect, connect_tls,
};
use sidetone_transport::tls::{ClientTls, ServerTls};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

struct Peers {
    _directory: TempDir,
    server: ServerTls,
    client: ClientTls,
}

fn peers() -> Peers {
    let directory = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = ServerTls::self_signed(&names, directory.path()).unwrap();
    let client = ClientTls::new(Some(&directory.path().join("self-signed.crt"))).unwrap();
    Peers {
        _directory: directory,
        server,
        client,
    }
}

fn listener(options: &ListenerOptions) -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap(), options).unwrap()
}

async fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    LocalSet::new()
        .run_until(async { timeout(SOON, work).await.expect("in time") })
        .await
}

async fn secure_pair(peers: &Peers, options: &ListenerOptions) -> (Connection, Connection) {
    let listener = listener(options);
    let stream = StreamOptions::default();
    let far = connect_tls(listener.local_addr(), "localhost", &peers.client, &stream);
    let near = async {
        listener
            .accept()
            .await
            .unwrap()
            .secure(peers.server.sip())
            .await
    };
    let (near, far) = tokio::join!(near, far);
    (near.unwrap(), far.unwrap())
}

async fn plain_pair(options: &ListenerOptions) -> (Connection, Connection) {
    let listener = listener(options);
    let stream = StreamOptions::default();
    let (near, far) = tokio::join!(listener.accept(), connect(listener.local_addr(), &stream));
    (near.unwrap().plain().unwrap(), far.unwrap())
}

async fn receive_exactly(connection: &Connection, count: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < count {
        let arrived = connection
            .receive(|bytes| got.extend_from_slice(bytes))
            .await
            .unwrap();
        assert!(arrived > 0, "closed after {} of {count}", got.len());
    }
    got
}

async fn both_ways(near: Connection, far: Connection) {
    for size in [1, 700, 16_384, 16_385, 65_536] {
        let data: Vec<u8> = (0..=250).cycle().take(size).collect();
        near.try_write(&data).unwrap();
        // What the socket buffer does not take leaves while the task waits.
        let (near, far) = (&near, &far);
        let sending = async { near.flush().await.unwrap() };
        let (_, got) = tokio::join!(sending, receive_exactly(far, size));
        assert_eq!(got, data);
        far.try_write(&data).unwrap();
        let (_, got) = tokio::join!(
            async { far.flush().await.unwrap() },
            receive_exactly(near, size)
        );
        assert_eq!(got, data);
    }
    near.close();
    assert_eq!(far.receive(|_| unreachable!()).await.unwrap(), 0);
    assert!(far.is_closed());
    assert_eq!(far.try_write(b"x"), Err(WriteError::Closed));
    assert_eq!(near.receive(|_| unreachable!()).await.unwrap(), 0);
}

#[tokio::test]
async fn plain_bytes_go_both_ways() {
    on_one_thread(async {
        let (near, far) = plain_pair(&ListenerOptions::default()).await;
        assert!(!near.is_secure());
        assert_eq!(near.remote_addr(), far.local_addr());
        both_ways(near, far).await;
    })
    .await;
}

#[tokio::test]
async fn secure_bytes_go_both_ways() {
    on_one_thread(async {
        let (near, far) = secure_pair(&peers(), &ListenerOptions::default()).await;
        assert!(near.is_secure());
        both_ways(near, far).await;
    })
    .await;
}

/// A write from another task than the one that waits must not be held up by it,
/// and what does not fit must leave by the waiting task.
#[tokio::test]
async fn the_waiting_task_moves_the_outbox() {
    on_one_thread(async {
        for secure in [false, true] {
            let options = ListenerOptions {
                stream: StreamOptions {
                    outbox_bytes: 64 << 20,
                    ..StreamOptions::default()
                },
                ..ListenerOptions::default()
            };
            let (near, far) = match secure {
                true => secure_pair(&peers(), &options).await,
                false => plain_pair(&options).await,
            };
            let near = Rc::new(near);
            let waiting = Rc::clone(&near);
            spawn_local(async move { while waiting.receive(|_| ()).await.unwrap_or(0) > 0 {} });
            tokio::task::yield_now().await;
            let block = vec![5; 50_000];
            (0..400).for_each(|_| near.try_write(&block).unwrap());
            assert!(near.queued_bytes() > 0 && near.stalled_since().is_some());
            assert_eq!(receive_exactly(&far, 20_000_000).await.len(), 20_000_000);
            assert_eq!((near.queued_bytes(), near.stalled_since()), (0, None));
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_fills_the_outbox_and_no_more() {
    on_one_thread(async {
        for secure in [false, true] {
            let (near, _far) = match secure {
                true => secure_pair(&peers(), &ListenerOptions::default()).await,
                false => plain_pair(&ListenerOptions::default()).await,
            };
            let block = vec![0; 10_000];
            let refused = (0..10_000).find_map(|_| near.try_write(&block).err());
            assert_eq!(refused, Some(WriteError::Full));
            assert!(near.queued_bytes() <= (256 << 10) + 128);
            near.finish(Duration::from_millis(20)).await;
            assert!(near.is_closed());
            assert_eq!(near.queued_bytes(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_sink_may_write_to_the_same_connection() {
    on_one_thread(async {
        let (near, far) = secure_pair(&peers(), &ListenerOptions::default()).await;
        far.try_write(b"ping").unwrap();
        near.receive(|bytes| near.try_write(bytes).unwrap())
            .await
            .unwrap();
        assert_eq!(receive_exactly(&far, 4).await, b"ping");
    })
    .await;
}

#[tokio::test]
async fn closing_from_elsewhere_wakes_the_waiting_task() {
    on_one_thread(async {
        let (near, _far) = secure_pair(&peers(), &ListenerOptions::default()).await;
        let near = Rc::new(near);
        let waiting = Rc::clone(&near);
        let task = spawn_local(async move { waiting.receive(|_| ()).await.unwrap() });
        tokio::task::yield_now().await;
        near.close();
        assert_eq!(task.await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn data_before_a_half_close_is_delivered() {
    on_one_thread(async {
        let listener = listener(&ListenerOptions::default());
        let mut far = TcpStream::connect(listener.local_addr()).await.unwrap();
        let near = listener.accept().await.unwrap().plain().unwrap();
        far.write_all(b"last words").await.unwrap();
        far.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(receive_exactly(&near, 10).await, b"last words");
        assert_eq!(near.receive(|_| ()).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_silent_peer_does_not_hold_the_handshake() {
    on_one_thread(async {
        let mut options = ListenerOptions::default();
        options.stream.handshake_timeout = Duration::from_millis(50);
        let listener = listener(&options);
        let _silent = TcpStream::connect(listener.local_addr()).await.unwrap();
        let incoming = listener.accept().await.unwrap();
        let error = incoming.secure(peers().server.sip()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    })
    .await;
}

#[tokio::test]
async fn nonsense_instead_of_a_handshake_is_answered_with_an_alert() {
    on_one_thread(async {
        let listener = listener(&ListenerOptions::default());
        let mut far = TcpStream::connect(listener.local_addr()).await.unwrap();
        far.write_all(b"REGISTER sip:example.com SIP/2.0\r\n\r\n")
            .await
            .unwrap();
        let incoming = listener.accept().await.unwrap();
        let error = incoming.secure(peers().server.sip()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.first(), Some(&21), "an alert record");
    })
    .await;
}

#[tokio::test]
async fn an_untrusted_or_misnamed_server_is_refused() {
    on_one_thread(async {
        let (known, stranger) = (peers(), peers());
        for (name, client) in [
            ("localhost", &stranger.client),
            ("other.example", &known.client),
        ] {
            let listener = listener(&ListenerOptions::default());
            let stream = StreamOptions::default();
            let near = async {
                listener
                    .accept()
                    .await
                    .unwrap()
                    .secure(known.server.sip())
                    .await
            };
            let far = connect_tls(listener.local_addr(), name, client, &stream);
            let (near, far) = tokio::join!(near, far);
            assert_eq!(far.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
            assert!(near.is_err());
        }
    })
    .await;
}

/// Drives a buffered rustls client over the socket: an independent judge of what
/// our unbuffered side does, and able to cut its records into single bytes.
async fn judge(
    socket: &mut TcpStream,
    tls: &mut ClientConnection,
    piece: usize,
    until: usize,
) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        let mut records = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut records).unwrap();
        }
        for part in records.chunks(piece) {
            socket.write_all(part).await.unwrap();
            if piece < 100 {
                tokio::task::yield_now().await;
            }
        }
        if !tls.is_handshaking() && got.len() >= until {
            return got;
        }
        let mut buffer = vec![0; 4096];
        let count = socket.read(&mut buffer).await.unwrap();
        assert!(count > 0);
        let mut records = &buffer[..count];
        while !records.is_empty() {
            tls.read_tls(&mut records).unwrap();
            let state = tls.process_new_packets().unwrap();
            let start = got.len();
            got.resize(start + state.plaintext_bytes_to_read(), 0);
            std::io::Read::read_exact(&mut tls.reader(), &mut got[start..]).unwrap();
        }
    }
}

fn judge_config(
    peers: &Peers,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let path = peers._directory.path().join("self-signed.crt");
    let read =
        <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_file;
    roots.add(read(path).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
    Arc::new(
        builder
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

async fn judged(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    piece: usize,
) -> (Option<rustls::ProtocolVersion>, rustls::HandshakeKind) {
    let listener = listener(&ListenerOptions::default());
    let mut socket = TcpStream::connect(listener.local_addr()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(client, name).unwrap();
    let incoming = listener.accept().await.unwrap();
    let echo = spawn_local(async move {
        let near = incoming.secure(server).await.unwrap();
        let mut total = 0;
        while total < 40_000 {
            let count = near
                .receive(|bytes| near.try_write(bytes).unwrap())
                .await
                .unwrap();
            assert!(count > 0);
            total += count;
        }
        near.finish(Duration::from_secs(1)).await;
    });
    // In TLS 1.3 this leaves with the client's Finished: early for the server.
    let data: Vec<u8> = (0..40_000u32).map(|i| (i % 253) as u8).collect();
    std::io::Write::write_all(&mut tls.writer(), &data).unwrap();
    let got = judge(&mut socket, &mut tls, piece, 40_000).await;
    assert_eq!(got, data);
    echo.await.unwrap();
    (tls.protocol_version(), tls.handshake_kind().unwrap())
}

#[tokio::test]
async fn both_versions_survive_whole_and_cut_records_and_resume() {
    on_one_thread(async {
        use rustls::HandshakeKind::{Full, Resumed};
        let peers = peers();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = judge_config(&peers, version);
            for (piece, kind) in [(100_000, Full), (1, Resumed), (1_000, Resumed)] {
                let seen = judged(peers.server.sip(), Arc::clone(&client), piece).await;
                assert_eq!(seen, (Some(version.version), kind), "pieces of {piece}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_cut_off_in_the_middle_of_a_record_ends_the_connection() {
    on_one_thread(async {
        let (listener, peers) = (listener(&ListenerOptions::default()), peers());
        let mut socket = TcpStream::connect(listener.local_addr()).await.unwrap();
        let config = judge_config(&peers, &rustls::version::TLS13);
        let mut tls =
            ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        let incoming = listener.accept().await.unwrap();
        let near = spawn_local(async move { incoming.secure(peers.server.sip()).await.unwrap() });
        judge(&mut socket, &mut tls, 100_000, 0).await;
        let near = near.await.unwrap();
        socket.write_all(&[23, 3, 3, 64, 0, 1, 2, 3]).await.unwrap();
        let waiting = timeout(Duration::from_millis(50), near.receive(|_| ())).await;
        assert!(waiting.is_err(), "a part of a record is no data");
        near.try_write(b"still able to write").unwrap();
        let got = judge(&mut socket, &mut tls, 100_000, 19).await;
        assert_eq!(got, b"still able to write");
        drop(socket);
        assert_eq!(near.receive(|_| unreachable!()).await.unwrap_or(0), 0);
        assert!(near.is_closed());
    })
    .await;
}

#[tokio::test]
async fn a_reload_reaches_a_running_listener_and_a_failed_one_changes_nothing() {
    on_one_thread(async {
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = (
            directory.path().join("chain.pem"),
            directory.path().join("key.pem"),
        );
        let client_for = |path: &Path| ClientTls::new(Some(path)).unwrap();
        let install = || {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(&chain, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            client_for(&chain)
        };
        let trusts = RefCell::new(vec![install()]);
        let server = ServerTls::from_files(&chain, &key).unwrap();
        let running = server.sip();
        trusts.borrow_mut().push(install());
        let accepted = |client: ClientTls| {
            let running = Arc::clone(&running);
            async move {
                let listener = listener(&ListenerOptions::default());
                let near = async { listener.accept().await.unwrap().secure(running).await };
                let stream = StreamOptions::default();
                let far = connect_tls(listener.local_addr(), "localhost", &client, &stream);
                let (near, far) = tokio::join!(near, far);
                near.is_ok() && far.is_ok()
            }
        };
        let (old, new) = (trusts.borrow()[0].clone(), trusts.borrow()[1].clone());
        assert!(accepted(old.clone()).await);
        assert!(!accepted(new.clone()).await);
        server.reload().unwrap();
        assert!(accepted(new.clone()).await);
        assert!(!accepted(old.without_sessions()).await);
        std::fs::write(&key, "nothing").unwrap();
        assert!(server.reload().unwrap_err().to_string().contains("key.pem"));
        assert!(accepted(new).await);
    })
    .await;
}
