//! `sidetone device …`

use super::account::device_json;
use super::{Context, Failure, find, now_ms, read_secret, say, say_json, secret};
use clap::Subcommand;
use serde_json::json;
use sidetone_model::{Account, DeviceId};
use sidetone_sip::digest::{ha1_md5, ha1_sha256};
use sidetone_store::{NewDevice, Store};
use std::net::{IpAddr, SocketAddr, UdpSocket};

const SIP_USER_BYTES_MAX: usize = 128;

#[derive(Subcommand)]
pub(super) enum DeviceCommand {
    /// Add a device and print what to type into it
    Add(AddDevice),
    /// List the devices of an account
    List {
        address: String,
        /// One JSON value
        #[arg(long)]
        json: bool,
    },
    /// Remove a device by its number
    Remove { device: i64 },
}

#[derive(clap::Args)]
pub(super) struct AddDevice {
    /// The account: user@domain, or the user part alone
    address: String,
    /// What the owner calls it
    #[arg(long, default_value = "")]
    label: String,
    /// The name that it authenticates with; without, one is chosen
    #[arg(long)]
    sip_user: Option<String>,
    /// Read its password from standard input; without, one is made
    #[arg(long)]
    sip_password_stdin: bool,
    /// One JSON value
    #[arg(long)]
    json: bool,
}

impl DeviceCommand {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(context),
            Self::List { address, json } => list(context, &address, json),
            Self::Remove { device } => remove(context, DeviceId(device)),
        }
    }
}

impl AddDevice {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let given = match self.sip_password_stdin {
            true => Some(read_secret()?),
            false => None,
        };
        let password = given.clone().unwrap_or_else(secret::sip_secret);
        let (id, device) = context.with_store(async |store| {
            let record = find(context, &store, &self.address).await?;
            let sip_user = match &self.sip_user {
                Some(user) => checked(user)?.to_owned(),
                None => free_user(&store, &record.account).await?,
            };
            let device = new_device(&record.account, &self.label, &sip_user, &password);
            Ok((store.add_device(&device).await?, device))
        })?;
        context.poke();
        self.report(context, id, &device, given.is_none().then_some(&password))
    }

    fn report(
        &self,
        context: &Context,
        id: DeviceId,
        device: &NewDevice,
        generated: Option<&String>,
    ) -> Result<(), Failure> {
        let servers = servers(context);
        if self.json {
            return say_json(&json!({
                "id": id.0,
                "sip_user": device.sip_user,
                "sip_password": generated,
                "domain": device.realm,
                "servers": servers,
            }));
        }
        let password = match generated {
            Some(secret) => format!("{secret}   (shown only now)"),
            None => "as given".to_owned(),
        };
        say(&format!(
            "added device {id}; type into the phone:\n  user      {}\n  password  {password}\n  \
             domain    {}\n",
            device.sip_user, device.realm,
        ))?;
        for server in servers {
            say(&format!("  server    {server}\n"))?;
        }
        Ok(())
    }
}

/// A device with the hashes of its password; the account number may be set later.
pub(super) fn new_device(
    account: &Account,
    label: &str,
    sip_user: &str,
    password: &str,
) -> NewDevice {
    let realm = account.address.domain();
    NewDevice {
        account: account.id,
        label: label.to_owned(),
        sip_user: sip_user.to_owned(),
        realm: realm.to_owned(),
        ha1_sha256: ha1_sha256(sip_user, realm, password),
        ha1_md5: Some(ha1_md5(sip_user, realm, password)),
        created_ms: now_ms(),
    }
}

/// RFC 7616 §3.4 puts the name between quotes and, in HA1, before a colon.
pub(super) fn checked(user: &str) -> Result<&str, Failure> {
    let bad = |c: char| c.is_control() || matches!(c, ':' | '"' | '\\');
    if user.is_empty() || user.len() > SIP_USER_BYTES_MAX || user.chars().any(bad) {
        return Err(Failure::call(format!(
            "{user:?} is no SIP user: 1 to {SIP_USER_BYTES_MAX} bytes without : \" \\"
        )));
    }
    Ok(user)
}

/// The address's user part, so that a phone needs a name and a password only; for further
/// devices `alice-2`, `alice-3` …
async fn free_user(store: &Store, account: &Account) -> Result<String, Failure> {
    let base = checked(account.address.user())?;
    let mut user = base.to_owned();
    for n in 2..10_000 {
        if !store.has_sip_user(&user, account.address.domain()).await? {
            return Ok(user);
        }
        user = format!("{base}-{n}");
    }
    Err(Failure::new(format!(
        "{base} has too many devices: choose --sip-user"
    )))
}

/// The addresses to type into a phone, the usual one first.
fn servers(context: &Context) -> Vec<String> {
    let sip = &context.config.sip;
    let lists = [("udp", &sip.udp), ("tcp", &sip.tcp), ("tls", &sip.tls)];
    let mut servers = Vec::new();
    for (transport, listeners) in lists {
        for listener in listeners {
            let server = format!("{} ({transport})", reachable(listener, &sip.advertise));
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    servers
}

fn reachable(listener: &SocketAddr, advertise: &[String]) -> String {
    let own = listener.ip().to_string();
    for entry in advertise {
        match entry.split_once('=') {
            Some((inside, outside)) if inside == own => {
                return format!("{outside}:{}", listener.port());
            }
            Some(_) => {}
            None => return format!("{entry}:{}", listener.port()),
        }
    }
    match listener
        .ip()
        .is_unspecified()
        .then(|| outgoing(listener.ip()))
    {
        Some(Some(ip)) => SocketAddr::new(ip, listener.port()).to_string(),
        _ => listener.to_string(),
    }
}

/// This machine's address towards the world: connecting a UDP socket sends nothing.
fn outgoing(any: IpAddr) -> Option<IpAddr> {
    let world = if any.is_ipv4() {
        "192.0.2.1:9"
    } else {
        "[2001:db8::1]:9"
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(world).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn list(context: &Context, address: &str, as_json: bool) -> Result<(), Failure> {
    let record = context.with_store(async |store| find(context, &store, address).await)?;
    if as_json {
        return say_json(&record.devices.iter().map(device_json).collect());
    }
    let mut text = String::new();
    for device in &record.devices {
        text.push_str(&format!(
            "{}  {}  {}\n",
            device.id, device.sip_user, device.label
        ));
    }
    say(&text)
}

fn remove(context: &Context, id: DeviceId) -> Result<(), Failure> {
    let user = context.with_store(async |store| {
        let device = store.device(id).await?.ok_or_else(|| {
            Failure::new(format!(
                "there is no device {id}; `sidetone device list ADDRESS` shows the numbers"
            ))
        })?;
        store.remove_device(id).await?;
        Ok(device.sip_user)
    })?;
    context.poke();
    say(&format!("removed device {id} ({user})\n"))
}
