//! The endpoint against scripted peers, in virtual time.

use super::*;
use crate::timer::{T1, T1_64};
use crate::{ResponseBuilder, Transport};

fn flow(transport: Transport) -> Flow {
    Flow {
        transport,
        listener: 0,
        connection: 0,
        remote: "127.0.0.9:5090".parse().expect("address"),
    }
}

fn request(method: &str, branch: &str, rport: &str) -> Message {
    let text = format!(
        "{method} sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5070;branch={branch}{rport}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.test>;tag=a\r\nTo: <sip:bob@example.test>\r\n\
         Call-ID: one\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text), Framing::Datagram, &Limits::default()).expect("request")
}

fn start_lines(endpoint: &mut Endpoint) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(transmit) = endpoint.poll_transmit() {
        let text = String::from_utf8_lossy(&transmit.bytes).into_owned();
        lines.push(text.lines().next().unwrap_or_default().to_owned());
    }
    lines
}

#[test]
fn a_retransmitted_request_gets_the_same_answer_until_timer_j() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let options = request("OPTIONS", "z9hG4bKa", ";rport");
    let udp = flow(Transport::Udp);
    assert_eq!(endpoint.receive(now, udp, &options), Received::Request);
    let server = endpoint.accept(now, udp, &options, 7).expect("room");
    endpoint.respond(
        now,
        server,
        200,
        ResponseBuilder::new(&options, 200, "").finish(),
    );
    assert_eq!(endpoint.receive(now, udp, &options), Received::Absorbed);
    assert_eq!(
        start_lines(&mut endpoint),
        ["SIP/2.0 200 OK", "SIP/2.0 200 OK"]
    );
    endpoint.handle_timeout(now + T1_64);
    assert_eq!(endpoint.poll_event(), Some(Event::ServerEnded { user: 7 }));
    assert_eq!(
        endpoint.receive(now + T1_64, udp, &options),
        Received::Request
    );
}

#[test]
fn a_copy_that_came_another_way_is_merged_until_the_first_is_over() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let udp = flow(Transport::Udp);
    let accept = |endpoint: &mut Endpoint, now, method, branch| {
        endpoint.accept(now, udp, &request(method, branch, ";rport"), 7)
    };
    let first = accept(&mut endpoint, now, "OPTIONS", "z9hG4bKa").expect("room");
    let second = accept(&mut endpoint, now, "OPTIONS", "z9hG4bKb");
    assert_eq!(second, Err(NotAccepted::Merged));
    let other = accept(&mut endpoint, now, "SUBSCRIBE", "z9hG4bKc");
    assert!(other.is_ok(), "another request");
    for branch in ["z9hG4bKd", "z9hG4bKe"] {
        let answer = accept(&mut endpoint, now, "REGISTER", branch);
        assert!(answer.is_ok(), "REGISTER goes by its CSeq");
    }
    endpoint.abandon_server(first);
    assert!(accept(&mut endpoint, now, "OPTIONS", "z9hG4bKb").is_ok());
}

#[test]
fn an_answer_without_a_transaction_is_given_again_for_some_seconds() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let udp = flow(Transport::Udp);
    let register = request("REGISTER", "z9hG4bKa", ";rport");
    assert_eq!(endpoint.receive(now, udp, &register), Received::Request);
    endpoint.reply_again(now, udp, &register, Bytes::from_static(b"SIP/2.0 200 OK"));
    for (after_ms, expected) in [
        (500, Received::Absorbed),
        (4_900, Received::Absorbed),
        (7_500, Received::Absorbed),
        (11_500, Received::Request),
    ] {
        let later = now + Duration::from_millis(after_ms);
        assert_eq!(
            endpoint.receive(later, udp, &register),
            expected,
            "{after_ms}"
        );
    }
    assert_eq!(start_lines(&mut endpoint), ["SIP/2.0 200 OK"; 4]);
    assert!(endpoint.is_empty());
}

