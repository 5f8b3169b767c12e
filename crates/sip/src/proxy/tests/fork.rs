//! Forking and the choice among answers (RFC 3261 §16.6, §16.7).

use super::*;

#[test]
fn the_first_to_answer_wins_and_the_others_are_cancelled() {
    let mut ladder = Ladder::invite(vec![
        target("b1", 500),
        target("b2", 500),
        target("b3", 500),
    ]);
    ladder.expect(&["> b1 INVITE", "> b2 INVITE", "> b3 INVITE"]);
    ladder.answer("b1", 100);
    ladder.answer("b1", 180);
    ladder.answer("b2", 183);
    ladder.answer("b3", 486);
    ladder.expect(&[
        "< b1 100",
        "< b1 180",
        "> alice 180",
        "< b2 183",
        "> alice 183",
        "< b3 486",
    ]);
    ladder.answer("b2", 200);
    ladder.expect(&["< b2 200", "> alice 200", "> b1 CANCEL"]);
    assert_eq!(ladder.outcome().to().expect("To").tag(), Some("b2"));
    ladder.answer("b2", 200);
    ladder.expect(&["< b2 200", "> alice 200"]);
    ladder.answer("b1", 487);
    ladder.answer("b2", 200);
    ladder.expect(&["< b1 487", "< b2 200", "> alice 200"]);
    ladder.ends();
}

#[test]
fn a_second_2xx_reaches_the_caller_too() {
    let mut ladder = Ladder::invite(vec![target("b1", 500), target("b2", 500)]);
    ladder.answer("b2", 180);
    ladder.answer("b1", 200);
    ladder.answer("b2", 200);
    ladder.expect(&[
        "> b1 INVITE",
        "> b2 INVITE",
        "< b2 180",
        "> alice 180",
        "< b1 200",
        "> alice 200",
        "> b2 CANCEL",
        "< b2 200",
        "> alice 200",
    ]);
    assert_eq!(ladder.outcome().to().expect("To").tag(), Some("b2"));
    ladder.seconds(20);
    ladder.log.clear();
    // Late: the callee has not seen an ACK.
    ladder.answer("b1", 200);
    ladder.expect(&["< b1 200", "> alice 200"]);
    ladder.ends();
}

#[test]
fn lower_q_is_asked_after_higher_q_has_refused() {
    let mut ladder = Ladder::invite(vec![
        target("low", 100),
        target("high", 900),
        target("mid", 500),
    ]);
    ladder.answer("high", 486);
    ladder.answer("mid", 404);
    ladder.expect(&[
        "> high INVITE",
        "< high 486",
        "> mid INVITE",
        "< mid 404",
        "> low INVITE",
    ]);
    ladder.answer("low", 480);
    ladder.expect(&["< low 480", "> alice 486"]);
    ladder.ends();
}

#[test]
fn a_6xx_stops_the_search_and_waits_for_the_others() {
    let mut ladder = Ladder::invite(vec![
        target("b1", 900),
        target("b2", 900),
        target("b3", 100),
    ]);
    ladder.answer("b2", 180);
    ladder.answer("b1", 603);
    ladder.expect(&[
        "> b1 INVITE",
        "> b2 INVITE",
        "< b2 180",
        "> alice 180",
        "< b1 603",
        "> b2 CANCEL",
    ]);
    ladder.answer("b2", 487);
    ladder.expect(&["< b2 487", "> alice 603"]);
    ladder.ends();
}

#[test]
fn a_2xx_that_crosses_a_6xx_wins() {
    let mut ladder = Ladder::invite(vec![target("b1", 900), target("b2", 900)]);
    ladder.answer("b2", 180);
    ladder.answer("b1", 600);
    ladder.log.clear();
    ladder.answer("b2", 200);
    ladder.expect(&["< b2 200", "> alice 200"]);
    ladder.ends();
}

#[test]
fn the_best_answer_carries_the_challenges_of_all() {
    let mut ladder = Ladder::invite(vec![target("b1", 1), target("b2", 1), target("b3", 1)]);
    ladder.answer_with("b1", 401, "WWW-Authenticate", "Digest realm=\"one\"");
    ladder.answer("b2", 500);
    ladder.answer_with("b3", 407, "Proxy-Authenticate", "Digest realm=\"three\"");
    let outcome = ladder.outcome();
    assert_eq!(outcome.status(), Some(401));
    assert_eq!(
        outcome.header(HeaderName::WwwAuthenticate),
        Some(&b"Digest realm=\"one\""[..])
    );
    assert_eq!(
        outcome.header(HeaderName::ProxyAuthenticate),
        Some(&b"Digest realm=\"three\""[..])
    );
    assert_eq!(outcome.vias().count(), 1);
    ladder.ends();
}

#[test]
fn challenges_do_not_adorn_other_answers() {
    let mut ladder = Ladder::invite(vec![target("b1", 1), target("b2", 1)]);
    ladder.answer_with("b1", 401, "WWW-Authenticate", "Digest realm=\"one\"");
    ladder.answer("b2", 600);
    assert_eq!(ladder.outcome().status(), Some(600));
    assert!(!ladder.outcome().has(HeaderName::WwwAuthenticate));
    ladder.ends();
}

#[test]
fn a_503_becomes_500_with_the_reason() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.answer_with("b1", 503, "Retry-After", "600");
    let outcome = ladder.outcome();
    assert_eq!(outcome.status(), Some(500));
    assert_eq!(
        outcome.header(HeaderName::Warning),
        Some(&b"399 sidetone \"next hop overloaded\""[..])
    );
    assert!(!outcome.has(HeaderName::RetryAfter) && outcome.to().expect("To").tag().is_some());
    ladder.ends();
}

