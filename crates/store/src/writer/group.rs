//! The writer's task: gathers work into groups and commits them.
//!
//! *Invariant*: the queue is only read while no commit is under way, so a group is complete
//! before it is answered, and the queue's bound is the bound of everything waiting.

use super::batch::{self, Group, bind};
use super::marks::Marks;
use super::origins::Origins;
use super::trouble::Trouble;
use super::{Append, Counters, Work, WriterOptions};
use crate::conversation;
use crate::rows::to_sql;
use crate::statements::{APPENDS_MAX, BINDINGS_MAX, FORGET, FORGET_KEYS, KEYED, MARKS, Statements};
use crate::{Failure, Store, StoreError, bindings, search, sweep, wire};
use sidetone_model::{AddressOfRecord, Binding, DeviceId, MessageId, Origin};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, SqlSafeStr, SqlStr};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

const CACHE_MIB: u32 = 16;
/// Folding the log back is a second write of every page: rarely is cheaper.
const CHECKPOINT_PAGES: u32 = 4_000;
const PROBE: &str = "UPDATE counter SET value = value WHERE name = 'directory'";
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// Often, so that there are few at a time.
const KEYS_PERIOD: Duration = Duration::from_secs(60);
/// Marks of one transaction, and the number that no longer waits for company.
const MARKS_MAX: usize = 1_024;

/// After a group of several, this many groups of one end the waiting for company.
const COMPANY: u8 = 8;

type Answer = oneshot::Sender<Result<(), StoreError>>;

pub(super) struct Task {
    store: Store,
    connection: SqliteConnection,
    work: mpsc::Receiver<Work>,
    counters: Arc<Counters>,
    options: WriterOptions,
    statements: Statements,
    origins: Origins,
    next_id: i64,
    inbox: Vec<Work>,
    appends: Vec<Append>,
    marks: Vec<(DeviceId, MessageId)>,
    /// Where further marks come from.
    told: Arc<Marks>,
    marks_due: Option<Instant>,
    /// Texts to be written; an empty one forgets the address.
    dirty: HashMap<AddressOfRecord, String>,
    bindings_due: Option<Instant>,
    /// The dirty addresses of the round under way, sorted downwards.
    round: Vec<AddressOfRecord>,
    receipts: Vec<Answer>,
    failures: Vec<Failure>,
    flushes: Vec<Answer>,
    searches: Vec<Answer>,
    closes: Vec<Answer>,
    /// How many groups of one it takes until the next message is no longer kept waiting.
    company: u8,
    swept: i64,
    sweep_due: Instant,
    keys_due: Instant,
    trouble: Trouble,
}

impl Task {
    pub(super) async fn new(
        store: Store,
        (work, told): (mpsc::Receiver<Work>, Arc<Marks>),
        counters: Arc<Counters>,
        options: WriterOptions,
    ) -> Result<Self, StoreError> {
        let connection = store
            .connect_writer(CACHE_MIB, CHECKPOINT_PAGES, options.pages_max)
            .await?;
        let now = Instant::now();
        let mut origins = Origins::new(options.origins_kept, now);
        let kept_ms = u64::try_from(options.origins_kept.as_millis()).unwrap_or(u64::MAX);
        for (origin, id) in store
            .recent_origins(unix_ms().saturating_sub(kept_ms))
            .await?
        {
            origins.insert(origin, id, now);
        }
        Ok(Self {
            next_id: store.last_message().await?.0 + 1,
            store,
            connection,
            work,
            counters,
            options,
            statements: Statements::new(),
            origins,
            inbox: Vec::with_capacity(APPENDS_MAX),
            appends: Vec::with_capacity(APPENDS_MAX),
            marks: Vec::new(),
            told,
            marks_due: None,
            dirty: HashMap::new(),
            bindings_due: None,
            round: Vec::new(),
            receipts: Vec::new(),
            failures: Vec::new(),
            flushes: Vec::new(),
            searches: Vec::new(),
            closes: Vec::new(),
            company: 0,
            swept: 0,
            sweep_due: now,
            keys_due: now,
            trouble: Trouble::default(),
        })
    }

