//! Groups that administrators make.
//!
//! *Invariant*: an administrator sees who is in a group and changes that, and reads nothing that is said there.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use sidetone_model::ConversationId;
use sidetone_services::Command;
use sidetone_services::conversations::reading::View;
use sidetone_services::conversations::{Caller, NewGroup, Order};
use utoipa::{IntoParams, ToSchema};

use super::conversations::{
    Add, Ask, Change, Id, MEMBERS_MAX, NewRole, Two, body, limit, number, two,
};
use super::shapes::Role;
use super::{Admin, address, any_address, origin};
use crate::problem::Problem;
use crate::state::{State, now_ms};

type Nothing = Result<StatusCode, Problem>;

/// A list without a limit has so many groups.
const LIST: u32 = 100;
/// The most groups of one list.
const LIST_MAX: u32 = 500;

/// A group that an administrator made.
#[derive(Serialize, ToSchema)]
pub(crate) struct Group {
    /// Its number.
    id: i64,
    /// Its address for life.
    uri: String,
    /// May be empty.
    subject: String,
    /// Unix time in milliseconds.
    created_ms: u64,
    /// Who is in it now.
    members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupMember {
    /// `user@domain`.
    address: String,
    /// What the member may do.
    #[schema(example = "member")]
    role: String,
}

impl From<View> for Group {
    fn from(view: View) -> Self {
        let conversation = view.conversation;
        let member = |row: sidetone_store::MemberRow| GroupMember {
            address: row.address.to_string(),
            role: row.role,
        };
        Self {
            id: conversation.id.0,
            uri: format!("sip:{}", conversation.address),
            subject: conversation.subject,
            created_ms: conversation.created_ms,
            members: conversation.members.into_iter().map(member).collect(),
        }
    }
}

/// Which part of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupsPart {
    /// Those with greater numbers.
    #[param(value_type = i64, required = false)]
    after: Option<i64>,
    /// At most so many, 1 to 500.
    #[param(value_type = u32, required = false)]
    limit: Option<u32>,
}

/// Groups that administrators made, in the order of their numbers.
#[utoipa::path(get, path = "/api/v1/admin/groups", tag = "admin", params(GroupsPart),
    responses((status = 200, body = [Group])))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    Admin(_): Admin,
    part: Result<Query<GroupsPart>, QueryRejection>,
) -> Result<Json<Vec<Group>>, Problem> {
    let Query(part) = part.map_err(|_| {
        Problem::bad_request("after and limit are numbers, and nothing else is known here.")
    })?;
    let limit = limit(part.limit, LIST)?.min(LIST_MAX);
    let conversations = &state.web.conversations;
    let found = conversations.managed(part.after.map(ConversationId), limit);
    Ok(Json(found.await?.into_iter().map(Group::from).collect()))
}

/// A group that is to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewManaged {
    /// The user part of its address; without one, it is made up.
    name: Option<String>,
    /// May be empty.
    #[serde(default)]
    subject: String,
    /// Who is in it.
    #[serde(default)]
    members: Vec<NewMember>,
}

/// Somebody who is in it from the beginning.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMember {
    address: String,
    #[serde(default)]
    role: Role,
}

/// Begins a group; who begins it is in it only when listed.
#[utoipa::path(post, path = "/api/v1/admin/groups", tag = "admin", request_body = NewManaged,
    responses((status = 201, body = Group)))]
pub(crate) async fn begin(
    Shared(state): Shared<State>,
    Admin(caller): Admin,
    ask: Ask<NewManaged>,
) -> Result<(StatusCode, Json<Group>), Problem> {
    let new = body(ask)?;
    if new.members.len() > MEMBERS_MAX {
        return Err(Problem::bad_request("Too many members for one request."));
    }
    let member = |member: NewMember| Ok((address(&state, &member.address)?, member.role.into()));
    let members = new.members.into_iter().map(member);
    let group = NewGroup {
        creator: caller.address.clone(),
        name: new.name,
        members: members.collect::<Result<_, Problem>>()?,
        subject: new.subject,
        managed: true,
    };
    let conversations = &state.web.conversations;
    let id = conversations.begin_group(now_ms(), &caller, group).await?;
    let group = conversations.managed_one(id).await?;
    Ok((StatusCode::CREATED, Json(group.into())))
}

