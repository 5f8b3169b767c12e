//! What became of messages: said by phones (their answers, and RFC 5438) and by sessions of the API, told to those who
//! look, and to the phones of authors who asked.
//!
//! *Invariant*: each change is told once. Nobody reports on what he may not see or has said himself, and nothing is ever
//! told of what is itself a report.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sidetone_conversation::{Delivery, Input, Output};
use sidetone_model::{
    AccountId, AddressOfRecord, ConversationId, DeviceId, EventId, Kind, MessageId, NewMessage,
    Origin, Receipt, ReceiptKind, SeqRange,
};
use sidetone_sip::entropy::Entropy;
use sidetone_sip::imdn::{self, Display, Disposition};
use sidetone_sip::{Imdn, imdn::Delivery as Delivered};
use sidetone_store::{Appended, Failure, Page, Recipients, StoreError, Watermark};

use super::composing::uri_of;
use super::live::{self, Live};
use super::post::stored;
use super::sessions::News;
use super::unsettled::Asking;
use super::{Conversations, Outgoing, Place, PostError, Posted};
use crate::carried::Named;

/// Messages of which some device has refused to take a copy, that are remembered.
const REFUSED_MAX: usize = 10_000;

/// Not keyed: what is told again after a restart is recognised.
const SEED: u128 = 0x7369_6465_746f_6e65_2d72_6563_6569_7074;

/// Which devices have refused which messages. What is forgotten is learned when it is offered again.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeSet<(MessageId, DeviceId)>>);

impl Refusals {
    /// Notes one; gives all devices that have refused this message.
    fn note(&self, message: MessageId, device: DeviceId) -> BTreeSet<DeviceId> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((message, device));
        if all.len() > REFUSED_MAX {
            all.pop_first();
        }
        let of_it = (message, DeviceId(i64::MIN))..=(message, DeviceId(i64::MAX));
        all.range(of_it).map(|(_, device)| *device).collect()
    }
}

/// Something that a member says of messages.
struct Report<'a> {
    member: &'a AddressOfRecord,
    from_seq: u64,
    seq: u64,
    kind: ReceiptKind,
}

impl Conversations {
    /// Somebody's device has everything up to `seq`, or has shown it.
    ///
    /// # Errors
    /// [`PostError::Unknown`] where this person may not see that event.
    pub async fn receipt(
        self: &Arc<Self>,
        now_ms: u64,
        id: ConversationId,
        person: &AddressOfRecord,
        seq: u64,
        displayed: bool,
    ) -> Result<(), PostError> {
        let live = self.open_for(id, person).await?;
        let before = self.store.watermark(id, person).await?;
        let after = match displayed {
            true => before.displayed,
            false => before.delivered,
        };
        let mut live = live::lock(&live);
        if !live.machine.visible(person, seq) || seq > live.last_seq() {
            return Err(PostError::Unknown);
        }
        let kind = match displayed {
            true => ReceiptKind::Displayed,
            false => ReceiptKind::Delivered,
        };
        let report = Report {
            member: person,
            from_seq: 1,
            seq,
            kind,
        };
        self.report(now_ms, &mut live, &report);
        // Also where it is no message: how far somebody has read is told as it was said.
        self.mark(&live, person, (after, seq), kind)
    }

    /// A phone of this person has taken an event; gives it back where its conversation is not in memory.
    #[must_use]
    pub fn try_arrived(
        self: &Arc<Self>,
        now_ms: u64,
        person: &AddressOfRecord,
        event: (ConversationId, u64),
    ) -> bool {
        let Some(live) = self.cached(&Place::Of(event.0)) else {
            return false;
        };
        self.settled_by_phone(now_ms, &live, person, (event.1, ReceiptKind::Delivered));
        true
    }

    /// The same, where it has to be read first.
    pub async fn arrived(
        self: &Arc<Self>,
        now_ms: u64,
        person: &AddressOfRecord,
        (id, seq): (ConversationId, u64),
    ) {
        // Who is not in it any more owes nobody a receipt.
        if let Ok(live) = self.open_for(id, person).await {
            self.settled_by_phone(now_ms, &live, person, (seq, ReceiptKind::Delivered));
        }
    }

