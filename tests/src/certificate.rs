//! An authority of the test's own, and certificates by it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::folder::Folder;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The authority's certificate as a PEM file, for clients to trust.
    pub file: PathBuf,
}

/// PEM files of one certificate.
pub struct Files {
    pub chain: PathBuf,
    pub key: PathBuf,
    /// Both in one file, as some phones want it.
    pub both: PathBuf,
}

/// A TLS client that trusts this authority alone.
pub fn trusting(authority: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(authority).expect("the authority");
    roots.add(root).expect("a root");
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl Authority {
    pub fn new(folder: &Folder) -> Authority {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let file = folder.write("authority.pem", issuer.pem());
        Authority { issuer, file }
    }

    /// A chain for somebody else's key, good from a second of 1970's count for a while.
    pub fn certify(
        &self,
        names: Vec<String>,
        key: &impl PublicKeyData,
        from_s: u64,
        lifetime: Duration,
    ) -> String {
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(from_s);
        params.not_after = params.not_before + lifetime;
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        format!("{}{}", certificate.pem(), self.issuer.pem())
    }

    /// A certificate for a domain and an address.
    pub fn issue(&self, folder: &Folder, name: &str, domain: &str, ip: Ipv4Addr) -> Files {
        let names = vec![domain.to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, domain);
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(ip)));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        Files {
            both: folder.write(&format!("{name}-both.pem"), format!("{chain}{key}")),
            chain: folder.write(&format!("{name}-chain.pem"), chain),
            key: folder.write(&format!("{name}-key.pem"), key),
        }
    }
}
