//! Equality of URIs: RFC 3261 §19.1.4, RFC 5954 §3.2, RFC 3966 §5.
//!
//! *Invariant*: the relation is symmetric; it is not transitive, nor can it be by the RFC.

use super::{Scheme, Uri, host_ip, unescaped};
use crate::grammar::cut;
use crate::params::Params;

/// Parameters that must be in both URIs or in neither. RFC 3261 §19.1.4 names user, ttl, method and maddr in the
/// text and shows transport among its examples of unequal URIs.
const SIGNIFICANT: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

pub(super) fn equal(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    if a.scheme != b.scheme {
        return false;
    }
    match a.scheme {
        Scheme::Sip | Scheme::Sips => sip_equal(a, b),
        Scheme::Tel => tel_equal(a, b),
        Scheme::Other => other_equal(a.text, b.text),
    }
}

fn sip_equal(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    same_option(a.user, b.user)
        && same_option(a.password, b.password)
        && a.port == b.port
        && hosts_equal(a.host, b.host)
        && params_equal(a.params, b.params)
        && headers_equal(a.headers.unwrap_or(""), b.headers.unwrap_or(""))
}

fn same_option(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Case-sensitive, an escaped character equal to the plain one.
fn same(a: &str, b: &str) -> bool {
    a == b || unescaped(a.as_bytes()).eq(unescaped(b.as_bytes()))
}

fn same_any_case(a: &str, b: &str) -> bool {
    let lower = |text| unescaped(text).map(|octet| octet.to_ascii_lowercase());
    a == b || lower(a.as_bytes()).eq(lower(b.as_bytes()))
}

fn hosts_equal(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
        || (a.starts_with('[')
            && b.starts_with('[')
            && host_ip(a).is_some_and(|ip| Some(ip) == host_ip(b)))
}

fn find<'a>(params: Params<'a>, name: &str) -> Option<Option<&'a str>> {
    params
        .iter()
        .find(|(candidate, _)| same_any_case(candidate, name))
        .map(|(_, value)| value)
}

fn params_equal(a: Params<'_>, b: Params<'_>) -> bool {
    if a.is_empty() && b.is_empty() {
        return true;
    }
    let both_agree = a.iter().all(|(name, value)| match find(b, name) {
        Some(other) => same_any_case(value.unwrap_or(""), other.unwrap_or("")),
        None => true,
    });
    both_agree
        && SIGNIFICANT
            .iter()
            .all(|name| find(a, name).is_some() == find(b, name).is_some())
}

/// Each header of one is in the other, in any order.
fn headers_equal(a: &str, b: &str) -> bool {
    fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
        text.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| cut(pair, b'=').unwrap_or((pair, "")))
    }
    fn within(a: &str, b: &str) -> bool {
        pairs(a).all(|(name, value)| {
            pairs(b).any(|(other, text)| same_any_case(name, other) && same(value, text))
        })
    }
    // COMPAT(hostile input): past any use, a header list would cost its square to compare.
    if a.len().max(b.len()) > 1_024 {
        return a == b;
    }
    within(a, b) && within(b, a)
}

fn tel_equal(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    fn digits(number: Option<&str>) -> impl Iterator<Item = u8> {
        let text = number.unwrap_or("").as_bytes();
        let separator = |octet: &&u8| !matches!(octet, b'-' | b'.' | b'(' | b')');
        text.iter().filter(separator).map(u8::to_ascii_lowercase)
    }
    let each_in = |a: Params<'_>, b: Params<'_>| {
        a.iter().all(|(name, value)| {
            find(b, name)
                .is_some_and(|other| same_any_case(value.unwrap_or(""), other.unwrap_or("")))
        })
    };
    digits(a.user).eq(digits(b.user)) && each_in(a.params, b.params) && each_in(b.params, a.params)
}

fn other_equal(a: &str, b: &str) -> bool {
    match (cut(a, b':'), cut(b, b':')) {
        (Some((scheme_a, rest_a)), Some((scheme_b, rest_b))) => {
            scheme_a.eq_ignore_ascii_case(scheme_b) && rest_a == rest_b
        }
        _ => a == b,
    }
}