    /// One message, as a phone tells of it.
    fn settled_by_phone(
        self: &Arc<Self>,
        now_ms: u64,
        live: &Mutex<Live>,
        person: &AddressOfRecord,
        (seq, kind): (u64, ReceiptKind),
    ) {
        let mut live = live::lock(live);
        let report = Report {
            member: person,
            from_seq: seq,
            seq,
            kind,
        };
        if self.report(now_ms, &mut live, &report) && kind != ReceiptKind::Failed {
            // A watermark that has no room in the queue is below the next one.
            let _ = self.mark(&live, person, (seq.saturating_sub(1), seq), kind);
        }
    }

    /// A device will not take a message, now or later. Where no other one may, it will not arrive.
    pub async fn refused(
        self: &Arc<Self>,
        now_ms: u64,
        device: DeviceId,
        message: MessageId,
        (id, seq): (ConversationId, u64),
    ) -> Result<(), PostError> {
        let Some(owner) = self.directory.account_of(device) else {
            return Ok(());
        };
        let refused = self.refusals.note(message, device);
        self.writer.flush().await?;
        let owed = self.store.owed(owner.account, message).await?;
        if owed.iter().all(|device| refused.contains(device)) {
            let live = self.open_for(id, &owner.address).await?;
            let failed = (seq, ReceiptKind::Failed);
            self.settled_by_phone(now_ms, &live, &owner.address, failed);
        }
        Ok(())
    }

