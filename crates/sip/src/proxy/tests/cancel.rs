//! CANCEL and Timer C (RFC 3261 §9.1, §16.8, §16.10).

use super::*;

#[test]
fn after_180_the_cancel_goes_out_at_once() {
    let mut ladder = Ladder::invite(vec![target("b1", 1), target("b2", 1)]);
    ladder.answer("b1", 180);
    ladder.answer("b2", 180);
    ladder.log.clear();
    ladder.cancel();
    ladder.expect(&["< alice CANCEL", "> b1 CANCEL", "> b2 CANCEL"]);
    ladder.answer("b1", 487);
    ladder.answer("b2", 486);
    ladder.expect(&["< b1 487", "< b2 486", "> alice 487"]);
    ladder.ends();
}

#[test]
fn before_any_answer_the_cancel_waits_for_one() {
    let mut ladder = Ladder::invite(vec![target("b1", 9), target("b2", 1)]);
    ladder.cancel();
    ladder.expect(&["> b1 INVITE", "< alice CANCEL"]);
    ladder.answer("b1", 180);
    ladder.expect(&["< b1 180", "> b1 CANCEL", "> alice 180"]);
    ladder.answer("b1", 180);
    ladder.answer("b1", 487);
    ladder.expect(&["< b1 180", "> alice 180", "< b1 487", "> alice 487"]);
    ladder.ends();
}

#[test]
fn a_2xx_that_crosses_the_cancel_reaches_the_caller() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.answer("b1", 180);
    ladder.cancel();
    ladder.log.clear();
    ladder.answer("b1", 200);
    ladder.expect(&["< b1 200", "> alice 200"]);
    ladder.ends();
}

#[test]
fn a_cancel_after_the_answer_does_nothing() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.answer("b1", 200);
    ladder.log.clear();
    ladder.cancel();
    ladder.expect(&["< alice CANCEL"]);
    ladder.ends();
}

#[test]
fn a_callee_that_never_answers_the_cancel_is_given_up() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.answer("b1", 180);
    ladder.cancel();
    ladder.log.clear();
    ladder.seconds(31);
    ladder.seconds(1);
    ladder.expect(&["31 s", "> alice 487", "32 s"]);
    ladder.ends();
}

#[test]
fn a_callee_that_never_says_anything_is_given_up() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.cancel();
    ladder.log.clear();
    ladder.seconds(32);
    ladder.expect(&["> alice 100", "> alice 487", "32 s"]);
    ladder.ends();
}

#[test]
fn timer_c_cancels_what_rings_for_more_than_three_minutes() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.answer("b1", 180);
    ladder.seconds(180);
    ladder.log.clear();
    ladder.seconds(1);
    ladder.expect(&["> b1 CANCEL", "181 s"]);
    ladder.answer("b1", 487);
    ladder.expect(&["< b1 487", "> alice 408"]);
    ladder.ends();
}

#[test]
fn timer_c_begins_anew_with_each_provisional_answer_but_100() {
    let mut ladder = Ladder::invite(vec![target("b1", 1)]);
    ladder.answer("b1", 180);
    ladder.seconds(150);
    ladder.answer("b1", 183);
    ladder.seconds(100);
    ladder.answer("b1", 100);
    ladder.log.clear();
    ladder.seconds(80);
    ladder.expect(&["330 s"]);
    ladder.seconds(33);
    ladder.expect(&["> b1 CANCEL", "363 s"]);
    ladder.seconds(32);
    ladder.log.retain(|line| line != "> b1 CANCEL");
    ladder.expect(&["> alice 408", "395 s"]);
    ladder.ends();
}

#[test]
fn timer_c_of_one_branch_leaves_the_search_going() {
    let mut ladder = Ladder::invite(vec![target("b1", 9), target("b2", 1)]);
    ladder.answer("b1", 180);
    ladder.seconds(181);
    ladder.log.clear();
    ladder.answer("b1", 487);
    ladder.expect(&["< b1 487", "> b2 INVITE"]);
    ladder.answer("b2", 200);
    ladder.expect(&["< b2 200", "> alice 200"]);
    ladder.ends();
}

#[test]
fn who_rang_in_vain_is_told_why() {
    let both = || vec![target("b1", 1), target("b2", 1)];
    let rung = |end: &dyn Fn(&mut Ladder)| {
        let mut ladder = Ladder::invite(both());
        ladder.answer("b1", 180);
        ladder.answer("b2", 180);
        end(&mut ladder);
        ladder.reason("b2")
    };
    assert_eq!(
        rung(&|ladder| ladder.answer("b1", 200)).as_deref(),
        Some("SIP;cause=200;text=\"Call completed elsewhere\"")
    );
    assert_eq!(
        rung(&|ladder| ladder.answer("b1", 603)).as_deref(),
        Some("SIP;cause=603")
    );
    assert_eq!(
        rung(&Ladder::cancel).as_deref(),
        Some("Q.850;cause=16"),
        "the caller's own reason"
    );
}
