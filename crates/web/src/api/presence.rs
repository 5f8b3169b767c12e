//! Who is there, and what one says of oneself.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use sidetone_model::{Availability, PersonPresence, SetPresence};
use utoipa::{IntoParams, ToSchema};

use super::{Me, address};
use crate::problem::Problem;
use crate::state::{State, now_ms};

/// Addresses in one question.
const ADDRESSES_MAX: usize = 200;
/// Characters of a note.
const NOTE_CHARS: usize = 200;

/// The state of one person.
#[derive(Serialize, ToSchema)]
pub(crate) struct Presence {
    /// `user@domain`.
    address: String,
    /// `available`, `busy`, `away`, `do-not-disturb` or `offline`.
    availability: &'static str,
    /// A few words; may be empty.
    note: String,
    /// When what the person set ends; Unix time in milliseconds.
    until_ms: Option<u64>,
    /// Labels of the devices that would ring now.
    would_ring: Vec<String>,
    /// In a call.
    on_call: bool,
    /// Since when it is so; Unix time in milliseconds, 0 where that is not known.
    since_ms: u64,
}

impl Presence {
    pub(super) fn of(address: &str, presence: PersonPresence) -> Self {
        Self {
            address: address.to_owned(),
            availability: presence.availability.as_str(),
            note: presence.note,
            until_ms: presence.until_ms,
            would_ring: presence.would_ring,
            on_call: presence.on_call,
            since_ms: presence.since_ms,
        }
    }
}

/// Whose state.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whose {
    /// Addresses, with commas between.
    of: String,
}

/// Who is there, and what would ring.
#[utoipa::path(get, path = "/api/v1/presence", tag = "presence", params(Whose),
    responses((status = 200, body = [Presence])))]
pub(crate) async fn show(
    Shared(state): Shared<State>,
    Me(caller): Me,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Json<Vec<Presence>>, Problem> {
    let whose = whose.map_err(|_| Problem::bad_request("of is needed, and nothing else is known."));
    let Query(Whose { of }) = whose?;
    let names: Vec<&str> = of.split(',').filter(|name| !name.is_empty()).collect();
    if names.len() > ADDRESSES_MAX {
        return Err(Problem::bad_request("At most 200 addresses at a time."));
    }
    let one = |name: &&str| {
        let person = address(&state, name)?;
        let seen = state.web.presences.seen(&caller.address, &person);
        Ok(Presence::of(person.as_str(), seen))
    };
    names.iter().map(one).collect::<Result<_, _>>().map(Json)
}

/// What one says of oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Say {
    /// `available`, `busy`, `away` or `do-not-disturb`; nothing: as the server sees it.
    availability: Option<String>,
    /// A few words, 200 characters at most.
    #[serde(default)]
    note: String,
    /// When all of it ends; Unix time in milliseconds.
    until_ms: Option<u64>,
}

/// Says how one is to be seen, until it ends or is said anew. An empty object takes it back.
#[utoipa::path(put, path = "/api/v1/me/presence", tag = "presence", request_body = Say,
    responses((status = 204)))]
pub(crate) async fn say(
    Shared(state): Shared<State>,
    Me(caller): Me,
    ask: Result<Json<Say>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let ask = ask.map_err(|error| Problem::said(error.status(), "Bad request", error.body_text()));
    let Json(say) = ask?;
    let unusable = |detail| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Problem::said(status, "Unusable presence", detail)
    };
    let availability = say.availability.map(|word| word.parse::<Availability>());
    let availability = availability.transpose();
    let availability = availability.map_err(|error| unusable(format!("{error}.")))?;
    if say.note.chars().count() > NOTE_CHARS || say.note.chars().any(char::is_control) {
        return Err(unusable(
            "A note has at most 200 characters, all of them visible.".to_owned(),
        ));
    }
    if say.until_ms.is_some_and(|until_ms| until_ms <= now_ms()) {
        return Err(unusable("The end is past.".to_owned()));
    }
    if say
        .until_ms
        .is_some_and(|until_ms| i64::try_from(until_ms).is_err())
    {
        return Err(unusable("The end is no time.".to_owned()));
    }
    let account = state.web.directory.find(caller.address.as_str());
    let account = account.ok_or_else(Problem::unauthorized)?.account;
    let set = SetPresence {
        availability,
        note: say.note,
        until_ms: say.until_ms,
    };
    let said = state.web.presences.say(account, set).await;
    said.map_err(crate::auth::unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}
