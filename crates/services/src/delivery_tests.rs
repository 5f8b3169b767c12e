use super::*;
use bytes::Bytes;
use sidetone_model::AddressOfRecord;
use std::collections::BTreeMap;

const PHONE: DeviceId = DeviceId(7);

fn message(id: i64) -> StoredMessage {
    StoredMessage {
        id: MessageId(id),
        from: "sip:alice@localhost".into(),
        to: "bob@localhost".parse::<AddressOfRecord>().unwrap(),
        received_ms: 0,
        content_type: "text/plain".into(),
        headers: String::new(),
        body: Bytes::from_static(b"hello"),
        in_group: false,
        event: None,
        file: None,
    }
}

fn steps(deliveries: &mut Deliveries) -> Vec<Step> {
    std::iter::from_fn(|| deliveries.poll()).collect()
}

/// The only step, which must be a `Send`.
fn send(deliveries: &mut Deliveries) -> (u64, i64) {
    match steps(deliveries).as_slice() {
        [
            Step::Send {
                attempt, message, ..
            },
        ] => (*attempt, message.id.0),
        other => panic!("{other:?}"),
    }
}

fn load(after: i64) -> Vec<Step> {
    let after = MessageId(after);
    vec![Step::Load {
        device: PHONE,
        after,
    }]
}

/// A phone that is registered and has nothing to get.
fn ready() -> Deliveries {
    let mut deliveries = Deliveries::default();
    deliveries.wake(0, PHONE);
    assert_eq!(steps(&mut deliveries), load(0));
    deliveries.loaded(0, PHONE, vec![]);
    assert_eq!(steps(&mut deliveries), []);
    deliveries
}

/// `ready`, with messages 1 and 2 appended and the first one under way.
fn under_way() -> (Deliveries, u64) {
    let mut deliveries = ready();
    deliveries.appended(0, PHONE, Arc::new(message(1)), false);
    let (attempt, id) = send(&mut deliveries);
    assert_eq!(id, 1);
    deliveries.sending(attempt, &[1]);
    deliveries.appended(0, PHONE, Arc::new(message(2)), false);
    assert_eq!(steps(&mut deliveries), []);
    (deliveries, attempt)
}

#[test]
fn a_message_for_a_phone_that_waits_is_not_read_back() {
    let (mut deliveries, attempt) = under_way();
    deliveries.answered(10, attempt, 100);
    assert_eq!(steps(&mut deliveries), []);
    deliveries.answered(10, attempt, 200);
    let all = steps(&mut deliveries);
    assert_eq!(
        all[0],
        Step::Delivered {
            device: PHONE,
            message: MessageId(1)
        }
    );
    assert!(matches!(&all[1], Step::Send { message, .. } if message.id == MessageId(2)));
    assert_eq!(all.len(), 2);
    deliveries.answered(11, attempt, 200);
    assert_eq!(steps(&mut deliveries), [], "an attempt ends once");
}

#[test]
fn the_first_message_for_a_phone_is_sent_without_a_look_into_the_store() {
    let mut deliveries = Deliveries::default();
    deliveries.appended(0, PHONE, Arc::new(message(7)), true);
    let (attempt, id) = send(&mut deliveries);
    assert_eq!(id, 7);
    deliveries.sending(attempt, &[1]);
    deliveries.answered(10, attempt, 200);
    let (device, message) = (PHONE, MessageId(7));
    assert_eq!(
        steps(&mut deliveries),
        [
            Step::Delivered { device, message },
            Step::Emptied { device }
        ]
    );
}

#[test]
fn what_is_under_way_goes_to_a_binding_that_comes_meanwhile() {
    let (mut deliveries, attempt) = under_way();
    deliveries.wake(5, PHONE);
    let (again, id) = send(&mut deliveries);
    assert_eq!((again, id), (attempt, 1));
    let new = deliveries.sending(attempt, &[1, 2]);
    assert_eq!(new.as_slice(), [2], "the old one has its copy");
    // The old binding never answers.
    deliveries.answered(6, attempt, 200);
    let all = steps(&mut deliveries);
    assert!(matches!(&all[0], Step::Delivered { message, .. } if *message == MessageId(1)));
    deliveries.failed(7, attempt);
    assert_eq!(steps(&mut deliveries), []);
    // An attempt that has ended is not begun again.
    assert!(deliveries.sending(attempt, &[3]).is_empty());
}

