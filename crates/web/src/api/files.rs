//! Files: to upload, to read, small pictures of them, and links that need no password.
//!
//! *Invariant*: a body is never held whole, neither coming nor going; what is not known to run nothing is saved and not
//! shown, and nothing that is shown may load or run anything.

use std::io::SeekFrom;
use std::path::Path as File;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sidetone_model::FileId;
use sidetone_services::FileError;
use sidetone_services::conversations::Caller;
use sidetone_services::files::{Opened, Person, kind};
use sidetone_store::{Upload, hex};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use utoipa::ToSchema;

use super::Me;
use super::upload::{self, HEADS};
use crate::problem::Problem;
use crate::ranges::{self, Part};
use crate::state::{State, now_ms};

type Id = Result<Path<i64>, PathRejection>;

/// So much of a file is in memory on its way out.
const CHUNK: u64 = 128 * 1024;
/// Nothing in it loads or runs anything, wherever it is opened.
const LOCKED: &str =
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox";

/// What is uploaded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body that is read as it comes")]
pub(crate) struct Form {
    /// The content, with a file name. What it is is found out from the content.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

/// A file as it was stored.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stored {
    /// What messages name it by.
    id: i64,
    /// The file name; may be empty.
    name: String,
    /// What the content was found to be, whatever was said of it.
    content_type: String,
    octets: u64,
    /// SHA-256, in hexadecimal.
    digest: String,
    /// In pixels, where that is known.
    width: Option<u32>,
    height: Option<u32>,
    /// Of sound and video, where that is known.
    duration_ms: Option<u64>,
    /// Whether there is a small picture of it.
    thumbnail: bool,
}

impl From<Upload> for Stored {
    fn from(upload: Upload) -> Self {
        let content = upload.content;
        Self {
            id: upload.id.0,
            name: upload.name,
            content_type: content.content_type,
            octets: content.octets,
            digest: hex(&content.digest),
            width: content.width,
            height: content.height,
            duration_ms: content.duration_ms,
            thumbnail: content.thumbnail.is_some(),
        }
    }
}

/// Uploads a file, which one message or several can then bring. What is used in none is forgotten after a day.
#[utoipa::path(post, path = "/api/v1/files", tag = "files",
    request_body(content = Form, content_type = "multipart/form-data"),
    responses((status = 201, body = Stored)))]
pub(crate) async fn upload(
    Shared(state): Shared<State>,
    Me(caller): Me,
    request: Request,
) -> Result<Response, Problem> {
    let limit = state.web.files.octets_max();
    if announced(request.headers()).is_some_and(|octets| octets > limit.saturating_add(HEADS)) {
        return Err(FileError::TooLarge.into());
    }
    let stored = Stored::from(upload::take(&state, &caller, request).await?);
    let location = format!("/api/v1/files/{}", stored.id);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(stored),
    )
        .into_response())
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// A file. One part of it at a time (Range), again only if it has changed (If-None-Match, If-Range).
#[utoipa::path(get, path = "/api/v1/files/{id}", tag = "files", params(("id" = i64, Path),
    ("Range" = Option<String>, Header, description = "bytes=FIRST-LAST")),
    responses((status = 200, description = "All of it", body = Vec<u8>, content_type = "*/*"),
        (status = 206, description = "A part", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "It has not changed"),
        (status = 404), (status = 416, description = "There is no such part")))]
pub(crate) async fn download(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let files = &state.web.files;
    let person = person(&state, &caller)?;
    let opened = files.open_for(person.of(&caller), number(id)?).await?;
    serve(opened, &method, &headers).await
}

/// A small picture of a file: JPEG or PNG, at most 320 pixels a side.
#[utoipa::path(get, path = "/api/v1/files/{id}/thumbnail", tag = "files", params(("id" = i64, Path)),
    responses((status = 200, description = "The picture", body = Vec<u8>, content_type = "image/*"),
        (status = 404, description = "There is no such file, or no picture of it")))]
pub(crate) async fn thumbnail(
    Shared(state): Shared<State>,
    Me(caller): Me,
    id: Id,
) -> Result<Response, Problem> {
    let person = person(&state, &caller)?;
    let found = state
        .web
        .files
        .thumbnail_for(person.of(&caller), number(id)?);
    let (content_type, path) = found.await?;
    let octets = tokio::fs::read(&path)
        .await
        .map_err(|_| FileError::Unknown)?;
    let mut response = octets.into_response();
    describe(&mut response, &content_type, "");
    Ok(response)
}

/// What a link for phones leads to.
pub(crate) async fn linked(
    Shared(state): Shared<State>,
    token: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(token) = token.map_err(|_| Problem::not_found())?;
    let opened = state.web.files.open_link(&token, now_ms()).await?;
    serve(opened, &method, &headers).await
}

fn number(id: Id) -> Result<FileId, Problem> {
    let Path(id) = id.map_err(|_| Problem::not_found())?;
    Ok(FileId(id))
}

/// The caller's account.
pub(super) struct Account(sidetone_model::AccountId);

impl Account {
    pub(super) fn of(self, caller: &Caller) -> Person<'_> {
        Person {
            account: self.0,
            address: &caller.address,
        }
    }
}

pub(super) fn person(state: &State, caller: &Caller) -> Result<Account, Problem> {
    let account = state.web.directory.find(caller.address.as_str());
    let account = account.ok_or_else(Problem::unauthorized)?;
    Ok(Account(account.account))
}

