//! The 200 to a REGISTER: what the client learns about its bindings.
//!
//! *Invariant: every current binding is listed with the time that it has left
//! (RFC 3261 §10.3 step 8).*

use std::fmt::Write;

use sidetone_model::Binding;
use sidetone_sip::escape_user;
use sidetone_sip::gruu::{public_gruu, temp_gruu_uri};

use super::{ExtraHeaders, RegisterContext, RegisterRequest};

pub(super) fn headers(
    bindings: &[Binding],
    request: &RegisterRequest<'_>,
    context: &RegisterContext<'_>,
) -> ExtraHeaders {
    let mut headers = ExtraHeaders::new();
    for binding in bindings {
        headers.push(("Contact", contact(binding, request, context)));
    }
    if !request.path.is_empty() {
        headers.push(("Path", request.path.clone()));
    }
    if request.uses_outbound() {
        // RFC 5626 §6 and §4.4.
        headers.push(("Require", "outbound".to_owned()));
        headers.push(("Flow-Timer", context.policy.flow_timer_s.to_string()));
    }
    headers
}

fn contact(
    binding: &Binding,
    request: &RegisterRequest<'_>,
    context: &RegisterContext<'_>,
) -> String {
    let mut out = String::with_capacity(binding.contact.len() + 96);
    // Rounded up, so that what was asked for is what is answered.
    let left_s = binding
        .expires_at_ms
        .saturating_sub(context.now_ms)
        .div_ceil(1000);
    // Writing to a String cannot fail.
    let _ = write!(out, "<{}>;expires={left_s}", binding.contact);
    if binding.q < 1000 {
        let _ = write!(out, ";q=0.{:03}", binding.q);
    }
    if let Some(instance) = &binding.instance {
        let _ = write!(out, ";+sip.instance=\"<{instance}>\"");
        if binding.reg_id > 0 {
            let _ = write!(out, ";reg-id={}", binding.reg_id);
        }
        if request.gruu {
            push_gruus(&mut out, binding, instance, context);
        }
    }
    out
}

/// RFC 5627 §5.2: the public GRUU and a new temporary one.
fn push_gruus(out: &mut String, binding: &Binding, instance: &str, context: &RegisterContext<'_>) {
    let (user, domain) = (context.aor.user(), context.aor.domain());
    let aor = format!("sip:{}@{domain}", escape_user(user));
    let _ = write!(out, ";pub-gruu=\"{}\"", public_gruu(&aor, instance));
    let temporary = context
        .tokens
        .temp_gruu(user, instance, &binding.call_id, context.unique);
    if let Some(user_part) = temporary {
        let _ = write!(out, ";temp-gruu=\"{}\"", temp_gruu_uri(&user_part, domain));
    }
}
