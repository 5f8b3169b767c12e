//! Conversations: to list, begin, read, and say something in them.
//!
//! *Invariant*: what was answered with 200 or 201 is committed.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use sidetone_model::{ConversationId, FileId};
use sidetone_services::conversations::{Caller, NewGroup, Order};
use sidetone_services::{Command, Content, MessageTarget as Target};
use sidetone_store::Page;
use utoipa::{IntoParams, ToSchema};

use super::shapes::{Conversation, Format, Happened, Past, Role};
use super::{Me, address, any_address, files, origin};
use crate::problem::Problem;
use crate::state::{State, now_ms};

pub(super) type Ask<T> = Result<Json<T>, JsonRejection>;
pub(super) type Id = Result<Path<i64>, PathRejection>;
pub(super) type Two<T> = Result<Path<(i64, T)>, PathRejection>;
pub(super) type Nothing = Result<StatusCode, Problem>;

/// A page without a limit has so many events.
const PAGE: u32 = 50;
/// A list without a limit has so many conversations.
const LIST: u32 = 200;
/// Members named in one request.
pub(super) const MEMBERS_MAX: usize = 1_000;

pub(super) fn body<T>(ask: Ask<T>) -> Result<T, Problem> {
    ask.map(|Json(body)| body)
        .map_err(|error| Problem::said(error.status(), "Bad request", error.body_text()))
}

pub(super) fn number(id: Id) -> Result<ConversationId, Problem> {
    let Path(id) = id.map_err(|_| Problem::not_found())?;
    Ok(ConversationId(id))
}

pub(super) fn two<T>(path: Two<T>) -> Result<(ConversationId, T), Problem> {
    let Path((id, second)) = path.map_err(|_| Problem::not_found())?;
    Ok((ConversationId(id), second))
}

/// Which part of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListPart {
    /// Those that come after the conversation with this number.
    #[param(value_type = i64, required = false)]
    after: Option<i64>,
    /// At most so many, 1 to 1,000.
    #[param(value_type = u32, required = false)]
    limit: Option<u32>,
}

/// How many are asked for: what is more than there ever are is cut elsewhere, what is no number of ours is refused.
pub(super) fn limit(asked: Option<u32>, usual: u32) -> Result<u32, Problem> {
    match asked {
        Some(asked) if i32::try_from(asked).is_err() => Err(Problem::bad_request(
            "limit is no number that can be meant.",
        )),
        asked => Ok(asked.unwrap_or(usual).max(1)),
    }
}

/// A number in a log.
fn place(asked: Option<u64>) -> Result<Option<u64>, Problem> {
    match asked {
        Some(asked) if i64::try_from(asked).is_err() => {
            Err(Problem::bad_request("There is no such number in a log."))
        }
        asked => Ok(asked),
    }
}

/// The caller's conversations, the last used first. A page may be shorter than `limit` where there are very many
/// members; the list is at its end where a page is empty.
#[utoipa::path(get, path = "/api/v1/conversations", tag = "conversations", params(ListPart),
    responses((status = 200, body = [Conversation])))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    Me(caller): Me,
    part: Result<Query<ListPart>, QueryRejection>,
) -> Result<Json<Vec<Conversation>>, Problem> {
    let Query(part) = part.map_err(|_| {
        Problem::bad_request("after and limit are numbers, and nothing else is known here.")
    })?;
    let conversations = &state.web.conversations;
    let after = part.after.map(ConversationId);
    let limit = limit(part.limit, LIST)?;
    let views = conversations.list(&caller.address, after, limit).await?;
    let own = caller.address.as_str();
    let shapes = views.into_iter().map(|view| Conversation::of(view, own));
    Ok(Json(shapes.collect()))
}

/// A conversation that is to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    /// The others. One alone, without subject and name: the conversation of the two, which there may be already.
    members: Vec<String>,
    /// May be empty.
    subject: Option<String>,
    /// The user part of its address; without one, it is made up.
    name: Option<String>,
}

/// Begins a conversation, or finds that of two.
#[utoipa::path(post, path = "/api/v1/conversations", tag = "conversations", request_body = Begin,
    responses((status = 201, body = Conversation)))]
