//! Presence at rest: what was handed over is read back by the next run, and what has ended is not.

use crate::support::{Scratch, account, aor, device, open};
use sidetone_model::{
    AccountId, Availability, DeviceId, Publication, SavedSubscription, SetPresence,
};
use sidetone_store::{ContactState, Store};

async fn two(store: &Store) -> (AccountId, AccountId) {
    let ann = store.add_account(&account("ann@x.org")).await.unwrap();
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    (ann, bob)
}

fn subscription(tag: &str, expires_at_ms: u64) -> SavedSubscription {
    SavedSubscription {
        local_tag: tag.to_owned(),
        package: "presence".to_owned(),
        address: aor("bob@x.org"),
        watcher: Some(aor("ann@x.org")),
        device: Some(DeviceId(7)),
        flow: "0/1/0/192.0.2.1:5060".to_owned(),
        event: "presence;id=3".to_owned(),
        contact: "sip:192.0.2.9".to_owned(),
        expires_at_ms,
        call_id: b"a\xffb@c".to_vec(),
        remote_tag: "r".to_owned(),
        local: b"<sip:bob@x.org>;tag=t".to_vec(),
        remote: b"\"A\xe9\" <sip:ann@x.org>;tag=r".to_vec(),
        target: "sip:ann@192.0.2.1".to_owned(),
        routes: vec!["<sip:p1;lr>".to_owned(), "<sip:p2;lr>;x=1".to_owned()],
        local_cseq: 512,
        remote_cseq: u32::MAX >> 1,
        version: 600,
    }
}

fn publication(etag: &str, account: AccountId, expires_at_ms: u64) -> Publication {
    Publication {
        etag: etag.to_owned(),
        account,
        device: DeviceId(7),
        body: "<presence/>".to_owned(),
        expires_at_ms,
    }
}

#[tokio::test]
async fn subscriptions_and_publications_are_read_back_as_they_were() {
    let scratch = Scratch::new("events");
    let store = open(&scratch).await;
    let (_, bob) = two(&store).await;
    let subscriptions = [
        ("t1".to_owned(), Some(subscription("t1", 1_000))),
        ("t2".to_owned(), Some(subscription("t2", 2_000))),
    ];
    let gone = AccountId(4_711);
    let publications = [
        ("e1".to_owned(), Some(publication("e1", bob, 1_000))),
        ("e2".to_owned(), Some(publication("e2", gone, 1_000))),
    ];
    let written = store.write_events(0, &subscriptions, &publications);
    written.await.unwrap();
    store.close().await;

    let store = open(&scratch).await;
    let mut found = store.subscriptions(0).await.unwrap();
    found.sort_by_key(|one| one.local_tag.clone());
    assert_eq!(
        found,
        [subscription("t1", 1_000), subscription("t2", 2_000)]
    );
    let found = store.publications(0).await.unwrap();
    assert_eq!(found, [(aor("bob@x.org"), publication("e1", bob, 1_000))]);
    assert_eq!(store.subscriptions(1_000).await.unwrap().len(), 1);
    assert_eq!(store.publications(1_000).await.unwrap(), []);

    // One is prolonged, one is over; a modified document has another name.
    let subscriptions = [
        ("t1".to_owned(), Some(subscription("t1", 9_000))),
        ("t2".to_owned(), None),
    ];
    let publications = [
        ("e1".to_owned(), None),
        ("e3".to_owned(), Some(publication("e3", bob, 9_000))),
    ];
    let written = store.write_events(1_000, &subscriptions, &publications);
    written.await.unwrap();
    let found = store.subscriptions(0).await.unwrap();
    assert_eq!(found, [subscription("t1", 9_000)]);
    let found = store.publications(0).await.unwrap();
    assert_eq!(found, [(aor("bob@x.org"), publication("e3", bob, 9_000))]);
}

#[tokio::test]
async fn what_a_person_sets_is_kept_until_it_ends() {
    let scratch = Scratch::new("set-presence");
    let store = open(&scratch).await;
    let (ann, bob) = two(&store).await;
    let mut set = SetPresence {
        availability: Some(Availability::Away),
        note: "lunch".to_owned(),
        until_ms: Some(500),
    };
    store.set_presence(ann, &set).await.unwrap();
    set.until_ms = None;
    store.set_presence(bob, &set).await.unwrap();
    set.note = "gone fishing".to_owned();
    store.set_presence(bob, &set).await.unwrap();
    assert_eq!(store.presence_set(499).await.unwrap().len(), 2);
    let found = store.presence_set(500).await.unwrap();
    assert_eq!(found, [(aor("bob@x.org"), set)]);
    let nothing = SetPresence::default();
    store.set_presence(bob, &nothing).await.unwrap();
    assert_eq!(store.presence_set(500).await.unwrap(), []);
}

#[tokio::test]
async fn contacts_are_asked_for_and_approved_and_some_are_blocked() {
    let scratch = Scratch::new("contacts");
    let store = open(&scratch).await;
    let (ann, bob) = two(&store).await;
    let (ann_aor, bob_aor) = (aor("ann@x.org"), aor("bob@x.org"));
    // Both ask; one answers.
    store.request_contact(ann, &bob_aor).await.unwrap();
    store.request_contact(bob, &ann_aor).await.unwrap();
    let asked = store.contact_requests(&bob_aor).await.unwrap();
    assert_eq!(asked, std::slice::from_ref(&ann_aor));
    store.approve_contact(bob, &ann_aor).await.unwrap();
    assert_eq!(store.contact_requests(&bob_aor).await.unwrap(), []);
    assert_eq!(store.contact_requests(&ann_aor).await.unwrap().len(), 1);
    let approved = store.contacts(ContactState::Approved).await.unwrap();
    assert_eq!(approved, [(bob_aor.clone(), ann_aor.clone())]);
    store.revoke_contact(bob, &ann_aor).await.unwrap();
    let approved = store.contacts(ContactState::Approved).await.unwrap();
    assert_eq!(approved, []);

    store.block(bob, &ann_aor).await.unwrap();
    store.block(bob, &ann_aor).await.unwrap();
    assert_eq!(store.blocks().await.unwrap(), [(bob_aor, ann_aor.clone())]);
    store.unblock(bob, &ann_aor).await.unwrap();
    assert_eq!(store.blocks().await.unwrap(), []);
}

#[tokio::test]
async fn what_no_device_has_taken_is_counted() {
    use crate::support::{append, message, writer};
    let scratch = Scratch::new("waiting-counts");
    let store = open(&scratch).await;
    let (ann, _) = two(&store).await;
    let desk = store.add_device(&device(ann, "desk")).await.unwrap();
    let hall = store.add_device(&device(ann, "hall")).await.unwrap();
    let writer = writer(&store).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let id = append(&writer, message(ann, number, b"hi"), vec![desk, hall]).await;
        ids.push(id.unwrap());
    }
    assert_eq!(writer.waiting_counts(ann).await.unwrap(), (3, 0));
    writer.try_delivered(desk, ids[0]).unwrap();
    assert_eq!(writer.waiting_counts(ann).await.unwrap(), (2, 1));
    writer.try_delivered(hall, ids[0]).unwrap();
    writer.try_delivered(hall, ids[1]).unwrap();
    assert_eq!(writer.waiting_counts(ann).await.unwrap(), (1, 1));
    writer.close().await.unwrap();
}
