//! The registrar: a REGISTER against the bindings of an address of record
//! (RFC 3261 §10.3, RFC 5626 §6, RFC 3327 §5.3, RFC 5627 §5).
//!
//! *Invariant: a REGISTER is done whole or not at all.* [`apply`] is a pure function of
//! the bindings, the request, the policy and the time.

mod answer;
mod request;

use sidetone_model::{AddressOfRecord, Binding, DeviceId};
use sidetone_sip::{FlowToken, Message, TokenKey, Uri};

use crate::location::{Location, flow_text};
pub use request::{ContactUpdate, Contacts, RegisterRequest};

/// What the registrar allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterPolicy {
    /// Shorter registrations are refused with 423.
    pub min_expires_s: u32,
    /// Longer registrations are made so long.
    pub max_expires_s: u32,
    /// For requests that name no time.
    pub default_expires_s: u32,
    /// Contacts of one address of record.
    pub max_contacts: usize,
    /// How often a client keeps its outbound flow alive (RFC 5626 §4.4).
    pub flow_timer_s: u32,
}

impl Default for RegisterPolicy {
    fn default() -> Self {
        Self {
            min_expires_s: 60,
            max_expires_s: 3_600,
            default_expires_s: 3_600,
            max_contacts: 10,
            flow_timer_s: 120,
        }
    }
}

/// Header fields of an answer beside the usual ones.
pub type ExtraHeaders = Vec<(&'static str, String)>;

/// The answer to a REGISTER that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {reason}")]
pub struct RegisterError {
    /// The code.
    pub status: u16,
    /// The phrase.
    pub reason: &'static str,
    /// Headers that go with it.
    pub headers: ExtraHeaders,
}

impl RegisterError {
    /// With the reason in a Warning too, where the administrator looks (RFC 3261 §20.43).
    fn new(status: u16, reason: &'static str) -> Self {
        let warning = format!("399 sidetone \"{reason}\"");
        Self {
            status,
            reason,
            headers: vec![("Warning", warning)],
        }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What surrounds a REGISTER that was authenticated.
#[derive(Debug, Clone, Copy)]
pub struct RegisterContext<'a> {
    /// The address of record in To, which the account was found to own.
    pub aor: &'a AddressOfRecord,
    /// The device that authenticated.
    pub device: DeviceId,
    /// The flow that the request came by.
    pub flow: FlowToken,
    /// What is allowed.
    pub policy: &'a RegisterPolicy,
    /// Makes temporary GRUUs.
    pub tokens: &'a TokenKey,
    /// A random number, new for each request.
    pub unique: u64,
    /// Now, Unix time.
    pub now_ms: u64,
}

/// A REGISTER that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Headers of the 200: Contact for each binding, Path, Require, Flow-Timer.
    pub headers: ExtraHeaders,
    /// The bindings as they are now, for subscribers to registrations (RFC 3680).
    pub bindings: Vec<Binding>,
    /// The request changed something; a query did not.
    pub changed: bool,
    /// The phone that registers has done so before, since it was started: a binding had its Call-ID
    /// (RFC 3261 §10.2).
    pub refreshed: bool,
    /// There was no binding before and there is now.
    pub came_online: bool,
}

/// Serves a REGISTER: reads it, applies it to the location table, says what to answer.
///
/// # Errors
/// With the answer that refuses it; the bindings are then as they were.
pub fn register(
    location: &Location,
    message: &Message,
    context: &RegisterContext<'_>,
) -> Result<Registered, RegisterError> {
    let request = RegisterRequest::read(message, context)?;
    let changed = !request.is_query();
    let (mut online, mut refreshed) = (false, false);
    let bindings = location.update(context.aor, context.now_ms, |bindings| {
        online = !bindings.is_empty();
        refreshed = bindings
            .iter()
            .any(|binding| *binding.call_id == *request.call_id);
        if changed {
            *bindings = apply(
                std::mem::take(bindings),
                &request,
                context.policy,
                context.now_ms,
            )?;
        }
        Ok(changed)
    })?;
    Ok(Registered {
        headers: answer::headers(&bindings, &request, context),
        came_online: !online && !bindings.is_empty(),
        bindings,
        changed,
        refreshed,
    })
}

/// RFC 3261 §10.3 steps 6 to 8: what the bindings are after a request.
///
/// # Errors
/// With the answer that refuses it.
pub fn apply(
    existing: Vec<Binding>,
    request: &RegisterRequest<'_>,
    policy: &RegisterPolicy,
    now_ms: u64,
) -> Result<Vec<Binding>, RegisterError> {
    let mut bindings = existing;
    bindings.retain(|binding| !binding.is_expired(now_ms));
    match &request.contacts {
        Contacts::Star => remove_all(&mut bindings, request)?,
        Contacts::List(list) => {
            for contact in list {
                update_one(&mut bindings, contact, request, now_ms)?;
            }
        }
    }
    if bindings.len() > policy.max_contacts {
        return Err(RegisterError::new(403, "Too Many Contacts"));
    }
    Ok(bindings)
}

/// How a request stands to a binding in the order of Call-ID and CSeq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Another registration or a later request of the same: it counts.
    Newer,
    /// The request that made the binding, come again.
    Same,
    /// Overtaken on the way.
    Older,
}

