//! How groups begin, what administrators do with them, and what becomes of the stays of an account that is gone.
//!
//! *Invariant*: a name is one person's or one group's, whatever the capitals, and is given once. An administrator
//! changes groups without being in them, and never the conversation of two people.

use std::sync::Arc;

use sidetone_conversation::{Authority, Command};
use sidetone_model::{AddressOfRecord, ConversationId, Kind, Origin};

use super::live::{self, Live};
use super::reading::View;
use super::{Caller, Conversations, NewGroup, Order, Outcome, Place, PostError};

/// The most groups that one person owns.
const GROUPS_MAX: u64 = 1_000;

impl Conversations {
    /// Begins a group.
    ///
    /// # Errors
    /// Where the name is taken, the caller has too many, or the store fails.
    pub async fn begin_group(
        self: &Arc<Self>,
        now_ms: u64,
        caller: &Caller,
        group: NewGroup,
    ) -> Result<ConversationId, PostError> {
        if !group.managed {
            self.may_begin(caller, &group).await?;
        }
        // One at a time until it is committed: two of the same name must not meet in the store.
        let _only = self.naming.lock().await;
        let id = self.new_id();
        let domain = caller.address.domain();
        let address = match &group.name {
            Some(name) => AddressOfRecord::new(name, domain)
                .map_err(|error| PostError::Refused(error.to_string()))?,
            None => self.new_address(id, domain)?,
        };
        if self.directory.find(address.as_str()).is_some()
            || self.store.name_taken(&address).await?
        {
            let why = format!("{address} belongs to somebody else");
            return Err(PostError::Refused(why));
        }
        let live = self.keep(Live::group(id, address, group, now_ms)?);
        self.save(&live, self.opening(now_ms, caller, id)).await?;
        Ok(id)
    }

    async fn may_begin(&self, caller: &Caller, group: &NewGroup) -> Result<(), PostError> {
        for (member, _) in &group.members {
            self.may_add(&caller.address, member)?;
        }
        if self.store.groups_owned(&caller.address).await? >= GROUPS_MAX {
            let why = format!("nobody owns more than {GROUPS_MAX} groups");
            return Err(PostError::Refused(why));
        }
        Ok(())
    }

    /// Does what an administrator wants done in a group.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn administer(
        self: &Arc<Self>,
        now_ms: u64,
        caller: &Caller,
        order: Order,
    ) -> Result<Outcome, PostError> {
        let live = self.open(&Place::Of(order.conversation), now_ms).await?;
        if live::lock(&live).machine.founded_as() == Kind::Pair {
            return Err(PostError::Unknown);
        }
        let authority = Authority::Administrator;
        self.carry_out(now_ms, &live, caller, authority, order)
            .await
    }

    /// Groups that administrators made, the oldest first; `after`: those with greater numbers.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn managed(
        &self,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<View>, PostError> {
        let found = self.store.managed_groups(after, limit).await?;
        Ok(found.into_iter().map(View::whole).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// [`PostError::Unknown`] for one that an administrator did not make.
    pub async fn managed_one(&self, id: ConversationId) -> Result<View, PostError> {
        let found = self.store.conversation(id).await?;
        let found = found.filter(|found| found.conversation.kind == Kind::Managed.as_str());
        found.map(View::whole).ok_or(PostError::Unknown)
    }

    /// An account is gone: it leaves its groups, and whoever gets the address inherits nothing.
    ///
    /// # Errors
    /// Those of the store; what was done before stays done.
    pub async fn person_gone(
        self: &Arc<Self>,
        now_ms: u64,
        person: &AddressOfRecord,
    ) -> Result<(), PostError> {
        let stays = self.store.stays_of(person).await?;
        for id in &stays {
            if let Err(error) = self.take_out(now_ms, *id, person).await {
                // Nobody could take over, or it is that of two: the stay ends without a line in the log.
                tracing::debug!(%person, %id, %error, "left without a word");
            }
        }
        let forget = || {
            for id in &stays {
                let live = self.cached(&Place::Of(*id));
                live.into_iter().for_each(|live| self.forget(&live, *id));
            }
        };
        forget();
        self.writer.flush().await?;
        self.store.end_stays(person).await?;
        // Whoever read one meanwhile has read what was before.
        forget();
        Ok(())
    }

    async fn take_out(
        self: &Arc<Self>,
        now_ms: u64,
        id: ConversationId,
        person: &AddressOfRecord,
    ) -> Result<(), PostError> {
        let member = person.clone();
        let digest = self
            .names
            .digest(&[b"gone", &id.0.to_be_bytes(), person.as_str().as_bytes()]);
        let order = Order {
            conversation: id,
            command: Command::RemoveMember { member },
            origin: Origin(digest.to_be_bytes()),
            keyed: false,
        };
        let caller = Caller {
            address: person.clone(),
            name: String::new(),
        };
        let live = self.open(&Place::Of(id), now_ms).await?;
        let authority = Authority::Participant;
        let left = self.carry_out(now_ms, &live, &caller, authority, order);
        left.await.map(drop)
    }
}
