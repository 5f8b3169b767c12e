//! A REGISTER read and checked, before any binding is looked at.
//!
//! *Invariant: what is read here obeys the policy: times are zero or within bounds, there
//! is one `reg-id` at most, and a `*` stands alone.*

use sidetone_model::DeviceId;
use sidetone_sip::{Contact, FlowToken, HeaderName, Malformed, Message, NameAddr, Uri};

use super::{RegisterContext, RegisterError, RegisterPolicy};

/// Contact values read from one request; more is an attack, since no policy allows so many.
const MAX_VALUES: usize = 128;
/// Of User-Agent, what is kept with a binding.
const USER_AGENT_BYTES: usize = 64;
/// Longest Call-ID and contact that a binding keeps, in bytes.
const KEPT_BYTES: usize = 2048;

/// A REGISTER as the registrar sees it.
#[derive(Debug, Clone)]
pub struct RegisterRequest<'m> {
    /// What it says about contacts.
    pub contacts: Contacts<'m>,
    /// Its Call-ID.
    pub call_id: &'m str,
    /// Its CSeq number.
    pub cseq: u32,
    /// Path values, separated by commas (RFC 3327); may be empty.
    pub path: String,
    /// The flow that it came by.
    pub flow: FlowToken,
    /// The device that sent it.
    pub device: DeviceId,
    /// User-Agent, shortened.
    pub user_agent: &'m str,
    /// The client knows RFC 5627.
    pub gruu: bool,
}

/// The Contact header fields.
#[derive(Debug, Clone)]
pub enum Contacts<'m> {
    /// `*`: remove all.
    Star,
    /// These; none is a query.
    List(Vec<ContactUpdate<'m>>),
}

/// One Contact value.
#[derive(Debug, Clone)]
pub struct ContactUpdate<'m> {
    /// The contact.
    pub uri: Uri<'m>,
    /// For how long; 0 removes.
    pub expires_s: u32,
    /// Preference in thousandths; 1000 where none was given.
    pub q: u16,
    /// `+sip.instance` without quotes and brackets.
    pub instance: Option<&'m str>,
    /// `reg-id` where outbound is used, otherwise 0.
    pub reg_id: u32,
}

fn bad(reason: &'static str) -> RegisterError {
    RegisterError::new(400, reason)
}

fn malformed(error: Malformed) -> RegisterError {
    bad(error.0)
}

impl<'m> RegisterRequest<'m> {
    /// Reads a REGISTER.
    ///
    /// # Errors
    /// With the answer that refuses it: 400, 420, 423, 439.
    pub fn read(
        message: &'m Message,
        context: &RegisterContext<'_>,
    ) -> Result<Self, RegisterError> {
        let cseq = message.cseq().map_err(malformed)?.number;
        let call_id = std::str::from_utf8(message.call_id()).ok();
        let call_id = call_id
            .filter(|id| (1..=KEPT_BYTES).contains(&id.len()))
            .ok_or_else(|| bad("Bad Call-ID"))?;
        let path = path(message)?;
        let outbound = outbound(message)?;
        let reader = Reader {
            // RFC 3261 §10.2.1.1 takes a malformed time as the default.
            header_s: message.expires().unwrap_or(None),
            policy: context.policy,
            outbound,
        };
        Ok(Self {
            contacts: reader.contacts(message)?,
            call_id,
            cseq,
            path,
            flow: context.flow,
            device: context.device,
            user_agent: user_agent(message),
            gruu: supports(message, "gruu"),
        })
    }

    /// Asks for the bindings only (RFC 3261 §10.2.3).
    pub fn is_query(&self) -> bool {
        matches!(&self.contacts, Contacts::List(list) if list.is_empty())
    }

    /// Whether a binding of this request is kept by RFC 5626.
    pub fn uses_outbound(&self) -> bool {
        matches!(&self.contacts, Contacts::List(list) if list.iter().any(|contact| contact.reg_id > 0))
    }
}

/// An option that is required is supported too.
fn supports(message: &Message, option: &str) -> bool {
    [HeaderName::Supported, HeaderName::Require]
        .into_iter()
        .any(|name| {
            message
                .option_tags(name)
                .any(|tag| tag.eq_ignore_ascii_case(option))
        })
}

/// RFC 3327 §5.3: a Path that the client cannot know of is refused.
fn path(message: &Message) -> Result<String, RegisterError> {
    let mut path = String::new();
    for value in message.values(HeaderName::Path) {
        let value = std::str::from_utf8(value).map_err(|_| bad("Bad Path"))?;
        NameAddr::parse(value.as_bytes()).map_err(malformed)?;
        if !path.is_empty() {
            path.push_str(", ");
        }
        // Folding would break the line of the answer.
        path.extend(
            value
                .chars()
                .map(|c| if c.is_ascii_control() { ' ' } else { c }),
        );
    }
    if !path.is_empty() && !supports(message, "path") {
        let refused = RegisterError::new(420, "Path Not Supported By Client");
        return Err(refused.with("Unsupported", "path".to_owned()));
    }
    Ok(path)
}

