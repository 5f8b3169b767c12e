//! What the authority looks at: the server's challenge certificate, and the request.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::certificate::trusting;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

const ACME_TLS: &[u8] = b"acme-tls/1";
/// id-pe-acmeIdentifier, critical, an OCTET STRING in an OCTET STRING (RFC 8737 §3).
const ACME_IDENTIFIER: &[u8] = &[
    0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f, 0x01, 0x01, 0xff, 0x04, 0x22, 0x04,
    0x20,
];
/// The head of a P-256 SubjectPublicKeyInfo; the point follows (RFC 5480 §2.1).
const P256_HEAD: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT: usize = 65;

/// RFC 8737 §3: the server shows a certificate for this name with this digest, and agrees on
/// the challenge's protocol.
pub(super) fn tls_alpn(at: SocketAddr, name: &str, digest: &[u8; 32]) -> Result<(), String> {
    let verifier = Arc::new(AnyCertificate(ring::default_provider()));
    let mut config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    let tls = handshake(at, name, config).map_err(|e| format!("{at}: {e}"))?;
    if tls.alpn_protocol() != Some(ACME_TLS) {
        return Err("another protocol".to_owned());
    }
    let chain = tls.peer_certificates().unwrap_or_default();
    let [certificate] = chain else {
        return Err(format!("{} certificates", chain.len()));
    };
    let length = u8::try_from(name.len()).map_err(|_| "too long a name")?;
    let san = [&[0x82, length], name.as_bytes()].concat();
    let identifier = [ACME_IDENTIFIER, digest].concat();
    match holds(certificate, &san) && holds(certificate, &identifier) {
        true => Ok(()),
        false => Err("not the challenge's certificate".to_owned()),
    }
}

/// The certificate that a server shows to one who trusts this authority and asks for this
/// name; an error if the check fails.
pub fn presented(at: SocketAddr, authority: &Path, name: &str) -> io::Result<Vec<u8>> {
    let tls = handshake(at, name, trusting(authority))?;
    let leaf = tls.peer_certificates().and_then(<[_]>::first);
    Ok(leaf.expect("a certificate").to_vec())
}

fn handshake(at: SocketAddr, name: &str, config: ClientConfig) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(tls)
}

/// The public key of a request for these names, if it is signed with its private one.
pub(super) fn requested_key(csr: &[u8], names: &[String]) -> Result<Vec<u8>, String> {
    let at = find(csr, P256_HEAD).ok_or("not P-256")? + P256_HEAD.len();
    let key = csr.get(at..at + POINT).ok_or("cut off")?.to_vec();
    if !names.iter().all(|name| holds(csr, name.as_bytes())) {
        return Err("other names".to_owned());
    }
    // CertificationRequest: what is signed, the algorithm, the signature (RFC 2986 §4.2).
    let (_, whole, _) = element(csr)?;
    let (signed, _, rest) = element(whole)?;
    let (_, _, rest) = element(rest)?;
    let (_, signature, _) = element(rest)?;
    super::is_signed_by(&key, signed, signature.get(1..).ok_or("cut off")?)?;
    Ok(key)
}

type Element<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// A DER element: whole, its contents, and what follows.
fn element(der: &[u8]) -> Result<Element<'_>, String> {
    let first = usize::from(*der.get(1).ok_or("cut off")?);
    let (head, length) = match first {
        0..=0x7f => (2, first),
        0x81 => (3, usize::from(*der.get(2).ok_or("cut off")?)),
        _ => {
            let two = der.get(2..4).ok_or("cut off")?;
            (4, usize::from(two[0]) << 8 | usize::from(two[1]))
        }
    };
    let (whole, rest) = der.split_at_checked(head + length).ok_or("cut off")?;
    Ok((whole, &whole[head..], rest))
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// A challenge's certificate is signed by itself: what it holds is looked at afterwards.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is offered".to_owned()))
    }

    /// By the key alone: rustls reads no certificate with a critical extension that it does
    /// not know.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let at = find(certificate, P256_HEAD);
        let key = at.and_then(|at| certificate.get(at..at + P256_HEAD.len() + POINT));
        let key = key.ok_or_else(|| Error::General("not P-256".to_owned()))?;
        let key = SubjectPublicKeyInfoDer::from(key.to_vec());
        let schemes = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