#[test]
fn another_flow_of_the_instance_only_when_one_fails() {
    let flows = || {
        vec![
            grouped("b1", "i"),
            grouped("b2", "i"),
            grouped("b3", "i"),
            grouped("c1", "j"),
        ]
    };
    let mut ladder = Ladder::invite(flows());
    ladder.expect(&["> b1 INVITE", "> c1 INVITE"]);
    ladder.answer("b1", 430);
    ladder.unreachable("b2");
    ladder.expect(&["< b1 430", "> b2 INVITE", "! b2", "> b3 INVITE"]);
    ladder.answer("b3", 200);
    ladder.expect(&["< b3 200", "> alice 200"]);

    let mut ladder = Ladder::invite(flows());
    ladder.answer("b1", 486);
    ladder.answer("c1", 404);
    ladder.expect(&[
        "> b1 INVITE",
        "> c1 INVITE",
        "< b1 486",
        "< c1 404",
        "> alice 486",
    ]);
    ladder.ends();
}

#[test]
fn of_the_hosts_of_a_name_the_next_is_asked_when_one_is_overloaded() {
    let mut ladder = Ladder::invite(vec![grouped("far1", "dns"), grouped("far2", "dns")]);
    ladder.answer("far1", 503);
    ladder.expect(&["> far1 INVITE", "< far1 503", "> far2 INVITE"]);
    ladder.answer("far2", 486);
    ladder.expect(&["< far2 486", "> alice 486"]);
    ladder.ends();
    // A phone that says so has answered.
    let mut ladder = Ladder::invite(vec![grouped("b1", "i"), grouped("b2", "i")]);
    ladder.answer("b1", 503);
    ladder.expect(&["> b1 INVITE", "< b1 503", "> alice 500"]);
    ladder.ends();
}

#[test]
fn a_lost_connection_of_a_dialog_is_430() {
    let text = String::from_utf8_lossy(request("BYE").bytes()).replace(
        "To: <sip:bob@example.test>",
        "To: <sip:bob@example.test>;tag=b",
    );
    let mut ladder = Ladder::invite_text(&text, vec![target("b1", 1)]);
    ladder.unreachable("b1");
    ladder.expect(&["> b1 BYE", "! b1", "> alice 430"]);
    ladder.ends();
}

#[test]
fn a_lost_connection_is_480_and_a_lost_next_hop_500() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.unreachable("b1");
    ladder.expect(&["> b1 INVITE", "! b1", "> alice 480"]);
    ladder.ends();
    let mut ladder = Ladder::new(request("MESSAGE"), vec![target("far", 1)]);
    ladder.unreachable("far");
    ladder.expect(&["> far MESSAGE", "! far", "> alice 500"]);
    ladder.ends();
}

#[test]
fn silence_is_408_for_invite_and_nothing_for_others() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.seconds(32);
    ladder.expect(&["> b1 INVITE", "> alice 100", "> alice 408", "32 s"]);
    ladder.ends();
    let mut ladder = Ladder::new(request("MESSAGE"), vec![target("b1", 9), target("b2", 1)]);
    ladder.seconds(40);
    ladder.expect(&["> b1 MESSAGE", "40 s"]);
    ladder.ends();
}

#[test]
fn other_requests_fork_without_cancel() {
    let mut ladder = Ladder::new(request("MESSAGE"), vec![target("b1", 1), target("b2", 1)]);
    ladder.answer("b1", 200);
    ladder.answer("b2", 200);
    ladder.expect(&[
        "> b1 MESSAGE",
        "> b2 MESSAGE",
        "< b1 200",
        "> alice 200",
        "< b2 200",
    ]);
    assert_eq!(ladder.proxy.len(), 0, "nothing more can come");
    ladder.ends();
}

#[test]
fn who_has_many_devices_has_32_of_them_called() {
    let names: Vec<String> = (0..40).map(|number| format!("b{number}")).collect();
    let targets = names
        .iter()
        .zip(0..)
        .map(|(name, q)| target(name, q))
        .collect();
    let mut ladder = Ladder::invite(targets);
    for name in names.iter().rev().take(MAX_BRANCHES) {
        ladder.answer(name, 404);
    }
    assert_eq!(ladder.log.last().map(String::as_str), Some("> alice 404"));
    ladder.ends();
}

#[test]
fn nobody_to_ask_is_480() {
    let mut ladder = Ladder::invite(Vec::new());
    ladder.expect(&["> alice 480"]);
    ladder.ends();
}

#[test]
fn an_answer_that_leads_nowhere_is_not_passed_on() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    let bare = |ladder: &Ladder, status| {
        let answer = parse(&ResponseBuilder::new(&ladder.last_request("b1"), status, "").finish());
        let mut edit = crate::Edit::new(&answer);
        edit.remove_all(HeaderName::Via);
        let top = [
            b"Via: ",
            answer.values(HeaderName::Via).next().expect("Via"),
            b"\r\n",
        ]
        .concat();
        edit.insert_top(&top);
        let mut out = Vec::new();
        edit.write(&mut out);
        Bytes::from(out)
    };
    for status in [180, 200] {
        let answer = bare(&ladder, status);
        ladder.deliver("b1", &answer);
        ladder.settle();
    }
    ladder.expect(&["> b1 INVITE", "> alice 500"]);
    ladder.ends();
}
