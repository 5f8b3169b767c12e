//! The web, tied to the engine and the store.
//!
//! *Invariant*: the web and the engine do not know each other; only here do they meet.

use super::addresses::Advertised;
use super::metrics;
use super::running::Running;
use crate::cli::Failure;
use crate::config::Config;
use bytes::Bytes;
use sidetone_engine::{Listen, WebSocketDoor, WebSocketInbound};
use sidetone_model::{AccountId, AddressOfRecord, PersonPresence, SetPresence};
use sidetone_services::{ContactAction, ContactOutcome, Package, View};
use sidetone_sip::Transport;
use sidetone_store::Store;
use sidetone_web::{Answer, Presences, StoreAccounts, Tokens, Unavailable, Web};
use sidetone_web::{Bounds, Closed, Inbound, Listeners, Peer, Rates, Settings, SipOverWebSocket};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};

/// The bound sockets of the web.
pub(super) struct Doors {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
}

impl Doors {
    pub(super) async fn bind(config: &Config) -> Result<Self, Failure> {
        Ok(Self {
            https: bind_all("https.listen", &config.https.listen).await?,
            http: bind_all("https.http", &config.https.http).await?,
        })
    }

    /// The bound addresses: HTTPS and HTTP.
    pub(super) fn addresses(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let bound = |list: &[TcpListener]| list.iter().flat_map(TcpListener::local_addr).collect();
        (bound(&self.https), bound(&self.http))
    }

    /// The address of the portal, for people.
    pub(super) fn portal(&self, advertised: &Advertised) -> Option<String> {
        let (https, http) = self.addresses();
        advertised.portal(&https, &http)
    }
}

async fn bind_all(key: &str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    let mut bound = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        let failed = |e| Failure::new(crate::ports::reason(key, *address, &e));
        bound.push(listener.map_err(failed)?);
    }
    Ok(bound)
}

/// Serves until `closing` becomes true.
pub(super) async fn serve(
    config: &Config,
    doors: Doors,
    listeners: &[Listen],
    tls: Arc<rustls::ServerConfig>,
    running: Arc<Running>,
    closing: watch::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let web = web(config, listeners, running, closing.clone()).await?;
    let router = sidetone_web::router(web.into());
    let bounds = Bounds {
        connections: config.limits.connections,
        ..Bounds::default()
    };
    let Doors { https, http } = doors;
    let serving = sidetone_web::serve(Listeners { https, http }, tls, router, bounds, closing);
    Ok(tokio::spawn(serving))
}

async fn web(
    config: &Config,
    listeners: &[Listen],
    running: Arc<Running>,
    closing: watch::Receiver<bool>,
) -> Result<Web, Failure> {
    let domains = config.all_domains();
    let store: Store = running.store.clone();
    let seed = sidetone_web::token_seed(&store).await?;
    let tokens =
        Tokens::new(&config.first_domain(), &seed).map_err(|e| Failure::new(e.to_string()))?;
    let exempt = config.limits.exempt.clone();
    let (ready, counted) = (Arc::clone(&running), Arc::clone(&running));
    Ok(Web {
        settings: Settings {
            domains: domains.clone(),
            origins: config.https.origins.clone(),
            metrics_anywhere: config.https.metrics_anywhere,
            message_bytes: config.limits.message_bytes,
            rates: Rates {
                source_per_second: config.limits.requests_per_second,
                account_per_second: config.limits.account_requests_per_second,
                sessions: config.limits.sessions_per_account,
            },
            ..Settings::default()
        },
        accounts: Arc::new(StoreAccounts::new(store, domains)),
        directory: Arc::clone(&running.services.directory),
        conversations: Arc::clone(&running.conversations),
        files: Arc::clone(&running.files),
        presences: Arc::new(People(Arc::clone(&running))),
        sip: Arc::new(Sockets::new(running.door(), listeners)),
        tokens,
        readiness: Arc::new(move || {
            let running = Arc::clone(&ready);
            Box::pin(async move { running.ready().await.map_err(Unavailable) })
        }),
        metrics: Arc::new(move || {
            let running = Arc::clone(&counted);
            Box::pin(async move { metrics::text(&running).await })
        }),
        exempt: Box::new(move |address| exempt.iter().any(|network| network.contains(address))),
        closing,
    })
}

