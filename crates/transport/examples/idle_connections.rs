//! What an idle connection costs: `idle_connections [tls|tcp] [count]`.
//!
//! The server runs here, its clients in a process of their own. Prints the resident
//! memory of the server for each connection, then the processor time that one
//! message and its answer take on open connections.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use sidetone_transport::limits::raise_open_files;
use sidetone_transport::stream::{
    Connection, Listener, ListenerOptions, StreamOptions, connect, connect_tls,
};
use sidetone_transport::tls::{ClientTls, ServerTls};
use tokio::task::{LocalSet, spawn_local};

const MESSAGE: [u8; 700] = [b'm'; 700];
const ROUNDS: usize = 50_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let argument =
        |i: usize, default: &str| arguments.get(i).cloned().unwrap_or(default.to_owned());
    let (kind, count) = (argument(1, "tls"), argument(2, "10000").parse().unwrap());
    raise_open_files().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let work: std::pin::Pin<Box<dyn Future<Output = ()>>> = match arguments.get(3) {
        None => Box::pin(server(kind, count)),
        Some(port) => Box::pin(clients(kind, count, port.parse().unwrap(), argument(4, ""))),
    };
    runtime.block_on(LocalSet::new().run_until(work));
}

async fn server(kind: String, count: usize) {
    let directory = std::env::temp_dir().join(format!("idle-connections-{}", std::process::id()));
    let tls = ServerTls::self_signed(&["localhost".to_owned()], &directory).unwrap();
    let listener =
        Listener::bind("127.0.0.1:0".parse().unwrap(), &ListenerOptions::default()).unwrap();
    let port = listener.local_addr().port();
    let before = resident_kib();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            &kind,
            &count.to_string(),
            &port.to_string(),
            &directory.display().to_string(),
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (open, messages) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for _ in 0..count {
        let incoming = listener.accept().await.unwrap();
        let config = (kind == "tls").then(|| tls.sip());
        let (open, messages) = (Rc::clone(&open), Rc::clone(&messages));
        spawn_local(async move {
            let connection = match config {
                Some(config) => incoming.secure(config).await.unwrap(),
                None => incoming.plain().unwrap(),
            };
            open.set(open.get() + 1);
            serve(&connection, &messages).await;
        });
    }
    while messages.get() < count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let grown = resident_kib() - before;
    println!(
        "{kind}: {} idle connections, {grown} KiB, {:.2} KiB each",
        open.get(),
        grown as f64 / count as f64
    );
    let (start, cpu) = (messages.get(), cpu_us());
    drop(child.stdin.take());
    while messages.get() < start + ROUNDS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let spent = cpu_us() - cpu;
    println!(
        "{kind}: {:.2} us for a message of {} bytes and its answer",
        spent as f64 / ROUNDS as f64,
        MESSAGE.len()
    );
    let _ = (child.kill(), child.wait());
    std::fs::remove_dir_all(directory).unwrap();
}

async fn serve(connection: &Connection, messages: &Cell<usize>) {
    let echo = |bytes: &[u8]| {
        messages.set(messages.get() + 1);
        connection.try_write(bytes).unwrap();
    };
    while connection.receive(echo).await.unwrap_or(0) > 0 {}
}

async fn clients(kind: String, count: usize, port: u16, directory: String) {
    let remote = SocketAddr::from(([127, 0, 0, 1], port));
    let trust = format!("{directory}/self-signed.crt");
    let tls = ClientTls::new(Some(trust.as_ref()))
        .unwrap()
        .without_sessions();
    let options = StreamOptions::default();
    let connections = RefCell::new(Vec::with_capacity(count));
    for _ in 0..count {
        let connection = match kind.as_str() {
            "tls" => connect_tls(remote, "localhost", &tls, &options)
                .await
                .unwrap(),
            _ => connect(remote, &options).await.unwrap(),
        };
        exchange(&connection).await;
        connections.borrow_mut().push(connection);
    }
    // The server closes our input when it wants the load to start.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    let connections = connections.into_inner();
    for connection in connections.iter().cycle().take(ROUNDS) {
        exchange(connection).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
}

async fn exchange(connection: &Connection) {
    connection.try_write(&MESSAGE).unwrap();
    let mut got = 0;
    while got < MESSAGE.len() {
        got += connection.receive(|_| ()).await.unwrap();
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_us() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds()
}