/// One group.
#[utoipa::path(get, path = "/api/v1/admin/groups/{id}", tag = "admin",
    params(("id" = i64, Path)), responses((status = 200, body = Group), (status = 404)))]
pub(crate) async fn show(
    Shared(state): Shared<State>,
    Admin(_): Admin,
    id: Id,
) -> Result<Json<Group>, Problem> {
    let group = state.web.conversations.managed_one(number(id)?).await?;
    Ok(Json(group.into()))
}

/// Changes the subject.
#[utoipa::path(patch, path = "/api/v1/admin/groups/{id}", tag = "admin",
    params(("id" = i64, Path)), request_body = Change, responses((status = 204)))]
pub(crate) async fn change(
    Shared(state): Shared<State>,
    Admin(caller): Admin,
    id: Id,
    ask: Ask<Change>,
) -> Nothing {
    let subject = body(ask)?.subject;
    let command = Command::SetSubject { subject };
    act(&state, &caller, number(id)?, command).await
}

/// Ends a group: all leave it. What was said stays with those who could read it, and nobody else gets the address.
#[utoipa::path(delete, path = "/api/v1/admin/groups/{id}", tag = "admin",
    params(("id" = i64, Path)), responses((status = 204)))]
pub(crate) async fn end(Shared(state): Shared<State>, Admin(caller): Admin, id: Id) -> Nothing {
    let id = number(id)?;
    let group = state.web.conversations.managed_one(id).await?;
    for member in group.conversation.members {
        let member = member.address;
        act(&state, &caller, id, Command::RemoveMember { member }).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Adds somebody.
#[utoipa::path(post, path = "/api/v1/admin/groups/{id}/members", tag = "admin",
    params(("id" = i64, Path)), request_body = Add, responses((status = 204)))]
pub(crate) async fn add(
    Shared(state): Shared<State>,
    Admin(caller): Admin,
    id: Id,
    ask: Ask<Add>,
) -> Nothing {
    let add = body(ask)?;
    let command = Command::AddMember {
        member: address(&state, &add.address)?,
        role: add.role.into(),
        history: add.history.into(),
    };
    act(&state, &caller, number(id)?, command).await
}

/// Removes somebody.
#[utoipa::path(delete, path = "/api/v1/admin/groups/{id}/members/{address}", tag = "admin",
    params(("id" = i64, Path), ("address" = String, Path)), responses((status = 204)))]
pub(crate) async fn remove(
    Shared(state): Shared<State>,
    Admin(caller): Admin,
    path: Two<String>,
) -> Nothing {
    let (id, member) = two(path)?;
    let member = any_address(&state, &member)?;
    act(&state, &caller, id, Command::RemoveMember { member }).await
}

/// Gives a member another role.
#[utoipa::path(patch, path = "/api/v1/admin/groups/{id}/members/{address}", tag = "admin",
    params(("id" = i64, Path), ("address" = String, Path)),
    request_body = NewRole, responses((status = 204)))]
pub(crate) async fn change_role(
    Shared(state): Shared<State>,
    Admin(caller): Admin,
    path: Two<String>,
    ask: Ask<NewRole>,
) -> Nothing {
    let (id, member) = two(path)?;
    let command = Command::SetRole {
        member: any_address(&state, &member)?,
        role: body(ask)?.role.into(),
    };
    act(&state, &caller, id, command).await
}

async fn act(state: &State, caller: &Caller, id: ConversationId, command: Command) -> Nothing {
    let conversations = &state.web.conversations;
    // Only groups of administrators: people's own are theirs.
    conversations.managed_one(id).await?;
    let order = Order {
        conversation: id,
        command,
        origin: origin(caller, id, None),
        keyed: false,
    };
    conversations.administer(now_ms(), caller, order).await?;
    Ok(StatusCode::NO_CONTENT)
}
