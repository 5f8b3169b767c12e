//! Thousands of calls in which everybody does what chance says: whatever happens, the caller gets one final answer and
//! nothing stays behind.

use super::*;

const STATUS: [u16; 14] = [
    100, 180, 183, 199, 200, 202, 302, 401, 404, 408, 430, 487, 503, 603,
];

fn pick(endpoint: &mut Endpoint, below: usize) -> usize {
    usize::try_from(endpoint.random() % below as u64).unwrap_or_default()
}

fn targets(chance: &mut Endpoint) -> Vec<Target> {
    let some = 1 + pick(chance, 5);
    let target = |number| {
        let q = u16::try_from(pick(chance, 3)).unwrap_or_default();
        let group = (pick(chance, 3) == 0).then(|| "group".into());
        let transport = if pick(chance, 4) == 0 { "u" } else { "b" };
        Target {
            group,
            ..target(&format!("{transport}{number}"), q)
        }
    };
    (0..some).map(target).collect()
}

fn step(chance: &mut Endpoint, ladder: &mut Ladder) {
    let asked: Vec<String> = ladder
        .names
        .iter()
        .filter(|name| ladder.is_asked(name))
        .cloned()
        .collect();
    let name = (!asked.is_empty()).then(|| asked[pick(chance, asked.len())].clone());
    match (pick(chance, 12), name) {
        (0, _) if ladder.request.method() == Some(Method::Invite) && !ladder.is_over() => {
            ladder.cancel()
        }
        (1, _) => ladder.seconds(1 + pick(chance, 40) as u64),
        (2, _) => ladder.wait(Duration::from_millis(pick(chance, 900) as u64)),
        (3, Some(name)) => ladder.unreachable(&name),
        (_, Some(name)) => ladder.answer(&name, STATUS[pick(chance, STATUS.len())]),
        _ => {}
    }
}

/// No final answer but 2xx comes twice, and each INVITE gets one.
fn check(ladder: &Ladder, seed: u128) {
    let finals: Vec<u16> = ladder
        .sent
        .iter()
        .filter(|(name, _)| name == CALLER)
        .filter_map(|(_, message)| message.status())
        .filter(|status| *status >= 200)
        .collect();
    let refusals = finals.iter().filter(|status| **status >= 300).count();
    assert!(
        refusals == 0 || refusals == finals.len(),
        "seed {seed}: {finals:?}\n{}",
        ladder.log.join("\n")
    );
    let invite = ladder.request.method() == Some(Method::Invite);
    assert!(
        !invite || !finals.is_empty(),
        "seed {seed}: no answer\n{}",
        ladder.log.join("\n")
    );
    assert!(
        finals
            .windows(2)
            .all(|pair| pair[0] < 300 || pair[0] == pair[1]),
        "seed {seed}: {finals:?}"
    );
}

#[test]
fn whatever_happens_there_is_one_answer_and_nothing_stays() {
    for seed in 0..3_000 {
        let mut chance = Endpoint::new(0, seed);
        let method = if pick(&mut chance, 4) == 0 {
            "MESSAGE"
        } else {
            "INVITE"
        };
        let mut ladder = Ladder::new(request(method), targets(&mut chance));
        for _ in 0..pick(&mut chance, 25) {
            step(&mut chance, &mut ladder);
        }
        // Timer C of each of five branches one after the other, and what follows it.
        ladder.seconds(5 * (181 + 32 + 32) + 64);
        check(&ladder, seed);
        assert_eq!(
            (ladder.proxy.len(), ladder.endpoint.len()),
            (0, (0, 0)),
            "seed {seed}\n{}",
            ladder.log.join("\n")
        );
        assert!(ladder.proxy.timers.is_empty(), "seed {seed}");
    }
}
