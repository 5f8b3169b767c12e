use super::*;
use crate::{Framing, Limits};
use bytes::Bytes;

const REG: Notifier = Notifier {
    event: "reg",
    content_type: "application/reginfo+xml",
    min_expires_s: 60,
    max_expires_s: 7_200,
    default_expires_s: 3_761,
};

fn request(cseq: u32, to_tag: &str, more: &str) -> Message {
    let text = format!(
        "SUBSCRIBE sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\n\
         From: <sip:bob@example.com>;tag=f\r\n\
         To: <sip:bob@example.com>{to_tag}\r\n\
         Call-ID: 1@b\r\n\
         CSeq: {cseq} SUBSCRIBE\r\n\
         Contact: <sip:bob@192.0.2.1>\r\n\
         {more}\
         Content-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text), Framing::Stream, &Limits::default()).unwrap()
}

fn subscribe(more: &str) -> Result<(Subscription, AnswerHeaders), Refused> {
    REG.subscribe(1_000, &request(1, "", more), "sip:us", "t")
}

fn header(notify: &DialogRequest, name: &str) -> String {
    let octets = notify.build("SIP/2.0/TCP us;branch=z9hG4bK2");
    let message = Message::parse(octets, Framing::Stream, &Limits::default()).unwrap();
    let value = message.header_by_name(name).unwrap_or_default();
    String::from_utf8(value.to_vec()).unwrap()
}

#[test]
fn a_subscription_lasts_as_long_as_its_200_says() {
    let (mut subscription, headers) =
        subscribe("Event: reg;id=7\r\nExpires: 600\r\nAccept: application/reginfo+xml\r\n")
            .unwrap();
    assert_eq!(
        headers,
        [
            ("Contact", "<sip:us>".to_owned()),
            ("Expires", "600".to_owned())
        ]
    );
    let notify = REG.notify(101_000, &mut subscription, None, false, b"x".to_vec());
    assert_eq!(header(&notify, "Subscription-State"), "active;expires=500");
    assert_eq!(header(&notify, "Event"), "reg;id=7");
    assert_eq!(header(&notify, "Content-Type"), "application/reginfo+xml");
    assert_eq!(header(&notify, "From"), "<sip:bob@example.com>;tag=t");
    let asked = REG.notify(101_000, &mut subscription, None, true, vec![]);
    assert_eq!(header(&asked, "Subscription-State"), "pending;expires=500");
    assert!(!subscription.is_over(600_999));
    assert!(subscription.is_over(601_000));
    let last = REG.notify(601_000, &mut subscription, None, false, vec![]);
    assert_eq!(
        header(&last, "Subscription-State"),
        "terminated;reason=timeout"
    );
}

#[test]
fn times_are_kept_within_bounds() {
    let expires = |more: &str| subscribe(more).unwrap().1[1].1.clone();
    assert_eq!(expires("Event: reg\r\n"), "3761");
    assert_eq!(expires("Event: reg\r\nExpires: 999999999999\r\n"), "7200");
    assert_eq!(expires("o: REG\r\nExpires: 0\r\n"), "0");
    let short = subscribe("Event: reg\r\nExpires: 59\r\n").unwrap_err();
    assert_eq!(short.status, 423);
    assert_eq!(short.headers, [("Min-Expires", "60".to_owned())]);
}

#[test]
fn a_fetch_is_answered_by_one_last_notify() {
    let (mut fetch, _) = subscribe("Event: reg\r\nExpires: 0\r\n").unwrap();
    let notify = REG.notify(1_000, &mut fetch, None, false, vec![]);
    assert_eq!(
        header(&notify, "Subscription-State"),
        "terminated;reason=timeout"
    );
}

#[test]
fn what_is_not_served_is_refused() {
    for (more, status) in [
        ("", 489),
        ("Event: presence\r\n", 489),
        ("Event: reg.winfo\r\n", 489),
        ("Event: reg\r\nAccept: application/pidf+xml\r\n", 406),
        ("Event: reg\r\nExpires: soon\r\n", 400),
        ("Event: reg\r\nContact: <sip:two@b>\r\n", 400),
    ] {
        assert_eq!(subscribe(more).unwrap_err().status, status, "{more}");
    }
    let unknown = subscribe("Event: dialog\r\n").unwrap_err();
    assert_eq!(unknown.headers, [("Allow-Events", "reg".to_owned())]);
    assert!(subscribe("Event: reg\r\nAccept: text/plain, */*;q=0.1\r\n").is_ok());
    let lost = REG.subscribe(0, &request(1, ";tag=t", "Event: reg\r\n"), "sip:us", "t");
    assert_eq!(lost.unwrap_err().status, 481);
}

#[test]
fn a_refresh_prolongs_and_an_end_ends() {
    let (mut subscription, _) = subscribe("Event: reg;id=1\r\nExpires: 100\r\n").unwrap();
    let mut refresh = |cseq, tag: &str, more: &str| {
        REG.refresh(50_000, &request(cseq, tag, more), &mut subscription)
            .map_err(|refused| refused.status)
            .map(|headers| headers[1].1.clone())
    };
    let event = "Event: reg;id=1\r\n";
    assert_eq!(refresh(2, ";tag=x", event), Err(481));
    assert_eq!(refresh(2, ";tag=t", "Event: reg;id=2\r\n"), Err(481));
    assert_eq!(refresh(1, ";tag=t", event), Err(500));
    assert_eq!(
        refresh(2, ";tag=t", "Event: reg;id=1\r\nExpires: 10\r\n"),
        Err(423)
    );
    assert_eq!(refresh(2, ";tag=t", event), Ok("3761".to_owned()));
    let end = "Event: reg;id=1\r\nExpires: 0\r\n";
    assert_eq!(refresh(3, ";tag=t", end), Ok("0".to_owned()));
    assert!(subscription.is_over(50_000));
}

#[test]
fn answers_that_end_a_subscription() {
    for status in [481, 404, 489, 408, 603] {
        assert!(Subscription::ends_by(status), "{status}");
    }
    for status in [200, 202, 491, 500, 503] {
        assert!(!Subscription::ends_by(status), "{status}");
    }
    let (mut subscription, _) = subscribe("Event: reg\r\n").unwrap();
    let ends = Some(Termination::NoResource);
    let notify = REG.notify(2_000, &mut subscription, ends, false, vec![]);
    assert_eq!(
        header(&notify, "Subscription-State"),
        "terminated;reason=noresource"
    );
}
