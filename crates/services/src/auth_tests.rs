use bytes::Bytes;
use sidetone_model::{Account, Device, Role};
use sidetone_sip::digest::{ha1_md5, ha1_sha256, response_text};
use sidetone_sip::{Framing, Limits};
use sidetone_store::DirectoryChange;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const LIFETIME_MS: u64 = 300_000;
const REALM: &str = "example.com";

fn account(id: i64, user: &str, disabled: bool) -> DirectoryChange {
    DirectoryChange::Account(Account {
        id: AccountId(id),
        address: format!("{user}@{REALM}").parse().expect("an address"),
        name: String::new(),
        profile: String::new(),
        role: Role::User,
        disabled,
    })
}

fn device(id: i64, user: &str, md5: bool) -> DirectoryChange {
    DirectoryChange::Device(Device {
        id: DeviceId(id * 10),
        account: AccountId(id),
        label: String::new(),
        sip_user: user.into(),
        realm: REALM.into(),
        ha1_sha256: ha1_sha256(user, REALM, "secret"),
        ha1_md5: md5.then(|| ha1_md5(user, REALM, "secret")),
        created_ms: 0,
    })
}

struct World {
    directory: Directory,
    authenticator: Authenticator,
}

fn world() -> World {
    let directory = Directory::new();
    directory.apply([account(1, "alice", false), device(1, "alice", true)]);
    directory.apply([account(2, "bob", false), device(2, "bob", false)]);
    directory.apply([account(3, "carol", true), device(3, "carol", true)]);
    let alias = "1001@example.com".parse().expect("an address");
    directory.apply([DirectoryChange::Alias {
        address: alias,
        account: AccountId(1),
    }]);
    World {
        directory,
        authenticator: Authenticator::new([9; 32], LIFETIME_MS, 1000),
    }
}

fn source() -> IpAddr {
    "192.0.2.1".parse().expect("an address")
}

fn request(extra: &str) -> Message {
    let text = format!(
        "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n\
         From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c\r\n\
         CSeq: 1 MESSAGE\r\n{extra}Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    );
    Message::parse(Bytes::from(text), Framing::Datagram, &Limits::default()).expect("well-formed")
}

/// What a phone would send, and every way in which it can go wrong.
struct Answer<'a> {
    user: &'a str,
    password: &'a str,
    algorithm: Algorithm,
    nonce: &'a str,
    nc: u32,
    uri: &'a str,
    qop: &'a str,
}

impl Answer<'_> {
    fn field(&self) -> String {
        let draft = |response: &str| {
            format!(
                "Digest username=\"{}\", realm=\"{REALM}\", nonce=\"{}\", uri=\"{}\", algorithm={}, \
                 qop={}, nc={:08x}, cnonce=\"0a4f\", response=\"{response}\"",
                self.user, self.nonce, self.uri, self.algorithm, self.qop, self.nc
            )
        };
        let ha1 = match self.algorithm {
            Algorithm::Sha256 => ha1_sha256(self.user, REALM, self.password).to_vec(),
            Algorithm::Md5 => ha1_md5(self.user, REALM, self.password).to_vec(),
        };
        let unsigned = draft(&"0".repeat(32));
        let credentials = Credentials::parse(unsigned.as_bytes())
            .expect("well-formed")
            .expect("Digest");
        draft(&response_text(
            self.algorithm,
            &ha1,
            "MESSAGE",
            &credentials,
            b"hello",
        ))
    }

    fn request(&self) -> Message {
        request(&format!("Proxy-Authorization: {}\r\n", self.field()))
    }
}

impl World {
    fn challenges(&self) -> Challenges {
        self.authenticator
            .challenges(&request(""), REALM, false, source(), NOW_MS, 77)
    }

    fn nonce(&self, random: u64) -> String {
        self.authenticator
            .key
            .issue_for(&client(source()), NOW_MS, random)
    }

    fn judge(&self, message: &Message) -> AuthOutcome {
        self.judge_at(message, source(), NOW_MS)
    }

    fn judge_at(&self, message: &Message, source: IpAddr, now_ms: u64) -> AuthOutcome {
        let header = CredentialsHeader::ProxyAuthorization;
        self.authenticator
            .authenticate(&self.directory, REALM, message, header, source, now_ms)
    }
}

