//! Measures the spool: appends and marks of delivery at a steady rate, with every commit
//! synced.
//!
//! `cargo run --release -p sidetone-store --example spool [RATE…]`; `SPOOL_SECONDS` and
//! `SPOOL_GATHER_MS` in the environment change the duration and the writer's patience.
//!
//! With `child DIR` it is the victim of the `kill -9` test: it appends without end and prints
//! the number of each message once that is acknowledged.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a measured load that prints, and ends at the first surprise"
)]

use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use sidetone_model::{AddressOfRecord, Binding, DeviceId, MessageId, NewMessage, Origin, Role};
use sidetone_store::{NewAccount, NewDevice, Recipients, Store, Writer, WriterOptions};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const DEVICES: u32 = 1_000;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "child" => {
            child(Path::new(rest.first().ok_or("child DIR")?)).await
        }
        Some(_) => measure_all(&arguments).await,
        None => {
            measure_all(&["1000".to_owned(), "8000".to_owned()]).await?;
            bindings().await
        }
    }
}

async fn measure_all(rates: &[String]) -> Outcome {
    println!("rate/s  stored  refused  commits  msg/commit  cpu µs/msg  p50 ms  p99 ms  max ms");
    for rate in rates {
        measure(rate.parse()?).await?;
    }
    Ok(())
}

async fn measure(rate: u32) -> Outcome {
    let directory = Scratch::new(&rate.to_string())?;
    let (store, devices) = prepare(&directory.0).await?;
    let mut options = WriterOptions::default();
    let gather_ms = u32::try_from(options.gather.as_millis())?;
    options.gather = Duration::from_millis(setting("SPOOL_GATHER_MS", gather_ms).into());
    let writer = store.start_writer(options).await?;
    let pace = writer.clone();
    let before = cpu_us(UsageWho::RUSAGE_SELF)?;
    let driven = tokio::task::spawn_blocking(move || {
        let latencies = drive(&pace, rate, &devices);
        (latencies, cpu_us(UsageWho::RUSAGE_THREAD))
    });
    let (mut latencies, own) = driven.await?;
    writer.close().await?;
    // Without the thread that makes the load.
    let cpu = cpu_us(UsageWho::RUSAGE_SELF)? - before - own?;
    let m = writer.metrics();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
    println!(
        "{rate:6} {:7} {:8} {:8} {:11.1} {:11.1} {:7.2} {:7.2} {:7.2}",
        m.appended,
        m.refused,
        m.commits,
        m.appended as f64 / m.commits as f64,
        cpu as f64 / m.appended as f64,
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        at(100).as_secs_f64() * 1e3,
    );
    assert_eq!(m.appended, m.delivered, "every message was marked");
    assert_eq!(store.spool_counts().await?, (0, 0));
    store.close().await;
    Ok(())
}

fn setting(name: &str, default: u32) -> u32 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

