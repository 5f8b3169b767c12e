//! The JSON API of conversations.
//!
//! *Invariant*: every call is somebody's, by an access token; a conversation that is not theirs is
//! answered as one that is not.

pub(crate) mod admin;
pub(crate) mod avatars;
pub(crate) mod contacts;
pub(crate) mod conversations;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod presence;
pub(crate) mod search;
mod shapes;
mod upload;

use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use sha2::{Digest, Sha256};
use sidetone_model::{AddressOfRecord, ConversationId, Origin};
use sidetone_services::PostError;
use sidetone_services::conversations::Caller;

use crate::auth;
use crate::problem::Problem;
use crate::state::State;

/// Where bodies are read as they come, for as long as they come.
pub(crate) const UPLOAD: &str = "/api/v1/files";

/// The routes under `/api/v1`, and the links that lead there.
pub(crate) fn routes() -> axum::Router<State> {
    axum::Router::new()
        .route(
            "/api/v1/conversations",
            get(conversations::list).post(conversations::begin),
        )
        .route(
            "/api/v1/conversations/{id}",
            get(conversations::show).patch(conversations::change),
        )
        .route(
            "/api/v1/conversations/{id}/events",
            get(conversations::events),
        )
        .route(
            "/api/v1/conversations/{id}/messages",
            post(conversations::say),
        )
        .route(
            "/api/v1/conversations/{id}/messages/{seq}",
            axum::routing::patch(conversations::edit).delete(conversations::retract),
        )
        .route(
            "/api/v1/conversations/{id}/messages/{seq}/reactions",
            post(conversations::react),
        )
        .route(
            "/api/v1/conversations/{id}/members",
            post(conversations::add),
        )
        .route(
            "/api/v1/conversations/{id}/members/{address}",
            axum::routing::patch(conversations::change_role).delete(conversations::remove),
        )
        .route(
            "/api/v1/conversations/{id}/receipts",
            post(conversations::receipt),
        )
        .route(
            "/api/v1/conversations/{id}/typing",
            post(conversations::typing),
        )
        .route(
            UPLOAD,
            post(files::upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/api/v1/files/{id}", get(files::download))
        .route("/api/v1/files/{id}/thumbnail", get(files::thumbnail))
        .route(
            "/api/v1/me/avatar",
            get(avatars::own).put(avatars::show).delete(avatars::hide),
        )
        .route("/api/v1/people/{address}/avatar", get(avatars::person))
        .route(
            "/api/v1/conversations/{id}/avatar",
            get(avatars::group)
                .put(avatars::give)
                .delete(avatars::take_away),
        )
        .route("/f/{token}", get(files::linked))
        .route("/api/v1/presence", get(presence::show))
        .route("/api/v1/me/presence", axum::routing::put(presence::say))
        .route("/api/v1/search", get(search::search))
        .route("/api/v1/events", get(events::upgrade))
        .merge(contact_routes())
        .merge(admin_routes())
}

fn contact_routes() -> axum::Router<State> {
    axum::Router::new()
        .route("/api/v1/contacts", get(contacts::list).post(contacts::add))
        .route(
            "/api/v1/contacts/{address}",
            axum::routing::delete(contacts::remove),
        )
        .route("/api/v1/contacts/requests", get(contacts::requests))
        .route(
            "/api/v1/contacts/requests/{address}",
            axum::routing::put(contacts::accept).delete(contacts::refuse),
        )
        .route("/api/v1/blocks", get(contacts::blocks))
        .route(
            "/api/v1/blocks/{address}",
            axum::routing::put(contacts::block).delete(contacts::unblock),
        )
}

fn admin_routes() -> axum::Router<State> {
    axum::Router::new()
        .route("/api/v1/admin/groups", get(admin::list).post(admin::begin))
        .route(
            "/api/v1/admin/groups/{id}",
            get(admin::show).patch(admin::change).delete(admin::end),
        )
        .route("/api/v1/admin/groups/{id}/members", post(admin::add))
        .route(
            "/api/v1/admin/groups/{id}/members/{address}",
            axum::routing::patch(admin::change_role).delete(admin::remove),
        )
}

/// Who calls, by the access token.
pub(crate) struct Me(pub(crate) Caller);

impl FromRequestParts<State> for Me {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let claims = auth::bearer(state, &parts.headers).ok_or_else(Problem::unauthorized)?;
        count(state, &claims, parts)?;
        caller(state, &claims).map(Self)
    }
}

fn count(state: &State, claims: &crate::Claims, parts: &Parts) -> Result<(), Problem> {
    let peer = parts.extensions.get::<crate::Peer>();
    let peer = peer.ok_or_else(Problem::unavailable)?;
    state.count_account(&claims.sub, peer.remote.ip())
}

/// An administrator who calls: by the scope of the token, and still.
pub(crate) struct Admin(pub(crate) Caller);

impl FromRequestParts<State> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Me(caller) = Me::from_request_parts(parts, state).await?;
        let claims = auth::bearer(state, &parts.headers).ok_or_else(Problem::unauthorized)?;
        let found = state.web.accounts.by_address(caller.address.as_str()).await;
        let login = found.map_err(auth::unavailable)?;
        let admin = |role: &str| role == sidetone_model::Role::Admin.as_str();
        match login {
            Some(login) if admin(&login.role) && admin(&claims.scope) => Ok(Self(caller)),
            _ => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "Administrators only",
                "Your account is not an administrator's, or was not when you signed in.",
            )),
        }
    }
}

