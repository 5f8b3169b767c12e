//! Stored messages on their way to devices (RFC 3428): what is sent next, and what an answer means.
//!
//! *Invariant: a message leaves the spool only by a 2xx of its device*, and after that 2xx it
//! is never sent to the device again. A device has one message under way at a time, so it
//! gets its messages in the order of their numbers.
//!
//! Memory is bounded: the store keeps what is not held here. A device whose turn to read
//! has not come waits in a line; a device that cannot be reached holds no message.
//!
//! Whoever performs the steps does so in their order, and a [`Step::Load`] sees the marks of
//! every [`Step::Delivered`] before it.

mod held;
mod queue;
mod step;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use sidetone_model::{DeviceId, MessageId, StoredMessage};
use smallvec::SmallVec;

use held::Held;
use queue::{Queue, State};
use step::Failure;
pub use step::{DeliveryLimits, Step};

/// The most messages that one [`Step::Load`] is answered with.
pub const PAGE: usize = 32;

/// Reads of the store under way at a time.
const LOADS: usize = 16;
/// Waits after one failure after the other; the last one repeats.
const RETRY_MS: [u64; 5] = [2_000, 5_000, 15_000, 60_000, 300_000];
/// A copy that nobody reports on is given up: twice the 64 × T1 of its transaction.
const SILENCE_MS: u64 = 64_000;

#[derive(Debug)]
struct Flight {
    device: DeviceId,
    /// Copies without an end.
    open: usize,
    /// Where copies went.
    ways: SmallVec<[u64; 2]>,
    failure: Failure,
}

/// All deliveries of one shard.
#[derive(Debug)]
pub struct Deliveries {
    limits: DeliveryLimits,
    queues: HashMap<DeviceId, Queue>,
    sweep_at: usize,
    flights: HashMap<u64, Flight>,
    attempts: u64,
    /// The greatest number ever under way.
    greatest: MessageId,
    silence: VecDeque<(u64, u64)>,
    waits: BTreeSet<(u64, DeviceId)>,
    to_load: VecDeque<DeviceId>,
    loading: usize,
    held: Held,
    steps: VecDeque<Step>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self::new(DeliveryLimits::default())
    }
}

impl Deliveries {
    /// Nothing to deliver yet. At least one [`PAGE`] is held, whatever the limits say.
    pub fn new(limits: DeliveryLimits) -> Self {
        Self {
            sweep_at: limits.idle_devices,
            limits: DeliveryLimits {
                messages: limits.messages.max(PAGE),
                octets: limits.octets.max(1),
                ..limits
            },
            queues: HashMap::new(),
            flights: HashMap::new(),
            attempts: 0,
            greatest: MessageId(0),
            silence: VecDeque::new(),
            waits: BTreeSet::new(),
            to_load: VecDeque::new(),
            loading: 0,
            held: Held::default(),
            steps: VecDeque::new(),
        }
    }

    /// The device has registered: everything that it has yet to get is tried now, also what
    /// it could not take before. What is under way goes to its new bindings, too: the old ones
    /// may never answer.
    pub fn wake(&mut self, now_ms: u64, device: DeviceId) {
        self.revive(device, true);
        self.send_on(device);
        self.go_on(now_ms, device);
    }

    fn send_on(&mut self, device: DeviceId) {
        let Some(queue) = self.queues.get(&device) else {
            return;
        };
        if let (State::Flight { attempt }, Some(message)) = (queue.state, queue.messages.front()) {
            self.steps.push_back(Step::Send {
                attempt,
                device,
                message: Arc::clone(message),
            });
        }
    }

    /// The device has refreshed its registration: what waits for another try is tried now.
    pub fn refreshed(&mut self, now_ms: u64, device: DeviceId) {
        self.revive(device, false);
        self.go_on(now_ms, device);
    }

    fn revive(&mut self, device: DeviceId, anew: bool) {
        let queue = self.queue(device);
        let was = queue.state;
        queue.revive(anew);
        if let State::Waiting { until_ms } = was {
            self.waits.remove(&(until_ms, device));
        }
    }

    /// A message for the device was committed to the store. `first`: the store had nothing for the device before it,
    /// so that nothing need be read to keep the order.
    pub fn appended(
        &mut self,
        now_ms: u64,
        device: DeviceId,
        message: Arc<StoredMessage>,
        first: bool,
    ) {
        let room = self.has_room();
        // What is not greater than all that was ever under way may have been read back and delivered before its shard
        // reported it, and the queue that knew have been forgotten: the store knows.
        let news = first && message.id > self.greatest && !self.queues.contains_key(&device);
        let queue = self.queue(device);
        if news {
            queue.begin(message.id);
        }
        if queue.append(&message, room) {
            self.held.add(&message);
        }
        self.go_on(now_ms, device);
    }

