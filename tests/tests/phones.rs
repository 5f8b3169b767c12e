//! Real phones: baresip over UDP, linphonec over TLS, sip.js in Chromium over WSS.

use sidetone_tests::baresip::Baresip;
use sidetone_tests::browser::Browser;
use sidetone_tests::linphone::Linphone;
use sidetone_tests::{Phone, Server};

const TEXT: &str = "hello-from-the-other-phone";

fn taken(phone: &mut Phone, to: &str, text: &str) {
    let answer = phone.message(to, text);
    assert!(matches!(answer.status(), Some(200 | 202)), "{answer:?}");
}

#[test]
fn baresip_and_linphone() {
    let server = Server::with(&["ann", "bob"]);
    let mut desk = Baresip::start(&server, "ann", "bob");
    let mut soft = Linphone::start(&server, "bob", "tls");
    desk.registered();
    soft.registered();

    let mark = soft.mark();
    desk.message(TEXT);
    soft.says(mark, &[TEXT]);
    soft.message("sip:ann@example.test", "and-back");
    desk.received("and-back");

    let mark = soft.mark();
    desk.call("sip:bob@example.test");
    soft.take_call(mark);
    desk.event("CALL_ESTABLISHED", "");
    soft.says(mark, &["connected"]);
    desk.hang_up();
    soft.says(mark, &["ended"]);

    let mark = soft.mark();
    soft.call("sip:ann@example.test");
    desk.event("CALL_ESTABLISHED", "");
    soft.says(mark, &["connected"]);
    soft.hang_up();
    desk.event("CALL_CLOSED", "");
    desk.quit();
    soft.quit();
}

#[test]
fn chromium_and_baresip() {
    let server = Server::with(&["ann", "bob"]);
    let mut desk = Baresip::with_dtls(&server, "ann", "bob");
    let mut browser = Browser::start(&server);
    desk.registered();
    browser.register(&server, "bob");

    browser.message("sip:ann@example.test", TEXT);
    desk.received(TEXT);
    desk.message("and-back");
    assert_eq!(browser.received("and-back"), "sip:ann@example.test");

    browser.call("sip:ann@example.test");
    desk.event("CALL_ESTABLISHED", "");
    browser.call_state("Established");
    let heard = sidetone_tests::until(std::time::Duration::from_secs(10), || {
        (browser.packets() > 20).then_some(())
    });
    assert!(heard.is_some(), "media goes directly from phone to browser");
    browser.hang_up();
    desk.event("CALL_CLOSED", "");

    desk.call("sip:bob@example.test");
    browser.call_state("Established");
    desk.hang_up();
    browser.call_state("Terminated");
    desk.quit();
    browser.quit();
}

#[test]
fn chromium_and_linphone() {
    let server = Server::with(&["ann", "bob"]);
    let mut soft = Linphone::with_dtls(&server, "ann", "tls");
    let mut browser = Browser::start(&server);
    soft.registered();
    browser.register(&server, "bob");

    let mark = soft.mark();
    browser.message("sip:ann@example.test", TEXT);
    soft.says(mark, &[TEXT]);
    soft.message("sip:bob@example.test", "and-back");
    assert_eq!(browser.received("and-back"), "sip:ann@example.test");

    let mark = soft.mark();
    browser.call("sip:ann@example.test");
    soft.take_call(mark);
    browser.call_state("Established");
    browser.hang_up();
    soft.says(mark, &["ended"]);

    soft.call("sip:bob@example.test");
    browser.call_state("Established");
    soft.hang_up();
    browser.call_state("Terminated");
    soft.quit();
    browser.quit();
}

#[test]
fn a_phone_that_was_off_gets_its_messages() {
    let server = Server::with(&["ann", "bob", "carol", "dave"]);
    let mut dave = Phone::udp(&server, "dave");
    // Each was there once, and went.
    let mut desk = Baresip::start(&server, "ann", "bob");
    desk.registered();
    desk.quit();
    let mut soft = Linphone::start(&server, "bob", "tls");
    soft.registered();
    soft.quit();
    let mut browser = Browser::start(&server);
    browser.register(&server, "carol");
    browser.unregister();
    for (name, text) in [
        ("ann", "for-baresip"),
        ("bob", "for-linphone"),
        ("carol", "for-chromium"),
    ] {
        taken(&mut dave, name, text);
    }
    let mut desk = Baresip::start(&server, "ann", "bob");
    desk.received("for-baresip");
    let soft = Linphone::start(&server, "bob", "tls");
    soft.says(0, &["for-linphone"]);
    browser.register(&server, "carol");
    assert_eq!(browser.received("for-chromium"), "sip:dave@example.test");
    desk.quit();
    soft.quit();
    browser.quit();
}
