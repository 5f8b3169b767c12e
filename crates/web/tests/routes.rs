//! The routes, asked one by one without a socket.

mod world;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use world::{World, form, get, post};

#[tokio::test]
async fn health_readiness_and_closing() {
    let world = World::new().await;
    assert_eq!(world.ask(get("/healthz")).await.status, StatusCode::OK);
    assert_eq!(world.ask(get("/readyz")).await.status, StatusCode::OK);
    world.break_store();
    assert_eq!(
        world.ask(get("/readyz")).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let world = World::new().await;
    world.close();
    assert_eq!(
        world.ask(get("/readyz")).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(world.ask(get("/healthz")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_for_loopback() {
    let world = World::new().await;
    let answer = world.ask(get("/metrics")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().contains("sidetone_up 1"));
    let forged = Request::get("/metrics").header("x-forwarded-for", "127.0.0.1");
    let answer = world
        .ask_from("192.0.2.9", forged.body(Body::empty()).expect("request"))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let world = World::new().await;
    for path in [
        "/",
        "/healthz",
        "/nowhere",
        "/api/v1/nowhere",
        "/assets/sidetone.css",
        "/sip",
    ] {
        let answer = world.ask(get(path)).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
    }
}

#[tokio::test]
async fn pages_hold_no_script_and_no_style_of_their_own() {
    let world = World::new().await;
    let token = world.setup_token().await;
    for path in [
        "/".to_owned(),
        format!("/setup?token={token}"),
        "/reset?token=x".to_owned(),
    ] {
        let page = world.ask(get(&path)).await.text();
        assert!(page.starts_with("<!doctype html>"), "{path}");
        assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("<style"));
    }
}

#[tokio::test]
async fn login_me_refresh() {
    let world = World::new().await;
    world.account("ann@example.test", "a long password").await;
    let signed = world.sign_in("ann@example.test", "a long password").await;
    assert_eq!(signed.status, StatusCode::OK);
    let tokens = signed.json();
    assert_eq!(tokens["expires_in"], 600);
    let me = world
        .me(tokens["access_token"].as_str().expect("token"))
        .await;
    assert_eq!(me.status, StatusCode::OK);
    assert_eq!(me.json()["address"], "ann@example.test");
    assert_eq!(me.json()["role"], "user");

    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    let again = world.ask(post("/api/v1/auth/refresh", &refresh)).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_ne!(again.json()["refresh_token"], tokens["refresh_token"]);
    let stolen = world.ask(post("/api/v1/auth/refresh", &refresh)).await;
    assert_eq!(
        stolen.status,
        StatusCode::UNAUTHORIZED,
        "a refresh token works once"
    );
}

#[tokio::test]
async fn a_short_address_means_the_first_domain() {
    let world = World::new().await;
    world.account("ann@example.test", "a long password").await;
    for address in ["ann", "ann@EXAMPLE.test", "sip:ann@example.test", " ann "] {
        assert_eq!(
            world.sign_in(address, "a long password").await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn wrong_password_unknown_user_and_disabled_account_are_one_answer() {
    let world = World::new().await;
    world.account("ann@example.test", "a long password").await;
    let off = world.account("off@example.test", "a long password").await;
    world.store.set_disabled(off, true).await.expect("disable");
    world.account_without_password("bare@example.test").await;
    let wrong = world.sign_in("ann@example.test", "wrong").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.header("content-type"), "application/problem+json");
    assert_eq!(wrong.json()["status"], 401);
    for address in [
        "nobody@example.test",
        "off@example.test",
        "bare@example.test",
        "@",
        "",
    ] {
        let answer = world.sign_in(address, "a long password").await;
        assert_eq!(answer.status, wrong.status, "{address}");
        assert_eq!(answer.body, wrong.body, "{address}");
    }
}

#[tokio::test]
async fn a_session_ends_when_the_account_is_disabled_or_another_has_its_address() {
    let world = World::new().await;
    let ann = world.account("ann@example.test", "a long password").await;
    let tokens = world
        .sign_in("ann@example.test", "a long password")
        .await
        .json();
    let access = tokens["access_token"].as_str().expect("token");
    world.store.set_disabled(ann, true).await.expect("disable");
    assert_eq!(world.me(access).await.status, StatusCode::UNAUTHORIZED);
    world.store.remove_account(ann).await.expect("remove");
    world.account("ann@example.test", "of somebody else").await;
    assert_eq!(world.me(access).await.status, StatusCode::UNAUTHORIZED);
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    let answer = world.ask(post("/api/v1/auth/refresh", &refresh)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guessing_is_slowed_for_the_account_and_for_the_source() {
    let world = World::new().await;
    world.account("ann@example.test", "a long password").await;
    let mut refused = None;
    for host in 1..=11 {
        let body = json!({ "address": "ann@example.test", "password": "guess" });
        let answer = world
            .ask_from(&format!("192.0.2.{host}"), login(&body))
            .await;
        refused = (answer.status == StatusCode::TOO_MANY_REQUESTS).then_some(answer);
    }
    let refused = refused.expect("many sources, one account: the eleventh guess waits");
    assert!(
        refused
            .header("retry-after")
            .parse::<u64>()
            .expect("seconds")
            >= 1
    );

    let mut last = StatusCode::OK;
    for n in 0..21 {
        let body = json!({ "address": format!("n{n}@example.test"), "password": "guess" });
        last = world.ask_from("198.51.100.1", login(&body)).await.status;
    }
    assert_eq!(
        last,
        StatusCode::TOO_MANY_REQUESTS,
        "one source, many accounts"
    );
    let exempt = json!({ "address": "ann@example.test", "password": "a long password" });
    assert_eq!(
        world.ask_from("203.0.113.1", login(&exempt)).await.status,
        StatusCode::OK
    );
}

fn login(body: &Value) -> Request<Body> {
    post("/api/v1/auth/login", body)
}

#[tokio::test]
async fn bodies_that_are_no_login_are_problems() {
    let world = World::new().await;
    for body in [
        "",
        "{",
        "[]",
        "{\"address\":\"a\"}",
        "{\"address\":1,\"password\":\"x\"}",
    ] {
        let request = Request::post("/api/v1/auth/login")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .expect("request");
        let answer = world.ask(request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let long = json!({ "address": "ann", "password": "x".repeat(100_000) });
    assert_eq!(
        world.ask(login(&long)).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_bearer_token_must_be_ours() {
    let world = World::new().await;
    for token in ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        let answer = world.me(token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
}

#[tokio::test]
async fn set_up_works_once() {
    let world = World::new().await;
    let token = world.setup_token().await;
    let page = world.ask(get(&format!("/setup?token={token}"))).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains(&token));
    let answers = format!("token={token}&address=admin&password=long+enough+1&again=long+enough+1");
    let done = world.ask(form("/setup", &answers)).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    let again = world.ask(form("/setup", &answers)).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    let page = world.ask(get(&format!("/setup?token={token}"))).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(
        world.try_setup_token().await.is_none(),
        "there is an administrator now"
    );

    let tokens = world.sign_in("admin", "long enough 1").await.json();
    let me = world
        .me(tokens["access_token"].as_str().expect("token"))
        .await
        .json();
    assert_eq!(me["role"], "admin");
}

#[tokio::test]
async fn set_up_refuses_bad_tokens_and_bad_answers() {
    let world = World::new().await;
    for path in ["/setup", "/setup?token=", "/setup?token=guess"] {
        assert_eq!(world.ask(get(path)).await.status, StatusCode::FORBIDDEN);
    }
    world.account("ann@example.test", "a long password").await;
    let token = world.setup_token().await;
    for (answers, says) in [
        ("address=a&password=short&again=short", "ten characters"),
        (
            "address=a&password=long+enough+1&again=long+enough+2",
            "differ",
        ),
        (
            "address=a@other.test&password=long+enough+1&again=long+enough+1",
            "domain",
        ),
        (
            "address=%3Cb%3E&password=long+enough+1&again=long+enough+1",
            "letters",
        ),
        (
            "address=ann&password=long+enough+1&again=long+enough+1",
            "somebody else",
        ),
    ] {
        let answer = world
            .ask(form("/setup", &format!("token={token}&{answers}")))
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answers}");
        assert!(answer.text().contains(says), "{answers}: {}", answer.text());
        assert!(!answer.text().contains("<b>"), "what was typed is escaped");
    }
    let answers = "token=guess&address=a&password=long+enough+1&again=long+enough+1";
    assert_eq!(
        world.ask(form("/setup", answers)).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_reset_link_sets_the_password_once_and_ends_sessions() {
    let world = World::new().await;
    let ann = world.account("ann@example.test", "a long password").await;
    let tokens = world.sign_in("ann", "a long password").await.json();
    let (token, hash) = sidetone_web::new_setup_token();
    world
        .store
        .put_reset_token(ann, &hash, u64::MAX / 2)
        .await
        .expect("token");
    let short = world
        .ask(form("/reset", &format!("token={token}&password=x&again=x")))
        .await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    let answers = format!("token={token}&password=another+long+one&again=another+long+one");
    assert_eq!(
        world.ask(form("/reset", &answers)).await.status,
        StatusCode::OK
    );
    assert_eq!(
        world.ask(form("/reset", &answers)).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        world.sign_in("ann", "a long password").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        world.sign_in("ann", "another long one").await.status,
        StatusCode::OK
    );
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    let answer = world.ask(post("/api/v1/auth/refresh", &refresh)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_openapi_document_describes_every_call() {
    let world = World::new().await;
    let document = world.ask(get("/api/v1/openapi.json")).await.json();
    let paths = document["paths"].as_object().expect("paths");
    let mut calls: Vec<&str> = paths.keys().map(String::as_str).collect();
    calls.sort_unstable();
    assert!(
        calls.contains(&"/api/v1/conversations/{id}/events"),
        "{calls:?}"
    );
    assert!(
        calls.iter().all(|path| path.starts_with("/api/v1/")),
        "{calls:?}"
    );
    for (path, methods) in paths {
        for (method, call) in methods.as_object().expect("methods") {
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(path)
                .body(Body::empty())
                .expect("request");
            let status = world.ask(request).await.status;
            let described = call["responses"].get(status.as_str()).is_some();
            assert!(
                described,
                "{method} {path} gave {status}, which is not described"
            );
        }
        let other = Request::trace(path).body(Body::empty()).expect("request");
        assert_eq!(
            world.ask(other).await.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{path}"
        );
    }
    refers_to_what_exists(&document, &document);
}

fn refers_to_what_exists(document: &Value, part: &Value) {
    if let Some(target) = part.get("$ref").and_then(Value::as_str) {
        let pointer = target.trim_start_matches('#');
        assert!(
            document.pointer(pointer).is_some(),
            "{target} does not exist"
        );
    }
    match part {
        Value::Object(map) => map
            .values()
            .for_each(|v| refers_to_what_exists(document, v)),
        Value::Array(list) => list.iter().for_each(|v| refers_to_what_exists(document, v)),
        _ => {}
    }
}

/// A body that notes how much of it was asked for.
struct Noted {
    left: usize,
    asked: Arc<AtomicUsize>,
}

impl hyper::body::Body for Noted {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.asked.fetch_add(1, Relaxed);
        let data = bytes::Bytes::from_static(&[b'x'; 1024]);
        Poll::Ready(Some(Ok(hyper::body::Frame::data(data))))
    }
}

#[tokio::test]
async fn a_body_is_read_before_the_answer_and_no_further_than_its_bound() {
    let world = World::new().await;
    for (kib, at_most, statuses) in [
        (8, 8, [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND]),
        (1_000, 65, [StatusCode::BAD_REQUEST; 2]),
    ] {
        for (path, status) in ["/api/v1/auth/login", "/nowhere"].iter().zip(statuses) {
            let asked = Arc::new(AtomicUsize::new(0));
            let body = Body::new(Noted {
                left: kib,
                asked: Arc::clone(&asked),
            });
            let request = Request::post(*path).body(body).expect("request");
            assert_eq!(world.ask(request).await.status, status, "{path}");
            assert_eq!(asked.load(Relaxed), at_most, "{path}");
        }
    }
}
