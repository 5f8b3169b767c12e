//! The writer: one thread, one task, one connection, group commit.
//!
//! Work comes through one bounded queue from any thread and is committed in groups. An idle
//! writer commits at once; while several senders are at work it waits a moment for company,
//! because the price of a commit (the sync above all) is the same for one message and for a
//! hundred.
//!
//! *Invariant*: a callback says `Ok` only after COMMIT returned with `synchronous=FULL`; what
//! fails is answered with the error and leaves nothing behind.

mod batch;
mod group;
mod marks;
mod origins;
mod trouble;

use crate::conversation::{Change, Watermark};
use crate::{Failure, Store, StoreError};
use group::Task;
use marks::Marks;
use sidetone_model::{
    AccountId, AddressOfRecord, Binding, DeviceId, MessageId, NewMessage, StoredMessage,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A message that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number.
    pub id: MessageId,
    /// It had been stored before; nothing was stored now.
    pub known: bool,
}

/// Called once, from the writer's thread, after the commit and in its order; it must not block.
pub type Done = Box<dyn FnOnce(Result<Appended, StoreError>) + Send>;

/// The writer's queue is full: answer 503 with Retry-After.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer's queue is full")]
pub struct QueueFull;

/// How the writer gathers.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Entries of the queue; more are refused.
    pub queue: usize,
    /// How long to wait for company while several senders are at work.
    pub gather: Duration,
    /// How long bindings may wait to be written.
    pub bindings_delay: Duration,
    /// How long marks of delivery may wait for a commit to ride along with.
    pub marks_delay: Duration,
    /// How long a message is recognised when it comes again.
    pub origins_kept: Duration,
    /// How long a key that a sender chose is recognised.
    pub keys_kept: Duration,
    /// The most pages that the database may grow to; none for as many as the disk holds.
    pub pages_max: Option<u32>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            queue: 16_384,
            gather: Duration::from_millis(10),
            bindings_delay: Duration::from_millis(100),
            marks_delay: Duration::from_millis(50),
            origins_kept: Duration::from_secs(64),
            keys_kept: Duration::from_secs(24 * 3600),
            pages_max: None,
        }
    }
}

/// What the writer has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterMetrics {
    /// Messages committed.
    pub appended: u64,
    /// Messages recognised as stored already.
    pub duplicates: u64,
    /// Deliveries marked as done.
    pub delivered: u64,
    /// Addresses whose bindings were written.
    pub bindings: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Entries refused because the queue was full.
    pub refused: u64,
    /// Entries in the queue now.
    pub queued: u64,
    /// How long the last commit took.
    pub last_commit_us: u64,
    /// How long the slowest commit took.
    pub slowest_commit_us: u64,
}

#[derive(Default)]
struct Counters {
    appended: AtomicU64,
    duplicates: AtomicU64,
    delivered: AtomicU64,
    bindings: AtomicU64,
    commits: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
    last_commit_us: AtomicU64,
    slowest_commit_us: AtomicU64,
    /// Why the last transaction failed, if it did.
    trouble: Mutex<Option<StoreError>>,
}

/// Whom a message is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// Devices that get it.
    pub devices: Vec<DeviceId>,
    /// Accounts without a device that we know of: it waits for their first.
    pub accounts: Vec<AccountId>,
}

pub(crate) struct Append {
    message: NewMessage,
    to: Recipients,
    /// What the message changes of its conversation, in the same transaction.
    change: Option<Box<Change>>,
    done: Done,
}

pub(crate) enum Work {
    Append(Box<Append>),
    /// Marks wait.
    Delivered,
    Bindings(Vec<(AddressOfRecord, Vec<Binding>)>),
    Receipts(oneshot::Sender<Result<(), StoreError>>),
    Failures(Vec<Failure>),
    Flush(oneshot::Sender<Result<(), StoreError>>),
    Index(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// The way to the writer; a clone leads to the same one.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Work>,
    counters: Arc<Counters>,
    marks: Arc<Marks>,
    store: Store,
}

impl Store {
    /// Starts the writer on a thread of its own. There is one a data directory: hold its
    /// [`crate::DataLock`].
    pub async fn start_writer(&self, options: WriterOptions) -> Result<Writer, StoreError> {
        let (queue, work) = mpsc::channel(options.queue.max(1));
        let counters = Arc::new(Counters::default());
        let marks = Arc::new(Marks::default());
        let ears = (work, Arc::clone(&marks));
        let mut task = Task::new(self.clone(), ears, Arc::clone(&counters), options).await?;
        // What the last run left unfinished is mended before anybody asks what is pending.
        task.sweep().await;
        // Alone on its runtime: waking it wakes nobody else, and parks cost no epoll.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let failed = |e| StoreError::Io("the writer's thread".to_owned(), Arc::new(e));
        let runtime = runtime.map_err(failed)?;
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || runtime.block_on(task.run()))
            .map_err(failed)?;
        Ok(Writer {
            queue,
            counters,
            marks,
            store: self.clone(),
        })
    }
}

