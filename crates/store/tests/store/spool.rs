//! The spool and the writer.

use crate::support::{
    Scratch, account, aor, append, device, message, now_ms, open, pending_ids, to, writer,
};
use sidetone_model::{AccountId, AddressOfRecord, Binding, DeviceId, MessageId};
use sidetone_store::{Appended, QueueFull, Store, StoreError, Writer, WriterOptions};
use sqlx::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

struct World {
    store: Store,
    writer: Writer,
    bob: AccountId,
    desk: DeviceId,
    _scratch: Scratch,
}

async fn world(name: &str) -> World {
    let scratch = Scratch::new(name);
    let store = open(&scratch).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    let desk = store.add_device(&device(bob, "bob")).await.unwrap();
    let writer = writer(&store).await;
    World {
        store,
        writer,
        bob,
        desk,
        _scratch: scratch,
    }
}

#[tokio::test]
async fn what_was_stored_comes_back_byte_for_byte_and_in_order() {
    let w = world("bytes").await;
    let large: Vec<u8> = (0..65_536_u32).map(|n| (n % 256) as u8).collect();
    let bodies: [&[u8]; 4] = [b"", b"\0\xff\r\n", &large, "Grüße".as_bytes()];
    for (n, body) in bodies.iter().enumerate() {
        append(&w.writer, message(w.bob, n as u64, body), vec![w.desk])
            .await
            .unwrap();
    }
    let stored = w.store.pending(w.desk, MessageId(0), 100).await.unwrap();
    assert_eq!(stored.len(), 4);
    for (stored, body) in stored.iter().zip(bodies) {
        assert_eq!(stored.body.as_ref(), body);
        assert_eq!(stored.from, "sip:alice@x.org");
        assert_eq!(stored.to, aor("bob@x.org"));
        assert_eq!(stored.content_type, "text/plain");
        assert_eq!(stored.headers, "Subject: hello\r\n");
    }
    assert!(stored.is_sorted_by_key(|m| m.id));
    let rest = w.store.pending(w.desk, stored[1].id, 1).await.unwrap();
    assert_eq!(rest[0].id, stored[2].id);
    assert_eq!(w.store.devices_with_pending().await.unwrap(), [w.desk]);
    let found = w.store.message(stored[3].id).await.unwrap().unwrap();
    assert_eq!(found, stored[3]);
}

#[tokio::test]
async fn each_device_gets_it_once() {
    let w = world("devices").await;
    let soft = w.store.add_device(&device(w.bob, "bob-2")).await.unwrap();
    let id = append(&w.writer, message(w.bob, 1, b"x"), vec![w.desk, soft])
        .await
        .unwrap();
    w.writer.try_delivered(w.desk, id).unwrap();
    assert_eq!(pending_ids(&w.writer, w.desk).await, []);
    assert_eq!(pending_ids(&w.writer, soft).await, [id]);
    // Once more, and one that never was: no harm.
    w.writer.try_delivered(w.desk, id).unwrap();
    w.writer.try_delivered(w.desk, MessageId(999)).unwrap();
    w.writer.try_delivered(soft, id).unwrap();
    assert_eq!(pending_ids(&w.writer, soft).await, []);
    assert!(
        w.store.message(id).await.unwrap().is_some(),
        "the archive keeps it"
    );
}

#[tokio::test]
async fn the_same_origin_is_stored_once_also_in_one_group_and_after_a_restart() {
    let w = world("origin").await;
    let (done, mut ids) = tokio::sync::mpsc::unbounded_channel();
    for n in [1, 1, 2, 1] {
        let done = done.clone();
        let report = Box::new(move |r: Result<Appended, StoreError>| {
            let _ = done.send(r.unwrap().id);
        });
        w.writer
            .try_append(message(w.bob, n, b"x"), to(vec![w.desk]), None, report)
            .unwrap();
    }
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(ids.recv().await.unwrap());
    }
    assert_eq!(got, [got[0], got[0], got[2], got[0]]);
    assert_ne!(got[0], got[2]);
    assert_eq!(pending_ids(&w.writer, w.desk).await.len(), 2);
    assert_eq!(
        (w.writer.metrics().appended, w.writer.metrics().duplicates),
        (2, 2)
    );
    w.writer.close().await.unwrap();
    let again = writer(&w.store).await;
    let id = append(&again, message(w.bob, 2, b"x"), vec![w.desk])
        .await
        .unwrap();
    assert_eq!(id, got[2]);
    let new = append(&again, message(w.bob, 3, b"x"), vec![w.desk])
        .await
        .unwrap();
    assert!(new > got[2]);
}

