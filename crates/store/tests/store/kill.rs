//! `kill -9` at random moments: what was acknowledged is there.

use crate::support::{Scratch, aor, open};
use sidetone_model::MessageId;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const ROUNDS: u32 = 6;

/// The example `spool`, which cargo builds beside the tests.
fn victim() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().unwrap().parent().unwrap();
    profile.join("examples/spool")
}

/// Lets the victim append for a moment, kills it, and reads what it had acknowledged.
fn round(scratch: &Scratch, life: Duration) -> Vec<(MessageId, String)> {
    let mut child = Command::new(victim())
        .arg("child")
        .arg(scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        lines
            .filter_map(|line| {
                let (id, body) = line.split_once(' ')?;
                Some((MessageId(id.parse().ok()?), body.to_owned()))
            })
            .collect::<Vec<_>>()
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    // The kill may have cut the last line: its number is then too short to be trusted.
    let mut acknowledged = reader.join().unwrap();
    acknowledged.pop();
    acknowledged
}

#[tokio::test]
async fn what_was_acknowledged_is_there_and_once() {
    let scratch = Scratch::new("kill");
    std::fs::write(scratch.path().join("few"), "").unwrap();
    let mut acknowledged = HashMap::new();
    // Different in each run, known from the output.
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for n in 0..ROUNDS {
        let life = Duration::from_millis(400 + (seed * 7919 + u64::from(n) * 104_729) % 400);
        let round = round(&scratch, life);
        for (id, body) in round {
            assert_eq!(
                acknowledged.insert(id, body),
                None,
                "number {id} was given twice"
            );
        }
        let store = open(&scratch).await;
        let bob = store.account(&aor("bob@localhost")).await.unwrap();
        if let Some(desk) = bob.and_then(|b| b.devices.first().map(|d| d.id)) {
            let stored = store.pending(desk, MessageId(0), 10_000_000).await.unwrap();
            let stored: HashMap<_, _> = stored.into_iter().map(|m| (m.id, m.body)).collect();
            for (id, body) in &acknowledged {
                let found = stored.get(id).unwrap_or_else(|| panic!("{id} was lost"));
                let text = std::str::from_utf8(found).unwrap();
                assert!(text.starts_with(&format!("{body} ")), "{id}");
            }
        }
        store.close().await;
    }
    assert!(
        acknowledged.len() > 100,
        "only {} were stored",
        acknowledged.len()
    );
}
