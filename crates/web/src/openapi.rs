//! The OpenAPI document, made from the routes' own descriptions.
//!
//! *Invariant*: the document describes every call under `/api/v1`; a test asks each one of the
//! router, and another holds the document as it is: a change of the API is a change of
//! `openapi.json`, to be seen and meant.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Described, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use crate::{api, auth, problem};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let document = Document::openapi().to_pretty_json();
    // It is the same at every start: a test has seen it.
    document.unwrap_or_default()
});

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn document() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, DOCUMENT.as_str()).into_response()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sidetone",
        version = "1",
        description = "Errors are RFC 9457 problem details (application/problem+json) with a stable type."
    ),
    paths(
        auth::login,
        auth::refresh,
        auth::me,
        document,
        api::conversations::list,
        api::conversations::begin,
        api::conversations::show,
        api::conversations::change,
        api::conversations::events,
        api::conversations::say,
        api::conversations::edit,
        api::conversations::retract,
        api::conversations::react,
        api::conversations::add,
        api::conversations::remove,
        api::conversations::change_role,
        api::conversations::receipt,
        api::conversations::typing,
        api::admin::list,
        api::admin::begin,
        api::admin::show,
        api::admin::change,
        api::admin::end,
        api::admin::add,
        api::admin::change_role,
        api::admin::remove,
        api::contacts::list,
        api::contacts::add,
        api::contacts::remove,
        api::contacts::requests,
        api::contacts::accept,
        api::contacts::refuse,
        api::contacts::blocks,
        api::contacts::block,
        api::contacts::unblock,
        api::files::upload,
        api::files::download,
        api::files::thumbnail,
        api::avatars::own,
        api::avatars::show,
        api::avatars::hide,
        api::avatars::person,
        api::avatars::group,
        api::avatars::give,
        api::avatars::take_away,
        api::presence::show,
        api::presence::say,
        api::search::search,
        api::events::upgrade,
    ),
    components(schemas(problem::Body)),
    security(("access" = [])),
    modifiers(&Security, &Problems)
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Described) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("access", SecurityScheme::Http(scheme));
    }
}

/// What every call may answer instead.
struct Problems;

const PROBLEMS: [(&str, &str); 9] = [
    ("400", "The request is not what this call needs"),
    ("401", "Not signed in"),
    ("403", "Refused; the detail says why"),
    ("404", "There is nothing here, for you at least"),
    ("413", "Too large"),
    ("415", "Not JSON, or not a form"),
    ("422", "The values cannot be used"),
    ("429", "Too many; Retry-After says how long to wait"),
    ("503", "Not now; Retry-After says how long to wait"),
];

impl Modify for Problems {
    fn modify(&self, document: &mut Described) {
        for item in document.paths.paths.values_mut() {
            let operations = [
                &mut item.get,
                &mut item.post,
                &mut item.patch,
                &mut item.put,
                &mut item.delete,
            ];
            operations.into_iter().flatten().for_each(describe_problems);
        }
    }
}

fn describe_problems(operation: &mut Operation) {
    for (status, description) in PROBLEMS {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build();
        let responses = &mut operation.responses.responses;
        responses
            .entry(status.to_owned())
            .or_insert(RefOr::T(response));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_one_that_was_seen() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/openapi.json");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(path, DOCUMENT.as_str()).expect("written");
        }
        let seen = std::fs::read_to_string(path).expect("the snapshot");
        assert!(
            seen == *DOCUMENT,
            "the API has changed: UPDATE_SNAPSHOTS=1 writes {path} anew"
        );
    }
}