#[tokio::test]
async fn without_a_device_it_waits_for_the_first() {
    let w = world("waiting").await;
    let carol = w.store.add_account(&account("carol@x.org")).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(
            append(&w.writer, message(carol, n, b"x"), vec![])
                .await
                .unwrap(),
        );
    }
    assert_eq!(w.store.waiting(carol).await.unwrap(), ids);
    assert_eq!(w.store.spool_counts().await.unwrap(), (0, 3));
    // The device comes from another process.
    let other = Store::open("sqlite", w.store.data()).await.unwrap();
    let phone = other.add_device(&device(carol, "carol")).await.unwrap();
    assert_eq!(pending_ids(&w.writer, phone).await, ids);
    assert_eq!(w.store.waiting(carol).await.unwrap(), []);
    // The server does not know the device yet: the message finds it all the same.
    let late = append(&w.writer, message(carol, 9, b"x"), vec![])
        .await
        .unwrap();
    assert_eq!(
        pending_ids(&w.writer, phone).await,
        [ids, vec![late]].concat()
    );
}

#[tokio::test]
async fn after_the_last_device_messages_wait_again() {
    let w = world("removed").await;
    let soft = w.store.add_device(&device(w.bob, "bob-2")).await.unwrap();
    let id = append(&w.writer, message(w.bob, 1, b"x"), vec![w.desk, soft])
        .await
        .unwrap();
    w.store.remove_device(w.desk).await.unwrap();
    assert_eq!(w.store.spool_counts().await.unwrap(), (1, 0));
    w.store.remove_device(soft).await.unwrap();
    assert_eq!(w.store.spool_counts().await.unwrap(), (0, 1));
    let new = w.store.add_device(&device(w.bob, "bob")).await.unwrap();
    assert_eq!(pending_ids(&w.writer, new).await, [id]);
    w.store.remove_account(w.bob).await.unwrap();
    assert_eq!(w.store.spool_counts().await.unwrap(), (0, 0));
    assert!(
        w.store.message(id).await.unwrap().is_some(),
        "the archive keeps it"
    );
}

