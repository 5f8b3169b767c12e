//! Notifications as phones write them, and the headers that ask for them.

use bytes::Bytes;

use super::*;

fn notification(disposition: Disposition) -> Imdn {
    Imdn {
        message_id: "7f3a".into(),
        date_time: "2026-11-22T11:20:13Z".into(),
        recipient_uri: Some("sip:bo@example.net;a=\"<&>\"".into()),
        original_recipient_uri: None,
        subject: Some("Te nå 👍".into()),
        disposition,
    }
}

#[test]
fn a_notification_of_a_phone_is_read() {
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <i:imdn xmlns:i="urn:ietf:params:xml:ns:imdn" xmlns:v="urn:example:vendor">
          <i:message-id> 7f3a.b </i:message-id>
          <i:datetime>2026-11-22T11:20:13Z</i:datetime>
          <i:original-recipient-uri>sip:tea@example.net</i:original-recipient-uri>
          <v:battery>4</v:battery>
          <i:delivery-notification>
            <i:status><i:delivered/><v:fast/></i:status>
          </i:delivery-notification>
        </i:imdn>"#;
    let read = Imdn::parse(body).unwrap();
    assert_eq!(read.message_id, "7f3a.b");
    assert_eq!(read.date_time, "2026-11-22T11:20:13Z");
    assert_eq!(
        read.original_recipient_uri.as_deref(),
        Some("sip:tea@example.net")
    );
    assert_eq!((read.recipient_uri, read.subject), (None, None));
    assert_eq!(read.disposition, Disposition::Delivery(Delivery::Delivered));
}

#[test]
fn every_disposition_is_written_and_read_back() {
    for (_, _, disposition) in DISPOSITIONS {
        let written = notification(disposition).write();
        let read = Imdn::parse(written.as_bytes());
        assert_eq!(read, Ok(notification(disposition)), "{written}");
    }
}

#[test]
fn a_namespace_that_was_forgotten_is_forgiven_and_another_one_is_not() {
    let body = |open: &str| {
        format!(
            "<{open}><message-id>1</message-id><datetime/>\
             <display-notification><status><displayed/></status></display-notification></imdn>"
        )
    };
    let read = Imdn::parse(body("imdn").as_bytes()).unwrap();
    assert_eq!(read.disposition, Disposition::Display(Display::Displayed));
    assert!(Imdn::parse(body("imdn xmlns='urn:other'").as_bytes()).is_err());
}

#[test]
fn what_is_none_is_refused() {
    let status = "<delivery-notification><status><delivered/></status></delivery-notification>";
    for body in [
        String::new(),
        "<imdn/>".into(),
        format!("<imdn>{status}</imdn>"),
        format!("<imdn><message-id/>{status}</imdn>"),
        format!("<imdn><message-id>a b</message-id>{status}</imdn>"),
        format!(
            "<imdn><message-id>{}</message-id>{status}</imdn>",
            "x".repeat(257)
        ),
        format!("<other><message-id>1</message-id>{status}</other>"),
        "<imdn><message-id>1</message-id></imdn>".into(),
        "<imdn><message-id>1</message-id><delivery-notification><status><displayed/></status></delivery-notification></imdn>".into(),
        format!("<!DOCTYPE imdn [<!ENTITY a '1'>]><imdn><message-id>&a;</message-id>{status}</imdn>"),
    ] {
        assert!(Imdn::parse(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn what_is_wanted_goes_both_ways() {
    for bits in 0..16_u8 {
        let wanted = Wanted {
            positive_delivery: bits & 1 > 0,
            negative_delivery: bits & 2 > 0,
            processing: bits & 4 > 0,
            display: bits & 8 > 0,
        };
        assert_eq!(Wanted::parse(&wanted.write()), wanted);
    }
    let wanted = Wanted::parse("Display;a=b ,,unknown, positive-delivery");
    assert_eq!(wanted.write(), "positive-delivery, display");
}

#[test]
fn a_message_asks_in_its_headers() {
    let message = || Cpim::new("text/plain", Bytes::from_static(b"hello")).unwrap();
    assert_eq!(message_id(&message()), None);
    assert_eq!(Wanted::of(&message()), Wanted::default());
    let wanted = Wanted {
        positive_delivery: true,
        display: true,
        ..Wanted::default()
    };
    let asking = request(message(), "7f3a", wanted).unwrap();
    let text = String::from_utf8(asking.write().to_vec()).unwrap();
    assert!(text.contains("NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 7f3a\r\n"));
    let read = Cpim::parse(asking.write()).unwrap();
    assert_eq!(message_id(&read), Some("7f3a"));
    assert_eq!(Wanted::of(&read), wanted);
    let silent = request(message(), "7f3a", Wanted::default()).unwrap();
    assert_eq!(silent.headers().len(), 1);
    for id in ["", "a b", "a\r\nb", "a\\b", &"x".repeat(257)] {
        assert!(request(message(), id, wanted).is_err(), "{id:?}");
    }
}
