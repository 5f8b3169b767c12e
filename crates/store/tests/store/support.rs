//! What the store's tests share: a scratch store with two users, and messages.

use bytes::Bytes;
use sidetone_model::{AccountId, AddressOfRecord, DeviceId, MessageId, NewMessage, Origin, Role};
use sidetone_store::{NewAccount, NewDevice, Recipients, Store, StoreError, Writer, WriterOptions};
use std::path::{Path, PathBuf};

pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("sidetone-store-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) async fn open(scratch: &Scratch) -> Store {
    Store::open("sqlite", scratch.path()).await.unwrap()
}

pub(crate) async fn writer(store: &Store) -> Writer {
    store.start_writer(WriterOptions::default()).await.unwrap()
}

pub(crate) fn aor(text: &str) -> AddressOfRecord {
    text.parse().unwrap()
}

pub(crate) fn account(address: &str) -> NewAccount {
    NewAccount {
        address: aor(address),
        name: "Name".into(),
        profile: "default".into(),
        role: Role::User,
        password: None,
        aliases: Vec::new(),
    }
}

pub(crate) fn device(account: AccountId, sip_user: &str) -> NewDevice {
    NewDevice {
        account,
        label: "desk".into(),
        sip_user: sip_user.into(),
        realm: "x.org".into(),
        ha1_sha256: [7; 32],
        ha1_md5: Some([9; 16]),
        created_ms: 1_000,
    }
}

pub(crate) fn message(account: AccountId, n: u64, body: &[u8]) -> NewMessage {
    let mut origin = [0; 16];
    origin[..8].copy_from_slice(&n.to_be_bytes());
    NewMessage {
        from: "sip:alice@x.org".into(),
        to: aor("bob@x.org"),
        account,
        received_ms: now_ms(),
        content_type: "text/plain".into(),
        headers: "Subject: hello\r\n".into(),
        body: Bytes::copy_from_slice(body),
        origin: Origin(origin),
        keyed: false,
        place: None,
    }
}

pub(crate) fn to(devices: Vec<DeviceId>) -> Recipients {
    Recipients {
        devices,
        accounts: Vec::new(),
    }
}

pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

pub(crate) async fn append(
    writer: &Writer,
    message: NewMessage,
    devices: Vec<DeviceId>,
) -> Result<MessageId, StoreError> {
    let (done, result) = tokio::sync::oneshot::channel();
    let report = Box::new(move |r| {
        let _ = done.send(r);
    });
    let accounts = match devices.is_empty() {
        true => vec![message.account],
        false => Vec::new(),
    };
    let to = Recipients { devices, accounts };
    writer.try_append(message, to, None, report).unwrap();
    result.await.unwrap().map(|appended| appended.id)
}

pub(crate) async fn pending_ids(writer: &Writer, device: DeviceId) -> Vec<MessageId> {
    let messages = writer.pending(device, MessageId(0), 1_000).await.unwrap();
    messages.into_iter().map(|m| m.id).collect()
}
