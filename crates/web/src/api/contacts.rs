//! Contacts, requests and blocks.
//!
//! *Invariant*: a list is its owner's alone, and who is blocked is not told so by any of these.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use sidetone_model::{AccountId, AddressOfRecord};
use sidetone_services::conversations::Caller;
use sidetone_services::{ContactAction, ContactOutcome};
use sidetone_store::{Named, StoreError};
use utoipa::ToSchema;

use super::presence::Presence;
use super::{Me, address, any_address};
use crate::problem::Problem;
use crate::state::State;

type Nothing = Result<StatusCode, Problem>;
type Whom = Result<Path<String>, PathRejection>;

/// Somebody on the caller's list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Contact {
    /// `user@domain`.
    address: String,
    /// What the person is called; empty where that is not known, or not to be seen.
    name: String,
    state: Standing,
    /// What the caller may see of the person.
    presence: Presence,
}

/// How a contact stands to the caller.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Standing {
    /// The caller may see the person.
    Visible,
    /// The caller has asked to, and there is no answer yet.
    Pending,
    /// The caller may not, and does not ask.
    Hidden,
}

/// Who is on the caller's list.
#[utoipa::path(get, path = "/api/v1/contacts", tag = "contacts",
    responses((status = 200, body = [Contact])))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    Me(caller): Me,
) -> Result<Json<Vec<Contact>>, Problem> {
    let account = account_of(&state, &caller)?;
    let store = state.web.conversations.store();
    let listed = store.contact_list(account).await.map_err(unreadable)?;
    let asked = store.requests_of(account).await.map_err(unreadable)?;
    let shape = |(person, name): Named| {
        let visible = state.web.presences.may_see(&caller.address, &person);
        let pending = asked.iter().any(|(other, _)| *other == person);
        let seen = state.web.presences.seen(&caller.address, &person);
        Contact {
            address: person.to_string(),
            name: if visible { name } else { String::new() },
            state: match (visible, pending) {
                (true, _) => Standing::Visible,
                (false, true) => Standing::Pending,
                (false, false) => Standing::Hidden,
            },
            presence: Presence::of(person.as_str(), seen),
        }
    };
    Ok(Json(listed.into_iter().map(shape).collect()))
}

/// Whom.
#[derive(Deserialize, ToSchema)]
#[schema(as = ContactAddress)]
#[serde(deny_unknown_fields)]
pub(crate) struct Somebody {
    /// `user@domain`.
    address: String,
}

/// Puts somebody on the list. People of one domain see each other; somebody of another domain is asked, and may see
/// the caller from now on.
#[utoipa::path(post, path = "/api/v1/contacts", tag = "contacts", request_body = Somebody,
    responses((status = 204)))]
pub(crate) async fn add(
    Shared(state): Shared<State>,
    Me(caller): Me,
    ask: Result<Json<Somebody>, JsonRejection>,
) -> Nothing {
    let ask = ask.map_err(|error| Problem::said(error.status(), "Bad request", error.body_text()));
    let Json(Somebody { address: text }) = ask?;
    let other = address(&state, &text)?;
    act(&state, &caller, &other, ContactAction::Add).await
}

/// Takes somebody off the list, with what was asked and, from another domain, what was allowed.
#[utoipa::path(delete, path = "/api/v1/contacts/{address}", tag = "contacts",
    params(("address" = String, Path)), responses((status = 204)))]
pub(crate) async fn remove(Shared(state): Shared<State>, Me(caller): Me, whom: Whom) -> Nothing {
    one(&state, &caller, whom, ContactAction::Remove).await
}

/// Requests that wait for an answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Requests {
    /// Those who ask to see the caller.
    incoming: Vec<Person>,
    /// Those whom the caller asks.
    outgoing: Vec<Person>,
}

/// Somebody.
#[derive(Serialize, ToSchema)]
pub(crate) struct Person {
    /// `user@domain`.
    address: String,
    /// What the person is called; empty where that is not known, or not to be seen.
    name: String,
}

impl From<Named> for Person {
    fn from((address, name): Named) -> Self {
        let address = address.to_string();
        Self { address, name }
    }
}

/// Requests that wait for an answer.
#[utoipa::path(get, path = "/api/v1/contacts/requests", tag = "contacts",
    responses((status = 200, body = Requests)))]
