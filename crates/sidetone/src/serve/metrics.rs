//! What the server counts, as Prometheus text (exposition format 0.0.4).
//!
//! *Invariant*: names never change their meaning; a counter only grows until the restart.

use super::running::Running;
use std::fmt::Write;

struct Text(String);

impl Text {
    fn add(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        // Writing to a string cannot fail.
        let _ = write!(
            self.0,
            "# HELP sidetone_{name} {help}\n# TYPE sidetone_{name} {kind}\nsidetone_{name} {value}\n"
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, "gauge", help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(&format!("{name}_total"), "counter", help, value);
    }
}

/// All of it.
pub(super) async fn text(running: &Running) -> String {
    let mut text = Text(String::with_capacity(4096));
    text.gauge(
        "uptime_seconds",
        "Time since the start.",
        running.started.elapsed().as_secs(),
    );
    let ends_s = running.tls.summary().not_after_s;
    text.gauge(
        "certificate_not_after_seconds",
        "End of the certificate in use, since 1970.",
        u64::try_from(ends_s).unwrap_or(0),
    );
    services(&mut text, running);
    shell(&mut text, running);
    store(&mut text, running);
    spool(&mut text, running).await;
    text.0
}

/// Left out while the database cannot be asked: no number is better than a wrong one.
async fn spool(text: &mut Text, running: &Running) {
    let (deliveries, waiting) = match running.store.spool_counts().await {
        Ok(counts) => counts,
        Err(error) => return tracing::debug!(%error, "the spool was not counted"),
    };
    text.gauge(
        "deliveries_open",
        "Messages that devices have yet to get.",
        deliveries,
    );
    text.gauge(
        "messages_waiting",
        "Messages that wait for the first device of their account.",
        waiting,
    );
}

fn services(text: &mut Text, running: &Running) {
    let services = &running.services;
    let directory = services.directory.counts();
    text.gauge("accounts", "Accounts.", directory.accounts as u64);
    text.gauge("devices", "Devices of accounts.", directory.devices as u64);
    let location = &services.location;
    text.gauge(
        "registered_addresses",
        "Addresses with a contact.",
        location.aor_count() as u64,
    );
    text.gauge(
        "bindings",
        "Registered contacts.",
        location.binding_count() as u64,
    );
    text.gauge(
        "subscriptions",
        "Subscriptions to registrations.",
        services.watched.subscriptions() as u64,
    );
    let bans = services.limiter.bans(crate::cli::now_ms()).len();
    text.gauge("bans", "Sources banned now.", bans as u64);
    for (name, value) in services.counters.all() {
        text.counter(name, &format!("{}.", name.replace('_', " ")), value);
    }
}

fn shell(text: &mut Text, running: &Running) {
    let figures = running.figures();
    text.gauge(
        "connections",
        "Open connections: TCP, TLS, WebSocket.",
        figures.connections,
    );
    text.gauge(
        "calls_ringing",
        "INVITEs without a final answer yet.",
        figures.calls_ringing,
    );
    for (name, help, value) in [
        (
            "datagrams_dropped",
            "Datagrams that a full socket did not take.",
            figures.datagrams_dropped,
        ),
        (
            "registrations_put_off",
            "New registrations dropped because more arrived than could be answered.",
            figures.registrations_put_off,
        ),
        (
            "inbox_overflows",
            "Messages dropped because their shard was behind.",
            figures.inbox_overflows,
        ),
        (
            "connections_refused",
            "Connections over limits.connections.",
            figures.connections_refused,
        ),
        (
            "task_failures",
            "Tasks that failed by a bug.",
            figures.task_failures,
        ),
    ] {
        text.counter(name, help, value);
    }
}

fn store(text: &mut Text, running: &Running) {
    let writer = running.writer.metrics();
    text.gauge(
        "store_queue",
        "Writes that wait for the disk.",
        writer.queued,
    );
    text.gauge(
        "store_last_commit_microseconds",
        "The last commit.",
        writer.last_commit_us,
    );
    for (name, help, value) in [
        (
            "store_messages_appended",
            "Messages committed.",
            writer.appended,
        ),
        (
            "store_duplicates",
            "Messages recognised as stored.",
            writer.duplicates,
        ),
        (
            "store_delivered",
            "Deliveries marked as done.",
            writer.delivered,
        ),
        (
            "store_bindings_written",
            "Addresses whose bindings were written.",
            writer.bindings,
        ),
        ("store_commits", "Transactions committed.", writer.commits),
        (
            "store_failures",
            "Transactions that failed.",
            writer.failures,
        ),
        (
            "store_refused",
            "Writes refused: the queue was full.",
            writer.refused,
        ),
    ] {
        text.counter(name, help, value);
    }
}
