//! The one-time set-up: who administers this server, and with which password.
//!
//! *Invariant*: the token is the only way in, is kept as a hash, works once,
//! and is carried by the form itself: a page of another site does not know it,
//! so it cannot forge the request.

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Query};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::accounts::{Administrator, SetUp};
use crate::auth::{complete, count_source, unavailable};
use crate::page::{escape, page};
use crate::password;
use crate::problem::Problem;
use crate::state::State;
use crate::websocket::Peer;

/// A new token for a set-up link, and the hash to keep of it.
pub fn new_setup_token() -> (String, [u8; 32]) {
    let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let hash = token_hash(&token);
    (token, hash)
}

/// What is kept of a token.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub(crate) struct Answers {
    token: String,
    address: String,
    password: String,
    again: String,
}

pub(crate) async fn form(
    axum::extract::State(state): axum::extract::State<State>,
    Extension(peer): Extension<Peer>,
    Query(link): Query<Link>,
) -> Result<Response, Problem> {
    count_source(&state, peer)?;
    let valid = state
        .web
        .accounts
        .setup_token_valid(token_hash(&link.token))
        .await;
    Ok(match valid.map_err(unavailable)? {
        true => ask(&state, &link.token, "", None).into_response(),
        false => spent(),
    })
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
    let hash = token_hash(&answers.token);
    if !state
        .web
        .accounts
        .setup_token_valid(hash)
        .await
        .map_err(unavailable)?
    {
        return Ok(spent());
    }
    let address = complete(&state, &answers.address);
    if let Some(fault) = fault(&state, &address, &answers) {
        return Ok(again(&state, &answers, fault));
    }
    let password_hash = password::hash_elsewhere(answers.password.clone()).await;
    let password_hash = password_hash.ok_or_else(Problem::unavailable)?;
    let administrator = Administrator {
        address: address.clone(),
        password_hash,
    };
    let done = state
        .web
        .accounts
        .set_up(hash, administrator)
        .await
        .map_err(unavailable)?;
    Ok(match done {
        SetUp::Done => finished(&address),
        SetUp::TokenInvalid => spent(),
        SetUp::AddressTaken => again(&state, &answers, "This address belongs to somebody else."),
        SetUp::UnknownDomain => again(&state, &answers, "This server does not serve that domain."),
    })
}

/// What is wrong with the answers, in a sentence.
fn fault(state: &State, address: &str, answers: &Answers) -> Option<&'static str> {
    let (user, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    if user.is_empty() || user.len() > 64 || !user.chars().all(plain) {
        return Some("The name before the @ may hold letters, digits, and - _ . + only.");
    }
    if !state
        .web
        .settings
        .domains
        .iter()
        .any(|d| d.eq_ignore_ascii_case(domain))
    {
        return Some("This server does not serve that domain.");
    }
    password::fault(&answers.password, &answers.again)
}

fn again(state: &State, answers: &Answers, fault: &str) -> Response {
    let form = ask(state, &answers.token, &answers.address, Some(fault));
    (StatusCode::UNPROCESSABLE_ENTITY, form).into_response()
}

fn ask(state: &State, token: &str, address: &str, fault: Option<&str>) -> Html<String> {
    let domain = state
        .web
        .settings
        .domains
        .first()
        .map_or("", String::as_str);
    let fault = fault.map_or(String::new(), |text| {
        format!("<p class=alert role=alert>{}</p>", escape(text))
    });
    page(
        "Set up Sidetone",
        &format!(
            "<h1>Set up Sidetone</h1>\n\
             <p class=lead>Choose who administers this server. This page works once.</p>\n{fault}\n\
             <form method=post action=\"/setup\" autocomplete=on>\n\
             <input type=hidden name=token value=\"{token}\">\n\
             <label for=address>Address<span class=hint>for example admin@{domain}</span></label>\n\
             <input id=address name=address value=\"{address}\" required maxlength=320 \
             autocomplete=username autocapitalize=none spellcheck=false>\n\
             {PASSWORD_FIELDS}\n<button type=submit>Finish</button>\n</form>",
            token = escape(token),
            address = escape(address),
            domain = escape(domain),
        ),
    )
}

/// The two fields of a new password.
pub(crate) const PASSWORD_FIELDS: &str = "\
<label for=password>Password<span class=hint>at least ten characters</span></label>
<input id=password name=password type=password required minlength=10 autocomplete=new-password>
<label for=again>The same password again</label>
<input id=again name=again type=password required minlength=10 autocomplete=new-password>";

fn finished(address: &str) -> Response {
    let body = format!(
        "<h1>Done</h1>\n<p class=lead>{} administers this server now.</p>\n\
         <p>The link that brought you here has stopped working. People and phones are added on \
         the command line: <code>sidetone user add ann</code>, then \
         <code>sidetone device add ann</code>.</p>",
        escape(address)
    );
    page("Set up", &body).into_response()
}

pub(crate) fn spent() -> Response {
    let body = "<h1>This link does not work</h1>\n\
                <p>It was used already, it is too old, or it is not complete. The server prints a new \
                set-up link at its next start while it has no administrator; an administrator \
                gives new links for passwords.</p>";
    (StatusCode::FORBIDDEN, page("Set up", body)).into_response()
}
