//! A file as it comes in: one part of a form (RFC 7578).
//!
//! *Invariant*: what stands around the file is bounded, and the file goes on as it comes: a form never makes the server
//! hold more than a few network reads of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::Stream;
use sidetone_services::conversations::Caller;
use sidetone_store::Upload;
use tokio::time::timeout;

use crate::problem::Problem;
use crate::state::{State, now_ms};

/// The most that stands around a file: boundaries and the heads of parts.
pub(super) const HEADS: u64 = 256 * 1024;
/// An upload of which nothing comes for so long has ended.
const SILENCE: Duration = Duration::from_secs(30);
/// An upload that takes longer than this has ended.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Takes the file of a form.
pub(super) async fn take(
    state: &State,
    caller: &Caller,
    request: Request,
) -> Result<Upload, Problem> {
    match timeout(LONGEST, take_form(state, caller, request)).await {
        Ok(taken) => taken,
        Err(_) => Err(too_slow()),
    }
}

async fn take_form(state: &State, caller: &Caller, request: Request) -> Result<Upload, Problem> {
    let files = &state.web.files;
    let account = super::files::person(state, caller)?.of(caller).account;
    let in_file = Arc::new(AtomicBool::new(false));
    let mut form = form(state, request, &in_file).await?;
    let field = next(&mut form).await?;
    let field = field.filter(|field| field.name() == Some("file"));
    let mut field = field.ok_or_else(|| wrong("The form has to begin with a part named file."))?;
    let name = field.file_name().unwrap_or_default().to_owned();
    let declared = field.content_type().unwrap_or_default().to_owned();
    let mut incoming = files.begin(account, rand::random()).await?;
    in_file.store(true, Ordering::Relaxed);
    while let Some(chunk) = chunk(&mut field).await? {
        incoming.write(&chunk).await?;
    }
    in_file.store(false, Ordering::Relaxed);
    drop(field);
    if next(&mut form).await?.is_some() {
        return Err(wrong("One file at a time, and nothing else in the form."));
    }
    Ok(incoming.finish(&name, &declared, now_ms()).await?)
}

async fn form(
    state: &State,
    request: Request,
    in_file: &Arc<AtomicBool>,
) -> Result<Multipart, Problem> {
    let (parts, body) = request.into_parts();
    let metered = Metered {
        inner: body.into_data_stream(),
        in_file: Arc::clone(in_file),
        heads: 0,
        pause: false,
    };
    let request = Request::from_parts(parts, Body::from_stream(metered));
    Multipart::from_request(request, state).await.map_err(|_| {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Not a form",
            "A file is uploaded as multipart/form-data.",
        )
    })
}

async fn next(form: &mut Multipart) -> Result<Option<Field<'_>>, Problem> {
    match timeout(SILENCE, form.next_field()).await {
        Ok(field) => field.map_err(|error| broken(&error)),
        Err(_) => Err(too_slow()),
    }
}

async fn chunk(field: &mut Field<'_>) -> Result<Option<Bytes>, Problem> {
    match timeout(SILENCE, field.chunk()).await {
        Ok(chunk) => chunk.map_err(|error| broken(&error)),
        Err(_) => Err(too_slow()),
    }
}

fn broken(error: &MultipartError) -> Problem {
    tracing::debug!(%error, "upload");
    wrong("The form is not whole, or its parts have too much around the file.")
}

fn wrong(detail: &'static str) -> Problem {
    Problem::bad_request(detail)
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "Too slow",
        "The upload stood still, or took too long. Nothing of it was kept.",
    )
}

/// A body of which little is taken but while a file is read. Its reader takes all that is ready at a time, so it is
/// given one piece at a time.
struct Metered {
    inner: BodyDataStream,
    in_file: Arc<AtomicBool>,
    heads: u64,
    pause: bool,
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("too much around the file")]
    Heads,
    #[error("the body ended early")]
    Early(#[source] axum::Error),
}

impl Stream for Metered {
    type Item = Result<Bytes, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = match Pin::new(&mut self.inner).poll_next(context) {
            Poll::Ready(Some(piece)) => piece.map_err(Broken::Early),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        self.pause = true;
        if let (Ok(piece), false) = (&piece, self.in_file.load(Ordering::Relaxed)) {
            let octets = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.heads = self.heads.saturating_add(octets);
            if self.heads > HEADS {
                return Poll::Ready(Some(Err(Broken::Heads)));
            }
        }
        Poll::Ready(Some(piece))
    }
}
