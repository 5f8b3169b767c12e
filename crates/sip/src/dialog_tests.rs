use super::*;
use crate::{Framing, Limits};

fn parse(text: &str) -> Message {
    let octets = Bytes::copy_from_slice(text.as_bytes());
    Message::parse(octets, Framing::Stream, &Limits::default()).unwrap()
}

fn subscribe(cseq: u32, to_tag: &str, more: &str) -> Message {
    parse(&format!(
        "SUBSCRIBE sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\n\
         From: \"B\" <sip:bob@example.com>;tag=f\r\n\
         To: sip:bob@example.com{to_tag}\r\n\
         Call-ID: 1@b\r\n\
         CSeq: {cseq} SUBSCRIBE\r\n\
         {more}\
         Content-Length: 0\r\n\r\n"
    ))
}

fn contact(uri: &str) -> String {
    format!("Contact: <{uri}>\r\n")
}

fn lines(request: &DialogRequest) -> Vec<String> {
    let octets = request.build("SIP/2.0/TCP us;branch=z9hG4bK2");
    let text = std::str::from_utf8(&octets).unwrap();
    text.split("\r\n").map(str::to_owned).collect()
}

#[test]
fn our_requests_go_back_the_way_of_the_record() {
    let record = "Record-Route: <sip:p1;lr>;x=1, <sip:p2;lr>\r\nRecord-Route: <sip:p3;lr>\r\n";
    let request = subscribe(5, "", &(contact("sip:bob@192.0.2.1") + record));
    let mut dialog = Dialog::accept(&request, "t").unwrap();
    let notify = dialog.request("NOTIFY");
    assert_eq!(notify.next_hop, "sip:p1;lr");
    assert_eq!(
        lines(&notify)[..10],
        [
            "NOTIFY sip:bob@192.0.2.1 SIP/2.0",
            "Via: SIP/2.0/TCP us;branch=z9hG4bK2",
            "Max-Forwards: 70",
            "Route: <sip:p1;lr>;x=1",
            "Route: <sip:p2;lr>",
            "Route: <sip:p3;lr>",
            "From: sip:bob@example.com;tag=t",
            "To: \"B\" <sip:bob@example.com>;tag=f",
            "Call-ID: 1@b",
            "CSeq: 1 NOTIFY",
        ]
    );
    assert!(lines(&dialog.request("NOTIFY")).contains(&"CSeq: 2 NOTIFY".to_owned()));
}

#[test]
fn a_strict_router_stands_in_the_request_uri() {
    let record = "Record-Route: <sip:strict>, <sip:p2;lr>\r\n";
    let request = subscribe(5, "", &(contact("sip:bob@192.0.2.1") + record));
    let notify = Dialog::accept(&request, "t").unwrap().request("NOTIFY");
    assert_eq!(notify.next_hop, "sip:strict");
    let lines = lines(&notify);
    assert_eq!(lines[0], "NOTIFY sip:strict SIP/2.0");
    assert_eq!(
        lines[3..5],
        ["Route: <sip:p2;lr>", "Route: <sip:bob@192.0.2.1>"]
    );
}

#[test]
fn a_later_request_moves_the_target_and_an_earlier_one_does_not() {
    let mut dialog = Dialog::accept(&subscribe(5, "", &contact("sip:b@a")), "t").unwrap();
    let later = subscribe(6, ";tag=t", &contact("sip:b@c"));
    assert!(dialog.is_of(&later));
    assert!(!dialog.is_of(&subscribe(6, ";tag=u", &contact("sip:b@c"))));
    assert!(!dialog.is_of(&subscribe(6, "", &contact("sip:b@c"))));
    assert_eq!(dialog.refresh(&later), Ok(()));
    for overtaken in [5, 6] {
        let overtaken = subscribe(overtaken, ";tag=t", &contact("sip:b@d"));
        assert_eq!(dialog.refresh(&overtaken), Err(500));
    }
    assert_eq!(dialog.request("NOTIFY").uri, "sip:b@c");
    assert_eq!(dialog.refresh(&subscribe(7, ";tag=t", "")), Ok(()));
    assert_eq!(dialog.request("NOTIFY").uri, "sip:b@c");
    assert_eq!(
        dialog.refresh(&subscribe(8, ";tag=t", "Contact: *\r\n")),
        Err(400)
    );
}

#[test]
fn what_makes_no_dialog_is_refused() {
    let long = contact(&format!("sip:{}@b", "x".repeat(OCTETS_MAX)));
    let many = contact("sip:b@a") + &"Record-Route: <sip:p;lr>\r\n".repeat(ROUTES_MAX + 1);
    for bad in [
        "",
        "Contact: *\r\n",
        "Contact: <sip:a@b>, <sip:c@d>\r\n",
        "Contact: <tel:+123>\r\n",
        "Contact: <sip:a@b>\r\nRecord-Route: <sip:p\r\n",
        &long,
        &many,
    ] {
        assert!(
            Dialog::accept(&subscribe(1, "", bad), "t").is_err(),
            "{bad}"
        );
    }
}

#[test]
fn what_a_record_names_has_to_be_a_sip_uri() {
    for (route, good) in [
        ("<sip:p1;lr>", true),
        ("<sips:p1>", true),
        ("<p:three.example;lr>", false),
        ("<tel:+47>", false),
    ] {
        let more = contact("sip:bob@192.0.2.1") + &format!("Record-Route: {route}\r\n");
        let dialog = Dialog::accept(&subscribe(5, "", &more), "t");
        assert_eq!(dialog.is_ok(), good, "{route}");
    }
}
