//! Backup while the server writes, and restore.

use crate::support::{
    Scratch, account, aor, append, device, message, open, pending_ids, to, writer,
};
use sidetone_store::{DataLock, StoreError, restore};

#[tokio::test]
async fn a_backup_taken_under_load_restores_everything() {
    let scratch = Scratch::new("backup");
    let store = open(&scratch).await;
    let bob = store.add_account(&account("bob@x.org")).await.unwrap();
    let desk = store.add_device(&device(bob, "bob")).await.unwrap();
    store.put_setting("key", &[1, 2, 3]).await.unwrap();
    std::fs::create_dir(scratch.path().join("tls")).unwrap();
    std::fs::write(scratch.path().join("tls/key.pem"), b"\0secret").unwrap();
    let writer = writer(&store).await;
    let before = append(&writer, message(bob, 1, b"before"), vec![desk])
        .await
        .unwrap();
    for n in 2..500 {
        writer
            .try_append(
                message(bob, n, b"x"),
                to(vec![desk]),
                None,
                Box::new(|_| ()),
            )
            .unwrap();
    }
    let inside = scratch.path().join("tls/saved.backup");
    assert!(matches!(
        store.backup(&inside).await,
        Err(StoreError::InsideData(_))
    ));
    let files = Scratch::new("backup-files");
    let file = files.path().join("saved.backup");
    store.backup(&file).await.unwrap();
    assert!(matches!(
        store.backup(&file).await,
        Err(StoreError::Exists(_))
    ));
    writer.close().await.unwrap();

    // Into a fresh directory.
    let fresh = Scratch::new("backup-fresh");
    restore(&file, fresh.path()).await.unwrap();
    assert_eq!(
        std::fs::read(fresh.path().join("tls/key.pem")).unwrap(),
        b"\0secret"
    );
    let restored = open(&fresh).await;
    assert_eq!(restored.setting("key").await.unwrap(), Some(vec![1, 2, 3]));
    let w = crate::support::writer(&restored).await;
    assert!(pending_ids(&w, desk).await.contains(&before));
    w.close().await.unwrap();
    restored.close().await;

    // Over what has changed since; the old database stays beside it.
    store.remove_account(bob).await.unwrap();
    store.close().await;
    restore(&file, scratch.path()).await.unwrap();
    let store = open(&scratch).await;
    assert!(store.account(&aor("bob@x.org")).await.unwrap().is_some());
    assert!(scratch.path().join("sidetone.db.before-restore").exists());
}

#[tokio::test]
async fn a_restore_refuses_what_is_no_backup_and_a_running_server() {
    let scratch = Scratch::new("refuse");
    let store = open(&scratch).await;
    store.add_account(&account("bob@x.org")).await.unwrap();
    let files = Scratch::new("refuse-files");
    let file = files.path().join("good");
    store.backup(&file).await.unwrap();
    let lock = DataLock::acquire(scratch.path()).unwrap();
    assert!(matches!(
        restore(&file, scratch.path()).await,
        Err(StoreError::InUse(_))
    ));
    drop(lock);
    let text = scratch.path().join("text");
    std::fs::write(
        &text,
        "not a database, but long enough to be looked at".repeat(100),
    )
    .unwrap();
    let missing = scratch.path().join("missing");
    assert!(matches!(
        restore(&text, scratch.path()).await,
        Err(StoreError::BadBackup(..))
    ));
    assert!(matches!(
        restore(&missing, scratch.path()).await,
        Err(StoreError::NotFound(_))
    ));
    // A database that is no backup, and one whose files want to leave the directory.
    store.close().await;
    let plain = scratch.path().join("sidetone.db");
    let other = Scratch::new("refuse-other");
    assert!(matches!(
        restore(&plain, other.path()).await,
        Err(StoreError::BadBackup(..))
    ));
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut evil = sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap();
    sqlx::query("INSERT INTO file (name, content) VALUES ('../escaped', x'00')")
        .execute(&mut evil)
        .await
        .unwrap();
    evil.close().await.unwrap();
    assert!(matches!(
        restore(&file, other.path()).await,
        Err(StoreError::BadBackup(..))
    ));
    assert!(!other.path().join("../escaped").exists());
    assert!(!other.path().join("sidetone.db").exists());
    let store = open(&scratch).await;
    assert!(
        store.account(&aor("bob@x.org")).await.unwrap().is_some(),
        "nothing was touched"
    );
}