    /// A message for the device is in the store, and nobody has it at hand.
    pub fn stored(&mut self, now_ms: u64, device: DeviceId, message: MessageId) {
        self.queue(device).reread(message);
        self.go_on(now_ms, device);
    }

    /// The answer to [`Step::Load`]: oldest first, at most [`PAGE`], fewer when there are no more.
    pub fn loaded(&mut self, now_ms: u64, device: DeviceId, messages: Vec<StoredMessage>) {
        let Some(queue) = self.queues.get_mut(&device) else {
            return;
        };
        let State::Loading { .. } = queue.state else {
            return;
        };
        queue.load(messages);
        for message in &queue.messages {
            self.held.add(message);
        }
        self.loading -= 1;
        self.go_on(now_ms, device);
    }

    /// The store could not answer [`Step::Load`] now.
    pub fn load_failed(&mut self, now_ms: u64, device: DeviceId) {
        let Some(queue) = self.queues.get_mut(&device) else {
            return;
        };
        if let State::Loading { .. } = queue.state {
            self.loading -= 1;
            self.wait(now_ms, device);
            self.read_on();
        }
    }

    /// By which ways, which stand for bindings, copies of a [`Step::Send`] are to go; gives
    /// those by which none has gone yet. A device without a binding is given none.
    pub fn sending(&mut self, attempt: u64, ways: &[u64]) -> SmallVec<[u64; 2]> {
        let Some(flight) = self.flights.get_mut(&attempt) else {
            return SmallVec::new();
        };
        let first = flight.ways.is_empty();
        let new: SmallVec<[u64; 2]> = ways
            .iter()
            .copied()
            .filter(|way| !flight.ways.contains(way))
            .collect();
        flight.ways.extend_from_slice(&new);
        match (first, new.len()) {
            (true, 0) => self.nowhere(attempt),
            (true, copies) => flight.open = copies,
            (false, copies) => flight.open += copies,
        }
        new
    }

    fn nowhere(&mut self, attempt: u64) {
        let Some(flight) = self.flights.remove(&attempt) else {
            return;
        };
        self.forget_landed();
        self.release(flight.device, State::Away);
        self.read_on();
    }

    /// One copy was answered.
    pub fn answered(&mut self, now_ms: u64, attempt: u64, status: u16) {
        match status {
            0..200 => {}
            200..300 => self.delivered(now_ms, attempt),
            _ => self.copy_failed(now_ms, attempt, Failure::of(status)),
        }
    }

    /// One copy came to nothing: no answer in time, or it could not be sent.
    pub fn failed(&mut self, now_ms: u64, attempt: u64) {
        self.copy_failed(now_ms, attempt, Failure::Temporary);
    }

    /// The device was removed.
    pub fn device_gone(&mut self, device: DeviceId) {
        self.release(device, State::Away);
        self.queues.remove(&device);
        self.read_on();
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// When [`Deliveries::handle_timeout`] has something to do.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        let wait = self.waits.first().map(|(until_ms, _)| *until_ms);
        let silence = self.silence.front().map(|(until_ms, _)| *until_ms);
        wait.into_iter().chain(silence).min()
    }

