//! The listeners and SIP over WebSocket through real sockets.

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::{HeaderValue, Response};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use sidetone_web::{Bounds, Listeners, Patience};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use world::World;

type Line = WebSocketStream<TcpStream>;

struct Running {
    world: World,
    http: SocketAddr,
    https: SocketAddr,
    trust: rustls::RootCertStore,
    served: JoinHandle<()>,
}

async fn run(bounds: Bounds) -> Running {
    run_with(bounds, Patience::default()).await
}

async fn run_with(bounds: Bounds, patience: Patience) -> Running {
    let world = World::with(patience).await;
    let listen = || TcpListener::bind("127.0.0.1:0");
    let (http, https) = (listen().await.expect("bind"), listen().await.expect("bind"));
    let addresses = (
        http.local_addr().expect("http"),
        https.local_addr().expect("https"),
    );
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let mut trust = rustls::RootCertStore::empty();
    trust.add(made.cert.der().clone()).expect("trust");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("TLS");
    let listeners = Listeners {
        https: vec![https],
        http: vec![http],
    };
    let serving = sidetone_web::serve(
        listeners,
        Arc::new(tls),
        world.router.clone(),
        bounds,
        world.closing.clone(),
    );
    let served = tokio::spawn(serving);
    Running {
        world,
        http: addresses.0,
        https: addresses.1,
        trust,
        served,
    }
}

async fn dial(
    server: SocketAddr,
    protocol: Option<&'static str>,
    origin: Option<String>,
) -> Result<(Line, Response<Option<Vec<u8>>>), Error> {
    let mut request = format!("ws://{server}/sip")
        .into_client_request()
        .expect("request");
    if let Some(protocol) = protocol {
        let name = "sec-websocket-protocol";
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(protocol));
    }
    if let Some(origin) = origin {
        request
            .headers_mut()
            .insert("origin", origin.parse().expect("origin"));
    }
    let stream = TcpStream::connect(server).await.expect("connect");
    client_async(request, stream).await
}

async fn refused(
    server: SocketAddr,
    protocol: Option<&'static str>,
    origin: Option<String>,
) -> u16 {
    match dial(server, protocol, origin).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Ok(_) => 101,
        Err(other) => panic!("{other}"),
    }
}

async fn heard(line: &mut Line) -> Message {
    let next = timeout(Duration::from_secs(5), line.next())
        .await
        .expect("in time");
    next.expect("open").expect("frame")
}

#[tokio::test]
async fn the_subprotocol_and_the_origin_decide() {
    let server = run(Bounds::default()).await;
    let http = server.http;
    assert_eq!(refused(http, None, None).await, 400);
    assert_eq!(refused(http, Some("xmpp"), None).await, 400);
    assert_eq!(
        refused(http, Some("sip"), Some("https://evil.example".into())).await,
        403
    );
    assert_eq!(
        refused(http, Some("sip"), Some(format!("http://{http}"))).await,
        101
    );
    let (_line, response) = dial(http, Some("xmpp, sip"), None).await.expect("upgrade");
    assert_eq!(response.headers()["sec-websocket-protocol"], "sip");
}

#[tokio::test]
async fn text_and_binary_pass_and_an_end_is_noticed() {
    let server = run(Bounds::default()).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    line.send(Message::text("OPTIONS é")).await.expect("send");
    assert_eq!(heard(&mut line).await, Message::text("OPTIONS é"));
    line.send(Message::binary(vec![b'x', 0xff]))
        .await
        .expect("send");
    assert_eq!(heard(&mut line).await, Message::binary(vec![b'x', 0xff]));
    assert_eq!(server.world.sip.open.load(Ordering::SeqCst), 1);
    line.send(Message::text("close")).await.expect("send");
    assert!(matches!(heard(&mut line).await, Message::Close(_)));
    let gone = async {
        while server.world.sip.open.load(Ordering::SeqCst) != 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), gone)
        .await
        .expect("the line was dropped");
}

#[tokio::test]
async fn too_large_a_message_ends_the_connection() {
    let server = run(Bounds::default()).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    let largest = sidetone_web::Settings::default().message_bytes;
    line.send(Message::binary(vec![b'x'; largest]))
        .await
        .expect("send");
    assert_eq!(heard(&mut line).await.len(), largest);
    let _ = line.send(Message::binary(vec![b'x'; largest + 1])).await;
    let end = timeout(Duration::from_secs(5), line.next())
        .await
        .expect("in time");
    assert!(!matches!(end, Some(Ok(Message::Binary(_)))));
}

fn fragment(text: &'static str, kind: Data, last: bool) -> Message {
    Message::Frame(Frame::message(text, OpCode::Data(kind), last))
}