#[test]
fn one_binding_that_answers_is_enough() {
    let mut deliveries = ready();
    deliveries.appended(0, PHONE, Arc::new(message(1)), false);
    let (attempt, _) = send(&mut deliveries);
    deliveries.sending(attempt, &[1, 2, 3]);
    deliveries.failed(1, attempt);
    deliveries.answered(2, attempt, 480);
    assert_eq!(steps(&mut deliveries), []);
    deliveries.answered(3, attempt, 202);
    assert_eq!(steps(&mut deliveries).len(), 2, "delivered, and emptied");
    assert_eq!((deliveries.in_flight(), deliveries.held_messages()), (0, 0));
    assert_eq!(deliveries.next_timeout_ms(), None);
}

#[test]
fn a_phone_without_an_answer_is_tried_again_ever_later() {
    let (mut deliveries, mut attempt) = under_way();
    let mut now_ms = 0;
    for wait_ms in [2_000, 5_000, 15_000, 60_000, 300_000, 300_000] {
        deliveries.failed(now_ms, attempt);
        assert_eq!(steps(&mut deliveries), []);
        assert_eq!(deliveries.held_messages(), 0, "the store keeps them");
        assert_eq!(deliveries.next_timeout_ms(), Some(now_ms + wait_ms));
        deliveries.handle_timeout(now_ms + wait_ms - 1);
        assert_eq!(steps(&mut deliveries), []);
        now_ms += wait_ms;
        deliveries.handle_timeout(now_ms);
        assert_eq!(steps(&mut deliveries), load(0));
        deliveries.loaded(now_ms, PHONE, vec![message(1), message(2)]);
        let (next, id) = send(&mut deliveries);
        assert_eq!(id, 1);
        attempt = next;
    }
}

#[test]
fn a_registration_ends_the_wait() {
    for anew in [true, false] {
        let (mut deliveries, attempt) = under_way();
        deliveries.answered(0, attempt, 503);
        if anew {
            deliveries.wake(100, PHONE);
        } else {
            deliveries.refreshed(100, PHONE);
        }
        assert_eq!(steps(&mut deliveries), load(0));
        assert_eq!(deliveries.next_timeout_ms(), None);
    }
}

#[test]
fn a_registration_during_an_attempt_is_worth_one_more() {
    let (mut deliveries, attempt) = under_way();
    deliveries.wake(100, PHONE);
    let (again, _) = send(&mut deliveries);
    let new = deliveries.sending(again, &[1]);
    assert!(again == attempt && new.is_empty(), "no second copy");
    assert_eq!(steps(&mut deliveries), [], "the answer may still come");
    deliveries.failed(200, attempt);
    let (attempt, id) = send(&mut deliveries);
    assert_eq!(id, 1);
    deliveries.failed(300, attempt);
    assert_eq!(steps(&mut deliveries), []);
    assert_eq!(deliveries.next_timeout_ms(), Some(2_300));
}

#[test]
fn a_phone_without_the_method_waits_for_a_registration() {
    let (mut deliveries, attempt) = under_way();
    deliveries.answered(0, attempt, 405);
    deliveries.appended(1, PHONE, Arc::new(message(3)), false);
    deliveries.refreshed(2, PHONE);
    deliveries.handle_timeout(1_000_000);
    assert_eq!(steps(&mut deliveries), []);
    deliveries.wake(1_000_001, PHONE);
    assert_eq!(steps(&mut deliveries), load(0));
}