fn order(binding: &Binding, request: &RegisterRequest<'_>) -> Order {
    if *binding.call_id != *request.call_id {
        return Order::Newer;
    }
    match request.cseq.cmp(&binding.cseq) {
        std::cmp::Ordering::Greater => Order::Newer,
        std::cmp::Ordering::Equal => Order::Same,
        std::cmp::Ordering::Less => Order::Older,
    }
}

/// RFC 3261 §10.3 step 7: "the update MUST be aborted and the request fails", as a request
/// out of order does in a dialog (§12.2.2): 500.
fn out_of_order() -> RegisterError {
    RegisterError::new(500, "CSeq Out Of Order")
}

fn remove_all(
    bindings: &mut Vec<Binding>,
    request: &RegisterRequest<'_>,
) -> Result<(), RegisterError> {
    if bindings
        .iter()
        .any(|binding| order(binding, request) != Order::Newer)
    {
        return Err(out_of_order());
    }
    bindings.clear();
    Ok(())
}

fn update_one(
    bindings: &mut Vec<Binding>,
    contact: &ContactUpdate<'_>,
    request: &RegisterRequest<'_>,
    now_ms: u64,
) -> Result<(), RegisterError> {
    let Some(at) = bindings
        .iter()
        .position(|binding| is_binding_of(contact, binding))
    else {
        if contact.expires_s > 0 {
            bindings.push(made(contact, request, now_ms));
        }
        return Ok(());
    };
    match order(&bindings[at], request) {
        Order::Older => return Err(out_of_order()),
        // A retransmission that outlived its transaction: done already, so 200 again.
        Order::Same => {}
        Order::Newer if contact.expires_s == 0 => {
            bindings.remove(at);
        }
        Order::Newer => bindings[at] = made(contact, request, now_ms),
    }
    Ok(())
}

/// RFC 5626 §6: with `reg-id` a binding is the instance and that number, whatever its
/// contact; otherwise it is the contact (RFC 3261 §19.1.4).
fn is_binding_of(contact: &ContactUpdate<'_>, binding: &Binding) -> bool {
    if contact.reg_id > 0 && binding.reg_id > 0 {
        return contact.reg_id == binding.reg_id
            && same_instance(contact.instance, binding.instance.as_deref());
    }
    // A contact removed without its reg-id means the binding that has it.
    let comparable = contact.reg_id == binding.reg_id || contact.expires_s == 0;
    comparable && Uri::parse(&binding.contact).is_ok_and(|bound| bound.eq_3261(&contact.uri))
}

/// URNs of UUIDs are equal in any case (RFC 9562 §4), and other instances do not differ in
/// nothing but case.
fn same_instance(one: Option<&str>, other: Option<&str>) -> bool {
    one.zip(other)
        .is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
}

fn made(contact: &ContactUpdate<'_>, request: &RegisterRequest<'_>, now_ms: u64) -> Binding {
    Binding {
        contact: contact.uri.text.into(),
        device: request.device,
        instance: contact.instance.map(Into::into),
        reg_id: contact.reg_id,
        q: contact.q,
        call_id: request.call_id.into(),
        cseq: request.cseq,
        expires_at_ms: now_ms + u64::from(contact.expires_s) * 1000,
        path: request.path.as_str().into(),
        received: Some(flow_text(&request.flow).into()),
        user_agent: request.user_agent.into(),
    }
}

#[cfg(test)]
mod tests;