    pub(super) async fn run(mut self) {
        while self.closes.is_empty() {
            if !self.gather().await {
                break;
            }
            self.commit_due().await;
        }
        self.finish().await;
    }

    /// Waits for work or a deadline; false when every [`super::Writer`] is gone.
    async fn gather(&mut self) -> bool {
        let deadline = self.deadline();
        let room = APPENDS_MAX - self.appends.len().min(APPENDS_MAX - 1);
        match timeout_at(deadline, self.work.recv_many(&mut self.inbox, room)).await {
            Err(_) => return true,
            Ok(0) => return false,
            Ok(_) => self.sort(),
        }
        if self.expects_company() {
            sleep_until(Instant::now() + self.options.gather).await;
        }
        while self.appends.len() < APPENDS_MAX && !self.work.is_empty() {
            let room = APPENDS_MAX - self.appends.len();
            self.work.recv_many(&mut self.inbox, room).await;
            self.sort();
        }
        true
    }

    /// Whether to wait: several senders are at work, and there is room for what they send. One
    /// sender that waits for each answer is never kept waiting.
    fn expects_company(&self) -> bool {
        !self.appends.is_empty()
            && self.flushes.is_empty()
            && self.closes.is_empty()
            && self.company > 0
            && self.appends.len() + self.work.len() < APPENDS_MAX
    }

    fn deadline(&self) -> Instant {
        [self.marks_due, self.bindings_due, Some(self.sweep_due)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.sweep_due)
    }

    fn sort(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for work in inbox.drain(..) {
            match work {
                Work::Append(append) => self.appends.push(*append),
                Work::Delivered => self.expect_marks(),
                Work::Bindings(rows) => self.note_bindings(rows),
                Work::Receipts(answer) => self.receipts.push(answer),
                Work::Failures(failures) => {
                    self.failures.extend(failures);
                    // While the disk refuses; what is left out is learned when it is offered again.
                    self.failures.truncate(MARKS_MAX);
                }
                Work::Flush(answer) => self.flushes.push(answer),
                Work::Index(answer) => self.searches.push(answer),
                Work::Close(answer) => self.closes.push(answer),
            }
        }
        self.inbox = inbox;
    }

    fn expect_marks(&mut self) {
        self.marks_due
            .get_or_insert_with(|| Instant::now() + self.options.marks_delay);
    }

    fn note_bindings(&mut self, rows: Vec<(AddressOfRecord, Vec<Binding>)>) {
        // As text at once: it takes less room than the bindings, and they are given back while they are warm.
        for (address, list) in rows {
            let text = match list.as_slice() {
                [] => Ok(String::new()),
                list => bindings::encode(list),
            };
            match text {
                Ok(text) => drop(self.dirty.insert(address, text)),
                Err(error) => tracing::error!(%address, %error, "bindings were not written"),
            }
        }
        self.bindings_due
            .get_or_insert_with(|| Instant::now() + self.options.bindings_delay);
    }