    /// A phone says what became of a message (RFC 5438 §7.2). What it may not say is not heard.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn notified(
        self: &Arc<Self>,
        now_ms: u64,
        (person, device): (&AddressOfRecord, Option<DeviceId>),
        notification: &Imdn,
    ) -> Result<(), PostError> {
        let Some((id, seq)) = self.named(&notification.message_id, device).await? else {
            return Ok(());
        };
        let live = match self.open_for(id, person).await {
            Ok(live) => live,
            Err(PostError::Unknown) => return Ok(()),
            Err(error) => return Err(error),
        };
        let page = Page::After(seq.saturating_sub(1));
        let part = self.store.events(id, page, 1).await?;
        let event = part.events.into_iter().next();
        let theirs = |event: &sidetone_model::Event| {
            event.seq == seq && event.body.is_message() && event.author != *person
        };
        let seen = live::lock(&live).machine.delivery(person, seq).is_some();
        if !seen || !event.as_ref().is_some_and(theirs) {
            return Ok(());
        }
        let kind = match notification.disposition {
            Disposition::Delivery(Delivered::Delivered) => ReceiptKind::Delivered,
            Disposition::Display(Display::Displayed) => ReceiptKind::Displayed,
            Disposition::Delivery(Delivered::Failed | Delivered::Error)
            | Disposition::Display(Display::Error) => {
                self.failed_after_all(now_ms, &live, person, seq);
                return Ok(());
            }
            // It is not told, or was told by others.
            Disposition::Delivery(Delivered::Forbidden)
            | Disposition::Display(Display::Forbidden)
            | Disposition::Processing(_) => return Ok(()),
        };
        self.settled_by_phone(now_ms, &live, person, (seq, kind));
        Ok(())
    }

    /// Which event a phone means.
    async fn named(
        &self,
        message_id: &str,
        device: Option<DeviceId>,
    ) -> Result<Option<(ConversationId, u64)>, PostError> {
        match Named::parse(message_id) {
            Some(Named::Event(id, seq)) => Ok(Some((id, seq))),
            Some(Named::Copy(message, of)) if Some(of) == device => {
                let event = self.store.event(EventId(message.0)).await?;
                Ok(event.map(|event| (event.conversation, event.seq)))
            }
            _ => Ok(None),
        }
    }

    /// A phone took a message, and says then that it can do nothing with it. It counts as delivered all the same, for
    /// other phones may show it; who asked is told, once.
    fn failed_after_all(
        self: &Arc<Self>,
        now_ms: u64,
        live: &Mutex<Live>,
        person: &AddressOfRecord,
        seq: u64,
    ) {
        let mut live = live::lock(live);
        let before = live.machine.delivery(person, seq);
        if before == Some(Delivery::Pending) {
            let report = Report {
                member: person,
                from_seq: seq,
                seq,
                kind: ReceiptKind::Failed,
            };
            self.report(now_ms, &mut live, &report);
            return;
        }
        let told = (seq, person.clone());
        if before != Some(Delivery::Delivered) || !live.negative.insert(told) {
            return;
        }
        if live.negative.len() > super::live::NEGATIVE_MAX {
            live.negative.pop_first();
        }
        let asking = live.asking.get(&seq).filter(|one| one.author != *person);
        if let Some(asking) = asking {
            self.tell_author(now_ms, &live, person, seq, asking, Delivery::Failed);
        }
    }

    /// Lets the machine take a report; whether it changed something.
    fn report(self: &Arc<Self>, now_ms: u64, live: &mut Live, report: &Report<'_>) -> bool {
        let member = report.member;
        let asking: Vec<(u64, Asking, Option<Delivery>)> = live
            .asking
            .range(..=report.seq)
            .filter(|(_, asking)| asking.author != *member)
            .map(|(seq, asking)| (*seq, asking.clone(), live.machine.delivery(member, *seq)))
            .collect();
        let input = Input::Receipt {
            member: member.clone(),
            from_seq: report.from_seq,
            seq: report.seq,
            kind: report.kind,
        };
        live.machine.handle_input(now_ms, input);
        let mut changed = false;
        while let Some(output) = live.machine.poll_output() {
            if let Output::Receipt(receipt) = output {
                changed = true;
                self.told_failed(live, &receipt);
            }
        }
        for (seq, asking, before) in asking {
            let after = live.machine.delivery(member, seq);
            for step in steps(before, after) {
                self.tell_author(now_ms, live, member, seq, &asking, *step);
            }
        }
        changed
    }

    /// Writes how far somebody has got, and tells those who look.
    fn mark(
        &self,
        live: &Live,
        person: &AddressOfRecord,
        (after, seq): (u64, u64),
        kind: ReceiptKind,
    ) -> Result<(), PostError> {
        let watermark = Watermark {
            conversation: live.id(),
            address: person.clone(),
            delivered: seq,
            displayed: if kind == ReceiptKind::Displayed {
                seq
            } else {
                0
            },
        };
        let written = self.writer.try_receipts(vec![watermark.clone()]);
        if !self.sessions.is_empty() {
            let news = News::Receipt(watermark.into());
            let mut members = live.told_of(person, (after, seq));
            self.without_blocked(live.machine.kind(), person, &mut members);
            self.sessions.tell(&members, &news);
        }
        written.map_err(|_| PostError::Busy)
    }

    /// Some messages will not arrive: that is written and told.
    pub(super) fn told_failed(&self, live: &Live, receipt: &Receipt) {
        if receipt.kind != ReceiptKind::Failed {
            return;
        }
        let failure = Failure {
            conversation: live.id(),
            address: receipt.member.clone(),
            range: SeqRange {
                first: receipt.from_seq,
                last: receipt.seq,
            },
        };
        // One that has no room in the queue is learned again when the message is offered again.
        let _ = self.writer.try_failures(vec![failure.clone()]);
        self.sessions
            .tell(&live.members(), &News::Failed(failure.into()));
    }

    /// Tells the phone that sent a message what became of it at one person, where it asked for that.
    fn tell_author(
        self: &Arc<Self>,
        now_ms: u64,
        live: &Live,
        member: &AddressOfRecord,
        seq: u64,
        asking: &Asking,
        what: Delivery,
    ) {
        if live.machine.kind() == Kind::Pair && self.may_say(member, &asking.author).is_err() {
            // Who has blocked the other tells him nothing.
            return;
        }
        let wanted = asking.asked.wanted;
        let disposition = match what {
            Delivery::Delivered if wanted.positive_delivery => {
                Disposition::Delivery(Delivered::Delivered)
            }
            Delivery::Displayed if wanted.display => Disposition::Display(Display::Displayed),
            Delivery::Failed if wanted.negative_delivery => {
                Disposition::Delivery(Delivered::Failed)
            }
            _ => return,
        };
        let device = asking.asked.device;
        let Some(device) = device.filter(|device| self.directory.device(*device).is_some()) else {
            return;
        };
        let group = live.grown.then(|| live.address().clone());
        let notification = Imdn {
            message_id: asking.asked.message_id.clone(),
            date_time: asking.asked.date_time.clone(),
            recipient_uri: Some(uri_of(member)),
            original_recipient_uri: Some(uri_of(group.as_ref().unwrap_or(member))),
            subject: None,
            disposition,
        };
        let xml = notification.write();
        let parts: [&[u8]; 3] = [
            &live.id().0.to_be_bytes(),
            &seq.to_be_bytes(),
            xml.as_bytes(),
        ];
        let message = NewMessage {
            from: format!("<{}>", uri_of(member)),
            account: AccountId(if group.is_some() { 0 } else { -1 }),
            to: group.unwrap_or_else(|| asking.author.clone()),
            received_ms: now_ms,
            content_type: imdn::CONTENT_TYPE.to_owned(),
            headers: String::new(),
            origin: Origin(Entropy::new(SEED).digest(&parts).to_be_bytes()),
            body: Bytes::from(xml),
            // So that a restart in between tells nothing twice.
            keyed: true,
            place: None,
        };
        self.spool(message, device);
    }

    /// Keeps something for one device until it has it.
    fn spool(self: &Arc<Self>, message: NewMessage, device: DeviceId) {
        let recipients = Recipients {
            devices: vec![device],
            accounts: Vec::new(),
        };
        let conversations = Arc::clone(self);
        let copy = message.clone();
        let done = Box::new(move |result: Result<Appended, StoreError>| {
            if let Ok(Appended { id, known: false }) = result {
                let posted = Posted {
                    message: Arc::new(stored(id, copy)),
                    devices: vec![device],
                    accounts: Vec::new(),
                };
                conversations.tell_phones(Outgoing::Posted(posted));
            }
        });
        // Where the disk is behind, the author learns it from the next one, or from the API.
        if self
            .writer
            .try_append(message, recipients, None, done)
            .is_err()
        {
            tracing::debug!(%device, "no room to tell what became of a message");
        }
    }
}

