//! A conversation of two that both begin at the same moment.

mod world;

use bytes::Bytes;
use sidetone_model::{AccountId, AddressOfRecord, NewMessage, Origin};
use sidetone_services::conversations::Caller;
use world::World;

fn address(name: &str, round: u8) -> AddressOfRecord {
    let text = format!("{name}{round}@example.test");
    text.parse().expect("address")
}

fn message(to: &AddressOfRecord, round: u8) -> NewMessage {
    NewMessage {
        from: "<sip:ann@example.test>".to_owned(),
        to: to.clone(),
        account: AccountId(7),
        received_ms: 1,
        content_type: "text/plain".to_owned(),
        headers: String::new(),
        body: Bytes::from_static(b"first"),
        origin: Origin([round; 16]),
        keyed: false,
        place: None,
    }
}

#[tokio::test]
async fn who_begins_it_while_a_first_message_is_on_its_way_finds_it() {
    let world = World::new().await;
    let conversations = &world.conversations;
    for round in 1..=20 {
        let (ann, bob) = (address("ann", round), address("bob", round));
        let posted = conversations.try_post(ann.clone(), message(&bob, round), Box::new(drop));
        let posted = posted.expect("nobody has begun it");
        // Handed to the writer, which has not answered yet.
        posted.post(conversations).await;
        let caller = Caller {
            address: bob.clone(),
            name: String::new(),
        };
        let id = conversations.pair(2, &caller, &ann).await;
        let id = id.expect("a conversation");
        let view = conversations.view(id, &bob).await.expect("on disk");
        assert_eq!(view.last_seq, 2, "its beginning, and what was said");
    }
}