#[test]
fn what_transactions_hold_is_bounded_by_octets_too() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(1_000, 1).with_max_octets(5_000);
    let udp = flow(Transport::Udp);
    let mut accepted = 0;
    for number in 0..100 {
        let options = request("MESSAGE", &format!("z9hG4bK{number}"), ";rport");
        if let Ok(server) = endpoint.accept(now, udp, &options, 7) {
            endpoint.respond(now, server, 200, Bytes::from(vec![b'x'; 1_000]));
            accepted += 1;
        }
    }
    assert_eq!(accepted, 5);
    endpoint.handle_timeout(now + T1_64);
    let later = request("MESSAGE", "z9hG4bKlater", ";rport");
    assert!(endpoint.accept(now, udp, &later, 7).is_ok(), "given back");
}

#[test]
fn a_branch_known_to_somebody_else_is_worth_nothing() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let udp = flow(Transport::Udp);
    let thief = Flow {
        remote: "192.0.2.66:5060".parse().expect("an address"),
        ..udp
    };
    let invite = request("INVITE", "z9hG4bKa", ";rport");
    let server = endpoint.accept(now, udp, &invite, 1).expect("room");
    endpoint.respond(now, server, 180, Bytes::from_static(b"ringing"));
    while endpoint.poll_transmit().is_some() {}
    assert_eq!(endpoint.receive(now, thief, &invite), Received::Request);
    assert!(
        endpoint.poll_transmit().is_none(),
        "no answer for the thief"
    );
    let cancel = request("CANCEL", "z9hG4bKa", ";rport");
    assert_eq!(
        endpoint.receive(now, thief, &cancel),
        Received::Cancel(None)
    );
    assert_eq!(
        endpoint.receive(now, udp, &cancel),
        Received::Cancel(Some(server))
    );
    assert_eq!(endpoint.receive(now, udp, &invite), Received::Absorbed);
    let sent = endpoint.poll_transmit().expect("the answer again");
    assert_eq!(sent.flow.remote.ip(), udp.remote.ip());
}

#[test]
fn without_rport_the_answer_goes_to_the_port_of_sent_by() {
    let mut endpoint = Endpoint::new(10, 1);
    let options = request("OPTIONS", "z9hG4bKa", "");
    endpoint.reply(flow(Transport::Udp), &options, Bytes::from_static(b"x"));
    let remote = endpoint.poll_transmit().expect("answer").flow.remote;
    assert_eq!(remote.to_string(), "127.0.0.9:5070");
}

#[test]
fn invite_gets_trying_after_200_ms_and_cancel_finds_it() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let udp = flow(Transport::Udp);
    let server = endpoint
        .accept(now, udp, &request("INVITE", "z9hG4bKb", ""), 1)
        .expect("room");
    endpoint.handle_timeout(now + Duration::from_millis(199));
    assert!(start_lines(&mut endpoint).is_empty());
    endpoint.handle_timeout(now + Duration::from_millis(200));
    assert_eq!(start_lines(&mut endpoint), ["SIP/2.0 100 Trying"]);
    let cancel = request("CANCEL", "z9hG4bKb", "");
    assert_eq!(
        endpoint.receive(now, udp, &cancel),
        Received::Cancel(Some(server))
    );
}

#[test]
fn a_request_is_retransmitted_and_fails_at_timer_f() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let sent = request("MESSAGE", "z9hG4bKc", "").bytes().clone();
    let client = endpoint.request(now, flow(Transport::Udp), Method::Message, 3, |_| sent);
    endpoint.handle_timeout(now + T1);
    assert_eq!(start_lines(&mut endpoint).len(), 2);
    let mut at = now + T1;
    while at < now + T1_64 {
        at += T1;
        endpoint.handle_timeout(at);
    }
    assert_eq!(
        endpoint.poll_event(),
        Some(Event::ClientFailed {
            client,
            user: 3,
            timeout: true
        })
    );
    assert_eq!(
        start_lines(&mut endpoint).len(),
        9,
        "RFC 3261 §17.1.2.2: eleven in all with T1 = 500 ms"
    );
    assert!(endpoint.is_empty());
}

fn invite_out(endpoint: &mut Endpoint, now: Instant) -> (ClientId, Message) {
    let mut sent = Bytes::new();
    let client = endpoint.request(now, flow(Transport::Udp), Method::Invite, 3, |branch| {
        sent = request("INVITE", branch, "").bytes().clone();
        sent.clone()
    });
    let message = Message::parse(sent, Framing::Datagram, &Limits::default()).expect("invite");
    (client, message)
}

