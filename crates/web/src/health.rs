//! Liveness, readiness and Prometheus metrics.
//!
//! *Invariant*: `/metrics` answers loopback peers only, unless that was
//! allowed; the connection's own peer counts, never a forwarding header.

use std::pin::Pin;
use std::sync::Arc;

use axum::Extension;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::accounts::Answer;
use crate::state::State;
use crate::websocket::Peer;

/// Asks whether the store and the listeners are up; an error says what is not.
pub type Readiness = Arc<dyn Fn() -> Answer<'static, ()> + Send + Sync>;
/// Gives the metrics as Prometheus text (exposition format 0.0.4).
pub type Metrics = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

pub(crate) async fn ready(axum::extract::State(state): axum::extract::State<State>) -> Response {
    if *state.web.closing.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "closing\n").into_response();
    }
    match (state.web.readiness)().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            // Asked every few seconds; what is wrong has its own line in the log.
            tracing::debug!(%error, "not ready");
            let text = format!("not ready: {}\n", error.0);
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

pub(crate) async fn metrics(
    axum::extract::State(state): axum::extract::State<State>,
    Extension(peer): Extension<Peer>,
) -> Response {
    let allowed =
        state.web.settings.metrics_anywhere || peer.remote.ip().to_canonical().is_loopback();
    if !allowed {
        return (StatusCode::FORBIDDEN, "metrics are for loopback\n").into_response();
    }
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, (state.web.metrics)().await).into_response()
}