impl Writer {
    /// Stores a message with a delivery for each device, and for each account until it gets its
    /// first device; with it, what changes of its conversation. A message whose origin was stored
    /// already is not stored again: `done` gets the number that it has.
    pub fn try_append(
        &self,
        message: NewMessage,
        to: Recipients,
        change: Option<Box<Change>>,
        done: Done,
    ) -> Result<(), QueueFull> {
        let append = Append {
            message,
            to,
            change,
            done,
        };
        self.send(Work::Append(Box::new(append)))
    }

    /// Notes how far members of a conversation have got; it is written within a second or two.
    pub fn try_receipts(&self, receipts: Vec<Watermark>) -> Result<(), QueueFull> {
        self.store.receipts().note(receipts)
    }

    /// The same, and waits until it is committed.
    pub async fn receipts(&self, receipts: Vec<Watermark>) -> Result<(), StoreError> {
        let full = |_| StoreError::Busy;
        self.store.receipts().note(receipts).map_err(full)?;
        self.ask(Work::Receipts).await
    }

    /// Notes messages that will not arrive.
    pub fn try_failures(&self, failures: Vec<Failure>) -> Result<(), QueueFull> {
        self.send(Work::Failures(failures))
    }

    /// Notes that the device has the message.
    pub fn try_delivered(&self, device: DeviceId, message: MessageId) -> Result<(), QueueFull> {
        if self.marks.note(device, message)? {
            // Where the queue is full the writer is awake.
            let _ = self.queue.try_send(Work::Delivered);
        }
        Ok(())
    }

    /// Notes the bindings of addresses as they are now; none at all forgets the address.
    pub fn try_bindings(
        &self,
        bindings: Vec<(AddressOfRecord, Vec<Binding>)>,
    ) -> Result<(), QueueFull> {
        self.send(Work::Bindings(bindings))
    }

    /// Waits until everything handed in before is committed.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(Work::Flush).await
    }

    /// Waits until everything handed in before can be found.
    pub async fn index(&self) -> Result<(), StoreError> {
        self.ask(Work::Index).await
    }

    /// Commits everything handed in before and ends the writer.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(Work::Close).await
    }

    /// Messages that the device has yet to get, with every mark handed in before counted.
    pub async fn pending(
        &self,
        device: DeviceId,
        after: MessageId,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.flush().await?;
        self.store.pending(device, after, limit).await
    }

    /// Messages that no device of the account has taken, and those that some device still waits for, with every
    /// mark handed in before counted.
    pub async fn waiting_counts(&self, account: AccountId) -> Result<(u64, u64), StoreError> {
        self.flush().await?;
        self.store.waiting_counts(account).await
    }

    /// The store that it writes to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Counts since the start.
    pub fn metrics(&self) -> WriterMetrics {
        let c = &self.counters;
        WriterMetrics {
            appended: c.appended.load(Relaxed),
            duplicates: c.duplicates.load(Relaxed),
            delivered: c.delivered.load(Relaxed),
            bindings: c.bindings.load(Relaxed),
            commits: c.commits.load(Relaxed),
            failures: c.failures.load(Relaxed),
            refused: c.refused.load(Relaxed),
            queued: (self.queue.max_capacity() - self.queue.capacity()) as u64,
            last_commit_us: c.last_commit_us.load(Relaxed),
            slowest_commit_us: c.slowest_commit_us.load(Relaxed),
        }
    }

    /// Why the last transaction failed, if it did.
    pub fn trouble(&self) -> Option<StoreError> {
        self.counters.trouble().clone()
    }

    fn send(&self, work: Work) -> Result<(), QueueFull> {
        self.queue.try_send(work).map_err(|_| {
            self.counters.refused.fetch_add(1, Relaxed);
            QueueFull
        })
    }

    async fn ask(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<(), StoreError>>) -> Work,
    ) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send(work(answer)).await;
        sent.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl Counters {
    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<StoreError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Relaxed);
        self.last_commit_us.store(us, Relaxed);
        self.slowest_commit_us.fetch_max(us, Relaxed);
    }
}
