//! The control socket: how the command line talks to a running server.
//!
//! `control.sock` in the data directory, one JSON value a line in each direction:
//!
//! ```text
//! {"do":"status"}                          {"ok":true,"result":{…}}
//! {"do":"reload"}                          {"ok":true,"result":null}
//! {"do":"unban","address":"192.0.2.1"}     {"ok":false,"error":"192.0.2.1 is not banned"}
//! ```
//!
//! *Invariant*: whoever may open the data directory may ask, and nobody else; a peer that is
//! slow or talks nonsense costs one of few places for a few seconds.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader as StdBufReader, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// The socket's name in the data directory.
pub(crate) const SOCKET_FILE: &str = "control.sock";

const LINE_BYTES_MAX: u64 = 64 * 1024;
const PEERS_MAX: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);

/// What a running server can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum ControlRequest {
    /// Version, uptime, registrations, calls, queues, bans.
    Status,
    /// Look at the directory again: another process changed it.
    Reload,
    /// End the ban of a source.
    Unban { address: IpAddr },
}

/// What answers: the result, or why not.
pub(crate) type Answer = Result<Value, String>;

/// Answers requests of the command line.
pub(crate) trait Control: Send + Sync + 'static {
    fn answer(&self, request: ControlRequest) -> impl Future<Output = Answer> + Send;
}

/// Listens in `data`; the caller holds the directory's lock, so an old socket is stale.
pub(crate) fn listen(data: &Path) -> io::Result<UnixListener> {
    let socket = data.join(SOCKET_FILE);
    match std::fs::remove_file(&socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let directory = File::open(data)?;
    let listener = UnixListener::bind(short(&directory))?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A path to the socket that fits into a socket address (108 bytes) wherever `data` lies.
fn short(directory: &File) -> PathBuf {
    PathBuf::from(format!(
        "/proc/self/fd/{}/{SOCKET_FILE}",
        directory.as_raw_fd()
    ))
}

/// Serves requests until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, control: Arc<impl Control>) {
    let places = Arc::new(Semaphore::new(PEERS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &*control).await {
                        tracing::debug!(%error, "control socket");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, control: &impl Control) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        let mut bounded = (&mut read).take(LINE_BYTES_MAX);
        let bytes = tokio::time::timeout(PATIENCE, bounded.read_line(&mut line)).await??;
        if bytes == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => control.answer(request).await,
            Err(error) => Err(format!("not understood: {error}")),
        };
        let value = match answer {
            Ok(result) => json!({"ok": true, "result": result}),
            Err(error) => json!({"ok": false, "error": error}),
        };
        let mut text = value.to_string();
        text.push('\n');
        tokio::time::timeout(PATIENCE, write.write_all(text.as_bytes())).await??;
        if !line.ends_with('\n') {
            return Ok(());
        }
    }
}

/// Why a running server gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no server runs on {0}")]
    NotRunning(String),
    #[error("the server does not answer: {0}")]
    Broken(io::Error),
    #[error("{0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Reply {
    ok: bool,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: String,
}

/// Asks the server that runs on `data`.
pub(crate) fn ask(data: &Path, request: &ControlRequest) -> Result<Value, AskError> {
    let absent = |_| AskError::NotRunning(data.display().to_string());
    let directory = File::open(data).map_err(absent)?;
    let stream = std::os::unix::net::UnixStream::connect(short(&directory)).map_err(absent)?;
    let line = exchange(stream, request).map_err(AskError::Broken)?;
    let reply: Reply =
        serde_json::from_str(&line).map_err(|e| AskError::Broken(io::Error::other(e)))?;
    if reply.ok {
        Ok(reply.result)
    } else {
        Err(AskError::Refused(reply.error))
    }
}

fn exchange(
    mut stream: std::os::unix::net::UnixStream,
    request: &ControlRequest,
) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    StdBufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

/// Lets a running server see a change of the directory at once; without one, nothing.
pub(crate) fn poke(data: &Path) {
    match ask(data, &ControlRequest::Reload) {
        Ok(_) | Err(AskError::NotRunning(_)) => {}
        // The server also looks by itself, a little later.
        Err(error) => tracing::warn!(%error, "the running server was not told"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Recorder(AtomicU32);

    impl Control for Recorder {
        async fn answer(&self, request: ControlRequest) -> Answer {
            match request {
                ControlRequest::Status => Ok(json!({"reloads": self.0.load(Ordering::SeqCst)})),
                ControlRequest::Reload => {
                    self.0.fetch_add(1, Ordering::SeqCst);
                    Ok(Value::Null)
                }
                ControlRequest::Unban { address } => Err(format!("{address} is not banned")),
            }
        }
    }

    async fn in_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(f).await.unwrap()
    }

    #[tokio::test]
    async fn questions_are_answered_even_in_a_very_long_directory() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("d".repeat(120));
        std::fs::create_dir(&data).unwrap();
        let server = tokio::spawn(serve(listen(&data).unwrap(), Arc::new(Recorder::default())));
        let at = data.clone();
        in_thread(move || {
            poke(&at);
            poke(&at);
            let status = ask(&at, &ControlRequest::Status).unwrap();
            assert_eq!(status, json!({"reloads": 2}));
            let address = "192.0.2.1".parse().unwrap();
            let error = ask(&at, &ControlRequest::Unban { address }).unwrap_err();
            assert_eq!(error.to_string(), "192.0.2.1 is not banned");
        })
        .await;
        server.abort();
        let _ = server.await;
        let at = data.clone();
        let error = in_thread(move || ask(&at, &ControlRequest::Status)).await;
        assert!(matches!(error, Err(AskError::NotRunning(_))));
        // A new server takes the place of the stale socket.
        listen(&data).unwrap();
    }

    #[tokio::test]
    async fn nonsense_is_answered_and_a_flood_is_cut() {
        let root = tempfile::tempdir().unwrap();
        let server = tokio::spawn(serve(
            listen(root.path()).unwrap(),
            Arc::new(Recorder::default()),
        ));
        let mut stream = UnixStream::connect(root.path().join(SOCKET_FILE))
            .await
            .unwrap();
        stream.write_all(b"{\"do\":\"dance\"}\n").await.unwrap();
        let mut read = BufReader::new(&mut stream);
        let mut line = String::new();
        read.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("{\"error\":\"not understood"), "{line}");
        let mut flood = UnixStream::connect(root.path().join(SOCKET_FILE))
            .await
            .unwrap();
        let _ = flood.write_all(&vec![b'x'; 200_000]).await;
        let mut answer = Vec::new();
        let _ = flood.read_to_end(&mut answer).await;
        assert!(answer.len() < 1_000);
        server.abort();
    }
}
