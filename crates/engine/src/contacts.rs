//! Contacts: to ask, to answer, to block.
//!
//! People of one domain see each other without asking. Who asks somebody of another domain agrees to be seen by that
//! person, so that one answer lets both see each other.
//!
//! *Invariant*: a block wins, and who is blocked is not told.

use std::sync::Arc;

use sidetone_model::{AccountId, AddressOfRecord};
use sidetone_services::conversations::ContactChange as News;
use sidetone_services::presence::PolicyChange;
use sidetone_services::{ContactAction, ContactOutcome};
use sidetone_store::{Store, StoreError};

use crate::{Engine, Supplies};

/// The most people on one list.
const LISTED_MAX: u64 = 1_000;

impl Engine {
    /// Changes the contacts of an account, and tells both.
    ///
    /// # Errors
    /// Where the store fails: what was done before stays done, and doing it again does the rest.
    pub async fn contact(
        &self,
        account: AccountId,
        other: &AddressOfRecord,
        action: ContactAction,
    ) -> Result<ContactOutcome, StoreError> {
        let Some(own) = self.services().address_of(account) else {
            return Ok(ContactOutcome::Unknown);
        };
        if own == *other {
            return Ok(ContactOutcome::Oneself);
        }
        let act = Act {
            engine: self,
            account,
            own,
            other,
        };
        match action {
            ContactAction::Add => act.add().await,
            ContactAction::Remove => act.remove().await,
            ContactAction::Accept => act.answer(PolicyChange::Approve, News::Accepted).await,
            ContactAction::Refuse => act.answer(PolicyChange::Revoke, News::Refused).await,
            ContactAction::Block => act.block().await,
            ContactAction::Unblock => act.unblock().await,
        }
    }
}

/// A phone watches somebody who has not been asked yet: that is a request. It says nothing of whether the phone's own
/// user may be seen.
pub(crate) async fn ask_by_phone(
    supplies: Arc<Supplies>,
    account: AccountId,
    address: AddressOfRecord,
) {
    let store = supplies.writer.store();
    let services = &supplies.services;
    let Some(own) = services.address_of(account) else {
        return;
    };
    let asked = async {
        let before = store.requests_of(account).await?;
        let known = before.iter().any(|(other, _)| *other == address);
        if known || before.len() as u64 >= LISTED_MAX {
            return Ok(false);
        }
        store.request_contact(account, &address).await?;
        Ok::<bool, StoreError>(true)
    };
    match asked.await {
        Ok(true) if !services.board.blocks(&address, &own) => {
            let sessions = supplies.conversations.sessions();
            sessions.tell_contact(&address, &own, News::Asked);
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%own, %address, %error, "a request could not be kept"),
    }
}

/// One account does something about another address.
struct Act<'a> {
    engine: &'a Engine,
    account: AccountId,
    own: AddressOfRecord,
    other: &'a AddressOfRecord,
}

type Outcome = Result<ContactOutcome, StoreError>;

impl Act<'_> {
    fn store(&self) -> &Store {
        self.engine.store()
    }

    fn tell_own(&self, change: News) {
        let sessions = self.engine.told();
        sessions.tell_contact(&self.own, self.other, change);
    }

    /// Who is blocked hears nothing.
    fn tell_other(&self, change: News) {
        let blocked = self.engine.services().board.blocks(&self.own, self.other);
        let deaf = self.engine.services().board.blocks(self.other, &self.own);
        if !blocked && !deaf {
            let sessions = self.engine.told();
            sessions.tell_contact(self.other, &self.own, change);
        }
    }

    async fn permit(&self, change: PolicyChange) -> Result<bool, StoreError> {
        self.engine.permit(self.account, self.other, change).await
    }

    /// Whether the other one asks to see this person.
    async fn is_asked(&self) -> Result<bool, StoreError> {
        let directory = &self.engine.services().directory;
        match directory.find(self.other.as_str()) {
            Some(asker) => self.store().has_asked(asker.account, &self.own).await,
            None => Ok(false),
        }
    }

    async fn add(&self) -> Outcome {
        let board = &self.engine.services().board;
        if board.blocks(&self.own, self.other) {
            return Ok(ContactOutcome::Blocked);
        }
        if self.store().contact_count(self.account).await? >= LISTED_MAX {
            return Ok(ContactOutcome::Full);
        }
        self.store().list_contact(self.account, self.other).await?;
        if self.own.domain() != self.other.domain() {
            let asked = self.is_asked().await?;
            if !self.permit(PolicyChange::Approve).await? {
                return Ok(ContactOutcome::Full);
            }
            if asked {
                self.tell_own(News::Answered);
                self.tell_other(News::Accepted);
            }
            self.ask().await?;
        }
        self.tell_own(News::Added);
        Ok(ContactOutcome::Done)
    }

    async fn ask(&self) -> Result<(), StoreError> {
        let board = &self.engine.services().board;
        let store = self.store();
        if board.approves(self.other, &self.own)
            || store.has_asked(self.account, self.other).await?
        {
            return Ok(());
        }
        store.request_contact(self.account, self.other).await?;
        self.tell_other(News::Asked);
        Ok(())
    }

    async fn remove(&self) -> Outcome {
        let listed = self
            .store()
            .unlist_contact(self.account, self.other)
            .await?;
        if self
            .store()
            .withdraw_request(self.account, self.other)
            .await?
        {
            self.tell_other(News::Withdrawn);
        }
        let board = &self.engine.services().board;
        if listed && board.approves(&self.own, self.other) {
            self.permit(PolicyChange::Revoke).await?;
        }
        if !listed {
            return Ok(ContactOutcome::Unknown);
        }
        self.tell_own(News::Removed);
        Ok(ContactOutcome::Done)
    }

    async fn answer(&self, change: PolicyChange, news: News) -> Outcome {
        if !self.is_asked().await? {
            return Ok(ContactOutcome::Unknown);
        }
        if !self.permit(change).await? {
            return Ok(ContactOutcome::Full);
        }
        self.tell_own(News::Answered);
        self.tell_other(news);
        Ok(ContactOutcome::Done)
    }

    async fn block(&self) -> Outcome {
        if !self.permit(PolicyChange::Block).await? {
            return Ok(ContactOutcome::Full);
        }
        self.tell_own(News::Blocked);
        Ok(ContactOutcome::Done)
    }

    async fn unblock(&self) -> Outcome {
        if !self.engine.services().board.blocks(&self.own, self.other) {
            return Ok(ContactOutcome::Unknown);
        }
        self.permit(PolicyChange::Unblock).await?;
        self.tell_own(News::Unblocked);
        Ok(ContactOutcome::Done)
    }
}