pub(crate) async fn begin(
    Shared(state): Shared<State>,
    Me(caller): Me,
    ask: Ask<Begin>,
) -> Result<(StatusCode, Json<Conversation>), Problem> {
    let Begin {
        members,
        subject,
        name,
    } = body(ask)?;
    if members.len() > MEMBERS_MAX {
        return Err(Problem::bad_request("Too many members for one request."));
    }
    let members: Vec<_> = members
        .iter()
        .map(|member| address(&state, member))
        .collect::<Result<_, _>>()?;
    let conversations = &state.web.conversations;
    let id = match members.as_slice() {
        [other] if subject.is_none() && name.is_none() => {
            conversations.pair(now_ms(), &caller, other).await?
        }
        _ => {
            let group = NewGroup {
                creator: caller.address.clone(),
                name,
                members: members
                    .into_iter()
                    .map(|member| (member, Role::default().into()))
                    .collect(),
                subject: subject.unwrap_or_default(),
                managed: false,
            };
            conversations.begin_group(now_ms(), &caller, group).await?
        }
    };
    let view = conversations.view(id, &caller.address).await?;
    let shape = Conversation::of(view, caller.address.as_str());
    Ok((StatusCode::CREATED, Json(shape)))
}

/// One conversation.
#[utoipa::path(get, path = "/api/v1/conversations/{id}", tag = "conversations",
    params(("id" = i64, Path)), responses((status = 200, body = Conversation), (status = 404)))]
pub(crate) async fn show(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
) -> Result<Json<Conversation>, Problem> {
    let view = state.web.conversations.view(number(id)?, &caller.address);
    Ok(Json(Conversation::of(view.await?, caller.address.as_str())))
}

/// What of a conversation is to change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// An empty one takes it away.
    pub(super) subject: String,
}

/// Changes the subject.
#[utoipa::path(patch, path = "/api/v1/conversations/{id}", tag = "conversations",
    params(("id" = i64, Path)), request_body = Change, responses((status = 204)))]
pub(crate) async fn change(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    ask: Ask<Change>,
) -> Nothing {
    let subject = body(ask)?.subject;
    act(
        &state,
        &caller,
        number(id)?,
        Command::SetSubject { subject },
    )
    .await
}

/// Which part of the log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// The first ones after this number.
    #[param(value_type = u64, required = false)]
    after: Option<u64>,
    /// The last ones before this number. Without either: the last ones of all.
    #[param(value_type = u64, required = false)]
    before: Option<u64>,
    /// At most so many, 1 to 500.
    #[param(value_type = u32, required = false)]
    limit: Option<u32>,
}

/// What happened in a conversation, in order.
#[utoipa::path(get, path = "/api/v1/conversations/{id}/events", tag = "conversations",
    params(("id" = i64, Path), Part), responses((status = 200, body = [Happened]), (status = 404)))]
pub(crate) async fn events(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<Vec<Happened>>, Problem> {
    let Query(part) = part.map_err(|_| {
        Problem::bad_request("after, before and limit are numbers, and nothing else is known here.")
    })?;
    let page = match (place(part.after)?, place(part.before)?) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("Give after or before, not both."));
        }
        (Some(after), None) => Page::After(after),
        (None, before) => Page::Before(before.unwrap_or(u64::MAX)),
    };
    let limit = limit(part.limit, PAGE)?;
    let conversations = &state.web.conversations;
    let events = conversations.history(number(id)?, &caller.address, page, limit);
    let events = events.await?.into_iter().map(Happened::from);
    Ok(Json(events.collect()))
}

/// Something to say: a text, or a file.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Say {
    text: Option<String>,
    #[serde(default)]
    format: Format,
    attachment: Option<Attachment>,
    /// The number of what it answers.
    reply_to: Option<u64>,
}

/// A file that was uploaded, or that came in another message.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attachment {
    /// Its number.
    file: i64,
    /// What is said with it.
    #[serde(default)]
    caption: String,
    /// It is a sound that was spoken to be heard in place of a text.
    #[serde(default)]
    voice_note: bool,
}

