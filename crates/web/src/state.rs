//! What every route can reach, and the table of routes.
//!
//! *Invariant*: a route exists only here, so that the table below and the
//! OpenAPI document can be laid side by side.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use sidetone_services::{Conversations, Directory, Files};
use tokio::sync::watch;

use crate::accounts::Accounts;
use crate::attempts::Attempts;
use crate::health::{Metrics, Readiness};
use crate::presences::Presences;
use crate::problem::Problem;
use crate::tokens::Tokens;
use crate::unread::Rest;
use crate::websocket::{Patience, SipOverWebSocket};
use crate::{api, auth, health, openapi, page, reset, security_headers, setup, websocket};

/// The largest request body, in bytes: everything here is a short form.
const BODY_BYTES: usize = 64 * 1024;
/// A request that takes longer than this is answered 408.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// How much of the API one may use.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Calls a second from one source; five times as many at once.
    pub source_per_second: u32,
    /// Calls a second of one account, and what it says by WebSocket; five times as many at once.
    pub account_per_second: u32,
    /// WebSockets of one account.
    pub sessions: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            source_per_second: 200,
            account_per_second: 100,
            sessions: 50,
        }
    }
}

/// What an administrator may choose about the web.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The domains served; the first completes an address without one.
    pub domains: Vec<String>,
    /// Origins whose pages may open `/sip`, besides our own host.
    pub origins: Vec<String>,
    /// Whether `/metrics` answers peers that are not on loopback.
    pub metrics_anywhere: bool,
    /// The longest SIP message over WebSocket, in bytes.
    pub message_bytes: usize,
    /// What a WebSocket is closed for.
    pub patience: Patience,
    /// How much of the API one may use.
    pub rates: Rates,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            domains: vec!["localhost".to_owned()],
            origins: Vec::new(),
            metrics_anywhere: false,
            message_bytes: 80 * 1024,
            patience: Patience::default(),
            rates: Rates::default(),
        }
    }
}

/// The parts that the web is put together from.
pub struct Web {
    /// What an administrator may choose.
    pub settings: Settings,
    /// The directory of accounts.
    pub accounts: Arc<dyn Accounts>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// What is said, and by whom.
    pub conversations: Arc<Conversations>,
    /// What people send besides words.
    pub files: Arc<Files>,
    /// Who is there.
    pub presences: Arc<dyn Presences>,
    /// Who takes SIP over WebSocket.
    pub sip: Arc<dyn SipOverWebSocket>,
    /// Signs and checks access tokens.
    pub tokens: Tokens,
    /// Says whether the store and the listeners are up.
    pub readiness: Readiness,
    /// The Prometheus text.
    pub metrics: Metrics,
    /// Sources that rate limits do not count.
    pub exempt: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// Becomes true when the server closes.
    pub closing: watch::Receiver<bool>,
}

/// What routes share.
pub type State = Arc<Shared>;

/// [`Web`] and what it remembers between requests.
pub struct Shared {
    pub(crate) web: Web,
    pub(crate) by_source: Mutex<Attempts<IpAddr>>,
    pub(crate) by_account: Mutex<Attempts<String>>,
    pub(crate) calls_by_source: Mutex<Attempts<IpAddr>>,
    pub(crate) calls_by_account: Mutex<Attempts<String>>,
}

impl From<Web> for State {
    fn from(web: Web) -> State {
        let rates = web.settings.rates;
        Arc::new(Shared {
            web,
            calls_by_source: Mutex::new(calls(rates.source_per_second)),
            calls_by_account: Mutex::new(calls(rates.account_per_second)),
            by_source: Mutex::new(Attempts::new(20, Duration::from_secs(6))),
            by_account: Mutex::new(Attempts::new(10, Duration::from_secs(30))),
        })
    }
}

/// So many a second, and five times as many at once.
fn calls<K: std::hash::Hash + Eq + Clone>(per_second: u32) -> Attempts<K> {
    let each = Duration::from_millis((1_000 / u64::from(per_second.max(1))).max(1));
    Attempts::new(per_second.max(1).saturating_mul(5), each)
}

/// Every route of the server.
pub fn router(state: State) -> axum::Router {
    axum::Router::new()
        .route("/", get(page::index))
        .route("/assets/sidetone.css", get(page::style))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/setup", get(setup::form).post(setup::submit))
        .route("/reset", get(reset::form).post(reset::submit))
        .route("/sip", get(websocket::upgrade))
        .route("/api/v1/auth/login", post(auth::login))
        .route("/api/v1/auth/refresh", post(auth::refresh))
        .route("/api/v1/me", get(auth::me))
        .route("/api/v1/openapi.json", get(openapi::document))
        .merge(api::routes())
        .fallback(page::not_found)
        .method_not_allowed_fallback(page::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), in_turn))
        .layer(middleware::from_fn(whole))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn(security_headers::add))
        .with_state(state)
}

/// Reads the body before anybody answers: an answer while it is still on its way resets the
/// stream in HTTP/2, and many a client then shows an error in place of the answer.
async fn whole(
    request: axum::extract::Request,
    next: middleware::Next,
) -> axum::response::Response {
    use axum::response::IntoResponse;
    if request.uri().path() == "/sip" {
        // What follows there is no body but a conversation.
        return next.run(request).await;
    }
    if is_upload(&request) {
        // A file of any length is answered before its end where it is refused.
        let rest = Rest::of(request.version());
        let response = next.run(rest.lend(request)).await;
        return rest.hold(response);
    }
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, BODY_BYTES).await {
        Ok(bytes) => {
            let request = axum::extract::Request::from_parts(parts, bytes.into());
            next.run(request).await
        }
        Err(_) => Problem::bad_request("The body is too long, or ended early.").into_response(),
    }
}

/// The API answers one source so often, whoever it is.
async fn in_turn(
    axum::extract::State(state): axum::extract::State<State>,
    request: axum::extract::Request,
    next: middleware::Next,
) -> axum::response::Response {
    use axum::response::IntoResponse;
    let peer = request.extensions().get::<crate::Peer>().copied();
    let counted = peer.filter(|_| request.uri().path().starts_with("/api/v1/"));
    match counted.map_or(Ok(()), |peer| state.count_call(peer)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl Shared {
    fn count_call(&self, peer: crate::Peer) -> Result<(), Problem> {
        if (self.web.exempt)(peer.remote.ip()) {
            return Ok(());
        }
        let source = crate::attempts::source(peer.remote.ip());
        let taken = lock(&self.calls_by_source).take(source, now_ms());
        taken.map_err(Problem::too_many)
    }

    /// Counts what an account asks, by whichever way.
    pub(crate) fn count_account(&self, account: &str, source: IpAddr) -> Result<(), Problem> {
        if (self.web.exempt)(source) {
            return Ok(());
        }
        let taken = lock(&self.calls_by_account).take(account.to_owned(), now_ms());
        taken.map_err(Problem::too_many)
    }
}

/// A counter is whole even where a thread panicked while it held the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn is_upload(request: &axum::extract::Request) -> bool {
    request.method() == axum::http::Method::POST && request.uri().path() == api::UPLOAD
}

/// A body that trickles in must not hold a connection for ever.
async fn in_time(
    request: axum::extract::Request,
    next: middleware::Next,
) -> axum::response::Response {
    use axum::response::IntoResponse;
    if is_upload(&request) {
        // It has a time of its own.
        return next.run(request).await;
    }
    match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => axum::http::StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
