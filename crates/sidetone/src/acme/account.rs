//! The account at the authority, kept in a file beside the certificate.
//!
//! *Invariant*: the file is readable by its owner only; an account of another authority is
//! never used.

use super::AcmeError;
use super::client::Https;
use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};
use sidetone_transport::tls::{ClientTls, write_private};
use std::io::ErrorKind;
use std::path::Path;

#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// Whether there is an account, and it is not of this authority.
pub(super) fn is_of_another(file: &Path, directory: &str) -> bool {
    matches!(read(file), Ok(Some(kept)) if kept.directory != directory)
}

/// The account of the last time, or a new one.
pub(super) async fn open(
    file: &Path,
    trust: &ClientTls,
    directory: &str,
    contact: &[String],
) -> Result<Account, AcmeError> {
    let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
    let builder = Account::builder_with_http(Https::new(trust));
    if let Some(mut kept) = read(file)?.filter(|kept| kept.directory == directory) {
        let changed = kept.contact != contact;
        let text = |kept: &Kept| serde_json::to_string(kept).map_err(|e| wrong(file, &e));
        kept.contact = contact.to_vec();
        let text = text(&kept)?;
        let account = builder.from_credentials(kept.credentials).await?;
        if changed {
            account.update_contacts(&contacts).await?;
            write_private(file, &text).map_err(|e| wrong(file, &e))?;
        }
        return Ok(account);
    }
    let wanted = NewAccount {
        contact: &contacts,
        // Nothing is ordered where `acme.terms_agreed` is not set.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let created = builder.create(&wanted, directory.to_owned(), None);
    let (account, credentials) = created.await?;
    let kept = Kept {
        directory: directory.to_owned(),
        contact: contact.to_vec(),
        credentials,
    };
    let text = serde_json::to_string(&kept).map_err(|e| wrong(file, &e))?;
    write_private(file, &text).map_err(|e| wrong(file, &e))?;
    tracing::info!(directory, "an account was made at the authority");
    Ok(account)
}

/// The authority does not know it any more.
pub(super) fn forget(file: &Path) {
    // Where it cannot be removed, the next attempt says why it fails.
    let _ = std::fs::remove_file(file);
}

fn read(file: &Path) -> Result<Option<Kept>, AcmeError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(file, &e)),
    };
    match serde_json::from_str(&text) {
        Ok(kept) => Ok(Some(kept)),
        Err(error) => Err(wrong(file, &error)),
    }
}

fn wrong(file: &Path, error: &dyn std::fmt::Display) -> AcmeError {
    AcmeError::File {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