/// What an author is told when a message went from one state to another: what was displayed was delivered before.
fn steps(before: Option<Delivery>, after: Option<Delivery>) -> &'static [Delivery] {
    use Delivery::{Delivered, Displayed, Failed, Pending};
    match (before, after) {
        (Some(Pending), Some(Delivered)) => &[Delivered],
        (Some(Pending), Some(Displayed)) => &[Delivered, Displayed],
        (Some(Delivered), Some(Displayed)) => &[Displayed],
        (Some(Pending), Some(Failed)) => &[Failed],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_told_each_step_once() {
        use Delivery::{Delivered, Displayed, Failed, Pending};
        let all = [Pending, Delivered, Displayed, Failed];
        for state in all {
            assert!(steps(Some(state), Some(state)).is_empty());
            assert!(steps(None, Some(state)).is_empty());
        }
        assert_eq!(
            steps(Some(Pending), Some(Displayed)),
            [Delivered, Displayed]
        );
        assert!(steps(Some(Failed), Some(Displayed)).is_empty());
    }

    #[test]
    fn refusals_are_remembered_by_message_and_have_a_bound() {
        let refusals = Refusals::default();
        let (one, two) = (MessageId(1), MessageId(2));
        refusals.note(one, DeviceId(1));
        assert_eq!(refusals.note(two, DeviceId(3)), [DeviceId(3)].into());
        let both = [DeviceId(1), DeviceId(2)].into();
        assert_eq!(refusals.note(one, DeviceId(2)), both);
        for n in 0..20_000 {
            refusals.note(MessageId(n), DeviceId(1));
        }
        let kept = refusals.0.lock().map(|all| all.len());
        assert_eq!(kept.ok(), Some(REFUSED_MAX));
    }
}
