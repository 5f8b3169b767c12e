//! What phones cause beside messages: failures, abilities, and reports that have passed.

use crate::support::{
    Scratch, account, aor, append, device, message, now_ms, open, pending_ids, writer,
};
use bytes::Bytes;
use sidetone_model::{AccountId, ConversationId, MessageId, NewMessage, Place, SeqRange};
use sidetone_store::{Failure, Writer};

const HERE: ConversationId = ConversationId(1);

fn failure(address: &str, first: u64, last: u64) -> Failure {
    Failure {
        conversation: HERE,
        address: aor(address),
        range: SeqRange { first, last },
    }
}

fn report(n: u64) -> NewMessage {
    NewMessage {
        content_type: "message/imdn+xml".into(),
        ..message(AccountId(-1), n, b"<imdn/>")
    }
}

async fn all_passed(writer: &Writer, device: sidetone_model::DeviceId) {
    for id in pending_ids(writer, device).await {
        writer.try_delivered(device, id).unwrap();
    }
    writer.flush().await.unwrap();
}

#[tokio::test]
async fn failures_are_kept_and_grow() {
    let scratch = Scratch::new("failures");
    let store = open(&scratch).await;
    let writer = writer(&store).await;
    for failures in [
        vec![failure("bob@x.org", 7, 7), failure("ann@x.org", 3, 4)],
        vec![failure("bob@x.org", 7, 9)],
        vec![failure("bob@x.org", 7, 8)],
    ] {
        writer.try_failures(failures).unwrap();
    }
    writer.flush().await.unwrap();
    let expected = [failure("ann@x.org", 3, 4), failure("bob@x.org", 7, 9)];
    assert_eq!(store.failures(HERE).await.unwrap(), expected);
    assert!(store.failures(ConversationId(2)).await.unwrap().is_empty());
}

#[tokio::test]
async fn abilities_are_kept_as_long_as_their_devices() {
    let scratch = Scratch::new("abilities");
    let store = open(&scratch).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    let desk = store.add_device(&device(bob, "desk")).await.unwrap();
    let gone = store.add_device(&device(bob, "gone")).await.unwrap();
    for (device, bits) in [(desk, 1), (gone, 3), (desk, 2)] {
        store.set_abilities(device, bits).await.unwrap();
    }
    store.remove_device(gone).await.unwrap();
    assert_eq!(store.abilities().await.unwrap(), [(desk, 2)]);
}

#[tokio::test]
async fn reports_wait_for_their_device_are_not_counted_and_go() {
    let scratch = Scratch::new("reports");
    let store = open(&scratch).await;
    let writer = writer(&store).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    let desk = store.add_device(&device(bob, "desk")).await.unwrap();
    append(&writer, report(1), vec![desk]).await.unwrap();
    let text = append(&writer, message(bob, 2, b"hi"), vec![desk]).await;
    let last = append(&writer, report(3), vec![desk]).await.unwrap();
    assert_eq!(writer.waiting_counts(bob).await.unwrap(), (1, 0));
    assert_eq!(store.owed(bob, text.unwrap()).await.unwrap(), [desk]);
    assert_eq!(store.clear_passed().await.unwrap(), 0, "they wait");
    all_passed(&writer, desk).await;
    // The last number of all stays: the next message's follows it, also in the next run.
    assert_eq!(store.clear_passed().await.unwrap(), 1);
    assert_eq!(store.last_event().await.unwrap().0, last.0);
    let next = append(&writer, message(bob, 4, b"more"), vec![desk]).await;
    assert_eq!(next.unwrap(), MessageId(last.0 + 1));
    assert_eq!(store.clear_passed().await.unwrap(), 1);
}

#[tokio::test]
async fn the_last_events_are_read_with_what_their_authors_ask() {
    let scratch = Scratch::new("recent");
    let store = open(&scratch).await;
    let writer = writer(&store).await;
    for seq in 1..=5 {
        let kind = if seq == 3 { "reaction" } else { "text" };
        let asked = if seq == 4 {
            "imdn.Message-ID: a\r\n"
        } else {
            ""
        };
        let said = NewMessage {
            received_ms: now_ms(),
            headers: format!("Subject: x\r\n{asked}"),
            body: Bytes::from("hi"),
            place: Some(Place {
                conversation: HERE,
                seq,
                epoch: 1,
                author: aor("ann@x.org"),
                kind: kind.into(),
                detail: "{}".into(),
            }),
            ..message(AccountId(-1), seq, b"")
        };
        append(&writer, said, vec![]).await.unwrap();
    }
    let recent = store.recent(HERE, 2).await.unwrap();
    let seen: Vec<_> = recent
        .iter()
        .map(|event| (event.seq, event.is_message, event.headers.contains("imdn.")))
        .collect();
    assert_eq!(seen, [(3, false, false), (4, true, true), (5, true, false)]);
}
