//! The certificate that a server makes for itself.
//!
//! *Invariant:* a pair of files that does not fit together is remade.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::TlsError;
use super::certificate::civil_from_days;
use super::file::write_whole;
use super::server::{Loaded, load_files};

const CHAIN_FILE: &str = "self-signed.crt";
const KEY_FILE: &str = "self-signed.key";
const DAY_S: i64 = 86_400;
/// Some clients refuse certificates that are valid for longer than 398 days.
const VALID_DAYS: i64 = 397;
const REMAKE_DAYS: i64 = 30;

pub(super) fn load_or_make(names: &[String], directory: &Path) -> Result<Loaded, TlsError> {
    let now_s = unix_now_s();
    let (chain, key) = (directory.join(CHAIN_FILE), directory.join(KEY_FILE));
    if let Ok(loaded) = load_files(&chain, &key)
        && is_current(&loaded, names, now_s)
    {
        return Ok(loaded);
    }
    tracing::info!(?names, "making a self-signed certificate");
    let (certificate, private) = make(names, now_s).map_err(|e| TlsError::new(directory, e))?;
    fs::create_dir_all(directory).map_err(|e| TlsError::new(directory, e))?;
    // The key first: a crash between the two leaves a pair that does not fit.
    write_whole(&key, &private, 0o600).map_err(|e| TlsError::new(&key, e))?;
    write_whole(&chain, &certificate, 0o644).map_err(|e| TlsError::new(&chain, e))?;
    load_files(&chain, &key)
}

fn is_current(loaded: &Loaded, names: &[String], now_s: i64) -> bool {
    let sorted = |names: &[String]| {
        let mut names: Vec<String> = names.iter().map(|name| canonical(name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let fresh = loaded.summary.days_left(now_s) >= REMAKE_DAYS;
    fresh && sorted(&loaded.summary.names) == sorted(names)
}

/// Addresses in one spelling, names in lower case.
fn canonical(name: &str) -> String {
    let address = name.parse::<IpAddr>().map(|ip| ip.to_string());
    address.unwrap_or_else(|_| name.to_ascii_lowercase())
}

fn make(names: &[String], now_s: i64) -> Result<(String, String), rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| canonical(name)).collect();
    let common_name = names
        .first()
        .cloned()
        .unwrap_or_else(|| "sidetone".to_owned());
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let day = |offset: i64| {
        let (year, month, day) = civil_from_days(now_s / DAY_S + offset);
        date_time_ymd(year, month, day)
    };
    // A day of grace for clocks that are behind.
    (params.not_before, params.not_after) = (day(-1), day(VALID_DAYS - 1));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn unix_now_s() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn made_certificate_says_its_names_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let wanted = names(&["Sip.Example", "10.0.0.1", "2001:DB8::1"]);
        let loaded = load_or_make(&wanted, directory.path()).unwrap();
        assert_eq!(
            loaded.summary.names,
            ["sip.example", "10.0.0.1", "2001:db8::1"]
        );
        assert_eq!(loaded.summary.days_left(unix_now_s()), VALID_DAYS - 2);
        assert!(loaded.summary.self_signed);
        assert!(is_current(&loaded, &wanted, unix_now_s()));
        assert!(!is_current(&loaded, &wanted, unix_now_s() + 370 * DAY_S));
        assert!(!is_current(&loaded, &wanted[..2], unix_now_s()));
    }
}
