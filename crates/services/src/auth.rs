//! Who sent this request: digest credentials to a device and its account
//! (RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! *Invariant: a wrong password and an unknown user are one outcome, reached by the same
//! work; nothing is remembered of a client before its response was verified, but for the
//! bounded [`OfferMemory`].*

use std::net::IpAddr;

use sidetone_model::{AccountId, DeviceId};
use sidetone_sip::digest::{challenge, verify};
use sidetone_sip::{
    Algorithm, CountCheck, Credentials, Ha1, HeaderName, MalformedCredentials, Message,
    NonceCounts, NonceKey, NonceState, Qop, Uri,
};
use smallvec::SmallVec;

use crate::directory::{DeviceCredentials, Directory};
use crate::domains::Domains;
use crate::offer::OfferMemory;

/// What the credentials of a request are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOutcome {
    /// They are good.
    Granted {
        /// The device that has them.
        device: DeviceId,
        /// Whose device it is.
        account: AccountId,
    },
    /// They are good, but of an earlier run, whose counts are forgotten: what was done then may be answered once more,
    /// and for anything else there is a challenge (stale).
    Earlier,
    /// There are none for our realm, or their nonce is no longer good: challenge.
    Challenge {
        /// The client may answer without asking its user.
        stale: bool,
    },
    /// A wrong password or an unknown user, which are the same: 403, and count a failure.
    Denied,
    /// They are good, but the account is disabled: 403.
    Disabled {
        /// The account.
        account: AccountId,
    },
    /// They break the rules: 400.
    Malformed,
}

/// Where the credentials stand, by who asked for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsHeader {
    /// Answers a 401 of a registrar or another server at the end.
    Authorization,
    /// Answers a 407 of a proxy.
    ProxyAuthorization,
}

impl CredentialsHeader {
    /// The header of the challenge.
    pub fn challenge_name(self) -> &'static str {
        match self {
            Self::Authorization => "WWW-Authenticate",
            Self::ProxyAuthorization => "Proxy-Authenticate",
        }
    }

    /// The status of the challenge.
    pub fn challenge_status(self) -> u16 {
        match self {
            Self::Authorization => 401,
            Self::ProxyAuthorization => 407,
        }
    }

    fn name(self) -> HeaderName {
        match self {
            Self::Authorization => HeaderName::Authorization,
            Self::ProxyAuthorization => HeaderName::ProxyAuthorization,
        }
    }
}

/// Values of the challenge headers, in order.
pub type Challenges = SmallVec<[String; 2]>;

/// Keys and memory of authentication; shared by all shards.
#[derive(Debug)]
pub struct Authenticator {
    key: NonceKey,
    counts: NonceCounts,
    offers: OfferMemory,
    lifetime_ms: u64,
    /// Nonces issued before are of an earlier run.
    since_ms: u64,
}

/// Verified against where there is no such user: a hash that no password is known for,
/// and whose result is not looked at.
const DUMMY: Ha1 = Ha1 {
    sha256: [0x5a; 32],
    md5: Some([0x5a; 16]),
};

impl Authenticator {
    /// Nonces signed with `secret` live for `lifetime_ms`; about `nonces` of them can be
    /// in use at a time.
    pub fn new(secret: [u8; 32], lifetime_ms: u64, nonces: usize) -> Self {
        Self {
            key: NonceKey::new(secret),
            counts: NonceCounts::new(nonces, lifetime_ms),
            offers: OfferMemory::default(),
            lifetime_ms,
            since_ms: 0,
        }
    }

    /// With the moment at which this run began: which nonces were used before it nobody knows any more.
    #[must_use]
    pub fn since(self, since_ms: u64) -> Self {
        Self { since_ms, ..self }
    }

    /// Judges the credentials for `realm` in a request that came from `source`.
    pub fn authenticate(
        &self,
        directory: &Directory,
        realm: &str,
        message: &Message,
        header: CredentialsHeader,
        source: IpAddr,
        now_ms: u64,
    ) -> AuthOutcome {
        let credentials = match credentials_for(message, header, realm) {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return AuthOutcome::Challenge { stale: false },
            Err(MalformedCredentials) => return AuthOutcome::Malformed,
        };
        let Some(algorithm) = acceptable(&credentials, message) else {
            return AuthOutcome::Malformed;
        };
        // A nonce is bound to the address it was given to: nobody can get another banned
        // by guessing in its name from afar.
        let nonce =
            self.key
                .check_for(&client(source), credentials.nonce, now_ms, self.lifetime_ms);
        let NonceState::Fresh { issued_ms, id } = nonce else {
            return AuthOutcome::Challenge { stale: true };
        };
        let Some(found) = right_device(directory, &credentials, algorithm, message) else {
            self.offers.answered(message, source, false);
            return AuthOutcome::Denied;
        };
        if credentials.nc == 1 {
            self.offers.answered(message, source, true);
        }
        if issued_ms < self.since_ms {
            return AuthOutcome::Earlier;
        }
        if self.counts.accept(id, credentials.nc, now_ms) != CountCheck::Accepted {
            return AuthOutcome::Challenge { stale: true };
        }
        match found.disabled {
            true => AuthOutcome::Disabled {
                account: found.account,
            },
            false => AuthOutcome::Granted {
                device: found.device,
                account: found.account,
            },
        }
    }