/// SIP over WebSocket: from the web's connections to the engine's.
struct Sockets {
    door: WebSocketDoor,
    /// WebSocket listeners with their numbers.
    listeners: Vec<(u16, Listen)>,
}

impl Sockets {
    fn new(door: WebSocketDoor, listeners: &[Listen]) -> Self {
        let web = |listen: &Listen| matches!(listen.transport, Transport::Ws | Transport::Wss);
        let numbered = (0..).zip(listeners.iter().copied());
        Self {
            door,
            listeners: numbered.filter(|(_, listen)| web(listen)).collect(),
        }
    }

    fn number(&self, peer: &Peer) -> u16 {
        let transport = if peer.secure {
            Transport::Wss
        } else {
            Transport::Ws
        };
        let local = SocketAddr::new(peer.local.ip().to_canonical(), peer.local.port());
        let same = |listen: &Listen| listen.transport == transport;
        let here = |listen: &Listen| {
            let ip = listen.address.ip();
            listen.address.port() == local.port() && (ip.is_unspecified() || ip == local.ip())
        };
        let exact = self
            .listeners
            .iter()
            .find(|(_, listen)| same(listen) && here(listen));
        let any = exact.or_else(|| self.listeners.iter().find(|(_, listen)| same(listen)));
        any.map_or(0, |(number, _)| *number)
    }
}

struct Frames(WebSocketInbound);

impl Inbound for Frames {
    fn receive(&mut self, message: Bytes) -> Result<(), Closed> {
        self.0.receive(message).map_err(|_| Closed)
    }
}

impl SipOverWebSocket for Sockets {
    fn connect(&self, peer: Peer, outgoing: mpsc::Sender<Bytes>) -> Box<dyn Inbound> {
        let remote = SocketAddr::new(peer.remote.ip().to_canonical(), peer.remote.port());
        let number = self.number(&peer);
        Box::new(Frames(self.door.connect(
            number,
            peer.secure,
            remote,
            outgoing,
        )))
    }
}

/// Who is there: what the engine's shards see, and what people say.
struct People(Arc<Running>);

impl Presences for People {
    fn seen(&self, watcher: &AddressOfRecord, person: &AddressOfRecord) -> PersonPresence {
        let services = &self.0.services;
        match services
            .board
            .view(Package::Presence, person, Some(watcher))
        {
            Some(View::Own | View::Others) => services.presence(person, crate::cli::now_ms()),
            // Who is blocked is not told so: the person looks away.
            _ => PersonPresence::default(),
        }
    }

    fn may_see(&self, watcher: &AddressOfRecord, person: &AddressOfRecord) -> bool {
        let board = &self.0.services.board;
        board.view(Package::Presence, person, Some(watcher)) != Some(View::Pending)
    }

    fn contact<'a>(
        &'a self,
        account: AccountId,
        other: &'a AddressOfRecord,
        action: ContactAction,
    ) -> Answer<'a, ContactOutcome> {
        Box::pin(async move {
            let done = self.0.engine.contact(account, other, action).await;
            done.map_err(|error| Unavailable(error.to_string()))
        })
    }

    fn say(&self, account: AccountId, set: SetPresence) -> Answer<'_, ()> {
        Box::pin(async move {
            let said = self.0.engine.set_presence(account, set).await;
            said.map_err(|error| Unavailable(error.to_string()))
        })
    }

    fn sessions(&self, person: &AddressOfRecord, open: u32) {
        self.0.engine.sessions(person, open);
    }

    fn feed(&self) -> broadcast::Receiver<AddressOfRecord> {
        self.0.services.board.feed()
    }
}