fn answer(endpoint: &mut Endpoint, now: Instant, request: &Message, status: u16) -> Received {
    let bytes = ResponseBuilder::new(request, status, "")
        .to_tag("b")
        .finish();
    let message = Message::parse(bytes, Framing::Datagram, &Limits::default()).expect("response");
    endpoint.receive(now, flow(Transport::Udp), &message)
}

#[test]
fn a_refused_invite_is_acknowledged_and_passed_once() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let (client, invite) = invite_out(&mut endpoint, now);
    assert_eq!(
        answer(&mut endpoint, now, &invite, 486),
        Received::Response(client)
    );
    assert_eq!(answer(&mut endpoint, now, &invite, 486), Received::Absorbed);
    let lines = start_lines(&mut endpoint);
    assert_eq!(lines.len(), 3);
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.starts_with("ACK sip:bob@")),
        "{lines:?}"
    );
}

#[test]
fn cancel_waits_for_a_provisional_answer_and_its_200_is_not_the_invites() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let (client, invite) = invite_out(&mut endpoint, now);
    assert!(!endpoint.cancel(now, client, b""));
    assert_eq!(
        answer(&mut endpoint, now, &invite, 180),
        Received::Response(client)
    );
    assert!(endpoint.cancel(now, client, b"") && endpoint.cancel(now, client, b""));
    start_lines(&mut endpoint);
    let branch = invite
        .top_via()
        .expect("via")
        .branch()
        .expect("branch")
        .to_owned();
    let cancel = request("CANCEL", &branch, "");
    assert_eq!(answer(&mut endpoint, now, &cancel, 200), Received::Absorbed);
    assert_eq!(endpoint.client_state(client), ClientState::Proceeding);
    assert_eq!(
        answer(&mut endpoint, now, &invite, 487),
        Received::Response(client)
    );
}

#[test]
fn a_forged_branch_finds_nothing() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let (_, invite) = invite_out(&mut endpoint, now);
    let branch = invite
        .top_via()
        .expect("via")
        .branch()
        .expect("branch")
        .to_owned();
    let last = if branch.ends_with('0') { '1' } else { '0' };
    let forged = request(
        "INVITE",
        &format!("{}{last}", &branch[..branch.len() - 1]),
        "",
    );
    assert_eq!(answer(&mut endpoint, now, &forged, 200), Received::Stray);
}

#[test]
fn what_was_asked_over_a_connection_ends_with_it() {
    let now = crate::tests_now();
    let mut endpoint = Endpoint::new(10, 1);
    let by = |connection| Flow {
        connection,
        ..flow(Transport::Tcp)
    };
    let invite = request("INVITE", "z9hG4bKx", "");
    let ask = |endpoint: &mut Endpoint, connection, user| {
        let copy = |branch: &str| {
            let text = String::from_utf8_lossy(invite.bytes()).replace("z9hG4bKx", branch);
            Bytes::from(text)
        };
        endpoint.request(now, by(connection), Method::Invite, user, copy)
    };
    let ringing = ask(&mut endpoint, 7, 1);
    let other = ask(&mut endpoint, 8, 2);
    let opened = ask(&mut endpoint, 0, 3);
    endpoint.carried(opened, 7);
    while let Some(transmit) = endpoint.poll_transmit() {
        let limits = Limits::default();
        let copy = Message::parse(transmit.bytes, Framing::Stream, &limits).expect("a copy");
        let ringing = ResponseBuilder::new(&copy, 180, "").finish();
        let ringing = Message::parse(ringing, Framing::Stream, &limits).expect("an answer");
        endpoint.receive(now, transmit.flow, &ringing);
    }
    assert_eq!(endpoint.client_state(ringing), ClientState::Proceeding);
    endpoint.connection_closed(now, 7);
    let mut ended = Vec::new();
    while let Some(event) = endpoint.poll_event() {
        let Event::ClientFailed { user, timeout, .. } = event else {
            panic!("{event:?}");
        };
        ended.push((user, timeout));
    }
    assert_eq!(ended, [(1, false), (3, false)]);
    assert_eq!(endpoint.client_state(other), ClientState::Proceeding);
    endpoint.connection_closed(now, 7);
    assert_eq!(endpoint.poll_event(), None);
    endpoint.connection_closed(now, 8);
    assert!(endpoint.by_carrier.is_empty() && endpoint.len() == (0, 0));
}