pub(crate) async fn requests(
    Shared(state): Shared<State>,
    Me(caller): Me,
) -> Result<Json<Requests>, Problem> {
    let account = account_of(&state, &caller)?;
    let store = state.web.conversations.store();
    let people = |named: Vec<Named>| named.into_iter().map(Person::from).collect();
    Ok(Json(Requests {
        incoming: people(store.requests_to(account).await.map_err(unreadable)?),
        outgoing: people(store.requests_of(account).await.map_err(unreadable)?),
    }))
}

/// Lets somebody who asks see the caller.
#[utoipa::path(put, path = "/api/v1/contacts/requests/{address}", tag = "contacts",
    params(("address" = String, Path)), responses((status = 204)))]
pub(crate) async fn accept(Shared(state): Shared<State>, Me(caller): Me, whom: Whom) -> Nothing {
    one(&state, &caller, whom, ContactAction::Accept).await
}

/// Does not let somebody who asks see the caller.
#[utoipa::path(delete, path = "/api/v1/contacts/requests/{address}", tag = "contacts",
    params(("address" = String, Path)), responses((status = 204)))]
pub(crate) async fn refuse(Shared(state): Shared<State>, Me(caller): Me, whom: Whom) -> Nothing {
    one(&state, &caller, whom, ContactAction::Refuse).await
}

/// Whom the caller blocks.
#[utoipa::path(get, path = "/api/v1/blocks", tag = "contacts",
    responses((status = 200, body = [Person])))]
pub(crate) async fn blocks(
    Shared(state): Shared<State>,
    Me(caller): Me,
) -> Result<Json<Vec<Person>>, Problem> {
    let account = account_of(&state, &caller)?;
    let store = state.web.conversations.store();
    let blocked = store.blocked_by(account).await.map_err(unreadable)?;
    Ok(Json(blocked.into_iter().map(Person::from).collect()))
}

/// Blocks an address, of here or of elsewhere: it can write nothing to the caller, see nothing of the caller, and add
/// the caller to no group.
#[utoipa::path(put, path = "/api/v1/blocks/{address}", tag = "contacts",
    params(("address" = String, Path)), responses((status = 204)))]
pub(crate) async fn block(Shared(state): Shared<State>, Me(caller): Me, whom: Whom) -> Nothing {
    one(&state, &caller, whom, ContactAction::Block).await
}

/// Blocks an address no more.
#[utoipa::path(delete, path = "/api/v1/blocks/{address}", tag = "contacts",
    params(("address" = String, Path)), responses((status = 204)))]
pub(crate) async fn unblock(Shared(state): Shared<State>, Me(caller): Me, whom: Whom) -> Nothing {
    one(&state, &caller, whom, ContactAction::Unblock).await
}

async fn one(state: &State, caller: &Caller, whom: Whom, action: ContactAction) -> Nothing {
    let Path(text) = whom.map_err(|_| Problem::not_found())?;
    let other = any_address(state, &text)?;
    act(state, caller, &other, action).await
}

async fn act(
    state: &State,
    caller: &Caller,
    other: &AddressOfRecord,
    action: ContactAction,
) -> Nothing {
    let account = account_of(state, caller)?;
    let done = state.web.presences.contact(account, other, action).await;
    match done.map_err(crate::auth::unavailable)? {
        ContactOutcome::Done => Ok(StatusCode::NO_CONTENT),
        refused => Err(problem(refused)),
    }
}

fn problem(outcome: ContactOutcome) -> Problem {
    let (status, title, detail) = match outcome {
        ContactOutcome::Oneself => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "Yourself",
            "This is your own address.",
        ),
        ContactOutcome::Full => (
            StatusCode::FORBIDDEN,
            "List full",
            "There is no room for another one. Remove somebody first.",
        ),
        ContactOutcome::Blocked => (
            StatusCode::FORBIDDEN,
            "Blocked",
            "You have blocked this person. Unblock first.",
        ),
        ContactOutcome::Unknown | ContactOutcome::Done => (
            StatusCode::NOT_FOUND,
            "Not found",
            "There is nothing of the kind for this address.",
        ),
    };
    Problem::new(status, title, detail)
}

fn account_of(state: &State, caller: &Caller) -> Result<AccountId, Problem> {
    let account = state.web.directory.find(caller.address.as_str());
    Ok(account.ok_or_else(Problem::unauthorized)?.account)
}

fn unreadable(error: StoreError) -> Problem {
    tracing::error!(%error, "contacts could not be read");
    Problem::unavailable()
}