fn alice(nonce: &str) -> Answer<'_> {
    Answer {
        user: "alice",
        password: "secret",
        algorithm: Algorithm::Sha256,
        nonce,
        nc: 1,
        uri: "sip:bob@example.com",
        qop: "auth",
    }
}

const GRANTED: AuthOutcome = AuthOutcome::Granted {
    device: DeviceId(10),
    account: AccountId(1),
};

#[test]
fn a_challenge_answered_well_grants_once() {
    let world = world();
    let challenges = world.challenges();
    assert_eq!(challenges.len(), 2);
    assert!(challenges[0].contains("algorithm=SHA-256") && challenges[1].contains("algorithm=MD5"));
    let nonce = world.nonce(77);
    assert!(
        challenges
            .iter()
            .all(|challenge| challenge.contains(&nonce)),
        "one nonce for both"
    );
    assert_eq!(world.judge(&alice(&nonce).request()), GRANTED);
    assert_eq!(
        world.judge(&alice(&nonce).request()),
        AuthOutcome::Challenge { stale: true },
        "a replay"
    );
    assert_eq!(
        world.judge(
            &Answer {
                nc: 2,
                ..alice(&nonce)
            }
            .request()
        ),
        GRANTED
    );
    let md5 = Answer {
        algorithm: Algorithm::Md5,
        nc: 3,
        ..alice(&nonce)
    };
    assert_eq!(world.judge(&md5.request()), GRANTED);
    let whole = Answer {
        qop: "auth-int",
        nc: 4,
        ..alice(&nonce)
    };
    assert_eq!(world.judge(&whole.request()), GRANTED);
}

#[test]
fn nothing_for_us_is_a_challenge() {
    let world = world();
    let fresh = AuthOutcome::Challenge { stale: false };
    assert_eq!(world.judge(&request("")), fresh);
    assert_eq!(
        world.judge(&request("Proxy-Authorization: Basic dTpw\r\n")),
        fresh
    );
    let field = alice(&world.nonce(1)).field();
    assert_eq!(
        world.judge(&request(&format!("Authorization: {field}\r\n"))),
        fresh,
        "the other header"
    );
    let other = field.replace("realm=\"example.com\"", "realm=\"example.org\"");
    assert_eq!(
        world.judge(&request(&format!("Proxy-Authorization: {other}\r\n"))),
        fresh
    );
    let both = format!("Proxy-Authorization: {other}\r\nProxy-Authorization: {field}\r\n");
    assert_eq!(world.judge(&request(&both)), GRANTED);
}

#[test]
fn wrong_and_unknown_are_one() {
    let world = world();
    let nonce = world.nonce(1);
    for answer in [
        Answer {
            password: "Secret",
            ..alice(&nonce)
        },
        Answer {
            user: "nobody",
            ..alice(&nonce)
        },
        Answer {
            user: "nobody",
            algorithm: Algorithm::Md5,
            ..alice(&nonce)
        },
        Answer {
            user: "bob",
            algorithm: Algorithm::Md5,
            ..alice(&nonce)
        },
    ] {
        assert_eq!(
            world.judge(&answer.request()),
            AuthOutcome::Denied,
            "{}",
            answer.user
        );
    }
    assert!(
        world.authenticator.counts.is_empty(),
        "nothing is remembered of them"
    );
    let bob = Answer {
        user: "bob",
        ..alice(&nonce)
    };
    let granted = AuthOutcome::Granted {
        device: DeviceId(20),
        account: AccountId(2),
    };
    assert_eq!(world.judge(&bob.request()), granted);
}

#[test]
fn the_dummy_hash_admits_nobody() {
    let world = world();
    let nonce = world.nonce(1);
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let answer = Answer {
            user: "nobody",
            algorithm,
            ..alice(&nonce)
        };
        let field = answer.field();
        let credentials = Credentials::parse(field.as_bytes())
            .expect("well-formed")
            .expect("Digest");
        let dummy = DUMMY.bytes(algorithm).expect("both");
        let forged = response_text(algorithm, dummy, "MESSAGE", &credentials, b"hello");
        let end = field.find("response=").expect("a response");
        let field = format!("{}response=\"{forged}\"", &field[..end]);
        let request = request(&format!("Proxy-Authorization: {field}\r\n"));
        assert_eq!(world.judge(&request), AuthOutcome::Denied);
    }
}

