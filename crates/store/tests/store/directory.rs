//! The directory: what one process writes, another follows.

use crate::support::{Scratch, account, aor, device, now_ms, open};
use sidetone_model::{AccountId, DeviceId, Role};
use sidetone_store::{DataLock, DirectoryChange, ImportUser, Store, StoreError};

#[tokio::test]
async fn changes_of_another_process_are_followed_by_number() {
    let scratch = Scratch::new("follow");
    let (store, other) = (open(&scratch).await, open(&scratch).await);
    assert_eq!(store.directory_since(0).await.unwrap(), (Vec::new(), 0));

    let mut bob = account("bob@x.org");
    bob.aliases = vec![aor("1001@x.org")];
    let bob = other.add_account(&bob).await.unwrap();
    let desk = other.add_device(&device(bob, "bob")).await.unwrap();
    let (changes, at) = store.directory_since(0).await.unwrap();
    assert_eq!(at, store.directory_version().await.unwrap());
    assert!(matches!(&changes[..], [
        DirectoryChange::Account(a),
        DirectoryChange::Alias { address, account },
        DirectoryChange::Device(d),
    ] if a.id == bob && address.as_str() == "1001@x.org" && *account == bob
        && d.id == desk && d.ha1_sha256 == [7; 32] && d.ha1_md5 == Some([9; 16])));
    assert_eq!(store.directory_since(at).await.unwrap(), (Vec::new(), at));

    other.set_disabled(bob, true).await.unwrap();
    other.remove_device(desk).await.unwrap();
    other.remove_alias(&aor("1001@x.org")).await.unwrap();
    let (changes, at) = store.directory_since(at).await.unwrap();
    assert!(matches!(&changes[..], [
        DirectoryChange::Account(a),
        DirectoryChange::DeviceRemoved { device, account },
        DirectoryChange::AliasRemoved(_),
    ] if a.disabled && *device == desk && *account == bob));

    other.remove_account(bob).await.unwrap();
    let (changes, at) = store.directory_since(at).await.unwrap();
    assert_eq!(changes, [DirectoryChange::AccountRemoved(bob)]);
    let again = other.add_account(&account("bob@x.org")).await.unwrap();
    assert_ne!(again, bob, "numbers are never used again");
    let (changes, _) = store.directory_since(at).await.unwrap();
    assert!(matches!(&changes[..], [DirectoryChange::Account(a)] if a.id == again));
}

#[tokio::test]
async fn an_alias_that_moves_ends_at_its_new_owner() {
    let scratch = Scratch::new("alias");
    let store = open(&scratch).await;
    let a = store.add_account(&account("a@x.org")).await.unwrap();
    let b = store.add_account(&account("b@x.org")).await.unwrap();
    store.add_alias(a, &aor("100@x.org")).await.unwrap();
    store.remove_alias(&aor("100@x.org")).await.unwrap();
    store.add_alias(b, &aor("100@x.org")).await.unwrap();
    let (changes, _) = store.directory_since(0).await.unwrap();
    let last = changes.last().unwrap();
    assert!(
        matches!(last, DirectoryChange::Alias { account, .. } if *account == b),
        "{last:?}"
    );
    let record = store.account(&aor("100@x.org")).await.unwrap().unwrap();
    assert_eq!(record.account.id, b);
}

#[tokio::test]
async fn one_address_leads_to_one_account() {
    let scratch = Scratch::new("unique");
    let store = open(&scratch).await;
    let a = store.add_account(&account("a@x.org")).await.unwrap();
    let exists = |r: Result<_, StoreError>| matches!(r, Err(StoreError::Exists(_)));
    assert!(exists(
        store.add_account(&account("a@x.org")).await.map(drop)
    ));
    assert!(exists(store.add_alias(a, &aor("a@x.org")).await));
    store.add_alias(a, &aor("7@x.org")).await.unwrap();
    assert!(exists(
        store.add_account(&account("7@x.org")).await.map(drop)
    ));
    assert!(exists(store.add_alias(a, &aor("7@x.org")).await));
    store.add_device(&device(a, "u")).await.unwrap();
    assert!(exists(store.add_device(&device(a, "u")).await.map(drop)));
    let nobody = store.add_device(&device(AccountId(99), "v")).await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))));
    // A refused change leaves nothing behind.
    assert_eq!(
        store
            .account(&aor("a@x.org"))
            .await
            .unwrap()
            .unwrap()
            .devices
            .len(),
        1
    );
    assert!(store.has_sip_user("u", "x.org").await.unwrap());
    assert!(!store.has_sip_user("v", "x.org").await.unwrap());
    for missing in [
        store.remove_device(DeviceId(99)).await,
        store.remove_account(AccountId(99)).await,
        store.set_disabled(AccountId(99), true).await,
        store.remove_alias(&aor("8@x.org")).await,
        store.set_password(AccountId(99), "x").await,
    ] {
        assert!(matches!(missing, Err(StoreError::NotFound(_))));
    }
}