#[test]
fn a_refused_message_stays_and_lets_the_next_one_pass() {
    let (mut deliveries, attempt) = under_way();
    deliveries.answered(0, attempt, 415);
    assert_eq!(deliveries.device_of(attempt), None, "it is over");
    let refused = deliveries.poll();
    assert!(matches!(refused, Some(Step::Refused { message, .. }) if message.id.0 == 1));
    let (attempt, id) = send(&mut deliveries);
    assert_eq!(id, 2);
    assert_eq!(deliveries.device_of(attempt), Some(PHONE));
    deliveries.answered(0, attempt, 200);
    assert_eq!(steps(&mut deliveries).len(), 1, "no mark for the first");
    deliveries.refreshed(1, PHONE);
    assert_eq!(steps(&mut deliveries), []);
    deliveries.wake(2, PHONE);
    assert_eq!(steps(&mut deliveries), load(0));
}

#[test]
fn a_phone_that_left_costs_nothing_until_it_is_back() {
    let mut deliveries = ready();
    deliveries.appended(0, PHONE, Arc::new(message(5)), false);
    let (attempt, _) = send(&mut deliveries);
    deliveries.sending(attempt, &[]);
    for id in 6..100 {
        deliveries.appended(0, PHONE, Arc::new(message(id)), false);
    }
    assert_eq!(steps(&mut deliveries), []);
    assert_eq!(
        (deliveries.held_messages(), deliveries.next_timeout_ms()),
        (0, None)
    );
    deliveries.wake(9, PHONE);
    assert_eq!(steps(&mut deliveries), load(4));
}

#[test]
fn a_report_that_comes_late_is_looked_up_in_the_store() {
    let mut deliveries = ready();
    deliveries.appended(0, PHONE, Arc::new(message(2)), false);
    let (attempt, _) = send(&mut deliveries);
    deliveries.appended(0, PHONE, Arc::new(message(1)), false);
    deliveries.answered(0, attempt, 200);
    assert_eq!(steps(&mut deliveries)[1..], load(0));
}

#[test]
fn what_came_while_reading_is_not_lost() {
    let mut deliveries = Deliveries::default();
    deliveries.wake(0, PHONE);
    assert_eq!(steps(&mut deliveries), load(0));
    deliveries.appended(0, PHONE, Arc::new(message(1)), false);
    deliveries.loaded(0, PHONE, vec![]);
    assert_eq!(steps(&mut deliveries), load(0));
}

#[test]
fn silence_is_a_failure_in_the_end() {
    let (mut deliveries, _) = under_way();
    assert_eq!(deliveries.next_timeout_ms(), Some(SILENCE_MS));
    deliveries.handle_timeout(SILENCE_MS);
    assert_eq!(deliveries.in_flight(), 0);
    assert_eq!(deliveries.next_timeout_ms(), Some(SILENCE_MS + 2_000));
}

#[test]
fn a_removed_device_is_forgotten() {
    let (mut deliveries, attempt) = under_way();
    deliveries.device_gone(PHONE);
    deliveries.answered(0, attempt, 200);
    assert_eq!(steps(&mut deliveries), []);
    assert_eq!((deliveries.in_flight(), deliveries.held_messages()), (0, 0));
}

#[test]
fn devices_with_nothing_to_get_are_forgotten_first() {
    let mut deliveries = Deliveries::new(DeliveryLimits {
        idle_devices: 4,
        ..DeliveryLimits::default()
    });
    for device in (1..=100).map(DeviceId) {
        deliveries.wake(0, device);
        deliveries.loaded(0, device, vec![]);
    }
    assert!(deliveries.queues.len() <= 8, "{}", deliveries.queues.len());
}

/// The store, the network and the phones, played by dice.
struct World {
    deliveries: Deliveries,
    dice: u64,
    now_ms: u64,
    last: i64,
    /// What the store holds for each device.
    pending: BTreeMap<DeviceId, BTreeMap<i64, StoredMessage>>,
    /// Committed, not yet reported to the deliveries.
    reports: Vec<(DeviceId, i64, bool)>,
    /// The devices that something may be kept for, as the engine notes them.
    waiting: BTreeSet<DeviceId>,
    loads: Vec<(DeviceId, MessageId)>,
    /// Attempts under way: device, message, open copies.
    flights: BTreeMap<u64, (DeviceId, i64, usize)>,
    registered: BTreeMap<DeviceId, bool>,
    /// What each device has confirmed, in order.
    confirmed: BTreeMap<DeviceId, Vec<i64>>,
    appended: BTreeMap<DeviceId, Vec<i64>>,
    /// Whether the phones take everything that comes.
    kind: bool,
}

