//! Avatars: what people and groups show of themselves.
//!
//! *Invariant*: an avatar is a PNG of ours, drawn anew, whatever was uploaded.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sidetone_model::{AddressOfRecord, FileId};
use sidetone_services::Command;
use sidetone_services::files::Avatar;
use utoipa::ToSchema;

use super::conversations::{Ask, Id, Nothing, act, body, number};
use super::{Me, address, files};
use crate::problem::Problem;
use crate::ranges;
use crate::state::{State, now_ms};

/// A picture that was uploaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Picture {
    /// The number of the file.
    file: i64,
}

/// What the caller shows: a PNG of 256 by 256 pixels; coloured initials where there is no picture.
#[utoipa::path(get, path = "/api/v1/me/avatar", tag = "avatars",
    responses((status = 200, description = "The picture", body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "It has not changed")))]
pub(crate) async fn own(
    Shared(state): Shared<State>,
    Me(caller): Me,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let avatar = state.web.files.avatar_of(&caller.address).await?;
    Ok(answer(avatar, &headers))
}

/// Shows a picture that was uploaded.
#[utoipa::path(put, path = "/api/v1/me/avatar", tag = "avatars", request_body = Picture,
    responses((status = 204)))]
pub(crate) async fn show(
    Shared(state): Shared<State>,
    Me(caller): Me,
    ask: Ask<Picture>,
) -> Nothing {
    let file = FileId(body(ask)?.file);
    let person = files::person(&state, &caller)?;
    let shown = state
        .web
        .files
        .show(person.of(&caller), Some(file), now_ms());
    shown.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows the initials again.
#[utoipa::path(delete, path = "/api/v1/me/avatar", tag = "avatars", responses((status = 204)))]
pub(crate) async fn hide(Shared(state): Shared<State>, Me(caller): Me) -> Nothing {
    let person = files::person(&state, &caller)?;
    let hidden = state.web.files.show(person.of(&caller), None, now_ms());
    hidden.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What somebody shows.
#[utoipa::path(get, path = "/api/v1/people/{address}/avatar", tag = "avatars",
    params(("address" = String, Path)),
    responses((status = 200, description = "The picture", body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "It has not changed")))]
pub(crate) async fn person(
    Shared(state): Shared<State>,
    Me(_): Me,
    whose: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(whose) = whose.map_err(|_| Problem::not_found())?;
    let person = address(&state, &whose)?;
    let avatar = state.web.files.avatar_of(&person).await?;
    Ok(answer(avatar, &headers))
}

/// What a conversation shows: the picture that it was given, or a mosaic of its members.
#[utoipa::path(get, path = "/api/v1/conversations/{id}/avatar", tag = "avatars",
    params(("id" = i64, Path)),
    responses((status = 200, description = "The picture", body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "It has not changed"), (status = 404)))]
pub(crate) async fn group(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = state.web.conversations.view(number(id)?, &caller.address);
    let view = view.await?;
    let shown = view.conversation;
    // Who has left sees nothing of what came after.
    let given = shown.avatar.parse().ok().map(FileId);
    let given = given.filter(|_| view.present);
    let members: Vec<AddressOfRecord> = shown.members.into_iter().map(|row| row.address).collect();
    let files = &state.web.files;
    let avatar = files.avatar_of_group(&shown.address, &shown.subject, given, &members);
    Ok(answer(avatar.await?, &headers))
}

/// Gives a group a picture that was uploaded; for its owners and moderators.
#[utoipa::path(put, path = "/api/v1/conversations/{id}/avatar", tag = "avatars",
    params(("id" = i64, Path)), request_body = Picture, responses((status = 204)))]
pub(crate) async fn give(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    ask: Ask<Picture>,
) -> Nothing {
    let id = number(id)?;
    let file = FileId(body(ask)?.file);
    let person = files::person(&state, &caller)?;
    let showable = state.web.files.showable(person.of(&caller), file, now_ms());
    showable.await?;
    let avatar = Some(file);
    act(&state, &caller, id, Command::SetAvatar { avatar }).await
}

/// Shows a mosaic of the members again.
#[utoipa::path(delete, path = "/api/v1/conversations/{id}/avatar", tag = "avatars",
    params(("id" = i64, Path)), responses((status = 204)))]
pub(crate) async fn take_away(Shared(state): Shared<State>, Me(caller): Me, id: Id) -> Nothing {
    let command = Command::SetAvatar { avatar: None };
    act(&state, &caller, number(id)?, command).await
}

fn answer(avatar: Avatar, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", avatar.tag);
    let described = [
        (header::CONTENT_TYPE, "image/png".to_owned()),
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
        (header::ETAG, tag.clone()),
    ];
    match ranges::is_known(headers, &tag) {
        true => (StatusCode::NOT_MODIFIED, described).into_response(),
        false => (described, avatar.octets).into_response(),
    }
}
