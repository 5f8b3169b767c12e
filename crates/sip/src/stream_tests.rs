use super::*;

const ONE: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nCall-ID: 1\r\nContent-Length: 5\r\n\r\nhello";
const TWO: &str = "\r\nBYE sip:a@b SIP/2.0\nVia: SIP/2.0/TCP x\nl:\n 0\n\n";

fn drain(framer: &mut Framer) -> Vec<Frame> {
    std::iter::from_fn(|| framer.next(&Limits::default()).unwrap()).collect()
}

fn message(text: &str) -> Frame {
    Frame::Message(Bytes::copy_from_slice(
        text.trim_start_matches("\r\n").as_bytes(),
    ))
}

#[test]
fn any_segmentation_gives_the_same_frames() {
    let all = format!("\r\n\r\n{ONE}\r\n\r\n{ONE}{TWO}{ONE}\r\n\r\n");
    let expected = [
        Frame::Ping,
        message(ONE),
        Frame::Ping,
        message(ONE),
        message(TWO),
        message(ONE),
        Frame::Ping,
    ];
    for size in (1..12).chain([all.len()]) {
        let mut framer = Framer::new();
        let mut frames = Vec::new();
        for segment in all.as_bytes().chunks(size) {
            framer.push(segment);
            frames.extend(drain(&mut framer));
        }
        assert_eq!(frames, expected, "segments of {size}");
        assert_eq!(framer.buffered(), 0);
    }
}

#[test]
fn every_framed_message_parses_as_a_stream_message() {
    let mut framer = Framer::new();
    framer.push(format!("{ONE}{TWO}").as_bytes());
    for frame in drain(&mut framer) {
        let Frame::Message(octets) = frame else {
            panic!("a message")
        };
        Message::parse(octets, Framing::Stream, &Limits::default()).unwrap();
    }
}

#[test]
fn the_connecting_side_sees_pongs() {
    let mut framer = Framer::connecting();
    framer.push(b"\r\n");
    assert_eq!(drain(&mut framer), [Frame::Pong]);
    framer.push(b"\r\n\r\nX");
    assert_eq!(drain(&mut framer), [Frame::Pong, Frame::Pong]);
}

fn error(octets: &[u8], limits: &Limits) -> (u16, bool) {
    let mut framer = Framer::new();
    framer.push(octets);
    let rejected = framer.next(limits).unwrap_err();
    assert!(framer.is_broken());
    framer.push(ONE.as_bytes());
    assert_eq!(framer.buffered(), 0, "a broken stream keeps nothing");
    assert!(matches!(framer.next(limits), Ok(None)));
    (rejected.status, rejected.partial.is_some())
}

#[test]
fn lengths_that_lie_end_the_stream_after_an_answer() {
    let limits = Limits::default();
    for bad in [
        "",
        "Content-Length: -5\r\n",
        "Content-Length: x\r\n",
        "l: 5\r\nContent-Length: 6\r\n",
    ] {
        assert_eq!(
            error(
                ONE.replace("Content-Length: 5\r\n", bad).as_bytes(),
                &limits
            ),
            (400, true),
            "{bad}"
        );
    }
    assert_eq!(
        error(
            ONE.replace(": 5", ": 99999999999999999999").as_bytes(),
            &limits
        ),
        (513, true)
    );
    assert_eq!(
        error(ONE.replace(": 5", ": 65500").as_bytes(), &limits),
        (513, true)
    );
}

#[test]
fn what_is_not_sip_ends_the_stream_at_once() {
    assert_eq!(
        error(b"\x16\x03\x01\x02\x00", &Limits::default()),
        (400, false)
    );
    assert_eq!(error(b"\0", &Limits::default()), (400, false));
}

#[test]
fn the_buffer_is_bounded() {
    let limits = Limits {
        message_bytes: 4_096,
        ..Limits::default()
    };
    let mut framer = Framer::new();
    framer.push(b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n");
    let mut rounds = 0;
    let rejected = loop {
        framer.push(&[b'x'; 100]);
        rounds += 1;
        assert!(rounds < 100);
        match framer.next(&limits) {
            Ok(None) => assert!(framer.buffered() <= 4_096),
            Ok(Some(frame)) => panic!("{frame:?}"),
            Err(rejected) => break rejected,
        }
    };
    assert_eq!(rejected.status, 513);
    assert!(rejected.partial.is_some());
}

#[test]
fn a_short_body_waits_for_the_rest() {
    let mut framer = Framer::new();
    framer.push(&ONE.as_bytes()[..ONE.len() - 1]);
    assert_eq!(drain(&mut framer), []);
    framer.push(b"o");
    assert_eq!(drain(&mut framer), [message(ONE)]);
}
