//! The OpenAPI document, written by hand and checked against the routes.
//!
//! *Invariant*: the document describes every call under `/api/v1`; a test asks
//! each one of the router.

use axum::http::header;
use axum::response::{IntoResponse, Response};

pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
