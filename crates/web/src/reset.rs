//! A person chooses a new web password with a link that an administrator gave.
//!
//! *Invariant*: the token is spent only by a password that is accepted, and by
//! nothing else: who opens the link and leaves can come back.

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Query};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use crate::auth::{count_source, unavailable};
use crate::page::{escape, page};
use crate::password;
use crate::problem::Problem;
use crate::setup::{PASSWORD_FIELDS, spent, token_hash};
use crate::state::State;
use crate::websocket::Peer;

#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub(crate) struct Answers {
    token: String,
    password: String,
    again: String,
}

pub(crate) async fn form(Query(link): Query<Link>) -> Html<String> {
    ask(&link.token, "")
}

pub(crate) async fn submit(
    axum::extract::State(state): axum::extract::State<State>,
    Extension(peer): Extension<Peer>,
    answers: Result<Form<Answers>, FormRejection>,
) -> Result<Response, Problem> {
    count_source(&state, peer)?;
    let Ok(Form(answers)) = answers else {
        return Err(Problem::bad_request("The form is not complete."));
    };
    if let Some(fault) = password::fault(&answers.password, &answers.again) {
        let form = ask(
            &answers.token,
            &format!("<p class=alert role=alert>{fault}</p>"),
        );
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, form).into_response());
    }
    let hash = password::hash_elsewhere(answers.password).await;
    let hash = hash.ok_or_else(Problem::unavailable)?;
    let done = state
        .web
        .accounts
        .reset(token_hash(&answers.token), hash)
        .await;
    Ok(match done.map_err(unavailable)? {
        true => page(
            "Password",
            "<h1>Done</h1>\n<p>The new password works now.</p>",
        )
        .into_response(),
        false => spent(),
    })
}

fn ask(token: &str, fault: &str) -> Html<String> {
    page(
        "Choose a password",
        &format!(
            "<h1>Choose a password</h1>\n\
             <p class=lead>It is for the web; phones have secrets of their own.</p>\n{fault}\n\
             <form method=post action=\"/reset\">\n\
             <input type=hidden name=token value=\"{}\">\n\
             {PASSWORD_FIELDS}\n<button type=submit>Save</button>\n</form>",
            escape(token)
        ),
    )
}