/// Hands messages in at the rate, in bursts of a millisecond, and marks each once it is stored.
fn drive(writer: &Writer, rate: u32, devices: &[DeviceId]) -> Vec<Duration> {
    let (done, stored) = mpsc::channel();
    let start = Instant::now();
    let total = rate * setting("SPOOL_SECONDS", 5);
    let (mut sent, mut latencies) = (0, Vec::with_capacity(total as usize));
    let mut missing = 0;
    while latencies.len() + missing < total as usize {
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u32;
        while sent < due.min(total) {
            let device = devices[sent as usize % devices.len()];
            let (done, at) = (done.clone(), Instant::now());
            let refused = writer.try_append(
                message(u64::from(sent)),
                to(device),
                None,
                Box::new(move |result| {
                    // The receiver lives as long as this loop.
                    let _ = done.send((device, result, at.elapsed()));
                }),
            );
            missing += usize::from(refused.is_err());
            sent += 1;
        }
        while let Ok((device, result, took)) = stored.try_recv() {
            latencies.push(took);
            if let Ok(stored) = result {
                let _ = writer.try_delivered(device, stored.id);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    latencies
}

async fn bindings() -> Outcome {
    const ADDRESSES: u32 = 20_000;
    let directory = Scratch::new("bindings")?;
    let store = Store::open("sqlite", &directory.0).await?;
    let writer = store.start_writer(WriterOptions::default()).await?;
    for round in ["new", "again"] {
        let before = cpu_us(UsageWho::RUSAGE_SELF)?;
        let start = Instant::now();
        for n in 0..ADDRESSES {
            writer.try_bindings(vec![binding(n)]).ok();
            if n % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        writer.flush().await?;
        println!(
            "bindings, {round}: {:.1} µs CPU an address, {:.0} ms in all",
            (cpu_us(UsageWho::RUSAGE_SELF)? - before) as f64 / f64::from(ADDRESSES),
            start.elapsed().as_secs_f64() * 1e3,
        );
    }
    let before = Instant::now();
    let loaded = store.load_bindings(0).await?.len();
    println!(
        "bindings, read back: {loaded} in {:.0} ms",
        before.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

/// Appends for ever, 32 at a time, and says what was acknowledged.
async fn child(directory: &Path) -> Outcome {
    let (store, devices) = prepare(directory).await?;
    let writer = store.start_writer(WriterOptions::default()).await?;
    let (done, mut stored) = tokio::sync::mpsc::unbounded_channel();
    let base = u64::from(std::process::id()) << 32;
    let mut sent = 0_u64;
    loop {
        for _ in 0..32 {
            let done = done.clone();
            let body = base + sent;
            let report = Box::new(move |result| {
                let _ = done.send((body, result));
            });
            writer.try_append(message(body), to(devices[0]), None, report)?;
            sent += 1;
        }
        for _ in 0..32 {
            let (body, result) = stored.recv().await.ok_or("the writer ended")?;
            let id: MessageId = result?.id;
            let mut out = std::io::stdout().lock();
            writeln!(out, "{id} {body}")?;
            out.flush()?;
        }
    }
}

async fn prepare(directory: &Path) -> Result<(Store, Vec<DeviceId>), Box<dyn Error + Send + Sync>> {
    let store = Store::open("sqlite", directory).await?;
    let address: AddressOfRecord = "bob@localhost".parse()?;
    if let Some(record) = store.account(&address).await? {
        return Ok((store, record.devices.iter().map(|d| d.id).collect()));
    }
    let account = NewAccount {
        address,
        name: String::new(),
        profile: String::new(),
        role: Role::User,
        password: None,
        aliases: Vec::new(),
    };
    let account = store.add_account(&account).await?;
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        let device = NewDevice {
            account,
            label: String::new(),
            sip_user: format!("bob-{n}"),
            realm: "localhost".to_owned(),
            ha1_sha256: [0; 32],
            ha1_md5: None,
            created_ms: 0,
        };
        devices.push(store.add_device(&device).await?);
        if directory.join("few").exists() {
            break;
        }
    }
    Ok((store, devices))
}

fn to(device: DeviceId) -> Recipients {
    Recipients {
        devices: vec![device],
        accounts: Vec::new(),
    }
}

fn message(n: u64) -> NewMessage {
    let mut origin = [0; 16];
    origin[..8].copy_from_slice(&n.to_le_bytes());
    NewMessage {
        from: "sip:alice@localhost".to_owned(),
        to: AddressOfRecord::new("bob", "localhost").expect("a valid address"),
        account: sidetone_model::AccountId(1),
        received_ms: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64),
        content_type: "text/plain".to_owned(),
        headers: String::new(),
        body: Bytes::from(format!("{n} {}", "x".repeat(100))),
        origin: Origin(origin),
        keyed: false,
        place: None,
    }
}

fn binding(n: u32) -> (AddressOfRecord, Vec<Binding>) {
    let binding = Binding {
        contact: format!("sip:user{n}@192.0.2.{}:5060;transport=udp", n % 250).into(),
        device: DeviceId(i64::from(n)),
        instance: None,
        reg_id: 0,
        q: 1000,
        call_id: format!("{n}-31337@192.0.2.1").into(),
        cseq: 2,
        expires_at_ms: u64::MAX >> 1,
        path: "".into(),
        received: Some("udp:0:192.0.2.1:5060".into()),
        user_agent: "spool".into(),
    };
    let aor = AddressOfRecord::new(&format!("user{n}"), "localhost").expect("a valid address");
    (aor, vec![binding])
}

fn cpu_us(whose: UsageWho) -> Result<i64, nix::Error> {
    let usage = getrusage(whose)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> std::io::Result<Self> {
        let path = PathBuf::from(format!("target/spool-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is only litter.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