#[tokio::test]
async fn a_reset_token_works_once_and_in_time() {
    let scratch = Scratch::new("reset");
    let store = open(&scratch).await;
    let mut admin = account("admin@x.org");
    admin.role = Role::Admin;
    let id = store.add_account(&admin).await.unwrap();
    let now = now_ms();
    store
        .put_reset_token(id, &[1; 32], now + 1_000)
        .await
        .unwrap();
    store.put_reset_token(id, &[2; 32], now - 1).await.unwrap();
    assert_eq!(store.take_reset_token(&[3; 32], now).await.unwrap(), None);
    assert_eq!(store.take_reset_token(&[2; 32], now).await.unwrap(), None);
    assert_eq!(
        store.take_reset_token(&[1; 32], now).await.unwrap(),
        Some(id)
    );
    assert_eq!(store.take_reset_token(&[1; 32], now).await.unwrap(), None);
    store
        .put_reset_token(id, &[4; 32], now + 1_000)
        .await
        .unwrap();
    store.set_password(id, "$argon2id$…").await.unwrap();
    assert_eq!(store.take_reset_token(&[4; 32], now).await.unwrap(), None);
    let record = store.account(&aor("admin@x.org")).await.unwrap().unwrap();
    assert_eq!(record.password.as_deref(), Some("$argon2id$…"));
    assert_eq!(record.account.role, Role::Admin);
}

#[tokio::test]
async fn settings_are_made_once() {
    let scratch = Scratch::new("settings");
    let (store, other) = (open(&scratch).await, open(&scratch).await);
    assert_eq!(store.setting_or_insert("k", &[1]).await.unwrap(), [1]);
    assert_eq!(other.setting_or_insert("k", &[2]).await.unwrap(), [1]);
    other.put_setting("k", &[3]).await.unwrap();
    assert_eq!(store.setting("k").await.unwrap(), Some(vec![3]));
    assert_eq!(store.setting("none").await.unwrap(), None);
}

fn user(n: usize) -> ImportUser {
    ImportUser {
        account: account(&format!("u{n}@x.org")),
        device: Some(device(AccountId(0), &format!("u{n}"))),
    }
}

#[tokio::test]
async fn an_import_leaves_what_exists_and_is_seen_as_changes() {
    let scratch = Scratch::new("import");
    let store = open(&scratch).await;
    store.add_account(&account("u5@x.org")).await.unwrap();
    let imported = store.import_users((0..1_234).map(user)).await.unwrap();
    assert_eq!((imported.accounts, imported.devices), (1_233, 1_233));
    assert_eq!(imported.existing, ["u5@x.org"]);
    let again = store.import_users((0..1_234).map(user)).await.unwrap();
    assert_eq!((again.accounts, again.existing.len()), (0, 1_234));
    let (changes, _) = store.directory_since(0).await.unwrap();
    assert_eq!(changes.len(), 1_234 + 1_233);
    assert_eq!(store.accounts().await.unwrap().len(), 1_234);
}

#[tokio::test]
async fn one_server_a_data_directory() {
    let scratch = Scratch::new("lock");
    let lock = DataLock::acquire(scratch.path()).unwrap();
    assert!(matches!(
        DataLock::acquire(scratch.path()),
        Err(StoreError::InUse(_))
    ));
    drop(lock);
    DataLock::acquire(scratch.path()).unwrap();
}

#[tokio::test]
async fn only_known_urls_are_opened() {
    let scratch = Scratch::new("url");
    for url in ["mysql://x", "", "sqlite:", "file"] {
        let opened = Store::open(url, scratch.path()).await;
        assert!(matches!(opened, Err(StoreError::Url(_))), "{url}");
    }
    let elsewhere = scratch.path().join("other.db");
    let url = format!("sqlite:{}", elsewhere.display());
    Store::open(&url, scratch.path()).await.unwrap();
    assert!(elsewhere.exists());
}