    /// Whether the request comes from where it says: it has a nonce that was given to its source a moment ago.
    pub fn proves_source(&self, message: &Message, source: IpAddr, now_ms: u64) -> bool {
        let names = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
        names.into_iter().any(|name| {
            let credentials = message.header(name).map(Credentials::parse);
            let Some(Ok(Some(credentials))) = credentials else {
                return false;
            };
            let (client, nonce) = (client(source), credentials.nonce);
            let state = self.key.check_for(&client, nonce, now_ms, self.lifetime_ms);
            matches!(state, NonceState::Fresh { .. })
        })
    }

    /// The challenges for a request (RFC 8760 §2.4): one nonce for all algorithms.
    pub fn challenges(
        &self,
        message: &Message,
        realm: &str,
        stale: bool,
        source: IpAddr,
        now_ms: u64,
        random: u64,
    ) -> Challenges {
        let offer = match stale {
            true => self.offers.renew(message, source),
            false => self.offers.challenge(message, source, now_ms),
        };
        let nonce = self.key.issue_for(&client(source), now_ms, random);
        let values = offer
            .algorithms()
            .iter()
            .map(|algorithm| challenge(realm, &nonce, *algorithm, stale));
        values.collect()
    }
}

/// The octets of a client's address, the same for IPv4 in both notations.
fn client(source: IpAddr) -> [u8; 16] {
    match source {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The credentials for a realm. Another realm's or another scheme's are not ours to judge;
/// what cannot be read counts only where nothing readable is for us.
fn credentials_for<'m>(
    message: &'m Message,
    header: CredentialsHeader,
    realm: &str,
) -> Result<Option<Credentials<'m>>, MalformedCredentials> {
    if !message.has(header.name()) {
        return Ok(None);
    }
    let mut result = Ok(None);
    for field in message.fields().filter(|field| field.name == header.name()) {
        match Credentials::parse(field.value) {
            Ok(Some(credentials)) if credentials.realm == realm => return Ok(Some(credentials)),
            Ok(_) => {}
            Err(malformed) => result = Err(malformed),
        }
    }
    result
}

/// The algorithm, if the credentials are such as our challenge asks for: with `qop`, by an
/// algorithm that we offer, for this request's URI.
fn acceptable(credentials: &Credentials<'_>, message: &Message) -> Option<Algorithm> {
    let fits =
        credentials.qop != Qop::Missing && same_resource(credentials.uri, message.request_uri());
    credentials.algorithm.filter(|_| fits)
}

/// RFC 7616 §3.4.6 demands the same resource, RFC 3261 §22.4 point 5 leaves room for
/// rewriting on the way: user and host have to be the same, parameters need not.
fn same_resource(hashed: &str, requested: &str) -> bool {
    if hashed == requested {
        return true;
    }
    let (Ok(hashed), Ok(requested)) = (Uri::parse(hashed), Uri::parse(requested)) else {
        return false;
    };
    // COMPAT(sipp 3.6): hashes `sip:HOST:PORT` of the server that it talks to, whatever the
    // Request-URI. The method and the nonce's count still bind the answer to one request.
    let server_alone = hashed.user.is_none() && hashed.host_ip().is_some();
    server_alone
        || hashed.host.eq_ignore_ascii_case(requested.host)
            && hashed.user_unescaped() == requested.user_unescaped()
}

/// The device whose response this is. The same work whether or not the user exists and
/// may use the algorithm.
fn right_device(
    directory: &Directory,
    credentials: &Credentials<'_>,
    algorithm: Algorithm,
    message: &Message,
) -> Option<DeviceCredentials> {
    let found = directory.credentials(&credentials.realm, &credentials.username);
    let known = found.as_ref().and_then(|found| found.ha1.bytes(algorithm));
    let ha1 = known.or_else(|| DUMMY.bytes(algorithm)).unwrap_or_default();
    let right = verify(
        algorithm,
        ha1,
        message.method_text(),
        credentials,
        message.body_bytes(),
    );
    let usable = known.is_some();
    if right & usable { found } else { None }
}

/// Whether a sender may use this From: it has to be an address of the account that it
/// authenticated as, at a domain of ours (RFC 3261 §22.1, RFC 3325 §5).
pub fn identity_allowed(
    directory: &Directory,
    domains: &Domains,
    account: AccountId,
    from_uri: &str,
) -> bool {
    directory
        .resolve(domains, from_uri)
        .is_some_and(|found| found.account == account)
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