async fn serve(opened: Opened, method: &Method, headers: &HeaderMap) -> Result<Response, Problem> {
    let Opened { upload, path } = opened;
    let content = upload.content;
    let tag = format!("\"{}\"", hex(&content.digest));
    let part = match *method {
        // RFC 9110 §14.2: a range is a matter of GET.
        Method::GET => ranges::asked(headers, content.octets, &tag),
        _ => Part::Whole,
    };
    let mut response = match part {
        _ if ranges::is_known(headers, &tag) => StatusCode::NOT_MODIFIED.into_response(),
        Part::Whole => sent(&path, 0, content.octets, method).await?,
        Part::Of { first, last } => {
            let mut response = sent(&path, first, last - first + 1, method).await?;
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{}", content.octets);
            set(&mut response, header::CONTENT_RANGE, &range);
            response
        }
        Part::Beyond => {
            let mut response = beyond();
            set(
                &mut response,
                header::CONTENT_RANGE,
                &format!("bytes */{}", content.octets),
            );
            return Ok(response);
        }
    };
    describe(&mut response, &content.content_type, &upload.name);
    set(&mut response, header::ETAG, &tag);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    Ok(response)
}

fn beyond() -> Response {
    let detail = "The file has no such part.";
    Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "No such part", detail).into_response()
}

/// So many octets of a file from there on.
async fn sent(path: &File, first: u64, octets: u64, method: &Method) -> Result<Response, Problem> {
    let opened = tokio::fs::File::open(path).await;
    let mut file = opened.map_err(|error| {
        // A row speaks of a file that lies on the disk; who restored a database without its files reads this.
        tracing::error!(path = %path.display(), %error, "a file is gone");
        FileError::Unknown
    })?;
    let failed = |_| FileError::Failed;
    file.seek(SeekFrom::Start(first)).await.map_err(failed)?;
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => stream(file, octets),
    };
    let mut response = Response::new(body);
    set(&mut response, header::CONTENT_LENGTH, &octets.to_string());
    Ok(response)
}

fn stream(file: tokio::fs::File, octets: u64) -> Body {
    let chunks = futures_util::stream::try_unfold((file, octets), |(mut file, left)| async move {
        let Ok(size @ 1..) = usize::try_from(left.min(CHUNK)) else {
            return Ok(None);
        };
        let mut chunk = vec![0; size];
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        chunk.truncate(read);
        let left = left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(Some((bytes::Bytes::from(chunk), (file, left))))
    });
    Body::from_stream(chunks)
}

fn describe(response: &mut Response, content_type: &str, name: &str) {
    let shown = kind::is_shown(content_type);
    let typed = match content_type {
        "text/plain" => "text/plain; charset=utf-8",
        other => other,
    };
    set(response, header::CONTENT_TYPE, typed);
    set(
        response,
        header::CONTENT_DISPOSITION,
        &disposition(shown, name),
    );
    set(response, header::CONTENT_SECURITY_POLICY, LOCKED);
    // Who may see it can change; what it is cannot.
    set(response, header::CACHE_CONTROL, "private, no-cache");
}

/// RFC 6266: a name for everybody, and the whole one (RFC 8187).
fn disposition(shown: bool, name: &str) -> String {
    let how = if shown { "inline" } else { "attachment" };
    if name.is_empty() {
        return how.to_owned();
    }
    let plain = |sign: char| match sign {
        ' ' | '!'..='~' if !matches!(sign, '"' | '\\' | '%') => sign,
        _ => '_',
    };
    let simple: String = name.chars().map(plain).collect();
    let whole: String = name.bytes().map(escaped).collect();
    format!("{how}; filename=\"{simple}\"; filename*=UTF-8''{whole}")
}

fn escaped(byte: u8) -> String {
    match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let (status, title, detail) = match error {
            FileError::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "Too large",
                "The file is larger than this server takes (files.max_bytes).",
            ),
            FileError::NoRoom => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "No room left",
                "You have uploaded as much as one account may (files.account_bytes).",
            ),
            FileError::TooMany => return Problem::too_many(5),
            FileError::Bomb => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "Impossible picture",
                "The picture claims a size that no picture has. It was not stored.",
            ),
            FileError::Lies(is) => {
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                let detail = format!(
                    "The file is sent as something to see or hear, and is {is}. It was not stored."
                );
                return Problem::said(status, "Not what it says", detail);
            }
            FileError::NoPicture => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "Not a picture",
                "The file is no PNG, JPEG, GIF or WebP that can be drawn small.",
            ),
            FileError::Unknown => (
                StatusCode::NOT_FOUND,
                "No such file",
                "There is no such file, or it is not for you to see.",
            ),
            FileError::Busy => return Problem::unavailable(),
            FileError::Failed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Not stored",
                "The server could not store this. Its log says why.",
            ),
        };
        Problem::new(status, title, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::disposition;

    #[test]
    fn a_name_is_quoted_whatever_it_is() {
        assert_eq!(disposition(true, ""), "inline");
        assert_eq!(
            disposition(false, "a \"b\".html"),
            "attachment; filename=\"a _b_.html\"; filename*=UTF-8''a%20%22b%22.html"
        );
        assert_eq!(
            disposition(true, "båt.png"),
            "inline; filename=\"b_t.png\"; filename*=UTF-8''b%C3%A5t.png"
        );
    }
}