/// What was said, as it stands in the log.
#[derive(Serialize, ToSchema)]
pub(crate) struct Said {
    /// Its number among all events.
    pub(super) id: i64,
    /// Its number in the conversation.
    pub(super) seq: Option<u64>,
}

/// Says something. With a header `Idempotency-Key`, a repetition says it once.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/messages", tag = "conversations",
    params(("id" = i64, Path)), request_body = Say, responses((status = 201, body = Said)))]
pub(crate) async fn say(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    headers: HeaderMap,
    ask: Ask<Say>,
) -> Result<(StatusCode, Json<Said>), Problem> {
    let key = headers
        .get("idempotency-key")
        .and_then(|key| key.to_str().ok());
    let content = content(&state, &caller, body(ask)?).await?;
    let said = post(&state, &caller, number(id)?, content, key).await?;
    Ok((StatusCode::CREATED, Json(said)))
}

async fn content(state: &State, caller: &Caller, said: Say) -> Result<Content, Problem> {
    let reply_to = said.reply_to;
    match (said.text, said.attachment) {
        (Some(text), None) if !text.is_empty() => Ok(Content::Text {
            text,
            format: said.format.into(),
            reply_to,
        }),
        (None, Some(attachment)) => {
            let person = files::person(state, caller)?;
            let id = FileId(attachment.file);
            let file =
                state
                    .web
                    .files
                    .attach(person.of(caller), id, attachment.voice_note, now_ms());
            Ok(Content::File {
                file: file.await?,
                caption: attachment.caption,
                reply_to,
            })
        }
        (Some(_), Some(_)) => Err(Problem::bad_request(
            "A text or an attachment: what is said with a file is its caption.",
        )),
        _ => Err(Problem::bad_request("There is no text.")),
    }
}

/// Posts, and tells where it stands.
pub(super) async fn post(
    state: &State,
    caller: &Caller,
    conversation: ConversationId,
    content: Content,
    key: Option<&str>,
) -> Result<Said, Problem> {
    let order = Order {
        conversation,
        command: Command::Post(content),
        origin: origin(caller, conversation, key),
        keyed: key.is_some_and(|key| !key.is_empty()),
    };
    let conversations = &state.web.conversations;
    let outcome = conversations.command(now_ms(), caller, order).await?;
    let seq = match outcome.events.last() {
        Some(event) => Some(event.seq),
        None => conversations.seq_of(outcome.id).await?,
    };
    Ok(Said {
        id: outcome.id.0,
        seq,
    })
}

/// Another wording.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    text: String,
    #[serde(default)]
    format: Format,
}

/// Gives one's own message another wording.
#[utoipa::path(patch, path = "/api/v1/conversations/{id}/messages/{seq}", tag = "conversations",
    params(("id" = i64, Path), ("seq" = u64, Path)), request_body = Edit, responses((status = 204)))]
pub(crate) async fn edit(
    Shared(state): Shared<State>,
    Me(caller): Me,
    path: Two<u64>,
    ask: Ask<Edit>,
) -> Nothing {
    let (id, seq) = two(path)?;
    let Edit { text, format } = body(ask)?;
    let target = target(&state, &caller, id, seq).await?;
    let format = format.into();
    let command = Command::Edit {
        target,
        text,
        format,
    };
    act(&state, &caller, id, command).await
}

/// Takes a message back.
#[utoipa::path(delete, path = "/api/v1/conversations/{id}/messages/{seq}", tag = "conversations",
    params(("id" = i64, Path), ("seq" = u64, Path)), responses((status = 204)))]
pub(crate) async fn retract(
    Shared(state): Shared<State>,
    Me(caller): Me,
    path: Two<u64>,
) -> Nothing {
    let (id, seq) = two(path)?;
    let target = target(&state, &caller, id, seq).await?;
    act(&state, &caller, id, Command::Retract { target }).await
}

/// A reaction.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct React {
    emoji: String,
    /// Takes it back.
    #[serde(default)]
    removed: bool,
}

/// Reacts to a message.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/messages/{seq}/reactions",
    tag = "conversations", params(("id" = i64, Path), ("seq" = u64, Path)),
    request_body = React, responses((status = 204)))]