/// The account that a token names, while it exists, is the same and is not disabled.
pub(crate) fn caller(state: &State, claims: &crate::Claims) -> Result<Caller, Problem> {
    let account = state.web.directory.find(&claims.address);
    let ours = |account: &sidetone_services::AccountRef| {
        account.account.0.to_string() == claims.sub && !account.disabled
    };
    let account = account.filter(ours).ok_or_else(Problem::unauthorized)?;
    Ok(Caller {
        address: account.address,
        name: claims.name.clone(),
    })
}

impl From<PostError> for Problem {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Busy => Problem::unavailable(),
            PostError::Failed => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Not stored",
                "The server could not store this. Its log says why.",
            ),
            PostError::Refused(why) => {
                Problem::said(StatusCode::FORBIDDEN, "Refused", sentence(&why))
            }
            PostError::Blocked(why) => {
                Problem::said(StatusCode::FORBIDDEN, "Blocked", sentence(why))
            }
            PostError::Unknown => Problem::new(
                StatusCode::NOT_FOUND,
                "No such conversation",
                "There is no such conversation, or you are not in it.",
            ),
        }
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), chars.as_str())
}

/// An address that somebody wrote: `ann`, `ann@example.org` or `sip:ann@example.org`. Of ours by
/// whichever of its names, it is the account's own.
pub(crate) fn address(state: &State, text: &str) -> Result<AddressOfRecord, Problem> {
    let address = parsed(state, text)?;
    let account = state.web.directory.find(address.as_str());
    match account {
        Some(account) => Ok(account.address),
        None => {
            let detail = format!("Nobody here has the address {address}.");
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Problem::said(status, "Unknown address", detail))
        }
    }
}

/// The same, for one that may be of elsewhere, or of nobody any more.
pub(crate) fn any_address(state: &State, text: &str) -> Result<AddressOfRecord, Problem> {
    let address = parsed(state, text)?;
    let account = state.web.directory.find(address.as_str());
    Ok(account.map_or(address, |account| account.address))
}

fn parsed(state: &State, text: &str) -> Result<AddressOfRecord, Problem> {
    let bad = |_| {
        let detail = format!("{text:?} is no address like ann@example.org.");
        Problem::said(StatusCode::UNPROCESSABLE_ENTITY, "Bad address", detail)
    };
    auth::complete(state, text).parse().map_err(bad)
}

/// What a request is recognised by: the caller, the conversation and the key that the caller chose, or nothing else.
pub(crate) fn origin(caller: &Caller, place: ConversationId, key: Option<&str>) -> Origin {
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return Origin(rand::random());
    };
    let mut hash = Sha256::new();
    hash.update(b"api\0");
    hash.update(caller.address.as_str());
    hash.update(place.0.to_be_bytes());
    hash.update(key);
    let digest: [u8; 32] = hash.finalize().into();
    let mut origin = [0; 16];
    origin.copy_from_slice(&digest[..16]);
    Origin(origin)
}