    async fn commit_due(&mut self) {
        let now = Instant::now();
        let flush = !self.flushes.is_empty() || !self.closes.is_empty();
        let mut result = Ok(());
        let is_due = |due: Option<Instant>| flush || due.is_some_and(|due| due <= now);
        if flush || !self.appends.is_empty() || is_due(self.marks_due) {
            self.told.move_to(&mut self.marks);
            if self.marks.is_empty() {
                // They rode along with a commit before.
                self.marks_due = None;
            }
        }
        let many = self.marks.len() >= MARKS_MAX && self.trouble.again().is_none();
        let marks_due = is_due(self.marks_due) || many;
        if !self.appends.is_empty() || (marks_due && !self.marks.is_empty()) {
            result = self.commit_spool(flush).await;
        }
        if is_due(self.bindings_due) {
            result = result.and(self.commit_bindings(flush).await);
        }
        if !self.failures.is_empty() {
            // Rare, and to be seen at once.
            result = result.and(self.commit_failures().await);
        }
        if flush {
            result = result.and(self.commit_receipts().await);
        }
        if !self.receipts.is_empty() {
            self.answer_receipts().await;
        }
        for answer in self.flushes.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(result.clone());
        }
        if self.sweep_due <= Instant::now() {
            self.sweep().await;
            // The failures are noted.
            if self.trouble.again().is_none() {
                let _ = self.commit_receipts().await;
            }
            let _ = self.index(false).await;
        }
        if !self.searches.is_empty() {
            let result = self.index(true).await;
            for answer in self.searches.drain(..) {
                let _ = answer.send(result.clone());
            }
        }
    }

    async fn commit_spool(&mut self, all_marks: bool) -> Result<(), StoreError> {
        let mut result = self.commit_group().await;
        while all_marks && result.is_ok() && !self.marks.is_empty() {
            result = self.commit_group().await;
        }
        result
    }

    /// One transaction: everything appended, and as many marks as ride along. Where that is refused
    /// for good, each message has a transaction of its own: one that cannot be stored costs no other.
    async fn commit_group(&mut self) -> Result<(), StoreError> {
        let appends = std::mem::take(&mut self.appends);
        let (group, result) = self.try_group(appends).await;
        match &result {
            Err(error) if error.is_of_one() && group.len() > 1 => {}
            _ => {
                self.answer(group, &result);
                return result;
            }
        }
        let mut last = Ok(());
        for (append, _) in group.into_appends() {
            let (one, result) = self.try_group(vec![append]).await;
            self.answer(one, &result);
            last = result;
        }
        last
    }

    async fn try_group(&mut self, appends: Vec<Append>) -> (Group, Result<(), StoreError>) {
        let keyed = self.keyed(&appends).await;
        let (keyed, unknown) = match keyed {
            Ok(keyed) => (keyed, None),
            Err(error) => (HashMap::new(), Some(error)),
        };
        let group = Group::new(appends, &self.origins, keyed, self.next_id);
        let marks = self.marks.len().min(MARKS_MAX);
        let result = match unknown {
            Some(error) => Err(error),
            None => self.store_group(&group, marks).await,
        };
        match &result {
            Ok(()) => {
                self.marks.drain(..marks);
                self.counters.delivered.fetch_add(marks as u64, Relaxed);
                self.next_id += group.numbers();
            }
            Err(_) => self.company = 0,
        }
        let next = self.after(self.options.marks_delay);
        self.marks_due = (!self.marks.is_empty()).then_some(next);
        (group, result)
    }

    async fn store_group(&mut self, group: &Group, marks: usize) -> Result<(), StoreError> {
        let marks = &self.marks[..marks];
        if group.is_known() {
            let arguments = batch::marks(marks)?;
            return self.transact(MARKS.into_sql_str(), arguments).await;
        }
        let arguments = group.arguments(marks)?;
        let sql = self.statements.spool(group.fresh().count());
        self.transact(AssertSqlSafe(sql).into_sql_str(), arguments)
            .await
    }

    /// Messages that came before with a key that one of these has.
    async fn keyed(
        &mut self,
        appends: &[Append],
    ) -> Result<HashMap<Origin, MessageId>, StoreError> {
        let keys: Vec<String> = appends
            .iter()
            .filter(|append| append.message.keyed)
            .map(|append| batch::hexadecimal(append.message.origin))
            .collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let json = serde_json::to_string(&keys).map_err(|_| StoreError::Corrupt("key"))?;
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(KEYED)
            .bind(json)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| self.note_failure(error.into()))?;
        let known = |(origin, id): (Vec<u8>, i64)| {
            let origin = origin.try_into().map_err(|_| StoreError::Corrupt("key"))?;
            Ok((Origin(origin), MessageId(id)))
        };
        rows.into_iter().map(known).collect()
    }

    fn answer(&mut self, group: Group, result: &Result<(), StoreError>) {
        let now = Instant::now();
        if result.is_ok() {
            let c = &self.counters;
            c.appended
                .fetch_add(group.numbers().unsigned_abs(), Relaxed);
            c.duplicates.fetch_add(group.duplicates(), Relaxed);
            for (origin, id) in group.origins() {
                self.origins.insert(*origin, *id, now);
            }
            self.company = match group.len() {
                0 => self.company,
                1 => self.company.saturating_sub(1),
                _ => COMPANY,
            };
        }
        for (append, appended) in group.into_appends() {
            (append.done)(result.clone().map(|()| appended));
        }
    }

    /// What will not arrive. Where that fails it is tried with the next.
    async fn commit_failures(&mut self) -> Result<(), StoreError> {
        let mut arguments = SqliteArguments::default();
        bind(&mut arguments, wire::failures_json(&self.failures))?;
        self.transact(wire::FAILURES.into_sql_str(), arguments)
            .await?;
        self.failures.clear();
        Ok(())
    }

    /// How far members have got, all that wait.
    async fn commit_receipts(&mut self) -> Result<(), StoreError> {
        loop {
            let receipts = self.store.receipts().batch();
            if receipts.is_empty() {
                return Ok(());
            }
            let mut arguments = SqliteArguments::default();
            bind(&mut arguments, conversation::receipts_json(receipts.iter()))?;
            self.transact(conversation::RECEIPTS.into_sql_str(), arguments)
                .await?;
            self.store.receipts().written(receipts);
        }
    }

    async fn answer_receipts(&mut self) {
        let result = self.commit_receipts().await;
        for answer in self.receipts.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(result.clone());
        }
    }

    /// A round in parts, so that messages wait for one part at most; with `all`, to its end.
    async fn commit_bindings(&mut self, all: bool) -> Result<(), StoreError> {
        while !self.dirty.is_empty() {
            if self.round.is_empty() {
                // Sorted: neighbours share pages.
                self.round.extend(self.dirty.keys().cloned());
                self.round.sort_unstable_by(|a, b| b.cmp(a));
            }
            let part = self
                .round
                .split_off(self.round.len().saturating_sub(BINDINGS_MAX));
            if let Err(error) = self.commit_some_bindings(&part).await {
                self.round.clear();
                self.bindings_due = Some(self.after(self.options.bindings_delay));
                return Err(error);
            }
            if !all {
                break;
            }
        }
        self.bindings_due = match (self.round.is_empty(), self.dirty.is_empty()) {
            (_, true) => None,
            (true, false) => Some(Instant::now() + self.options.bindings_delay),
            (false, false) => Some(Instant::now()),
        };
        Ok(())
    }

    async fn commit_some_bindings(&mut self, keys: &[AddressOfRecord]) -> Result<(), StoreError> {
        let mut forget = Vec::new();
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            match self.dirty.get(key.as_str()).map(String::as_str) {
                None => {}
                Some("") => forget.push(key.as_str()),
                Some(text) => rows.push((key.as_str(), text.to_owned())),
            }
        }
        if !forget.is_empty() {
            let mut arguments = SqliteArguments::default();
            let json = serde_json::to_string(&forget);
            bind(
                &mut arguments,
                json.map_err(|_| StoreError::Corrupt("address"))?,
            )?;
            self.transact(FORGET.into_sql_str(), arguments).await?;
        }
        if !rows.is_empty() {
            let sql = self.statements.bindings(rows.len());
            let mut arguments = SqliteArguments::default();
            for (key, text) in rows {
                bind(&mut arguments, key)?;
                bind(&mut arguments, text)?;
            }
            self.transact(AssertSqlSafe(sql).into_sql_str(), arguments)
                .await?;
        }
        for key in keys {
            self.dirty.remove(key.as_str());
        }
        self.counters.bindings.fetch_add(keys.len() as u64, Relaxed);
        Ok(())
    }

    /// One statement, which is one transaction: it is stored whole or not at all.
    async fn transact(
        &mut self,
        sql: SqlStr,
        arguments: SqliteArguments,
    ) -> Result<(), StoreError> {
        let start = Instant::now();
        let done = sqlx::query_with(sql, arguments)
            .execute(&mut self.connection)
            .await;
        match done {
            Ok(_) => {
                self.counters.committed(start.elapsed());
                self.note_success();
                Ok(())
            }
            Err(error) => Err(self.note_failure(error.into())),
        }
    }

    fn note_success(&mut self) {
        if self.trouble.succeeded() {
            *self.counters.trouble() = None;
            tracing::info!("the database takes transactions again");
        }
    }

    fn note_failure(&mut self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Gap) {
            // Not the database's fault.
            return error;
        }
        self.counters.failures.fetch_add(1, Relaxed);
        *self.counters.trouble() = Some(error.clone());
        if let Some(times) = self.trouble.failed(Instant::now()) {
            tracing::error!(%error, times, "the database refused a transaction");
        }
        error
    }

    /// When what waits is tried: after the delay, or, while the database refuses, its pause.
    fn after(&self, delay: Duration) -> Instant {
        let usual = Instant::now() + delay;
        self.trouble.again().map_or(usual, |again| again.max(usual))
    }

    /// Mends what changes of the directory in another process left between two appends.
    pub(super) async fn sweep(&mut self) {
        self.sweep_due = Instant::now() + SWEEP_PERIOD;
        self.origins.turn(Instant::now());
        self.probe().await;
        if self.trouble.again().is_some() {
            return;
        }
        if let Err(error) = self.try_sweep().await {
            self.note_failure(error);
        }
    }

    /// Lets new texts be found: some of them, or all.
    async fn index(&mut self, all: bool) -> Result<(), StoreError> {
        if self.trouble.again().is_some() {
            return Ok(());
        }
        loop {
            match search::index(&mut self.connection).await {
                Ok(more) if more && all => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.note_failure(error)),
            }
        }
    }

    /// A write that changes nothing: whoever waits for a healthy database need not send a
    /// message to find out.
    async fn probe(&mut self) {
        let due = self.trouble.again().is_some_and(|at| at <= Instant::now());
        if due {
            // The failure is noted.
            let _ = self
                .transact(PROBE.into_sql_str(), SqliteArguments::default())
                .await;
        }
    }

    async fn try_sweep(&mut self) -> Result<(), StoreError> {
        let kept_ms = u64::try_from(self.options.keys_kept.as_millis()).unwrap_or(u64::MAX);
        if self.keys_due <= Instant::now() {
            self.keys_due = Instant::now() + KEYS_PERIOD;
            sqlx::query(FORGET_KEYS)
                .bind(to_sql(unix_ms().saturating_sub(kept_ms)))
                .execute(&mut self.connection)
                .await?;
        }
        let (version,): (i64,) =
            sqlx::query_as("SELECT value FROM counter WHERE name = 'directory'")
                .fetch_one(&mut self.connection)
                .await?;
        if version == self.swept {
            return Ok(());
        }
        let mut tx = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        sweep::removed_since(&mut tx, self.swept).await?;
        sweep::hand_over(&mut tx).await?;
        tx.commit().await?;
        self.swept = version;
        Ok(())
    }

    async fn finish(mut self) {
        self.work.close();
        while let Some(work) = self.work.recv().await {
            self.inbox.push(work);
            self.sort();
        }
        while !self.appends.is_empty() {
            let rest = self.appends.split_off(self.appends.len().min(APPENDS_MAX));
            // Each message in it has been answered by its callback.
            let _ = self.commit_group().await;
            self.appends = rest;
        }
        self.told.move_to(&mut self.marks);
        let marks = self.commit_spool(true).await;
        let behind = marks.and(self.commit_bindings(true).await);
        let result = behind.and(self.commit_receipts().await);
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "closing the database");
        }
        for answer in self
            .flushes
            .into_iter()
            .chain(self.receipts)
            .chain(self.searches)
            .chain(self.closes)
        {
            let _ = answer.send(result.clone());
        }
        drop(self.store);
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
