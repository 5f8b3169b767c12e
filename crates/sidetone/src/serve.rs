//! Runs the server: puts the parts together, and takes them apart again.
//!
//! *Invariant*: the data directory's lock is taken before anything is opened, and released
//! after everything is closed. Every address is bound before anybody is served.

mod addresses;
mod chores;
mod metrics;
mod running;
mod signals;
mod web;

use crate::acme::{self, Renewal};
use crate::cli::Failure;
use crate::config::{Certificate, Config, LogFormat, Network, Strangers};
use crate::{control, ports};
use addresses::Advertised;
pub(crate) use addresses::configured_portal as portal;
use chores::Follower;
use running::Running;
use sidetone_engine::shared::{self, Counters, Waiting};
use sidetone_engine::{
    Admission, Bound, Counts, Engine, Listen, Patience, Plan, Services, ShardSettings, Supplies,
};
use sidetone_model::{AddressOfRecord, Binding, DeviceId, Origin, SavedSubscription};
use sidetone_services::files::Links;
use sidetone_services::presence::SavedPresence;
use sidetone_services::{
    Authenticator, Conversations, Directory, FileLimits, Files, LimitPolicy, Limiter, Location,
    Networks, Rate, RegisterPolicy,
};
use sidetone_sip::{Limits, TokenKey, Transport};
use sidetone_store::{ContactState, DataLock, Store, StoreError, Writer, WriterOptions};
use sidetone_transport::dns::{Abilities, Resolver};
use sidetone_transport::tls::{ClientTls, ServerTls};
use signals::Signals;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nonces in use at once, of which reuse is noticed.
const NONCES: usize = 1 << 20;
/// How often a shard's end is looked for.
const WATCH: Duration = Duration::from_secs(1);
/// Uploads of one account under way at once.
const UPLOADS: usize = 4;
/// How long writing the last bindings may take.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
pub(crate) fn serve(config: &Config, data: &Path) -> Result<(), Failure> {
    start_log(config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start threads: {e}")))?;
    runtime.block_on(run(config, data))
}

async fn run(config: &Config, data: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    let mut signals = Signals::register()?;
    let lock = DataLock::acquire(data)?;
    let taken = ports::taken(config);
    if !taken.is_empty() {
        return Err(Failure::new(taken.join("\nsidetone: ")));
    }
    raise_limits(config);
    let store = Store::open(&config.store.url, data).await?;
    let writer = store.start_writer(writer_options(config)).await?;
    let doors = web::Doors::bind(config).await?;
    let (https, http) = doors.addresses();
    let wanted = addresses::listeners(config, &https, &http);
    let (bound, listeners) = bind(config, &wanted)?;
    let advertised = Advertised::read(config);
    let tls = Arc::new(server_tls(config, data, &advertised, &listeners)?);
    let services = Arc::new(services(config, &store, &advertised, &listeners).await?);
    let follower = Follower::start(store.clone(), Arc::clone(&services)).await?;
    let waiting = restore(&store, &services).await?;
    let conversations = conversations(&store, &writer, &services).await?;
    let portal = doors.portal(&advertised);
    let files = files(config, &store, portal.clone(), &conversations).await?;
    let subscriptions = restore_events(&store, &services).await?;
    let supplies = supplies(
        config,
        &services,
        &writer,
        &conversations,
        &tls,
        &listeners,
        subscriptions,
    )?;
    let engine = Arc::new(bound.run(supplies, &shard_settings(config), rand::random()));
    deliver_by(&conversations, &engine, waiting);
    let follower = follower.with_engine(Arc::clone(&engine), Arc::clone(&conversations));
    follower.end_left_behind().await?;
    let running = Arc::new(Running {
        started,
        store: store.clone(),
        writer,
        conversations,
        files,
        services,
        follower,
        engine,
        tls: Arc::clone(&tls),
    });
    let (close, closing) = watch::channel(false);
    let web = web::serve(
        config,
        doors,
        &listeners,
        tls.https(),
        Arc::clone(&running),
        closing,
    )
    .await?;
    let tasks = begin_tasks(config, &running, data)?;
    announce(&store, portal, &listeners).await?;
    tracing::info!(data = %data.display(), took_ms = started.elapsed().as_millis(), "ready");
    let outcome = until_the_end(&running, &mut signals).await;
    tracing::info!("stopping");
    // Nobody listens any more where the web has ended by itself.
    let _ = close.send(true);
    stop(running, web, tasks).await?;
    store.close().await;
    drop(lock);
    outcome
}

fn shard_settings(config: &Config) -> ShardSettings {
    ShardSettings {
        limits: limits(config),
        ..ShardSettings::default()
    }
}

fn writer_options(config: &Config) -> WriterOptions {
    WriterOptions {
        queue: config.store.queue,
        bindings_delay: chores::COLLECT,
        ..WriterOptions::default()
    }
}

/// What is said goes to phones by the engine.
/// What is posted from now on, and what waits for these devices.
fn deliver_by(
    conversations: &Conversations,
    engine: &Arc<Engine>,
    waiting: impl IntoIterator<Item = DeviceId>,
) {
    let brings = Arc::downgrade(engine);
    conversations.deliver_by(Box::new(move |outgoing| {
        // Without an engine nobody is registered any more: the store keeps it.
        if let Some(engine) = brings.upgrade() {
            engine.bring(outgoing);
        }
    }));
    waiting.into_iter().for_each(|device| engine.wake(device));
}

fn raise_limits(config: &Config) {
    match sidetone_transport::limits::raise_open_files() {
        Ok(allowed) => {
            let wanted = files_wanted(config);
            if allowed < wanted {
                tracing::warn!(
                    wanted,
                    allowed,
                    "limits.connections may be out of reach: raise the limit of open files, or lower it"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "the limit of open files was not raised"),
    }
}

/// A file for each connection, for each listener in each shard, and some for the store and the log.
fn files_wanted(config: &Config) -> u64 {
    let (sip, https) = (&config.sip, &config.https);
    let shared = sip.udp.len() + sip.tcp.len() + sip.tls.len();
    let listeners =
        shared * usize::from(shards(sip.shards)) + https.listen.len() + https.http.len();
    (config.limits.connections.saturating_add(listeners) as u64).saturating_add(64)
}

fn bind(config: &Config, wanted: &[Listen]) -> Result<(Bound, Vec<Listen>), Failure> {
    let plan = Plan {
        shards: shards(config.sip.shards),
        listeners: wanted.to_vec(),
    };
    let bound = Bound::bind(&plan).map_err(|e| Failure::new(e.to_string()))?;
    let addresses = bound.addresses().iter();
    let listeners = wanted
        .iter()
        .zip(addresses)
        .map(|(listen, address)| Listen {
            address: *address,
            ..*listen
        });
    let listeners = listeners.collect();
    Ok((bound, listeners))
}

/// One shard does for small machines: a second would take turns with the store and the web.
fn shards(configured: usize) -> u16 {
    let chosen = match configured {
        0 => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .saturating_sub(1),
        asked => asked,
    };
    u16::try_from(chosen.clamp(1, 256)).unwrap_or(1)
}

fn server_tls(
    config: &Config,
    data: &Path,
    advertised: &Advertised,
    listeners: &[Listen],
) -> Result<ServerTls, Failure> {
    let names = advertised.names(config, listeners);
    let tls = match &config.https.certificate {
        Certificate::SelfSigned => ServerTls::self_signed(&names, &data.join("tls")),
        Certificate::Files { chain, key } => ServerTls::from_files(chain, key),
        Certificate::Acme => match acme::missing(config).as_slice() {
            [] => ServerTls::acme(&names, &data.join("tls")),
            reasons => return Err(Failure::new(reasons.join("\nsidetone: "))),
        },
    };
    tls.map_err(|e| Failure::new(format!("https.certificate: {e}")))
}

async fn services(
    config: &Config,
    store: &Store,
    advertised: &Advertised,
    listeners: &[Listen],
) -> Result<Services, Failure> {
    let sip = &config.sip;
    let nonce_lifetime_ms = u64::from(sip.nonce_lifetime_s) * 1000;
    Ok(Services {
        directory: Arc::new(Directory::new()),
        location: Location::new(),
        authenticator: Authenticator::new(
            secret(store, "sip.nonce-key").await?,
            nonce_lifetime_ms,
            NONCES,
        )
        // Which nonces were used is forgotten with a run: what was overheard before is worth nothing after it.
        .since(crate::cli::now_ms()),
        limiter: Limiter::new(limit_policy(config)?),
        domains: addresses::domains(config, advertised, listeners),
        tokens: TokenKey::new(secret(store, "sip.token-key").await?),
        locals: Arc::new(addresses::locals(advertised, listeners)),
        register_policy: RegisterPolicy {
            min_expires_s: sip.min_expires_s,
            max_expires_s: sip.max_expires_s,
            default_expires_s: sip.max_expires_s.min(3600).max(sip.min_expires_s),
            max_contacts: sip.max_contacts,
            ..RegisterPolicy::default()
        },
        trusted: networks(&sip.trusted)?,
        strangers: match sip.strangers {
            Strangers::Challenge => shared::Strangers::Challenge,
            Strangers::Accept => shared::Strangers::Accept,
        },
        stored_before: stored_before(store).await?,
        waiting: Waiting::default(),
        abilities: sidetone_services::AbilityTable::default(),
        groups: Arc::default(),
        watched: Arc::default(),
        outbox: Arc::default(),
        board: Arc::default(),
        counters: Counters::default(),
    })
}

async fn conversations(
    store: &Store,
    writer: &Writer,
    services: &Services,
) -> Result<Arc<Conversations>, Failure> {
    let names = u128::from_be_bytes(rand::random());
    let (directory, groups) = (
        Arc::clone(&services.directory),
        Arc::clone(&services.groups),
    );
    let board = Arc::clone(&services.board);
    let (store, writer) = (store.clone(), writer.clone());
    let started = Conversations::start(store, writer, directory, groups, board, names);
    Ok(Arc::new(started.await?))
}

async fn files(
    config: &Config,
    store: &Store,
    portal: Option<String>,
    conversations: &Conversations,
) -> Result<Arc<Files>, Failure> {
    let wanted = &config.files;
    let limits = FileLimits {
        octets: wanted.max_bytes,
        account_octets: wanted.account_bytes,
        unfinished: UPLOADS,
    };
    let key = secret(store, "files.link-key").await?;
    let links = Links::new(key, portal.unwrap_or_default(), u64::from(wanted.link_s));
    conversations.link_by(links.clone());
    Ok(Arc::new(Files::open(store.clone(), limits, links)?))
}

/// As long as a client repeats a request (RFC 3261 §17.1.2.2, twice Timer F).
async fn stored_before(store: &Store) -> Result<HashSet<Origin>, StoreError> {
    let since_ms = crate::cli::now_ms().saturating_sub(64_000);
    let recent = store.recent_origins(since_ms).await?;
    Ok(recent.into_iter().map(|(origin, _)| origin).collect())
}

/// A key that is made once and kept: what was signed with it is good after a restart.
async fn secret(store: &Store, name: &str) -> Result<[u8; 32], StoreError> {
    let kept = store
        .setting_or_insert(name, &rand::random::<[u8; 32]>())
        .await?;
    kept.try_into().map_err(|_| StoreError::Corrupt("key"))
}

fn networks(list: &[Network]) -> Result<Networks, Failure> {
    let texts: Vec<String> = list.iter().map(Network::to_string).collect();
    Networks::parse(&texts).map_err(|e| Failure::new(e.to_string()))
}

fn limit_policy(config: &Config) -> Result<LimitPolicy, Failure> {
    let limits = &config.limits;
    let rate = |per_second: u32| Rate {
        per_second,
        burst: per_second.saturating_mul(5),
    };
    let ban_ms = u64::from(limits.ban_s) * 1000;
    let usual = LimitPolicy::default();
    Ok(LimitPolicy {
        source: rate(limits.requests_per_second),
        account: rate(limits.account_requests_per_second),
        failures: limits.failures_before_ban,
        ban_ms,
        ban_max_ms: usual.ban_max_ms.max(ban_ms),
        exempt: networks(&limits.exempt)?,
        ..usual
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        message_bytes: config.limits.message_bytes,
        headers: config.limits.headers,
        via: config.limits.via,
        ..Limits::default()
    }
}

/// Bindings of an earlier run, and the devices that something is kept for. Returns those of
/// them that are registered.
async fn restore(store: &Store, services: &Services) -> Result<Vec<DeviceId>, Failure> {
    let bindings = store.load_bindings(crate::cli::now_ms()).await?;
    let known = |(address, _): &(AddressOfRecord, Vec<Binding>)| {
        services.directory.find(address.as_str()).is_some()
    };
    let bindings: Vec<_> = bindings.into_iter().filter(known).collect();
    let devices = bindings.iter().flat_map(|(_, bindings)| bindings);
    let registered: HashSet<DeviceId> = devices.map(|binding| binding.device).collect();
    tracing::info!(addresses = bindings.len(), "registrations restored");
    services.location.restore(bindings);
    for (device, bits) in store.abilities().await? {
        let shown = sidetone_services::Abilities::of_bits(bits);
        services.abilities.learn(device, shown);
    }
    let pending = store.devices_with_pending().await?;
    for device in &pending {
        services.waiting.add(*device);
    }
    Ok(pending
        .into_iter()
        .filter(|device| registered.contains(device))
        .collect())
}

/// Presence of an earlier run, and who watched.
async fn restore_events(
    store: &Store,
    services: &Services,
) -> Result<Vec<SavedSubscription>, Failure> {
    let now_ms = crate::cli::now_ms();
    services.board.restore(SavedPresence {
        set: store.presence_set(now_ms).await?,
        published: store.publications(now_ms).await?,
        blocked: store.blocks().await?,
        approved: store.contacts(ContactState::Approved).await?,
    });
    let subscriptions = store.subscriptions(now_ms).await?;
    tracing::info!(
        subscriptions = subscriptions.len(),
        "subscriptions restored"
    );
    Ok(subscriptions)
}

fn supplies(
    config: &Config,
    services: &Arc<Services>,
    writer: &Writer,
    conversations: &Arc<Conversations>,
    tls: &ServerTls,
    listeners: &[Listen],
    subscriptions: Vec<SavedSubscription>,
) -> Result<Supplies, Failure> {
    let control = tokio::runtime::Handle::current();
    let has = |test: &dyn Fn(&Listen) -> bool| listeners.iter().any(test);
    let abilities = Abilities {
        ipv4: has(&|listen| listen.address.is_ipv4()),
        ipv6: has(&|listen| listen.address.is_ipv6()),
        udp: has(&|listen| listen.transport == Transport::Udp),
        ..Abilities::default()
    };
    let resolver = Resolver::from_system(control.clone(), abilities);
    let resolver = resolver
        .inspect_err(|error| tracing::warn!(%error, "host names of others cannot be looked up"));
    Ok(Supplies {
        services: Arc::clone(services),
        writer: writer.clone(),
        conversations: Arc::clone(conversations),
        resolver: resolver.ok(),
        server_tls: Some(tls.sip()),
        client_tls: ClientTls::new(None).map_err(|e| Failure::new(e.to_string()))?,
        control,
        limits: limits(config),
        admission: Arc::new(Admission::new(
            config.limits.connections,
            config.limits.connections_per_source,
        )),
        patience: Patience::default(),
        counts: Counts::default(),
        subscriptions: subscriptions.into(),
    })
}

fn begin_tasks(
    config: &Config,
    running: &Arc<Running>,
    data: &Path,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let socket = control::listen(data).map_err(|e| {
        let path = data.join(control::SOCKET_FILE);
        Failure::new(format!("{}: {e}", path.display()))
    })?;
    let mut tasks = vec![
        tokio::spawn(control::serve(socket, Arc::clone(running))),
        tokio::spawn(chores::run(Arc::clone(running))),
        tokio::spawn(chores::keep_events(Arc::clone(running))),
        tokio::spawn(chores::sweep_files(Arc::clone(&running.files))),
    ];
    if config.https.certificate == Certificate::Acme {
        let renewal = Renewal::new(config, data, Arc::clone(&running.tls));
        let renewal = renewal.map_err(|e| Failure::new(format!("acme.root: {e}")))?;
        tasks.push(tokio::spawn(renewal.run()));
    }
    Ok(tasks)
}

/// What whoever started the server wants to know.
async fn announce(
    store: &Store,
    portal: Option<String>,
    listeners: &[Listen],
) -> Result<(), Failure> {
    for Listen { transport, address } in listeners {
        tracing::info!(transport = transport.via_token(), %address, "listening");
    }
    let token = sidetone_web::setup_token(store).await?;
    let Some(portal) = portal else {
        return Ok(());
    };
    let mut text = format!("portal   {portal}/\n");
    if let Some(token) = token {
        text.push_str(&format!("set up   {portal}/setup?token={token}\n"));
    }
    let mut out = std::io::stdout().lock();
    // Standard output may be closed: the server serves all the same.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

/// Waits for a signal, or for the end of a thread that must not end.
async fn until_the_end(running: &Running, signals: &mut Signals) -> Result<(), Failure> {
    let mut watch = tokio::time::interval(WATCH);
    loop {
        tokio::select! {
            () = signals.stop() => return Ok(()),
            _ = watch.tick() => {}
        }
        if !running.engine.is_running() {
            return Err(Failure::new("a SIP thread has ended; the log says why"));
        }
    }
}

/// The other way round than it began: nobody new, then the shards, then the disk.
async fn stop(
    running: Arc<Running>,
    web: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
) -> Result<(), Failure> {
    let engine = Arc::clone(&running.engine);
    let shards = tokio::task::spawn_blocking(move || engine.stop());
    let (_, _) = tokio::join!(web, shards);
    tasks.iter().for_each(JoinHandle::abort);
    let began = Instant::now();
    while !chores::write_bindings(&running.services, &running.writer)
        && began.elapsed() < LAST_WRITES
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    chores::write_events(&running.services, &running.store).await;
    Ok(running.writer.close().await?)
}

fn start_log(config: &Config) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(crate::config::log_filter(&config.log.level))
        .with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
