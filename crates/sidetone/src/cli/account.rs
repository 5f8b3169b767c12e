//! `sidetone user …`

use super::{Context, Failure, find, now_ms, read_secret, say, say_json, secret};
use clap::Subcommand;
use serde_json::{Value, json};
use sidetone_model::{Account, AccountId, Device, Role};
use sidetone_store::{AccountRecord, NewAccount, Store};

const RESET_LINK_LIFETIME_MS: u64 = 24 * 3600 * 1000;
pub(super) const DEFAULT_PROFILE: &str = "default";

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Add an account
    Add(AddUser),
    /// List all accounts
    List {
        /// One JSON value
        #[arg(long)]
        json: bool,
    },
    /// Show one account with its devices
    Show {
        address: String,
        /// One JSON value
        #[arg(long)]
        json: bool,
    },
    /// Keep it from registering and sending; what it is sent is kept
    Disable {
        address: String,
        /// Take that back
        #[arg(long)]
        undo: bool,
    },
    /// Take `disable` back
    Enable { address: String },
    /// Change what is given, and leave the rest
    Set(SetUser),
    /// Remove it with its devices
    Remove { address: String },
    /// Print a link that sets the web password, once, within a day
    ResetLink { address: String },
}

#[derive(clap::Args)]
pub(super) struct AddUser {
    /// user@domain, or the user part alone
    address: String,
    /// The name to show
    #[arg(long, default_value = "")]
    name: String,
    /// The profile that holds its rights
    #[arg(long, default_value = DEFAULT_PROFILE)]
    profile: String,
    /// user, admin or auditor
    #[arg(long, default_value = "user", value_parser = |text: &str| text.parse::<Role>())]
    role: Role,
    /// A short number or another name, as often as needed
    #[arg(long = "extension", value_name = "NUMBER")]
    extensions: Vec<String>,
    /// Read the web password from standard input; without, a link to set it is printed
    #[arg(long)]
    password_stdin: bool,
}

#[derive(clap::Args)]
pub(super) struct SetUser {
    /// user@domain, or the user part alone
    address: String,
    /// The name to show
    #[arg(long)]
    name: Option<String>,
    /// user, admin or auditor
    #[arg(long, value_parser = |text: &str| text.parse::<Role>())]
    role: Option<Role>,
    /// The profile that holds its rights
    #[arg(long)]
    profile: Option<String>,
}

impl UserCommand {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(context),
            Self::List { json } => list(context, json),
            Self::Show { address, json } => show(context, &address, json),
            Self::Disable { address, undo } => disable(context, &address, !undo),
            Self::Enable { address } => disable(context, &address, false),
            Self::Set(set) => set.run(context),
            Self::Remove { address } => remove(context, &address),
            Self::ResetLink { address } => reset_link(context, &address),
        }
    }
}

impl AddUser {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let address = context.address(&self.address)?;
        let in_domain = |text: &String| match text.contains('@') {
            true => context.address(text),
            false => context.address(&format!("{text}@{}", address.domain())),
        };
        let aliases = self
            .extensions
            .iter()
            .map(in_domain)
            .collect::<Result<_, _>>()?;
        let password = match self.password_stdin {
            true => Some(hash(&read_password()?)?),
            false => None,
        };
        let new = NewAccount {
            address: address.clone(),
            name: self.name,
            profile: self.profile,
            role: self.role,
            password,
            aliases,
        };
        let link = context.with_store(async |store| {
            let id = store.add_account(&new).await?;
            match new.password {
                Some(_) => Ok(None),
                None => Ok(Some(make_link(context, &store, id).await?)),
            }
        })?;
        context.poke();
        say(&format!("added {address}\n"))?;
        match link {
            Some(link) => say(&format!(
                "set the web password, once, within a day: {link}\n"
            )),
            None => Ok(()),
        }
    }
}

impl SetUser {
    fn run(self, context: &Context) -> Result<(), Failure> {
        if self.name.is_none() && self.role.is_none() && self.profile.is_none() {
            return Err(Failure::call(
                "nothing to change: give --name, --role or --profile",
            ));
        }
        let address = context.with_store(async |store| {
            let account = find(context, &store, &self.address).await?.account;
            let (name, profile) = (self.name.as_deref(), self.profile.as_deref());
            store
                .set_account(account.id, name, profile, self.role)
                .await?;
            Ok(account.address)
        })?;
        context.poke();
        say(&format!("changed {address}\n"))
    }
}