#[tokio::test]
async fn fragments_are_one_message_and_a_ping_may_come_between() {
    let server = run(Bounds::default()).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    for message in [
        fragment("OPTIONS ", Data::Text, false),
        Message::Ping("between".into()),
        fragment("sip:", Data::Continue, false),
        fragment("x", Data::Continue, true),
    ] {
        line.send(message).await.expect("send");
    }
    assert_eq!(heard(&mut line).await, Message::Pong("between".into()));
    assert_eq!(heard(&mut line).await, Message::text("OPTIONS sip:x"));
}

#[tokio::test]
async fn fragments_without_end_are_bounded() {
    let server = run(Bounds::default()).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    let piece = "x".repeat(16 * 1024).leak();
    let mut sent = 0;
    let mut kind = Data::Text;
    while sent < 64 && line.send(fragment(piece, kind, false)).await.is_ok() {
        kind = Data::Continue;
        sent += 1;
    }
    let end = timeout(Duration::from_secs(5), line.next()).await;
    let end = end.expect("closed");
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "{end:?}");
}

#[tokio::test]
async fn text_that_is_no_text_ends_the_connection() {
    let server = run(Bounds::default()).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    let broken: &'static [u8] = b"OPTIONS \xff";
    let frame = Frame::message(broken, OpCode::Data(Data::Text), true);
    line.send(Message::Frame(frame)).await.expect("send");
    let end = timeout(Duration::from_secs(5), line.next()).await;
    let end = end.expect("closed");
    assert!(
        !matches!(end, Some(Ok(Message::Text(_) | Message::Binary(_)))),
        "{end:?}"
    );
}

#[tokio::test]
async fn pings_keep_a_quiet_line_open_and_silence_ends_it() {
    let patience = Patience {
        ping: Duration::from_millis(25),
        silence: Duration::from_secs(1),
        ..Patience::default()
    };
    let server = run_with(Bounds::default(), patience).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    // Whoever reads answers pings, for longer than silence may last.
    let began = std::time::Instant::now();
    while began.elapsed() < patience.silence * 3 / 2 {
        assert_eq!(heard(&mut line).await, Message::Ping("".into()));
    }
    // Nobody reads any more, so nobody answers.
    let gone = async {
        while server.world.sip.open.load(Ordering::SeqCst) != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), gone)
        .await
        .expect("the line was dropped");
}

#[tokio::test]
async fn a_close_is_answered_and_the_line_dropped() {
    let server = run(Bounds::default()).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    line.send(Message::text("here")).await.expect("send");
    assert_eq!(heard(&mut line).await, Message::text("here"));
    line.close(None).await.expect("close");
    assert!(matches!(heard(&mut line).await, Message::Close(_)));
    let gone = async {
        while server.world.sip.open.load(Ordering::SeqCst) != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), gone)
        .await
        .expect("the line was dropped");
}

#[tokio::test]
async fn https_serves_and_bounds_hold() {
    let bounds = Bounds {
        connections: 2,
        handshake: Duration::from_millis(200),
        ..Bounds::default()
    };
    let server = run(bounds).await;
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(server.trust.clone())
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let tcp = TcpStream::connect(server.https).await.expect("connect");
    let name = ServerName::try_from("localhost").expect("name");
    let mut tls = connector.connect(name, tcp).await.expect("handshake");
    tls.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("send");
    let mut answer = vec![0; 4096];
    let n = tls.read(&mut answer).await.expect("answer");
    let answer = String::from_utf8_lossy(&answer[..n]).to_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("strict-transport-security"), "{answer}");

    // A silent peer takes the second place, until the handshake's time is over.
    let mut silent = TcpStream::connect(server.https).await.expect("connect");
    let mut third = TcpStream::connect(server.https).await.expect("connect");
    assert_eq!(
        third.read(&mut [0; 1]).await.unwrap_or(0),
        0,
        "one too many is closed"
    );
    let end = timeout(Duration::from_secs(5), silent.read(&mut [0; 1])).await;
    assert_eq!(end.expect("in time").unwrap_or(0), 0, "half open is closed");
    let mut later = TcpStream::connect(server.http).await.expect("connect");
    later
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("send");
    let n = later.read(&mut [0; 64]).await.expect("answer");
    assert!(n > 0, "there is room again");
}

#[tokio::test]
async fn a_websocket_keeps_its_place_in_the_count() {
    let server = run(Bounds {
        connections: 1,
        ..Bounds::default()
    })
    .await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    let mut second = TcpStream::connect(server.http).await.expect("connect");
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
    line.send(Message::text("still here")).await.expect("send");
    assert_eq!(heard(&mut line).await, Message::text("still here"));
}

#[tokio::test]
async fn closing_ends_websockets_and_serving() {
    let server = run(Bounds::default()).await;
    let (mut line, _) = dial(server.http, Some("sip"), None).await.expect("upgrade");
    server.world.close();
    assert!(matches!(heard(&mut line).await, Message::Close(_)));
    timeout(Duration::from_secs(5), server.served)
        .await
        .expect("in time")
        .expect("served");
}