#[tokio::test]
async fn a_delivery_to_a_device_removed_a_moment_ago_is_mended() {
    let w = world("overtaken").await;
    let other = Store::open("sqlite", w.store.data()).await.unwrap();
    other.remove_device(w.desk).await.unwrap();
    // The server still believes in the device.
    append(&w.writer, message(w.bob, 1, b"x"), vec![w.desk])
        .await
        .unwrap();
    for _ in 0..40 {
        if w.store.spool_counts().await.unwrap() == (0, 1) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not mended: {:?}", w.store.spool_counts().await);
}

#[tokio::test]
async fn many_messages_are_committed_in_groups() {
    let w = world("groups").await;
    let stored = Arc::new(AtomicUsize::new(0));
    for n in 0..5_000 {
        let stored = Arc::clone(&stored);
        let report = Box::new(move |r: Result<Appended, StoreError>| {
            r.unwrap();
            stored.fetch_add(1, Ordering::SeqCst);
        });
        w.writer
            .try_append(message(w.bob, n, b"x"), to(vec![w.desk]), None, report)
            .unwrap();
    }
    w.writer.flush().await.unwrap();
    assert_eq!(stored.load(Ordering::SeqCst), 5_000);
    assert!(w.writer.metrics().commits < 200, "{:?}", w.writer.metrics());
    let ids: Vec<_> = w.store.pending(w.desk, MessageId(0), 10_000).await.unwrap();
    assert_eq!(ids.len(), 5_000);
    for m in &ids {
        w.writer.try_delivered(w.desk, m.id).unwrap();
    }
    w.writer.close().await.unwrap();
    assert_eq!(w.store.spool_counts().await.unwrap(), (0, 0));
    let closed = w
        .writer
        .try_append(message(w.bob, 1, b"x"), to(vec![]), None, Box::new(|_| ()));
    assert_eq!(closed, Err(QueueFull));
    assert!(matches!(w.writer.flush().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_full_queue_refuses_and_counts() {
    let scratch = Scratch::new("full");
    let store = open(&scratch).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    let options = WriterOptions {
        queue: 4,
        ..WriterOptions::default()
    };
    let writer = store.start_writer(options).await.unwrap();
    // Another process holds the database, so the writer stands still.
    let mut blocker = sqlx::SqliteConnection::connect_with(
        &sqlx::sqlite::SqliteConnectOptions::new().filename(scratch.path().join("sidetone.db")),
    )
    .await
    .unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut blocker)
        .await
        .unwrap();
    let mut refused = 0;
    for n in 0..1_000 {
        let result = writer.try_append(
            message(bob, n, b"x"),
            to(vec![]),
            None,
            Box::new(|r| assert!(r.is_ok())),
        );
        refused += usize::from(result.is_err());
    }
    assert!(refused > 0);
    assert_eq!(writer.metrics().refused, refused as u64);
    sqlx::query("COMMIT").execute(&mut blocker).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(writer.metrics().appended, 1_000 - refused as u64);
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_acknowledged() {
    let scratch = Scratch::new("disk");
    let store = open(&scratch).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    // SQLite's own bound stands for the disk's: it fails at the same place with the same code.
    let options = WriterOptions {
        pages_max: Some(100),
        ..WriterOptions::default()
    };
    let writer = store.start_writer(options).await.unwrap();
    let (mut stored, mut failed) = (Vec::new(), 0);
    for n in 0..12 {
        match append(&writer, message(bob, n, &[b'x'; 30_000]), vec![]).await {
            Ok(id) => stored.push(id),
            Err(StoreError::DiskFull) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        !stored.is_empty() && failed > 0,
        "{} {failed}",
        stored.len()
    );
    assert_eq!(
        store.waiting(bob).await.unwrap(),
        stored,
        "what failed left nothing behind"
    );
    assert!(StoreError::DiskFull.is_temporary());
    assert!(matches!(writer.trouble(), Some(StoreError::DiskFull)));
    // What failed may come again: its origin is not taken for stored.
    let small = append(&writer, message(bob, 11, b"x"), vec![]).await;
    assert!(
        matches!(small, Ok(id) if !stored.contains(&id)),
        "{small:?}"
    );
    assert!(writer.trouble().is_none(), "a success ends it");
}

#[tokio::test]
async fn a_database_that_refuses_is_left_alone_for_longer_and_longer() {
    let scratch = Scratch::new("pauses");
    let store = open(&scratch).await;
    let options = WriterOptions {
        pages_max: Some(100),
        bindings_delay: Duration::from_millis(1),
        ..WriterOptions::default()
    };
    let writer = store.start_writer(options).await.unwrap();
    let lists = (0..4_000).map(|n| {
        let address = AddressOfRecord::new(&format!("u{n}"), "x.org").unwrap();
        (address, vec![binding(n, u64::MAX >> 1)])
    });
    let began = Instant::now();
    writer.try_bindings(lists.collect()).unwrap();
    while writer.metrics().failures < 5 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 50, 100, 200 and 400 ms lie between five tries.
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert!(matches!(writer.trouble(), Some(StoreError::DiskFull)));
}

fn binding(n: u32, expires_at_ms: u64) -> Binding {
    Binding {
        contact: format!("sip:u@192.0.2.1:{n}").into(),
        device: DeviceId(5),
        instance: (n.is_multiple_of(2)).then(|| "urn:uuid:1".into()),
        reg_id: n % 2,
        q: 700,
        call_id: "a\"b\\c".into(),
        cseq: n,
        expires_at_ms,
        path: "<sip:p@x;lr>,<sip:q@x;lr>".into(),
        received: (n.is_multiple_of(2)).then(|| "tls:1:9:192.0.2.1:5061".into()),
        user_agent: "Phöne/1".into(),
    }
}

#[tokio::test]
async fn bindings_survive_a_restart_until_they_end() {
    let w = world("bindings").await;
    let row = |user: &str, list: Vec<Binding>| (aor(&format!("{user}@x.org")), list);
    let later = now_ms() + 60_000;
    let both = vec![binding(1, later), binding(2, later)];
    w.writer
        .try_bindings(vec![
            row("a", both.clone()),
            row("b", vec![binding(3, later)]),
        ])
        .unwrap();
    w.writer
        .try_bindings(vec![
            row("c", vec![binding(4, 5)]),
            row("b", vec![binding(6, later)]),
        ])
        .unwrap();
    w.writer.close().await.unwrap();
    let store = Store::open("sqlite", w.store.data()).await.unwrap();
    let mut all = store.load_bindings(now_ms()).await.unwrap();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all, [row("a", both), row("b", vec![binding(6, later)])]);
    let again = writer(&store).await;
    again.try_bindings(vec![row("a", vec![])]).unwrap();
    again.flush().await.unwrap();
    assert_eq!(store.load_bindings(now_ms()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn bindings_are_written_within_about_a_second_by_themselves() {
    let w = world("behind").await;
    let many: Vec<(AddressOfRecord, Vec<Binding>)> = (0..2_000)
        .map(|n| (aor(&format!("u{n}@x.org")), vec![binding(n, u64::MAX >> 1)]))
        .collect();
    w.writer.try_bindings(many).unwrap();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if w.store.load_bindings(0).await.unwrap().len() == 2_000 {
            return;
        }
    }
    panic!("not written behind");
}

fn placed(bob: sidetone_model::AccountId, n: u64, seq: u64) -> sidetone_model::NewMessage {
    let place = sidetone_model::Place {
        conversation: sidetone_model::ConversationId(7),
        seq,
        epoch: 1,
        author: aor("alice@x.org"),
        kind: "text".into(),
        detail: "{}".into(),
    };
    sidetone_model::NewMessage {
        place: Some(place),
        ..message(bob, n, b"x")
    }
}

#[tokio::test]
async fn one_that_cannot_be_stored_costs_no_other_and_leaves_no_gap() {
    let scratch = Scratch::new("gap");
    let store = open(&scratch).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    let writer = store.start_writer(WriterOptions::default()).await.unwrap();
    // Another process holds the database until all are in one group.
    let file = scratch.path().join("sidetone.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut blocker = sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut blocker)
        .await
        .unwrap();
    let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
    // The second of the conversation's log is missing.
    let messages = [
        placed(bob, 1, 1),
        placed(bob, 3, 3),
        message(bob, 4, b"x"),
        placed(bob, 5, 4),
    ];
    for message in messages {
        let told = told.clone();
        let done = Box::new(move |result| drop(told.send(result)));
        writer.try_append(message, to(vec![]), None, done).unwrap();
    }
    sqlx::query("COMMIT").execute(&mut blocker).await.unwrap();
    let mut results = Vec::new();
    for _ in 0..4 {
        results.push(answers.recv().await.unwrap());
    }
    let gap = |result: &Result<_, StoreError>| matches!(result, Err(StoreError::Gap));
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(gap(&results[1]) && gap(&results[3]), "{results:?}");
    assert!(StoreError::Gap.is_temporary());
    assert!(writer.trouble().is_none(), "the database is well");
    assert_eq!(writer.metrics().appended, 2);
}

#[tokio::test]
async fn a_key_is_known_for_a_day_and_after_a_restart() {
    let scratch = Scratch::new("keys");
    let store = open(&scratch).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    let keyed = |n| sidetone_model::NewMessage {
        keyed: true,
        ..message(bob, n, b"x")
    };
    let options = WriterOptions {
        origins_kept: Duration::ZERO,
        ..WriterOptions::default()
    };
    let writer = store.start_writer(options.clone()).await.unwrap();
    let id = append(&writer, keyed(1), vec![]).await.unwrap();
    let other = append(&writer, message(bob, 2, b"x"), vec![])
        .await
        .unwrap();
    writer.close().await.unwrap();
    let writer = store.start_writer(options).await.unwrap();
    assert_eq!(append(&writer, keyed(1), vec![]).await.unwrap(), id);
    let again = append(&writer, message(bob, 2, b"x"), vec![])
        .await
        .unwrap();
    assert_ne!(again, other, "what is no key is forgotten");
    writer.close().await.unwrap();
    let options = WriterOptions {
        keys_kept: Duration::ZERO,
        origins_kept: Duration::ZERO,
        ..WriterOptions::default()
    };
    tokio::time::sleep(Duration::from_millis(2)).await;
    let writer = store.start_writer(options).await.unwrap();
    for n in 10..14 {
        // What was read at the start is forgotten as others come.
        append(&writer, message(bob, n, b"x"), vec![])
            .await
            .unwrap();
    }
    assert_ne!(append(&writer, keyed(1), vec![]).await.unwrap(), id);
}

#[tokio::test]
async fn marks_are_written_though_nothing_else_happens() {
    let w = world("lonely-marks").await;
    let id = append(&w.writer, message(w.bob, 1, b"x"), vec![w.desk]).await;
    let id = id.unwrap();
    for round in 0..3 {
        w.writer.try_delivered(w.desk, id).unwrap();
        while w.writer.metrics().delivered == round {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