/// As good as one that is chosen on the web.
fn read_password() -> Result<String, Failure> {
    let password = read_secret()?;
    match sidetone_web::weakness(&password) {
        Some(fault) => Err(Failure::call(fault)),
        None => Ok(password),
    }
}

fn hash(password: &str) -> Result<String, Failure> {
    secret::web_password(password).map_err(|e| Failure::new(format!("the password: {e}")))
}

fn list(context: &Context, as_json: bool) -> Result<(), Failure> {
    let accounts = context.with_store(async |store| Ok(store.accounts().await?))?;
    if as_json {
        return say_json(&accounts.iter().map(account_json).collect());
    }
    let mut text = String::new();
    for account in &accounts {
        let disabled = if account.disabled { "  disabled" } else { "" };
        text.push_str(&format!(
            "{}  {}  {}{disabled}\n",
            account.address, account.role, account.name
        ));
    }
    say(&text)
}

fn show(context: &Context, address: &str, as_json: bool) -> Result<(), Failure> {
    let record = context.with_store(async |store| find(context, &store, address).await)?;
    if as_json {
        return say_json(&record_json(&record));
    }
    let account = &record.account;
    let aliases: Vec<&str> = record.aliases.iter().map(AsRef::as_ref).collect();
    say(&format!(
        "address   {}\nname      {}\nrole      {}\nprofile   {}\ndisabled  {}\nalso      {}\n\
         password  {}\n",
        account.address,
        account.name,
        account.role,
        account.profile,
        account.disabled,
        aliases.join(" "),
        if record.password.is_some() {
            "set"
        } else {
            "not set"
        },
    ))?;
    for device in &record.devices {
        say(&format!(
            "device    {}  {}  {}\n",
            device.id, device.sip_user, device.label
        ))?;
    }
    Ok(())
}

fn disable(context: &Context, address: &str, disabled: bool) -> Result<(), Failure> {
    let account = context.with_store(async |store| {
        let record = find(context, &store, address).await?;
        store.set_disabled(record.account.id, disabled).await?;
        Ok(record.account.address)
    })?;
    context.poke();
    let done = if disabled { "disabled" } else { "enabled" };
    say(&format!("{done} {account}\n"))
}

fn remove(context: &Context, address: &str) -> Result<(), Failure> {
    let account = context.with_store(async |store| {
        let record = find(context, &store, address).await?;
        store.remove_account(record.account.id).await?;
        Ok(record.account.address)
    })?;
    context.poke();
    say(&format!("removed {account}\n"))
}

fn reset_link(context: &Context, address: &str) -> Result<(), Failure> {
    let link = context.with_store(async |store| {
        let record = find(context, &store, address).await?;
        make_link(context, &store, record.account.id).await
    })?;
    say(&format!("{link}\n"))
}

async fn make_link(context: &Context, store: &Store, id: AccountId) -> Result<String, Failure> {
    let (token, hash) = secret::reset_token();
    let expires_ms = now_ms() + RESET_LINK_LIFETIME_MS;
    store.put_reset_token(id, &hash, expires_ms).await?;
    let portal = crate::serve::portal(&context.config).ok_or_else(|| {
        Failure::new("https.listen and https.http are empty: there is no page that sets a password")
    })?;
    Ok(format!("{portal}/reset?token={token}"))
}

fn account_json(account: &Account) -> Value {
    json!({
        "id": account.id.0,
        "address": account.address.as_str(),
        "name": account.name,
        "profile": account.profile,
        "role": account.role.as_str(),
        "disabled": account.disabled,
    })
}

fn record_json(record: &AccountRecord) -> Value {
    let mut value = account_json(&record.account);
    value["aliases"] = record.aliases.iter().map(|a| json!(a.as_str())).collect();
    value["devices"] = record.devices.iter().map(device_json).collect();
    value["has_password"] = json!(record.password.is_some());
    value
}

pub(super) fn device_json(device: &Device) -> Value {
    json!({
        "id": device.id.0,
        "label": device.label,
        "sip_user": device.sip_user,
        "realm": device.realm,
        "created_ms": device.created_ms,
    })
}
