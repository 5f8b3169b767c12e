//! The command line.
//!
//! *Invariant*: exit 2 for a wrong call, 1 for a failure, each with one line on standard
//! error that says what to do; standard output holds results only.

mod account;
mod address;
mod check;
mod device;
mod import;
mod secret;
mod server;

use crate::config::{Config, ConfigError};
use crate::control;
use clap::{Parser, Subcommand};
use sidetone_model::AddressOfRecord;
use sidetone_store::{AccountRecord, Store, StoreError};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// Why a command ends, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// The command could not do its work.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 1,
        }
    }

    /// The command was called wrongly.
    pub(crate) fn call(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 2,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// A unified-communications softswitch.
#[derive(Parser)]
#[command(name = "sidetone", version, disable_help_subcommand = true)]
struct Arguments {
    /// The configuration file; without it, every key has its default
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, in place of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (also without a command)
    Serve,
    /// Validate configuration, ports, certificates and disk
    Check,
    /// Accounts
    #[command(subcommand)]
    User(account::UserCommand),
    /// Devices of accounts
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Add many at once
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Write database, certificates and keys to a file
    Backup { file: PathBuf },
    /// Put a backup in the place of what there is; the server must be stopped
    Restore { file: PathBuf },
    /// What the running server does
    Status {
        /// One JSON value
        #[arg(long)]
        json: bool,
    },
    /// Print every key with its default and meaning, as a file to start from
    Config {
        /// As the reference page, in Markdown
        #[arg(long)]
        reference: bool,
    },
    /// End the ban of a source address
    Unban { address: std::net::IpAddr },
}

impl Command {
    /// Whether it works with what an earlier command or a server has left: an empty database
    /// in its place would look like a success.
    fn needs_database(&self) -> bool {
        match self {
            Self::Serve | Self::Check | Self::Import(_) | Self::Restore { .. } => false,
            Self::Config { .. } => false,
            Self::User(command) => !matches!(command, account::UserCommand::Add(_)),
            Self::Device(_) | Self::Backup { .. } | Self::Status { .. } | Self::Unban { .. } => {
                true
            }
        }
    }
}

/// What every command works with.
struct Context {
    config: Config,
    data: PathBuf,
}

/// Runs the command that the arguments name.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    let config = Config::load(arguments.config.as_deref())?;
    let data = arguments.data.unwrap_or_else(|| config.data.clone());
    let context = Context { config, data };
    let command = arguments.command.unwrap_or(Command::Serve);
    if command.needs_database() {
        context.require_database()?;
    }
    match command {
        Command::Serve => crate::serve::serve(&context.config, &context.data),
        Command::Check => check::check(&context),
        Command::User(command) => command.run(&context),
        Command::Device(command) => command.run(&context),
        Command::Import(command) => command.run(&context),
        Command::Backup { file } => server::backup(&context, &file),
        Command::Restore { file } => server::restore(&context, &file),
        Command::Status { json } => server::status(&context, json),
        Command::Config { reference: true } => say(&crate::config::reference()),
        Command::Config { reference: false } => say(&crate::config::commented_file()),
        Command::Unban { address } => server::unban(&context, address),
    }
}

/// Help and version are results; the rest is shortened to its first line.
fn explain(error: &clap::Error) -> Result<(), Failure> {
    use clap::error::ErrorKind;
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => Err(
            Failure::call("the command is not complete; --help says what there is"),
        ),
        _ => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let message: Vec<&str> = lines
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                .collect();
            let message = message.join(" ");
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            Err(Failure::call(format!("{message} (--help says more)")))
        }
    }
}

impl Context {
    fn require_database(&self) -> Result<(), Failure> {
        match sidetone_store::database_file(&self.config.store.url, &self.data)? {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!(
                "{} holds no database: name the data directory with --data or in the configuration",
                self.data.display()
            ))),
        }
    }

    /// Runs an asynchronous command with the store open.
    fn with_store<T, F>(&self, work: impl FnOnce(Store) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let store = Store::open(&self.config.store.url, &self.data).await?;
            let result = work(store.clone()).await;
            store.close().await;
            result
        })
    }

    /// An address as typed; a bare name is of the first domain. The domain must be ours.
    fn address(&self, text: &str) -> Result<AddressOfRecord, Failure> {
        let address = address::read(text, &self.config.first_domain())
            .map_err(|e| Failure::call(format!("{text:?} is no address: {e}")))?;
        let domains = self.config.all_domains();
        if !domains.iter().any(|domain| domain == address.domain()) {
            return Err(Failure::call(format!(
                "{} is no domain of this server ({}): use one of them, or add it to `domains`",
                address.domain(),
                domains.join(", ")
            )));
        }
        Ok(address)
    }

    /// A running server looks at the directory at once.
    fn poke(&self) {
        control::poke(&self.data);
    }
}

/// The account with an address that was typed; a removed domain does not hide it.
async fn find(context: &Context, store: &Store, text: &str) -> Result<AccountRecord, Failure> {
    let domain = context.config.first_domain();
    let address = AddressOfRecord::parse_in(text, &domain)
        .map_err(|e| Failure::call(format!("{text:?} is no address: {e}")))?;
    let mut found = store.account(&address).await?;
    if let (None, Ok(plain)) = (&found, address::read(text, &domain)) {
        found = store.account(&plain).await?;
    }
    found.ok_or_else(|| {
        Failure::new(format!(
            "there is no user {address}; `sidetone user list` shows all"
        ))
    })
}

/// One line from standard input, without its end.
fn read_secret() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let secret = line.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Failure::call(
            "standard input holds no password: pipe it in, on one line",
        ));
    }
    if secret.len() > 1024 {
        return Err(Failure::call("the password is longer than 1024 bytes"));
    }
    Ok(secret.to_owned())
}

/// Writes a result; a reader that went away early is no failure.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn say_json(value: &serde_json::Value) -> Result<(), Failure> {
    say(&format!("{value}\n"))
}

pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
