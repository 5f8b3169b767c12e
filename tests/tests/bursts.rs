//! `kill -9` in the middle of a burst that comes by every way at once: UDP, TCP, TLS, WebSocket and the API. What was
//! acknowledged is there, and nothing is there twice.
//!
//! `SIDETONE_BURST_ROUNDS` says how often (twenty), `SIDETONE_SEED` repeats a run.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sidetone_tests::{Api, Message, Phone, Server};

/// Said in one round by each at most: so that the recipients have an end of it.
const A_ROUND: usize = 12;
const ANSWER: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, Debug)]
enum Way {
    Udp,
    Tcp,
    Tls,
    Wss,
}

/// Somebody at a phone, who says numbers one after the other and goes on with the one that was not acknowledged.
struct Talker {
    user: &'static str,
    way: Way,
    /// What had no answer, as it was sent last.
    open: Option<Message>,
    acknowledged: usize,
}

impl Talker {
    fn new(user: &'static str, way: Way) -> Talker {
        Talker {
            user,
            way,
            open: None,
            acknowledged: 0,
        }
    }

    fn phone(&self, server: &Server) -> Option<Phone> {
        Some(match self.way {
            Way::Udp => Phone::udp(server, self.user),
            Way::Tcp => Phone::tcp(server, self.user),
            Way::Tls => Phone::tls(server, self.user),
            Way::Wss => Phone::wss(server, self.user)?,
        })
    }

    /// Talks until the server is gone, or enough was said.
    fn talk(&mut self, mut phone: Phone) {
        for _ in 0..A_ROUND {
            let text = format!("{} {}", self.user, self.acknowledged);
            let request = match self.open.take() {
                Some(mut again) => {
                    // The same request by another transaction: RFC 3261 §8.2.2.2 and our origin tell it.
                    again.set("Via", phone.via());
                    again
                }
                None => phone
                    .draft("MESSAGE", "sip:team@example.test")
                    .with_body("text/plain", text),
            };
            if !self.say(&mut phone, request) {
                return;
            }
        }
    }

    fn say(&mut self, phone: &mut Phone, request: Message) -> bool {
        self.open = Some(request.clone());
        let Some(answer) = attempt(phone, &request) else {
            return false;
        };
        let answer = match phone.retry(&request, &answer) {
            Some(retry) => {
                self.open = Some(retry.clone());
                attempt(phone, &retry)
            }
            None => Some(answer),
        };
        let status = answer.and_then(|answer| answer.status());
        let taken = matches!(status, Some(200 | 202));
        if taken {
            self.open = None;
            self.acknowledged += 1;
        }
        taken
    }
}

fn attempt(phone: &mut Phone, request: &Message) -> Option<Message> {
    if !phone.wire.send(&request.bytes()) {
        return None;
    }
    phone.final_answer(request, ANSWER)
}

/// The same by the API.
fn talk_by_api(api: &Api, path: &str, said: &mut usize) {
    for _ in 0..A_ROUND {
        let body = json!({ "text": format!("eve {said}") });
        let key = format!("Idempotency-Key: eve {said}\r\n");
        let answer = api.try_call("POST", path, &body, &key);
        if answer.is_none_or(|(status, _)| status != 201) {
            return;
        }
        *said += 1;
    }
}

/// All texts of the log, in order.
fn log(api: &Api, path: &str) -> Vec<String> {
    let (mut texts, mut after) = (Vec::new(), 0);
    loop {
        let page = format!("{path}/events?after={after}&limit=500");
        let page = api.ask("GET", &page, &Value::Null);
        let Some(last) = page.as_array().and_then(|page| page.last()) else {
            return texts;
        };
        after = last["seq"].as_u64().expect("a number");
        let page = page.as_array().into_iter().flatten();
        texts.extend(page.filter_map(|event| Some(event["text"].as_str()?.to_owned())));
    }
}

