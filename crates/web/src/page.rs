//! The page at `/` of a release without a web app, and the one style sheet.
//!
//! *Invariant*: text from outside is escaped before it stands in a page.

use axum::extract::OriginalUri;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::problem::Problem;

const STYLE: &str = include_str!("page.css");

const INDEX: &str = "\
<h1>Sidetone</h1>
<p class=lead>The server runs. Phones can register, call and send messages.</p>
<p>The web app is not part of this release.</p>
<h2>What there is</h2>
<ul>
<li>Add a person and a phone: <code>sidetone user add ann@example.org</code>, then
<code>sidetone device add ann@example.org</code></li>
<li>See how the server does: <code>sidetone status</code></li>
<li>The programming interface: <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a></li>
</ul>";

pub(crate) async fn index() -> Html<String> {
    page("Sidetone", INDEX)
}

pub(crate) async fn style() -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/css; charset=utf-8"),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=300"),
        ),
    ];
    (headers, STYLE).into_response()
}

pub(crate) async fn not_found(OriginalUri(uri): OriginalUri) -> Response {
    if uri.path().starts_with("/api/") {
        let detail = "There is no such call; see /api/v1/openapi.json.";
        return Problem::new(StatusCode::NOT_FOUND, "Not found", detail).into_response();
    }
    let body =
        "<h1>Not found</h1><p>There is nothing here. <a href=\"/\">Back to the start</a></p>";
    (StatusCode::NOT_FOUND, page("Not found", body)).into_response()
}

pub(crate) async fn method_not_allowed() -> Problem {
    let detail = "This call exists, but not with this method; see /api/v1/openapi.json.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
}

/// A whole page around a body of ours.
pub(crate) fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n\
         <title>{}</title>\n<link rel=stylesheet href=\"/assets/sidetone.css\">\n</head>\n\
         <body>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
        escape(title)
    ))
}

/// Text as HTML text or as an attribute value in double quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_from_outside_stays_text() {
        assert_eq!(
            escape("<a href=\"x\">'&'"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;"
        );
    }
}