    /// Tries again what is due.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        while let Some(&(until_ms, device)) = self.waits.first() {
            if until_ms > now_ms {
                break;
            }
            self.waits.pop_first();
            if let Some(queue) = self.queues.get_mut(&device) {
                queue.state = State::Ready;
            }
            self.go_on(now_ms, device);
        }
        while let Some(&(until_ms, attempt)) = self.silence.front() {
            if until_ms > now_ms {
                break;
            }
            self.silence.pop_front();
            if let Some(flight) = self.flights.get_mut(&attempt) {
                flight.open = 1;
                self.failed(now_ms, attempt);
            }
        }
    }

    /// Whom an attempt is for, while it is under way.
    pub fn device_of(&self, attempt: u64) -> Option<DeviceId> {
        self.flights.get(&attempt).map(|flight| flight.device)
    }

    /// Messages held in memory.
    pub fn held_messages(&self) -> usize {
        self.held.messages
    }

    /// Messages under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn queue(&mut self, device: DeviceId) -> &mut Queue {
        if self.queues.len() >= self.sweep_at && !self.queues.contains_key(&device) {
            self.queues.retain(|_, queue| !queue.is_idle());
            self.sweep_at = self.limits.idle_devices.max(self.queues.len() * 2);
        }
        let taken = self.greatest;
        self.queues
            .entry(device)
            .or_insert_with(|| Queue::after(taken))
    }

    fn has_room(&self) -> bool {
        self.held.messages + self.loading * PAGE < self.limits.messages
            && self.held.octets < self.limits.octets
    }

    /// Starts what the device's queue is ready for, and reads that there is room for.
    fn go_on(&mut self, now_ms: u64, device: DeviceId) {
        let Some(queue) = self.queues.get_mut(&device) else {
            return;
        };
        if queue.state == State::Ready {
            if let Some(message) = queue.messages.front() {
                let message = Arc::clone(message);
                self.attempts += 1;
                queue.start(self.attempts, message.id);
                self.launch(now_ms, device, message);
            } else if queue.wants_load() {
                queue.state = State::InLine;
                self.to_load.push_back(device);
            }
        }
        self.read_on();
    }

    fn launch(&mut self, now_ms: u64, device: DeviceId, message: Arc<StoredMessage>) {
        let attempt = self.attempts;
        self.greatest = self.greatest.max(message.id);
        let flight = Flight {
            device,
            open: 1,
            ways: SmallVec::new(),
            failure: Failure::Unable,
        };
        self.flights.insert(attempt, flight);
        self.silence.push_back((now_ms + SILENCE_MS, attempt));
        self.steps.push_back(Step::Send {
            attempt,
            device,
            message,
        });
    }

    fn forget_landed(&mut self) {
        while let Some((_, attempt)) = self.silence.front() {
            if self.flights.contains_key(attempt) {
                break;
            }
            self.silence.pop_front();
        }
    }

    fn read_on(&mut self) {
        while self.loading < LOADS
            && self.held.messages + (self.loading + 1) * PAGE <= self.limits.messages
            && self.held.octets < self.limits.octets
        {
            let Some(device) = self.to_load.pop_front() else {
                return;
            };
            let Some(queue) = self.queues.get_mut(&device) else {
                continue;
            };
            if queue.state == State::InLine {
                queue.state = State::Loading { missed: None };
                self.loading += 1;
                let after = queue.cursor;
                self.steps.push_back(Step::Load { device, after });
            }
        }
    }

    fn delivered(&mut self, now_ms: u64, attempt: u64) {
        let Some(flight) = self.flights.remove(&attempt) else {
            return;
        };
        self.forget_landed();
        let device = flight.device;
        if let Some(landed) = self.land(device) {
            let message = landed.id;
            self.steps.push_back(Step::Delivered { device, message });
            let arrived = |event| Step::Arrived { device, event };
            self.steps.extend(landed.event.map(arrived));
        }
        self.go_on(now_ms, device);
        if self.queues.get(&device).is_some_and(Queue::is_empty) {
            self.steps.push_back(Step::Emptied { device });
        }
    }

    /// Takes the message that was under way out of the queue.
    fn land(&mut self, device: DeviceId) -> Option<Arc<StoredMessage>> {
        let queue = self.queues.get_mut(&device)?;
        let message = queue.land()?;
        self.held.remove(&message);
        Some(message)
    }

    fn copy_failed(&mut self, now_ms: u64, attempt: u64, failure: Failure) {
        let Some(flight) = self.flights.get_mut(&attempt) else {
            return;
        };
        flight.failure = flight.failure.max(failure);
        flight.open -= 1;
        if flight.open > 0 {
            return;
        }
        let (device, failure) = (flight.device, flight.failure);
        self.flights.remove(&attempt);
        self.forget_landed();
        let Some(queue) = self.queues.get_mut(&device) else {
            return;
        };
        if std::mem::take(&mut queue.renewed) {
            queue.state = State::Ready;
        } else {
            self.settle(now_ms, device, failure);
        }
        self.go_on(now_ms, device);
    }

    fn settle(&mut self, now_ms: u64, device: DeviceId, failure: Failure) {
        match failure {
            Failure::Temporary => self.wait(now_ms, device),
            Failure::Unable => self.release(device, State::Unable),
            Failure::Refused => {
                // It stays in the store and does not hold up what comes after it.
                if let Some(message) = self.land(device)
                    && let Some(queue) = self.queues.get_mut(&device)
                {
                    queue.refuse(message.id);
                    self.steps.push_back(Step::Refused { device, message });
                }
            }
        }
    }

    fn wait(&mut self, now_ms: u64, device: DeviceId) {
        let Some(queue) = self.queues.get_mut(&device) else {
            return;
        };
        let step = usize::from(queue.tries).min(RETRY_MS.len() - 1);
        queue.tries = queue.tries.saturating_add(1);
        let until_ms = now_ms + RETRY_MS[step];
        self.waits.insert((until_ms, device));
        self.release(device, State::Waiting { until_ms });
    }

    /// Gives the device's messages back to the store.
    fn release(&mut self, device: DeviceId, state: State) {
        let Some(queue) = self.queues.get_mut(&device) else {
            return;
        };
        match queue.state {
            State::Waiting { until_ms } => drop(self.waits.remove(&(until_ms, device))),
            State::Loading { .. } if state == State::Away => self.loading -= 1,
            State::Flight { attempt } => drop(self.flights.remove(&attempt)),
            _ => {}
        }
        for message in &queue.messages {
            self.held.remove(message);
        }
        queue.release(state);
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
