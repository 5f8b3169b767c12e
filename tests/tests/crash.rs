//! `kill -9` at random moments: nothing acknowledged is lost, phones stay reachable.
//!
//! `SIDETONE_CRASH_ROUNDS` says how often (twenty), `SIDETONE_SEED` repeats a run.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sidetone_tests::sip::phone::word;
use sidetone_tests::{Phone, Server, until};

const RECIPIENTS: [&str; 3] = ["bob", "bill", "beth"];
const SENDERS: [&str; 3] = ["ann", "abe", "ada"];
/// Gets everything, but only at the very end.
const AWAY: &str = "zoe";

type Texts = Arc<Mutex<Vec<String>>>;

fn add(texts: &Texts, text: String) {
    texts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(text);
}

fn copy(texts: &Texts) -> Vec<String> {
    texts.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A phone that only listens and answers, and refreshes its registration while `refresh` is set.
struct Recipient {
    name: &'static str,
    texts: Texts,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recipient {
    fn start(mut phone: Phone, name: &'static str, refresh: Arc<AtomicBool>) -> Recipient {
        let (texts, stop) = (Texts::default(), Arc::new(AtomicBool::new(false)));
        let (kept, ends) = (Arc::clone(&texts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                if let Some(message) = phone.take(Duration::from_millis(100), |m| {
                    m.method() == "MESSAGE" && m.status().is_none()
                }) {
                    add(&kept, message.text());
                    phone.answer(&message, 200);
                }
                if refresh.load(Ordering::Relaxed) && rand::random_ratio(1, 20) {
                    let request = phone.registration(600);
                    let _ = phone.try_transact(&request, Duration::from_millis(50));
                }
            }
        });
        Recipient {
            name,
            texts,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Recipient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes to everybody in turn until told to stop; gives (recipient, text) of what was acknowledged.
fn send(mut phone: Phone, stop: Arc<AtomicBool>) -> JoinHandle<Vec<(&'static str, String)>> {
    std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        let everybody = RECIPIENTS.iter().chain([&AWAY]).cycle();
        for to in everybody {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let text = word();
            let draft = phone.draft("MESSAGE", &format!("sip:{to}@example.test"));
            let draft = draft.with_body("text/plain", text.clone());
            let limit = Duration::from_millis(400);
            let Some(first) = phone.try_transact(&draft, limit) else {
                continue;
            };
            let retry = phone.retry(&draft, &first);
            let last = retry.map_or(Some(first), |r| phone.try_transact(&r, limit));
            if matches!(last.and_then(|a| a.status()), Some(200 | 202)) {
                acknowledged.push((*to, text));
            }
        }
        acknowledged
    })
}

#[test]
fn nothing_acknowledged_is_lost() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let rounds = number("SIDETONE_CRASH_ROUNDS").unwrap_or(20);
    let seed = number("SIDETONE_SEED").unwrap_or_else(rand::random);
    eprintln!("{rounds} rounds, SIDETONE_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let people: Vec<&str> = RECIPIENTS
        .iter()
        .chain(&SENDERS)
        .chain([&AWAY])
        .copied()
        .collect();
    let mut server = Server::with(&people);
    let refresh = Arc::new(AtomicBool::new(true));
    let recipients: Vec<Recipient> = RECIPIENTS
        .iter()
        .map(|name| {
            let phone = Phone::udp(&server, name).registered();
            Recipient::start(phone, name, Arc::clone(&refresh))
        })
        .collect();
    // Bindings are written behind within a second; what is older than that must be kept.
    std::thread::sleep(Duration::from_millis(1300));
    let mut acknowledged: Vec<(&str, String)> = Vec::new();
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let senders = SENDERS.map(|name| send(Phone::udp(&server, name), Arc::clone(&stop)));
        std::thread::sleep(Duration::from_millis(dice.random_range(20..800)));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        let before = acknowledged.len();
        for sender in senders {
            acknowledged.extend(sender.join().expect("a sender"));
        }
        let took = server.up();
        assert!(
            took < Duration::from_secs(2),
            "round {round}: the restart took {took:?}"
        );
        reachable(&server, &recipients, round);
        let count = acknowledged.len() - before;
        eprintln!(
            "round {round}: {count} acknowledged, restart {} ms",
            took.as_millis()
        );
    }
    refresh.store(false, Ordering::Relaxed);
    for recipient in &recipients {
        all_came(recipient.name, &acknowledged, || copy(&recipient.texts));
    }
    let zoe = Phone::udp(&server, AWAY).registered();
    let zoe = Recipient::start(zoe, AWAY, refresh);
    all_came(AWAY, &acknowledged, || copy(&zoe.texts));
}

/// A phone that has not registered since the crash is called by its old binding.
fn reachable(server: &Server, recipients: &[Recipient], round: u64) {
    let mut caller = Phone::udp(server, SENDERS[0]);
    for recipient in recipients {
        let text = format!("round {round} {}", word());
        let status = caller.message(recipient.name, &text).status();
        assert!(
            matches!(status, Some(200 | 202)),
            "round {round}: {status:?}"
        );
        let came = until(Duration::from_secs(10), || {
            copy(&recipient.texts).contains(&text).then_some(())
        });
        assert!(
            came.is_some(),
            "round {round}: {} is not reached",
            recipient.name
        );
    }
}

fn all_came(name: &str, acknowledged: &[(&str, String)], texts: impl Fn() -> Vec<String>) {
    let expected: HashSet<&String> = acknowledged
        .iter()
        .filter(|(to, _)| *to == name)
        .map(|(_, text)| text)
        .collect();
    let end = Instant::now() + Duration::from_secs(60);
    let missing = || {
        let came: HashSet<String> = texts().into_iter().collect();
        expected.iter().filter(|t| !came.contains(**t)).count()
    };
    while missing() > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let came = texts();
    let once: HashSet<&String> = came.iter().collect();
    eprintln!(
        "{name}: {} expected, {} came, {} of them again",
        expected.len(),
        once.len(),
        came.len() - once.len()
    );
    assert_eq!(missing(), 0, "{name} lost acknowledged messages");
}