const DEVICES: i64 = 5;

impl World {
    fn new(seed: u64, limits: DeliveryLimits) -> Self {
        let devices = || (1..=DEVICES).map(DeviceId);
        Self {
            deliveries: Deliveries::new(limits),
            dice: seed,
            now_ms: 1,
            last: 0,
            pending: devices().map(|device| (device, BTreeMap::new())).collect(),
            reports: vec![],
            waiting: BTreeSet::new(),
            loads: vec![],
            flights: BTreeMap::new(),
            registered: devices().map(|device| (device, false)).collect(),
            confirmed: devices().map(|device| (device, vec![])).collect(),
            appended: devices().map(|device| (device, vec![])).collect(),
            kind: false,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn device(&mut self) -> DeviceId {
        DeviceId(1 + i64::try_from(self.roll(DEVICES.unsigned_abs())).unwrap())
    }

    fn pick<T>(&mut self, from: usize, take: impl Fn(&mut Self, usize) -> T) -> Option<T> {
        let place = usize::try_from(self.roll(from.max(1) as u64)).unwrap();
        (place < from).then(|| take(self, place))
    }

    fn commit(&mut self) {
        let device = self.device();
        for _ in 0..=self.roll(4) {
            self.last += 1;
            let id = self.last;
            self.pending
                .get_mut(&device)
                .unwrap()
                .insert(id, message(id));
            self.appended.get_mut(&device).unwrap().push(id);
            let first = self.waiting.insert(device);
            self.reports.push((device, id, first));
        }
    }

    /// Reports come in the order of commits from one shard; `far` mixes those of many.
    fn report(&mut self, far: bool) {
        let places = if far {
            self.reports.len()
        } else {
            self.reports.len().min(1)
        };
        if let Some((device, id, first)) =
            self.pick(places, |world, place| world.reports.remove(place))
        {
            self.waiting.insert(device);
            if self.roll(8) == 0 {
                self.deliveries.stored(self.now_ms, device, MessageId(id));
            } else {
                self.deliveries
                    .appended(self.now_ms, device, Arc::new(message(id)), first);
            }
        }
    }

    fn answer_load(&mut self) {
        let Some((device, after)) =
            self.pick(self.loads.len(), |world, place| world.loads.remove(place))
        else {
            return;
        };
        if !self.kind && self.roll(10) == 0 {
            return self.deliveries.load_failed(self.now_ms, device);
        }
        let page = self.pending[&device]
            .range(after.0 + 1..)
            .take(PAGE)
            .map(|(_, message)| message.clone())
            .collect();
        self.deliveries.loaded(self.now_ms, device, page);
    }

    fn answer_send(&mut self) {
        let keys: Vec<u64> = self.flights.keys().copied().collect();
        let Some(attempt) = self.pick(keys.len(), |_, place| keys[place]) else {
            return;
        };
        let (device, id, open) = self.flights[&attempt];
        if open == 1 {
            self.flights.remove(&attempt);
        } else {
            self.flights.insert(attempt, (device, id, open - 1));
        }
        let status = match self.roll(12) {
            _ if self.kind => 200,
            0 => 405,
            1 => 415,
            2 => 503,
            3 => 480,
            4 => return self.deliveries.failed(self.now_ms, attempt),
            _ => 200,
        };
        let confirmed = self.confirmed.get_mut(&device).unwrap();
        if status == 200 && confirmed.last() != Some(&id) && !confirmed.contains(&id) {
            confirmed.push(id);
        }
        self.deliveries.answered(self.now_ms, attempt, status);
    }

    fn register(&mut self) {
        let device = self.device();
        let away = !self.kind && self.roll(3) == 0;
        self.registered.insert(device, !away);
        match self.roll(3) {
            _ if away || !self.waiting.contains(&device) => {}
            0 => self.deliveries.refreshed(self.now_ms, device),
            _ => self.deliveries.wake(self.now_ms, device),
        }
    }

    fn perform(&mut self) {
        while let Some(step) = self.deliveries.poll() {
            match step {
                Step::Load { device, after } => self.loads.push((device, after)),
                Step::Emptied { device } => drop(self.waiting.remove(&device)),
                Step::Arrived { .. } | Step::Refused { .. } => {}
                Step::Delivered { device, message } => {
                    let row = self.pending.get_mut(&device).unwrap().remove(&message.0);
                    assert!(row.is_some(), "marked twice: {message}");
                    assert!(self.confirmed[&device].contains(&message.0));
                }
                Step::Send {
                    attempt,
                    device,
                    message,
                } => {
                    let under_way = self.flights.values().filter(|flight| flight.0 == device);
                    let id = message.id.0;
                    // Copies to further bindings may outlive the answer of the first one.
                    assert!(
                        under_way
                            .clone()
                            .all(|flight| flight.1 != id || !self.confirmed[&device].contains(&id))
                    );
                    assert!(
                        !self.confirmed[&device].contains(&id),
                        "sent again after 2xx: {id}"
                    );
                    let copies = if self.registered[&device] {
                        1 + u64::from(self.roll(3) == 0)
                    } else {
                        0
                    };
                    let ways: Vec<u64> = (0..copies).collect();
                    let new = self.deliveries.sending(attempt, &ways).len();
                    if new > 0 {
                        self.flights.entry(attempt).or_insert((device, id, 0)).2 += new;
                    }
                }
            }
        }
        assert!(self.loads.len() <= LOADS);
    }

    fn turn(&mut self, far: bool) {
        self.now_ms += self.roll(400);
        match self.roll(10) {
            0 | 1 if !self.kind => self.commit(),
            2 | 3 => self.report(far),
            4 | 5 => self.answer_load(),
            6..9 => self.answer_send(),
            _ => self.register(),
        }
        self.perform();
        if self.roll(4) == 0 {
            self.deliveries.handle_timeout(self.now_ms);
            self.perform();
        }
        let limit = self.deliveries.limits.messages;
        assert!(self.deliveries.held_messages() <= limit);
    }

    /// Every phone is on and takes everything: nothing may be left anywhere.
    fn settle(&mut self) {
        self.kind = true;
        for device in (1..=DEVICES).map(DeviceId) {
            self.registered.insert(device, true);
            if self.waiting.contains(&device) {
                self.deliveries.wake(self.now_ms, device);
            }
        }
        self.perform();
        for _ in 0..40_000 {
            self.turn(false);
            if self.pending.values().all(BTreeMap::is_empty)
                && self.reports.is_empty()
                && self.flights.is_empty()
                && self.loads.is_empty()
            {
                break;
            }
        }
        for (device, left) in &self.pending {
            assert!(left.is_empty(), "{device} never got {:?}", left.keys());
        }
        for (device, mut got) in self.confirmed.clone() {
            got.sort_unstable();
            assert_eq!(got, self.appended[&device], "everything once");
        }
        self.deliveries.handle_timeout(self.now_ms + 2 * SILENCE_MS);
        assert_eq!(self.deliveries.held_messages(), 0);
        assert_eq!(self.deliveries.in_flight(), 0);
    }
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    for seed in 1..22 {
        let limits = DeliveryLimits {
            messages: if seed % 2 == 0 { PAGE } else { 500 },
            idle_devices: usize::try_from(seed % 7).unwrap(),
            ..DeliveryLimits::default()
        };
        let mut world = World::new(seed, limits);
        for _ in 0..3_000 {
            world.turn(seed % 3 == 0);
        }
        world.settle();
    }
}

#[test]
fn the_order_of_the_store_is_kept() {
    for seed in 1..10 {
        let mut world = World::new(seed * 77, DeliveryLimits::default());
        world.kind = true;
        for turn in 0..3_000 {
            if turn % 5 == 0 {
                world.commit();
            }
            world.turn(false);
        }
        world.settle();
        for (device, got) in &world.confirmed {
            assert!(got.is_sorted(), "{device}: {got:?}");
        }
    }
}
