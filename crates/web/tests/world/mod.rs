//! A web with a real store in a folder of its own, and a SIP side that echoes.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sidetone_model::{AccountId, AddressOfRecord, PersonPresence, Role, SetPresence};
use sidetone_services::files::Links;
use sidetone_services::{Conversations, Directory, FileLimits, Files};
use sidetone_store::{NewAccount, Store, WriterOptions};
use sidetone_web::{
    Closed, Inbound, Patience, Peer, Presences, Settings, SipOverWebSocket, State, StoreAccounts,
    Tokens, Web,
};
use tokio::sync::{broadcast, mpsc, watch};
use tower::ServiceExt;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) router: axum::Router,
    pub(crate) conversations: Arc<Conversations>,
    pub(crate) sip: Arc<Echo>,
    pub(crate) closing: watch::Receiver<bool>,
    close: watch::Sender<bool>,
    broken: Arc<AtomicBool>,
    folder: PathBuf,
}

/// There is nobody.
struct Nobody(broadcast::Sender<AddressOfRecord>);

impl Presences for Nobody {
    fn seen(&self, _: &AddressOfRecord, _: &AddressOfRecord) -> PersonPresence {
        PersonPresence::default()
    }

    fn may_see(&self, _: &AddressOfRecord, _: &AddressOfRecord) -> bool {
        true
    }

    fn contact<'a>(
        &'a self,
        _: AccountId,
        _: &'a AddressOfRecord,
        _: sidetone_services::ContactAction,
    ) -> sidetone_web::Answer<'a, sidetone_services::ContactOutcome> {
        Box::pin(async { Ok(sidetone_services::ContactOutcome::Unknown) })
    }

    fn say(&self, _: AccountId, _: SetPresence) -> sidetone_web::Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn sessions(&self, _: &AddressOfRecord, _: u32) {}

    fn feed(&self) -> broadcast::Receiver<AddressOfRecord> {
        self.0.subscribe()
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("request")
}

pub(crate) fn post(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(body.to_string())).expect("request")
}

pub(crate) fn form(path: &str, body: &str) -> Request<Body> {
    let kind = "application/x-www-form-urlencoded";
    let request = Request::post(path).header(header::CONTENT_TYPE, kind);
    request.body(Body::from(body.to_owned())).expect("request")
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(Patience::default()).await
    }

    pub(crate) async fn with(patience: Patience) -> World {
        let folder = std::env::temp_dir().join(format!("sidetone-web-{:x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).expect("folder");
        let store = Store::open("sqlite", &folder).await.expect("store");
        let (close, closing) = watch::channel(false);
        let broken = Arc::new(AtomicBool::new(false));
        let sip = Arc::new(Echo::default());
        let domains = vec!["example.test".to_owned()];
        let seed = sidetone_web::token_seed(&store).await.expect("seed");
        let readiness = Arc::clone(&broken);
        let directory = Arc::new(Directory::new());
        let writer = store.start_writer(WriterOptions::default()).await;
        let conversations = Conversations::start(
            store.clone(),
            writer.expect("writer"),
            Arc::clone(&directory),
            Arc::default(),
            Arc::default(),
            7,
        );
        let conversations = Arc::new(conversations.await.expect("conversations"));
        let limits = FileLimits {
            octets: 1 << 20,
            account_octets: 1 << 22,
            unfinished: 2,
        };
        let links = Links::new([7; 32], "https://example.test".to_owned(), 60);
        let files = Files::open(store.clone(), limits, links);
        let web = Web {
            settings: Settings {
                domains: domains.clone(),
                patience,
                ..Settings::default()
            },
            accounts: Arc::new(StoreAccounts::new(store.clone(), domains)),
            directory,
            files: Arc::new(files.expect("files")),
            presences: Arc::new(Nobody(broadcast::channel(1).0)),
            conversations: Arc::clone(&conversations),
            sip: Arc::clone(&sip) as Arc<dyn SipOverWebSocket>,
            tokens: Tokens::new("example.test", &seed).expect("key"),
            readiness: Arc::new(move || {
                let broken = readiness.load(Ordering::Relaxed);
                Box::pin(async move {
                    if broken {
                        Err(sidetone_web::Unavailable("store".into()))
                    } else {
                        Ok(())
                    }
                })
            }),
            metrics: Arc::new(|| Box::pin(async { "sidetone_up 1\n".to_owned() })),
            exempt: Box::new(|ip| ip.to_string() == "203.0.113.1" || ip.is_loopback()),
            closing: closing.clone(),
        };
        let router = sidetone_web::router(State::from(web));
        World {
            store,
            router,
            conversations,
            sip,
            closing,
            close,
            broken,
            folder,
        }
    }

    pub(crate) fn break_store(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.close.send_replace(true);
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        self.ask_from("127.0.0.1", request).await
    }

    pub(crate) async fn ask_from(&self, ip: &str, mut request: Request<Body>) -> Answer {
        let remote = SocketAddr::new(ip.parse().expect("address"), 40_000);
        let local = "127.0.0.1:8443".parse().expect("address");
        request.extensions_mut().insert(Peer {
            remote,
            local,
            secure: true,
        });
        let response = self.router.clone().oneshot(request).await.expect("answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("body").to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn sign_in(&self, address: &str, password: &str) -> Answer {
        let body = json!({ "address": address, "password": password });
        self.ask(post("/api/v1/auth/login", &body)).await
    }

    pub(crate) async fn me(&self, token: &str) -> Answer {
        let request = Request::get("/api/v1/me")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::empty());
        self.ask(request.expect("request")).await
    }

    pub(crate) async fn account(&self, address: &str, password: &str) -> AccountId {
        self.add(address, sidetone_web::hash_password(password))
            .await
    }

    pub(crate) async fn account_without_password(&self, address: &str) -> AccountId {
        self.add(address, None).await
    }

    async fn add(&self, address: &str, password: Option<String>) -> AccountId {
        let new = NewAccount {
            address: address.parse().expect("address"),
            name: "Somebody".to_owned(),
            profile: "default".to_owned(),
            role: Role::User,
            password,
            aliases: Vec::new(),
        };
        self.store.add_account(&new).await.expect("account")
    }

    pub(crate) async fn setup_token(&self) -> String {
        self.try_setup_token().await.expect("a token")
    }

    pub(crate) async fn try_setup_token(&self) -> Option<String> {
        sidetone_web::setup_token(&self.store).await.expect("store")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Sends back what it gets; closes on `close`.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) open: Arc<AtomicUsize>,
}

struct Line {
    outgoing: mpsc::Sender<Bytes>,
    open: Arc<AtomicUsize>,
}

impl SipOverWebSocket for Echo {
    fn connect(&self, _peer: Peer, outgoing: mpsc::Sender<Bytes>) -> Box<dyn Inbound> {
        self.open.fetch_add(1, Ordering::SeqCst);
        Box::new(Line {
            outgoing,
            open: Arc::clone(&self.open),
        })
    }
}

impl Inbound for Line {
    fn receive(&mut self, message: Bytes) -> Result<(), Closed> {
        if message == "close" {
            return Err(Closed);
        }
        self.outgoing.try_send(message).map_err(|_| Closed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}
