//! Runs the server.
//!
//! *Invariant*: the data directory's lock is taken before anything is opened, and released
//! after everything is closed.

use crate::cli::Failure;
use crate::config::{Config, LogFormat};
use crate::control::{self, Answer, Control, ControlRequest};
use serde_json::{Value, json};
use sidetone_store::{DataLock, Store, Writer, WriterOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Runs until it is told to stop.
pub(crate) fn serve(config: &Config, data: &Path) -> Result<(), Failure> {
    start_log(config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start threads: {e}")))?;
    runtime.block_on(run(config, data))
}

async fn run(config: &Config, data: &Path) -> Result<(), Failure> {
    let lock = DataLock::acquire(data)?;
    let store = Store::open(&config.store.url, data).await?;
    let options = WriterOptions {
        queue: config.store.queue,
        ..WriterOptions::default()
    };
    let writer = store.start_writer(options).await?;
    let running = Arc::new(Running {
        started: Instant::now(),
        store: store.clone(),
        writer: writer.clone(),
    });
    let socket = control::listen(data).map_err(|e| {
        Failure::new(format!(
            "{}: {e}",
            data.join(control::SOCKET_FILE).display()
        ))
    })?;
    let control = tokio::spawn(control::serve(socket, running));
    tracing::info!(data = %data.display(), "ready");
    stop_signal().await?;
    tracing::info!("stopping");
    control.abort();
    writer.close().await?;
    store.close().await;
    drop(lock);
    Ok(())
}

async fn stop_signal() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| Failure::new(format!("cannot wait for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn start_log(config: &Config) {
    // Checked when the configuration was read.
    let level = config.log.level.parse().unwrap_or(tracing::Level::INFO);
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

struct Running {
    started: Instant,
    store: Store,
    writer: Writer,
}

impl Control for Running {
    async fn answer(&self, request: ControlRequest) -> Answer {
        match request {
            ControlRequest::Status => self.status().await.map_err(|e| e.to_string()),
            ControlRequest::Reload => Ok(Value::Null),
            ControlRequest::Unban { address } => Err(format!("{address} is not banned")),
        }
    }
}

impl Running {
    async fn status(&self) -> Result<Value, sidetone_store::StoreError> {
        let (deliveries, waiting) = self.store.spool_counts().await?;
        let metrics = self.writer.metrics();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "deliveries_open": deliveries,
            "messages_waiting": waiting,
            "messages_stored": metrics.appended,
            "store_queue": metrics.queued,
            "store_failures": metrics.failures,
        }))
    }
}