pub(crate) async fn react(
    Shared(state): Shared<State>,
    Me(caller): Me,
    path: Two<u64>,
    ask: Ask<React>,
) -> Nothing {
    let (id, seq) = two(path)?;
    let React { emoji, removed } = body(ask)?;
    let target = target(&state, &caller, id, seq).await?;
    let command = Command::React {
        target,
        emoji,
        removed,
    };
    act(&state, &caller, id, command).await
}

async fn target(
    state: &State,
    caller: &Caller,
    id: ConversationId,
    seq: u64,
) -> Result<Target, Problem> {
    let conversations = &state.web.conversations;
    Ok(conversations.target(id, &caller.address, seq).await?)
}

/// Somebody who is to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Add {
    pub(super) address: String,
    #[serde(default)]
    pub(super) role: Role,
    /// `"from_now"`, `"all"` or `{"last": 10}`.
    #[serde(default)]
    pub(super) history: Past,
}

/// Adds somebody.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/members", tag = "conversations",
    params(("id" = i64, Path)), request_body = Add, responses((status = 204)))]
pub(crate) async fn add(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    ask: Ask<Add>,
) -> Nothing {
    let Add {
        address: text,
        role,
        history,
    } = body(ask)?;
    let command = Command::AddMember {
        member: address(&state, &text)?,
        role: role.into(),
        history: history.into(),
    };
    act(&state, &caller, number(id)?, command).await
}

/// Removes somebody, or leaves.
#[utoipa::path(delete, path = "/api/v1/conversations/{id}/members/{address}",
    tag = "conversations", params(("id" = i64, Path), ("address" = String, Path)),
    responses((status = 204)))]
pub(crate) async fn remove(
    Shared(state): Shared<State>,
    Me(caller): Me,
    path: Two<String>,
) -> Nothing {
    let (id, member) = two(path)?;
    // Somebody whose account is gone can be removed, too.
    let member = any_address(&state, &member)?;
    act(&state, &caller, id, Command::RemoveMember { member }).await
}

/// Another role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRole {
    pub(super) role: Role,
}

/// Gives a member another role.
#[utoipa::path(patch, path = "/api/v1/conversations/{id}/members/{address}",
    tag = "conversations", params(("id" = i64, Path), ("address" = String, Path)),
    request_body = NewRole, responses((status = 204)))]
pub(crate) async fn change_role(
    Shared(state): Shared<State>,
    Me(caller): Me,
    path: Two<String>,
    ask: Ask<NewRole>,
) -> Nothing {
    let (id, member) = two(path)?;
    let command = Command::SetRole {
        member: address(&state, &member)?,
        role: body(ask)?.role.into(),
    };
    act(&state, &caller, id, command).await
}

/// How far the caller has got.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receipt {
    /// All up to this one.
    seq: u64,
    /// It was seen, and not only brought.
    #[serde(default)]
    displayed: bool,
}

/// Tells that everything up to a number has arrived, or was seen.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/receipts", tag = "conversations",
    params(("id" = i64, Path)), request_body = Receipt, responses((status = 204)))]
pub(crate) async fn receipt(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    ask: Ask<Receipt>,
) -> Nothing {
    let Receipt { seq, displayed } = body(ask)?;
    let conversations = &state.web.conversations;
    let (id, now_ms) = (number(id)?, now_ms());
    let noted = conversations.receipt(now_ms, id, &caller.address, seq, displayed);
    noted.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller writes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Typing {
    active: bool,
}

/// Tells the others that the caller writes, or stopped.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/typing", tag = "conversations",
    params(("id" = i64, Path)), request_body = Typing, responses((status = 204)))]
pub(crate) async fn typing(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    ask: Ask<Typing>,
) -> Nothing {
    let active = body(ask)?.active;
    let conversations = &state.web.conversations;
    let (id, now_ms) = (number(id)?, now_ms());
    let told = conversations.typing(now_ms, id, &caller.address, active);
    told.await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn act(
    state: &State,
    caller: &Caller,
    conversation: ConversationId,
    command: Command,
) -> Nothing {
    let order = Order {
        conversation,
        command,
        origin: origin(caller, conversation, None),
        keyed: false,
    };
    state
        .web
        .conversations
        .command(now_ms(), caller, order)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
