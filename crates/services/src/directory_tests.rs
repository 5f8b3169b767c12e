use std::collections::BTreeMap;

use super::*;

fn aor(text: &str) -> AddressOfRecord {
    text.parse().expect("an address")
}

fn account(id: i64, address: &str) -> DirectoryChange {
    DirectoryChange::Account(Account {
        id: AccountId(id),
        address: aor(address),
        name: String::new(),
        profile: "default".into(),
        role: sidetone_model::Role::User,
        disabled: false,
    })
}

fn alias(address: &str, account: i64) -> DirectoryChange {
    DirectoryChange::Alias {
        address: aor(address),
        account: AccountId(account),
    }
}

fn device(id: i64, account: i64, user: &str) -> DirectoryChange {
    DirectoryChange::Device(Device {
        id: DeviceId(id),
        account: AccountId(account),
        label: "phone".into(),
        sip_user: user.into(),
        realm: "example.com".into(),
        ha1_sha256: [7; 32],
        ha1_md5: None,
        created_ms: 0,
    })
}

fn removed_device(device: i64, account: i64) -> DirectoryChange {
    DirectoryChange::DeviceRemoved {
        device: DeviceId(device),
        account: AccountId(account),
    }
}

fn whose(directory: &Directory, address: &str) -> Option<i64> {
    directory.find(address).map(|found| found.account.0)
}

fn who_logs_in(directory: &Directory, user: &str) -> Option<(i64, i64)> {
    let found = directory.credentials("example.com", user)?;
    Some((found.device.0, found.account.0))
}

#[test]
fn addresses_aliases_and_devices_lead_to_the_account() {
    let directory = Directory::new();
    directory.apply([
        account(1, "alice@example.com"),
        alias("1001@example.com", 1),
        device(10, 1, "alice"),
        device(11, 1, "alice-mobile"),
    ]);
    assert_eq!(whose(&directory, "1001@example.com"), Some(1));
    let found = directory.find("1001@example.com").expect("an alias");
    assert_eq!(found.address.as_str(), "alice@example.com");
    assert_eq!(who_logs_in(&directory, "alice-mobile"), Some((11, 1)));
    assert_eq!(who_logs_in(&directory, "Alice"), None);
    assert!(directory.credentials("EXAMPLE.com", "alice").is_some());
    assert!(directory.credentials("example.org", "alice").is_none());
    assert_eq!(
        directory.devices(AccountId(1)).as_slice(),
        [DeviceId(10), DeviceId(11)]
    );
    let domains = Domains::new("example.com");
    let resolved = directory
        .resolve(&domains, "sip:1001@EXAMPLE.com:5060")
        .expect("ours");
    assert_eq!(resolved.account, AccountId(1));
}

#[test]
fn the_order_of_changes_does_not_matter() {
    let directory = Directory::new();
    directory.apply([device(10, 1, "alice"), alias("1001@example.com", 1)]);
    assert_eq!(
        directory.find("1001@example.com"),
        None,
        "no address of record yet"
    );
    directory.apply([account(1, "alice@example.com")]);
    assert_eq!(whose(&directory, "1001@example.com"), Some(1));
    assert_eq!(who_logs_in(&directory, "alice"), Some((10, 1)));
}

#[test]
fn an_account_takes_all_of_its_own_with_it() {
    let directory = Directory::new();
    directory.apply([account(1, "a@example.com"), account(2, "b@example.com")]);
    directory.apply([
        alias("1@example.com", 1),
        alias("2@example.com", 1),
        alias("3@example.com", 2),
    ]);
    directory.apply([device(10, 1, "a"), device(11, 1, "a2"), device(20, 2, "b")]);
    directory.apply([DirectoryChange::AccountRemoved(AccountId(1))]);
    for address in ["a@example.com", "1@example.com", "2@example.com"] {
        assert_eq!(whose(&directory, address), None);
    }
    assert_eq!(who_logs_in(&directory, "a2"), None);
    assert_eq!(whose(&directory, "3@example.com"), Some(2));
    assert_eq!(who_logs_in(&directory, "b"), Some((20, 2)));
    let counts = directory.counts();
    assert_eq!(
        (counts.accounts, counts.devices, counts.addresses),
        (1, 1, 2)
    );
}

#[test]
fn a_renamed_account_is_found_by_its_new_address_only() {
    let directory = Directory::new();
    directory.apply([
        account(1, "a@example.com"),
        alias("b@example.com", 1),
        account(1, "b@example.com"),
    ]);
    assert_eq!(whose(&directory, "a@example.com"), None);
    assert_eq!(whose(&directory, "b@example.com"), Some(1));
    directory.apply([DirectoryChange::AliasRemoved(aor("b@example.com"))]);
    assert_eq!(
        whose(&directory, "b@example.com"),
        Some(1),
        "it is no alias any more"
    );
}

/// The index against plain maps under a long random history.
#[test]
fn agrees_with_a_model() {
    let directory = Directory::new();
    let mut accounts: BTreeMap<i64, String> = BTreeMap::new();
    let mut aliases: BTreeMap<String, i64> = BTreeMap::new();
    let mut devices: BTreeMap<i64, i64> = BTreeMap::new();
    let mut seed = 1u64;
    let mut random = |below: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        i64::try_from(seed >> 33).expect("31 bits") % below
    };
    for _ in 0..20_000 {
        let (id, other) = (random(40), random(120));
        match random(6) {
            0 => {
                let address = format!("u{id}@example.com");
                accounts.insert(id, address.clone());
                directory.apply([account(id, &address)]);
            }
            1 if random(4) == 0 => {
                accounts.remove(&id);
                aliases.retain(|_, owner| *owner != id);
                devices.retain(|_, owner| *owner != id);
                directory.apply([DirectoryChange::AccountRemoved(AccountId(id))]);
            }
            2 => {
                aliases.insert(format!("{other}@example.com"), id);
                directory.apply([alias(&format!("{other}@example.com"), id)]);
            }
            3 => {
                aliases.remove(&format!("{other}@example.com"));
                directory.apply([DirectoryChange::AliasRemoved(aor(&format!(
                    "{other}@example.com"
                )))]);
            }
            4 => {
                devices.insert(other, id);
                directory.apply([device(other, id, &format!("d{other}"))]);
            }
            _ => {
                devices.remove(&other);
                directory.apply([removed_device(other, id)]);
            }
        }
    }
    for id in 0..40 {
        let expected = accounts.contains_key(&id).then_some(id);
        assert_eq!(whose(&directory, &format!("u{id}@example.com")), expected);
        let of: Vec<_> = devices
            .iter()
            .filter(|(_, owner)| **owner == id)
            .map(|(id, _)| DeviceId(*id))
            .collect();
        assert_eq!(directory.devices(AccountId(id)).to_vec(), of);
    }
    for other in 0..120 {
        let owner = aliases.get(&format!("{other}@example.com")).copied();
        let expected = owner.filter(|owner| accounts.contains_key(owner));
        assert_eq!(whose(&directory, &format!("{other}@example.com")), expected);
        let expected = devices.get(&other).map(|owner| (other, *owner));
        assert_eq!(who_logs_in(&directory, &format!("d{other}")), expected);
    }
    assert_eq!(directory.counts().addresses, accounts.len() + aliases.len());
}
