//! Parts of a file (RFC 9110 §14).
//!
//! *Invariant*: a part lies within the file; what is no range, or is more than one, is as if it were not there
//! (RFC 9110 §14.2), so that whoever asks gets the whole.

use axum::http::{HeaderMap, header};

/// Which part is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// From `first` to `last`, both included.
    Of { first: u64, last: u64 },
    /// One that the file does not have.
    Beyond,
}

/// The part of a file with so many octets and this tag that a GET asks for.
pub(crate) fn asked(headers: &HeaderMap, octets: u64, tag: &str) -> Part {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return Part::Whole;
    };
    // RFC 9110 §13.1.5: of another version, the whole is wanted. A date never matches: files have none.
    let same = match headers.get(header::IF_RANGE) {
        Some(known) => known.as_bytes() == tag.as_bytes(),
        None => true,
    };
    match range.to_str() {
        Ok(range) if same => parse(range, octets),
        _ => Part::Whole,
    }
}

fn parse(range: &str, octets: u64) -> Part {
    let (unit, set) = range.split_once('=').unwrap_or_default();
    let single = set.trim();
    let Some((first, last)) = single.split_once('-') else {
        return Part::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    match (number(first), number(last)) {
        (Number::None, Number::Some(0)) => Part::Beyond,
        (Number::None, Number::Some(suffix)) => {
            within(octets.saturating_sub(suffix), u64::MAX, octets)
        }
        (Number::Some(first), Number::None) => within(first, u64::MAX, octets),
        (Number::Some(first), Number::Some(last)) if first <= last => within(first, last, octets),
        _ => Part::Whole,
    }
}

fn within(first: u64, last: u64, octets: u64) -> Part {
    match octets.checked_sub(1) {
        Some(end) if first <= end => Part::Of {
            first,
            last: last.min(end),
        },
        _ => Part::Beyond,
    }
}

enum Number {
    None,
    Some(u64),
    Wrong,
}

/// Digits only; more than fit are more than any file has.
fn number(text: &str) -> Number {
    match text.trim() {
        "" => Number::None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Number::Some(digits.parse().unwrap_or(u64::MAX))
        }
        _ => Number::Wrong,
    }
}

/// Whether whoever asks has this version already (RFC 9110 §13.1.2).
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).iter();
    lists.filter_map(|list| list.to_str().ok()).any(|list| {
        let mut tags = list.split(',').map(str::trim);
        tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str, octets: u64) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().expect("a header"));
        asked(&headers, octets, "\"t\"")
    }

    fn part(first: u64, last: u64) -> Part {
        Part::Of { first, last }
    }

    #[test]
    fn one_range_is_a_part() {
        for (range, octets, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-5", 10, part(2, 5)),
            ("Bytes = 2 - 5", 10, part(2, 5)),
            ("bytes=5-", 10, part(5, 9)),
            ("bytes=5-99", 10, part(5, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-99", 10, part(0, 9)),
            ("bytes=10-", 10, Part::Beyond),
            ("bytes=-0", 10, Part::Beyond),
            ("bytes=0-", 0, Part::Beyond),
            ("bytes=-1", 0, Part::Beyond),
            ("bytes=99999999999999999999999-", 10, Part::Beyond),
            ("bytes=5-2", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("bytes=+1-2", 10, Part::Whole),
            ("bytes=1--2", 10, Part::Whole),
            ("lines=1-2", 10, Part::Whole),
            ("bytes", 10, Part::Whole),
            ("", 10, Part::Whole),
        ] {
            assert_eq!(of(range, octets), expected, "{range} of {octets}");
        }
    }

    #[test]
    fn a_part_of_another_version_is_the_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=1-2".parse().expect("a header"));
        headers.insert(header::IF_RANGE, "\"t\"".parse().expect("a header"));
        assert_eq!(asked(&headers, 10, "\"t\""), part(1, 2));
        assert_eq!(asked(&headers, 10, "\"u\""), Part::Whole);
        headers.insert(header::IF_RANGE, "W/\"t\"".parse().expect("a header"));
        assert_eq!(
            asked(&headers, 10, "\"t\""),
            Part::Whole,
            "weak tags do not do"
        );
        headers.append(header::RANGE, "bytes=1-2".parse().expect("a header"));
        assert_eq!(asked(&headers, 10, "\"t\""), Part::Whole);
    }

    #[test]
    fn whatever_is_asked_a_part_lies_within() {
        let seeds = ["bytes=0-5", "bytes=-7", "bytes=3-", "bytes=1-2,3-4"];
        let signs = b"0123456789-=, bytes\xffW/\"";
        let mut state = 11_u32;
        for round in 0..50_000_usize {
            let mut range = seeds[round % seeds.len()].as_bytes().to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let [a, b, c, _] = state.to_be_bytes().map(usize::from);
                let at = a % (range.len() + 1);
                match b % 3 {
                    0 => range.insert(at, signs[c % signs.len()]),
                    1 => range.truncate(at),
                    _ => range
                        .iter_mut()
                        .skip(at)
                        .take(1)
                        .for_each(|s| *s = signs[c % signs.len()]),
                }
            }
            let octets = u64::from(state % 20);
            let mut headers = HeaderMap::new();
            let Ok(value) = axum::http::HeaderValue::from_bytes(&range) else {
                continue;
            };
            headers.insert(header::RANGE, value);
            if let Part::Of { first, last } = asked(&headers, octets, "") {
                assert!(first <= last && last < octets, "{range:?} of {octets}");
            }
        }
    }
}
