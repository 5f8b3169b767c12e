//! `sidetone import users FILE.csv`
//!
//! *Invariant*: the whole file is read and checked before the first row is written.

use super::account::DEFAULT_PROFILE;
use super::device::{checked, new_device};
use super::{Context, Failure, say, secret};
use clap::Subcommand;
use csv::StringRecord;
use sidetone_model::{Account, AccountId, Role};
use sidetone_store::{ImportUser, NewAccount};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

const COLUMNS: [&str; 5] = ["address", "name", "profile", "sip_user", "sip_password"];
const SHOWN_MAX: usize = 10;

#[derive(Subcommand)]
pub(super) enum ImportCommand {
    /// Columns: address,name,profile,sip_user,sip_password (the last two may be empty)
    Users { file: PathBuf },
}

impl ImportCommand {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::Users { file } = self;
        let Table {
            users,
            lines,
            secrets,
        } = read(context, &file)?;
        let imported = context.with_store(async |store| Ok(store.import_users(users).await?))?;
        context.poke();
        if !secrets.is_empty() {
            let refused = imported.refused.iter().map(|(_, address, _)| address);
            let existing: HashSet<&String> = imported.existing.iter().chain(refused).collect();
            let made = secrets.iter().filter(|s| !existing.contains(&s.address));
            let lines: String = made
                .map(|s| format!("{},{},{}\n", s.address, s.user, s.secret))
                .collect();
            say(&format!("address,sip_user,sip_password\n{lines}"))?;
        }
        say(&format!(
            "added {} users and {} devices\n",
            imported.accounts, imported.devices
        ))?;
        say_existing(&imported.existing)?;
        refusal(&file, &lines, &imported.refused)
    }
}

fn say_existing(existing: &[String]) -> Result<(), Failure> {
    if existing.is_empty() {
        return Ok(());
    }
    let shown = &existing[..SHOWN_MAX.min(existing.len())];
    say(&format!(
        "left {} as they were, because they exist: {}{}\n",
        existing.len(),
        shown.join(", "),
        if existing.len() > SHOWN_MAX {
            " …"
        } else {
            ""
        }
    ))
}

/// Whoever stands in the file and was left out is named with the line.
fn refusal(file: &Path, lines: &[u64], refused: &[(usize, String, String)]) -> Result<(), Failure> {
    let told = refused.iter().map(|(place, address, why)| {
        let line = lines.get(*place).copied().unwrap_or_default();
        format!(
            "{} line {line}: {address} was left out: {why}",
            file.display()
        )
    });
    let told: Vec<String> = told.collect();
    match told.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(told.join("\nsidetone: "))),
    }
}

/// A secret that the file did not give.
struct Made {
    address: String,
    user: String,
    secret: String,
}

#[derive(Default)]
struct Table {
    users: Vec<ImportUser>,
    /// The line of each user.
    lines: Vec<u64>,
    secrets: Vec<Made>,
}

fn read(context: &Context, file: &Path) -> Result<Table, Failure> {
    let wrong = |e: csv::Error| Failure::new(format!("{}: {e}", file.display()));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::Fields)
        .from_path(file)
        .map_err(wrong)?;
    let mut table = Table::default();
    let mut order = [0, 1, 2, 3, 4];
    let mut seen = HashSet::new();
    for (n, record) in reader.records().enumerate() {
        let record = record.map_err(wrong)?;
        let line = record.position().map_or(0, csv::Position::line);
        let at = |e: Failure| Failure::new(format!("{} line {line}: {e}", file.display()));
        if n == 0 && record.get(0).is_some_and(|cell| COLUMNS.contains(&cell)) {
            order = columns(&record).map_err(at)?;
            continue;
        }
        row(context, &record, order, &mut seen, &mut table).map_err(at)?;
        table.lines.push(line);
    }
    Ok(table)
}

/// Where each of [`COLUMNS`] stands, after a header; beyond the record: nowhere.
fn columns(header: &StringRecord) -> Result<[usize; 5], Failure> {
    if let Some(unknown) = header.iter().find(|cell| !COLUMNS.contains(cell)) {
        return Err(Failure::new(format!(
            "there is no column {unknown:?}; there are {}",
            COLUMNS.join(", ")
        )));
    }
    Ok(COLUMNS.map(|name| {
        header
            .iter()
            .position(|cell| cell == name)
            .unwrap_or(usize::MAX)
    }))
}

fn row(
    context: &Context,
    record: &StringRecord,
    order: [usize; 5],
    seen: &mut HashSet<String>,
    table: &mut Table,
) -> Result<(), Failure> {
    let cell = |column: usize| record.get(order[column]).unwrap_or_default();
    if record.len() > COLUMNS.len() {
        return Err(Failure::new(format!(
            "{} columns are too many",
            record.len()
        )));
    }
    let address = context.address(cell(0))?;
    let profile = match cell(2) {
        "" => DEFAULT_PROFILE,
        given => given,
    };
    let account = Account {
        id: AccountId(0),
        address,
        name: cell(1).to_owned(),
        profile: profile.to_owned(),
        role: Role::User,
        disabled: false,
    };
    let device = match (cell(3), cell(4)) {
        ("", "") => None,
        ("", password) => Some((account.address.user().to_owned(), password.to_owned())),
        (user, "") => Some((user.to_owned(), made(&account, user, table))),
        (user, password) => Some((user.to_owned(), password.to_owned())),
    };
    let mut once = |key: String, what: &str| match seen.insert(key) {
        false => Err(Failure::new(format!("{what} stands in the file twice"))),
        true => Ok(()),
    };
    // The store tells apart no addresses that differ only in capitals.
    let address = account.address.as_str();
    once(address.to_ascii_lowercase(), address)?;
    if let Some((user, _)) = &device {
        checked(user)?;
        let what = format!("SIP user {user} of {}", account.address.domain());
        once(what.clone(), &what)?;
    }
    table.users.push(ImportUser {
        device: device.map(|(user, password)| new_device(&account, "", &user, &password)),
        account: NewAccount {
            address: account.address,
            name: account.name,
            profile: account.profile,
            role: account.role,
            password: None,
            aliases: Vec::new(),
        },
    });
    Ok(())
}

fn made(account: &Account, user: &str, table: &mut Table) -> String {
    let secret = secret::sip_secret();
    table.secrets.push(Made {
        address: account.address.to_string(),
        user: user.to_owned(),
        secret: secret.clone(),
    });
    secret
}
