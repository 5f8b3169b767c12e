//! The running server as the control socket, `/readyz` and the metrics see it.
//!
//! *Invariant*: answers are of this moment; nothing here changes how calls are handled.

use super::chores::Follower;
use crate::control::{Answer, Control, ControlRequest};
use serde_json::{Value, json};
use sidetone_engine::{Engine, Figures, Services, WebSocketDoor};
use sidetone_services::{Conversations, Files};
use sidetone_store::{Store, StoreError, Writer};
use sidetone_transport::tls::ServerTls;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Running {
    pub(super) started: Instant,
    pub(super) store: Store,
    pub(super) writer: Writer,
    pub(super) conversations: Arc<Conversations>,
    pub(super) files: Arc<Files>,
    pub(super) services: Arc<Services>,
    pub(super) engine: Arc<Engine>,
    pub(super) follower: Follower,
    pub(super) tls: Arc<ServerTls>,
}

impl Control for Running {
    async fn answer(&self, request: ControlRequest) -> Answer {
        match request {
            ControlRequest::Status => self.status().await.map_err(|e| e.to_string()),
            ControlRequest::Reload => self.reload().await,
            ControlRequest::Unban { address } => self.unban(address),
        }
    }
}

impl Running {
    pub(super) fn door(&self) -> WebSocketDoor {
        self.engine.websocket_door()
    }

    pub(super) fn figures(&self) -> Figures {
        self.engine.figures()
    }

    /// What is not up, if anything is not.
    pub(super) async fn ready(&self) -> Result<(), String> {
        if !self.engine.is_running() {
            return Err("a SIP thread has ended".to_owned());
        }
        if let Some(error) = self.writer.trouble() {
            return Err(error.to_string());
        }
        let version = self.store.directory_version().await;
        version.map(drop).map_err(|e| e.to_string())
    }

    async fn reload(&self) -> Answer {
        self.follower.step().await.map_err(|e| e.to_string())?;
        if let Err(error) = self.tls.reload() {
            // The one in use stays; an administrator who changed files sees why.
            tracing::warn!(%error, "the certificate was not read again");
        }
        Ok(Value::Null)
    }

    fn unban(&self, address: IpAddr) -> Answer {
        match self.services.limiter.unban(address, crate::cli::now_ms()) {
            true => {
                tracing::info!(%address, "unbanned");
                Ok(Value::Null)
            }
            false => Err(format!("{address} is not banned")),
        }
    }

    async fn status(&self) -> Result<Value, StoreError> {
        let (deliveries, waiting) = self.store.spool_counts().await?;
        let (services, writer, figures) = (&self.services, self.writer.metrics(), self.figures());
        let directory = services.directory.counts();
        let counters: serde_json::Map<String, Value> = services
            .counters
            .all()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let (certificate, now_ms) = (self.tls.summary(), crate::cli::now_ms());
        let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "accounts": directory.accounts,
            "devices": directory.devices,
            "registrations": services.location.binding_count(),
            "registered_addresses": services.location.aor_count(),
            "subscriptions": services.watched.subscriptions(),
            "calls": {
                "ringing": figures.calls_ringing,
                "total": services.counters.calls.get(),
            },
            "conversations": 0,
            "connections": figures.connections,
            "queues": {
                "store": writer.queued,
                "deliveries_open": deliveries,
                "messages_waiting": waiting,
                "subscriptions": services.outbox.len(),
            },
            "counters": counters,
            "dropped": {
                "datagrams": figures.datagrams_dropped,
                "registrations": figures.registrations_put_off,
                "inbox": figures.inbox_overflows,
                "connections": figures.connections_refused,
            },
            "certificate": {
                "names": certificate.names,
                "days_left": certificate.days_left(now_s),
                "self_signed": certificate.self_signed,
            },
            "store_failures": writer.failures,
            "task_failures": figures.task_failures,
            "bans": self.bans(),
        }))
    }

    fn bans(&self) -> Vec<Value> {
        let now_ms = crate::cli::now_ms();
        let ban = |ban: sidetone_services::Ban| {
            let ends_in_s = ban.until_ms.saturating_sub(now_ms).div_ceil(1000);
            json!({ "address": ban.source.to_string(), "ends_in_s": ends_in_s, "times": ban.times })
        };
        self.services
            .limiter
            .bans(now_ms)
            .into_iter()
            .map(ban)
            .collect()
    }
}
