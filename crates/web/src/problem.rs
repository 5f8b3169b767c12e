//! Errors as RFC 9457 problem details.
//!
//! *Invariant*: a problem never says more about an account than the caller
//! may know, and never carries an internal error's text.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: Cow<'static, str>,
    retry_after_s: Option<u64>,
}

/// RFC 9457 §3.1: `type` is stable, and is the title in other letters.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body<'a> {
    /// Stable: programs look at this.
    r#type: String,
    /// What went wrong, in two words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Why, and what to do.
    detail: &'a str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: &'static str) -> Self {
        Problem {
            status,
            title,
            detail: Cow::Borrowed(detail),
            retry_after_s: None,
        }
    }

    /// One whose words depend on what was asked.
    pub(crate) fn said(status: StatusCode, title: &'static str, detail: String) -> Self {
        Problem {
            status,
            title,
            detail: Cow::Owned(detail),
            retry_after_s: None,
        }
    }

    pub(crate) fn not_found() -> Self {
        let detail = "There is nothing at this address.";
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub(crate) fn bad_request(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    }

    /// One text for every reason, so that an unknown address looks like a wrong password.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Not signed in",
            "The address or password is not right, or the session has ended.",
        )
    }

    pub(crate) fn too_many(retry_after_s: u64) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many attempts",
            "Wait as long as Retry-After says, then try again.",
        );
        problem.retry_after_s = Some(retry_after_s);
        problem
    }

    pub(crate) fn unavailable() -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not available",
            "The server cannot answer this just now.",
        );
        problem.retry_after_s = Some(5);
        problem
    }
}

fn type_of(title: &str) -> String {
    format!(
        "urn:sidetone:problem:{}",
        title.to_lowercase().replace(' ', "-")
    )
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body().serialize(serializer)
    }
}

impl Problem {
    fn body(&self) -> Body<'_> {
        Body {
            r#type: type_of(self.title),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
