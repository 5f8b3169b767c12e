//! Signing in: `/api/v1/auth/…` and `/api/v1/me`.
//!
//! *Invariant*: an unknown address, a wrong password, a disabled account and an
//! account without a password give the same answer at the same cost.

use axum::Extension;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::accounts::{Login, Session};
use crate::attempts;
use crate::password;
use crate::problem::Problem;
use crate::state::{State, lock, now_ms};
use crate::tokens::{ACCESS_S, Claims, REFRESH_MS};
use crate::websocket::Peer;

type Ask<T> = Result<Json<T>, JsonRejection>;

/// The longest address that is looked at, in bytes.
const ADDRESS_BYTES: usize = 320;

/// An address with its web password.
#[derive(Deserialize, ToSchema)]
#[schema(as = Login)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    address: String,
    password: String,
    /// A code of the second factor; no account has one yet, so it is not looked at.
    #[serde(default, rename = "totp")]
    _totp: Option<String>,
}

/// A refresh token, which works once.
#[derive(Deserialize, ToSchema)]
#[schema(as = Refresh)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshRequest {
    refresh_token: String,
}

/// Signed in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Signed {
    /// A JWT, signed with EdDSA.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    /// Works once, for thirty days.
    refresh_token: String,
}

/// The account of the access token.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    id: i64,
    address: String,
    name: String,
    role: String,
}

/// Signs in with an address and a web password.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "auth", security(()),
    request_body = LoginRequest, responses((status = 200, body = Signed)))]
pub(crate) async fn login(
    axum::extract::State(state): axum::extract::State<State>,
    Extension(peer): Extension<Peer>,
    body: Ask<LoginRequest>,
) -> Result<Json<Signed>, Problem> {
    let Json(ask) = body.map_err(|_| bad_json())?;
    if ask.password.len() > password::LONGEST || ask.address.len() > ADDRESS_BYTES {
        return Err(Problem::bad_request(
            "The address or the password is too long.",
        ));
    }
    let address = complete(&state, &ask.address);
    count_attempt(&state, peer, &address)?;
    let found = state
        .web
        .accounts
        .by_address(&address)
        .await
        .map_err(unavailable)?;
    let hash = found.as_ref().and_then(|login| login.password_hash.clone());
    let fits = password::verify_elsewhere(ask.password, hash).await;
    let fits = fits.ok_or_else(Problem::unavailable)?;
    match found.filter(|login| fits && !login.disabled) {
        Some(login) => {
            forgive_attempt(&state, peer, &address);
            sign(&state, &login).await
        }
        None => {
            tracing::info!(remote = %peer.remote, "login refused");
            Err(Problem::unauthorized())
        }
    }
}

/// Trades a refresh token, which works once, for new tokens.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "auth", security(()),
    request_body = RefreshRequest, responses((status = 200, body = Signed)))]
pub(crate) async fn refresh(
    axum::extract::State(state): axum::extract::State<State>,
    Extension(peer): Extension<Peer>,
    body: Ask<RefreshRequest>,
) -> Result<Json<Signed>, Problem> {
    let Json(ask) = body.map_err(|_| bad_json())?;
    count_source(&state, peer)?;
    let session = state
        .web
        .accounts
        .take_session(digest(&ask.refresh_token))
        .await;
    let session = session
        .map_err(unavailable)?
        .filter(|s| s.expires_at_ms > now_ms());
    let session = session.ok_or_else(Problem::unauthorized)?;
    let login = enabled(&state, session.account, &session.address).await?;
    forgive_source(&state, peer);
    sign(&state, &login).await
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/v1/me", tag = "auth", responses((status = 200, body = Me)))]
pub(crate) async fn me(
    axum::extract::State(state): axum::extract::State<State>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Json<Me>, Problem> {
    let claims = bearer(&state, &headers).ok_or_else(Problem::unauthorized)?;
    state.count_account(&claims.sub, peer.remote.ip())?;
    let account = claims.sub.parse().map_err(|_| Problem::unauthorized())?;
    let login = enabled(&state, account, &claims.address).await?;
    Ok(Json(Me {
        id: login.id,
        address: login.address,
        name: login.name,
        role: login.role,
    }))
}

/// The claims of `Authorization: Bearer …` (RFC 6750 §2.1).
pub(crate) fn bearer(state: &State, headers: &HeaderMap) -> Option<Claims> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    state.web.tokens.check(token.trim(), now_ms() / 1000)
}

/// The account, while it exists, is the same and is not disabled.
async fn enabled(state: &State, account: i64, address: &str) -> Result<Login, Problem> {
    let found = state
        .web
        .accounts
        .by_address(address)
        .await
        .map_err(unavailable)?;
    let found = found.filter(|login| login.id == account && !login.disabled);
    found.ok_or_else(Problem::unauthorized)
}

async fn sign(state: &State, login: &Login) -> Result<Json<Signed>, Problem> {
    let now = now_ms();
    let token = state.web.tokens.issue(login, now / 1000, rand::random());
    let access_token = token.ok_or_else(Problem::unavailable)?;
    let refresh_token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let session = Session {
        token_hash: digest(&refresh_token),
        account: login.id,
        address: login.address.clone(),
        expires_at_ms: now + REFRESH_MS,
    };
    state
        .web
        .accounts
        .keep_session(session)
        .await
        .map_err(unavailable)?;
    Ok(Json(Signed {
        access_token,
        token_type: "Bearer",
        expires_in: ACCESS_S,
        refresh_token,
    }))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// `ann` means `ann@` and the first domain; domains do not care about case.
pub(crate) fn complete(state: &State, address: &str) -> String {
    let address = address.trim();
    let address = address.strip_prefix("sip:").unwrap_or(address);
    match address.rsplit_once('@') {
        Some((user, domain)) => format!("{user}@{}", domain.to_ascii_lowercase()),
        None => match state.web.settings.domains.first() {
            Some(domain) => format!("{address}@{domain}"),
            None => address.to_owned(),
        },
    }
}

fn count_attempt(state: &State, peer: Peer, address: &str) -> Result<(), Problem> {
    count_source(state, peer)?;
    if (state.web.exempt)(peer.remote.ip()) {
        return Ok(());
    }
    let mut attempts = lock(&state.by_account);
    attempts
        .take(address.to_ascii_lowercase(), now_ms())
        .map_err(Problem::too_many)
}

pub(crate) fn count_source(state: &State, peer: Peer) -> Result<(), Problem> {
    if (state.web.exempt)(peer.remote.ip()) {
        return Ok(());
    }
    let source = attempts::source(peer.remote.ip());
    lock(&state.by_source)
        .take(source, now_ms())
        .map_err(Problem::too_many)
}

fn forgive_attempt(state: &State, peer: Peer, address: &str) {
    forgive_source(state, peer);
    lock(&state.by_account).give_back(&address.to_ascii_lowercase());
}

fn forgive_source(state: &State, peer: Peer) {
    lock(&state.by_source).give_back(&attempts::source(peer.remote.ip()));
}

fn bad_json() -> Problem {
    Problem::bad_request("The body is not the JSON object that this call needs.")
}

pub(crate) fn unavailable(error: crate::Unavailable) -> Problem {
    tracing::error!(%error, "the directory could not be asked");
    Problem::unavailable()
}