/// Whether outbound can be used (RFC 5626 §6): the client knows it, and so does the first
/// proxy on the way, which says so by `ob` in the last of the Path values; where there is
/// none, we have to be the first hop.
fn outbound(message: &Message) -> Result<bool, RegisterError> {
    if !supports(message, "outbound") {
        return Ok(false);
    }
    let first_hop_knows = match message.values(HeaderName::Path).last() {
        Some(edge) => NameAddr::parse(edge)
            .is_ok_and(|edge| edge.parse_uri().is_ok_and(|uri| uri.params.has("ob"))),
        None => message.vias().count() <= 1,
    };
    let wants = message.contacts().flatten().any(|contact| match contact {
        Contact::Addr(address) => reg_id(&address) > 0 && instance(&address).is_some(),
        Contact::Star => false,
    });
    if wants && !first_hop_knows {
        return Err(RegisterError::new(439, "First Hop Lacks Outbound Support"));
    }
    Ok(first_hop_knows)
}

fn reg_id(address: &NameAddr<'_>) -> u32 {
    // RFC 5626 §4.2: 1 to 2³¹−1.
    let number = address
        .params
        .value("reg-id")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    if number < 1 << 31 { number } else { 0 }
}

fn instance<'m>(address: &NameAddr<'m>) -> Option<&'m str> {
    let quoted = address.params.value("+sip.instance")?;
    let bare = quoted
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(quoted);
    let sound = |text: &&str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"')
    };
    Some(bare)
        .filter(sound)
        .filter(|text| text.len() <= KEPT_BYTES && !text.contains('\\'))
}

fn user_agent(message: &Message) -> &str {
    let value = message.header(HeaderName::UserAgent).unwrap_or(b"");
    let cut = &value[..value.len().min(USER_AGENT_BYTES)];
    let text = match std::str::from_utf8(cut) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&cut[..error.valid_up_to()]).unwrap_or(""),
    };
    text.split(|c: char| c.is_control()).next().unwrap_or("")
}

struct Reader<'a> {
    header_s: Option<u32>,
    policy: &'a RegisterPolicy,
    outbound: bool,
}

impl Reader<'_> {
    fn contacts<'m>(&self, message: &'m Message) -> Result<Contacts<'m>, RegisterError> {
        let mut list = Vec::new();
        let (mut star, mut count) = (false, 0);
        for contact in message.contacts() {
            count += 1;
            match contact.map_err(malformed)? {
                _ if count > MAX_VALUES => {
                    return Err(RegisterError::new(403, "Too Many Contacts"));
                }
                Contact::Star => star = true,
                Contact::Addr(address) => list.push(self.contact(&address)?),
            }
        }
        if !star {
            return self.outbound_alone(list);
        }
        // RFC 3261 §10.3 step 6.
        if count > 1 {
            return Err(bad("Contact * With Others"));
        }
        match self.header_s {
            Some(0) => Ok(Contacts::Star),
            _ => Err(bad("Contact * Without Expires: 0")),
        }
    }

    /// RFC 5626 §6: a `reg-id` beside another contact that stays makes no sense.
    fn outbound_alone<'m>(
        &self,
        list: Vec<ContactUpdate<'m>>,
    ) -> Result<Contacts<'m>, RegisterError> {
        let staying = list.iter().filter(|contact| contact.expires_s > 0).count();
        if staying > 1 && list.iter().any(|contact| contact.reg_id > 0) {
            return Err(bad("Several Contacts With reg-id"));
        }
        Ok(Contacts::List(list))
    }

    fn contact<'m>(&self, address: &NameAddr<'m>) -> Result<ContactUpdate<'m>, RegisterError> {
        let uri = address.parse_uri().map_err(malformed)?;
        if !uri.is_sip() {
            // No request could be forwarded there (RFC 3261 §16.5 knows SIP targets only).
            return Err(bad("Contact Is No SIP URI"));
        }
        if uri.text.len() > KEPT_BYTES {
            return Err(bad("Contact Too Long"));
        }
        let instance = instance(address);
        let outbound = self.outbound && instance.is_some();
        Ok(ContactUpdate {
            uri,
            expires_s: self.expires_s(address)?,
            q: q(address)?,
            instance,
            reg_id: if outbound { reg_id(address) } else { 0 },
        })
    }

    /// RFC 3261 §10.3 step 7: the parameter, the header, the default; within bounds.
    fn expires_s(&self, address: &NameAddr<'_>) -> Result<u32, RegisterError> {
        let asked_s = address
            .expires()
            .or(self.header_s)
            .unwrap_or(self.policy.default_expires_s);
        if asked_s > 0 && asked_s < self.policy.min_expires_s {
            let refused = RegisterError::new(423, "Interval Too Brief");
            return Err(refused.with("Min-Expires", self.policy.min_expires_s.to_string()));
        }
        Ok(asked_s.min(self.policy.max_expires_s))
    }
}

fn q(address: &NameAddr<'_>) -> Result<u16, RegisterError> {
    match address.params.get("q") {
        None => Ok(1000),
        Some(_) => address.q().ok_or_else(|| bad("q Is Not 0 To 1")),
    }
}