#[test]
fn old_and_foreign_nonces_are_stale() {
    let world = world();
    let nonce = world.nonce(1);
    let stale = AuthOutcome::Challenge { stale: true };
    assert_eq!(
        world.judge_at(&alice(&nonce).request(), source(), NOW_MS + LIFETIME_MS + 1),
        stale
    );
    let elsewhere = "192.0.2.2".parse().expect("an address");
    assert_eq!(
        world.judge_at(&alice(&nonce).request(), elsewhere, NOW_MS),
        stale
    );
    assert_eq!(world.judge(&alice("made-up").request()), stale);
    let mapped = "::ffff:192.0.2.1".parse().expect("an address");
    assert_eq!(
        world.judge_at(&alice(&nonce).request(), mapped, NOW_MS),
        GRANTED
    );
    let renewed = world
        .authenticator
        .challenges(&request(""), REALM, true, source(), NOW_MS, 1);
    assert!(
        renewed
            .iter()
            .all(|challenge| challenge.ends_with("stale=true"))
    );
}

#[test]
fn the_uri_has_to_be_the_requests() {
    let world = world();
    let nonce = world.nonce(1);
    for (nc, uri) in (1..).zip([
        "sip:bob@EXAMPLE.com;transport=tcp",
        "sip:%62ob@example.com:5060",
    ]) {
        assert_eq!(
            world.judge(
                &Answer {
                    uri,
                    nc,
                    ..alice(&nonce)
                }
                .request()
            ),
            GRANTED,
            "{uri}"
        );
    }
    for uri in [
        "sip:carol@example.com",
        "sip:example.com",
        "sip:bob@example.org",
        "x",
    ] {
        assert_eq!(
            world.judge(
                &Answer {
                    uri,
                    ..alice(&nonce)
                }
                .request()
            ),
            AuthOutcome::Malformed,
            "{uri}"
        );
    }
}

#[test]
fn what_breaks_the_rules_is_malformed() {
    let world = world();
    let field = alice(&world.nonce(1)).field();
    for (from, to) in [
        ("qop=auth, nc=00000001, cnonce=\"0a4f\", ", ""),
        ("algorithm=SHA-256", "algorithm=SHA-512-256"),
        ("algorithm=SHA-256", "algorithm=MD5-sess"),
        ("nc=00000001", "nc=x"),
        ("response=\"", "response=\"x"),
    ] {
        let broken = field.replace(from, to);
        assert_ne!(broken, field);
        let request = request(&format!("Proxy-Authorization: {broken}\r\n"));
        assert_eq!(world.judge(&request), AuthOutcome::Malformed, "{to}");
    }
}

#[test]
fn a_disabled_account_hears_so_only_with_the_right_password() {
    let world = world();
    let nonce = world.nonce(1);
    let carol = Answer {
        user: "carol",
        ..alice(&nonce)
    };
    assert_eq!(
        world.judge(&carol.request()),
        AuthOutcome::Disabled {
            account: AccountId(3)
        }
    );
    let wrong = Answer {
        user: "carol",
        password: "x",
        nc: 2,
        ..alice(&nonce)
    };
    assert_eq!(world.judge(&wrong.request()), AuthOutcome::Denied);
}

#[test]
fn nobody_sends_in_anothers_name() {
    let world = world();
    let domains = Domains::new(REALM);
    let may = |from: &str| identity_allowed(&world.directory, &domains, AccountId(1), from);
    for own in [
        "sip:alice@example.com",
        "sips:alice@EXAMPLE.COM:5061",
        "sip:1001@example.com",
        "tel:10-01",
    ] {
        assert!(may(own), "{own}");
    }
    for foreign in [
        "sip:bob@example.com",
        "sip:alice@example.org",
        "sip:nobody@example.com",
        "sip:example.com",
        "",
    ] {
        assert!(!may(foreign), "{foreign}");
    }
}