/// What a phone is brought, each Call-ID once: after a crash it may get again what it had, and can tell by that.
fn brought(phone: &mut Phone, count: usize) -> (Vec<String>, usize) {
    let (mut texts, mut known, mut again) = (Vec::new(), BTreeSet::new(), 0);
    while texts.len() < count {
        let message = phone.expect("MESSAGE");
        phone.answer(&message, 200);
        match known.insert(message.call_id().to_owned()) {
            true => texts.push(message.text()),
            false => again += 1,
        }
    }
    (texts, again)
}

#[test]
fn a_burst_by_every_way_survives_kills_once_and_in_order() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let rounds = number("SIDETONE_BURST_ROUNDS").unwrap_or(20);
    let seed = number("SIDETONE_SEED").unwrap_or_else(rand::random);
    eprintln!("{rounds} rounds, SIDETONE_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut server = Server::with(&["udo", "tia", "tea", "wes", "eve", "bob"]);
    server.add_device("bob", "bob2");
    let eve = Api::sign_in(&server, "eve");
    let group = json!({ "members": ["udo", "tia", "tea", "wes", "bob"], "name": "team" });
    let begun = eve.ask("POST", "/api/v1/conversations", &group);
    let path = format!("/api/v1/conversations/{}", begun["id"]);
    let messages = format!("{path}/messages");
    let mut bob = Phone::udp_elsewhere(&server, "bob", 100).registered();
    let mut talkers = [
        Talker::new("udo", Way::Udp),
        Talker::new("tia", Way::Tcp),
        Talker::new("tea", Way::Tls),
        Talker::new("wes", Way::Wss),
    ];
    let mut said = 0;
    for _ in 0..rounds {
        let phones: Vec<Phone> = talkers
            .iter()
            .map(|talker| talker.phone(&server).expect("a connection"))
            .collect();
        std::thread::scope(|scope| {
            for (talker, phone) in talkers.iter_mut().zip(phones) {
                scope.spawn(|| talker.talk(phone));
            }
            scope.spawn(|| talk_by_api(&eve, &messages, &mut said));
            std::thread::sleep(Duration::from_millis(dice.random_range(10..200)));
            server.kill();
        });
        server.up();
    }
    // What had no answer is said again, and is there once, whether it had been there or not.
    for talker in &mut talkers {
        let phone = talker.phone(&server).expect("a connection");
        talker.talk(phone);
        assert!(talker.open.is_none(), "{} is not heard", talker.user);
    }
    talk_by_api(&eve, &messages, &mut said);
    let counts: Vec<(&str, usize)> = talkers
        .iter()
        .map(|talker| (talker.user, talker.acknowledged))
        .chain([("eve", said)])
        .collect();
    let log = log(&eve, &path);
    once_and_in_order(&log, &counts);
    let named: Vec<String> = log.iter().map(|text| shown(text)).collect();
    assert_eq!(bob.register(600).status(), Some(200));
    let (texts, again) = brought(&mut bob, named.len());
    eprintln!("bob: {} and {again} again", texts.len());
    assert_eq!(texts, named);
    // The other device was off all the time.
    let mut bob2 = Phone::udp(&server, "bob").device("bob2").registered();
    let (texts, again) = brought(&mut bob2, named.len());
    assert_eq!((texts, again), (named, 0));
    bob2.expect_silence("MESSAGE", Duration::from_millis(300));
}

fn once_and_in_order(log: &[String], counts: &[(&str, usize)]) {
    for (user, count) in counts {
        eprintln!("{user}: {count}");
        let prefix = format!("{user} ");
        let said: Vec<&String> = log
            .iter()
            .filter(|text| text.starts_with(&prefix))
            .collect();
        let all: Vec<String> = (0..*count).map(|n| format!("{user} {n}")).collect();
        assert_eq!(said, all.iter().collect::<Vec<_>>(), "{user}");
    }
}

/// As a group's messages name who wrote them.
fn shown(text: &str) -> String {
    let user = text.split(' ').next().unwrap_or_default();
    format!("{user}: {text}")
}
