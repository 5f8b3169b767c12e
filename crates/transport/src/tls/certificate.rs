//! As much of X.509 (RFC 5280 §4.1) as a report needs: names, end, issuer.
//!
//! *Invariant:* reading never panics; what is not understood makes the whole
//! certificate unreadable. Trust is decided by rustls, never here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const URI_NAME: u8 = 0x86;
const ADDRESS_NAME: u8 = 0x87;
/// id-ce-subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// What a certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Subject alternative names: DNS names, addresses, URIs.
    pub names: Vec<String>,
    /// Begin of validity, seconds since 1970.
    pub not_before_s: i64,
    /// End of validity, seconds since 1970.
    pub not_after_s: i64,
    /// Issuer and subject are the same.
    pub self_signed: bool,
}

impl CertificateSummary {
    /// Whole days of validity left; negative when over.
    pub fn days_left(&self, now_unix_s: i64) -> i64 {
        self.not_after_s
            .saturating_sub(now_unix_s)
            .div_euclid(86_400)
    }

    /// When two thirds of the validity are over: time for the next one.
    pub fn renew_at_s(&self) -> i64 {
        let lifetime_s = self.not_after_s.saturating_sub(self.not_before_s).max(0);
        self.not_after_s.saturating_sub(lifetime_s / 3)
    }

    /// Whether it names all of these.
    pub fn covers(&self, names: &[String]) -> bool {
        let has = |wanted: &String| {
            let mut all = self.names.iter();
            all.any(|name| name.eq_ignore_ascii_case(wanted))
        };
        names.iter().all(has)
    }

    /// Reads a DER certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut fields = Der(certificate.expect(SEQUENCE)?);
        if fields.peek() == Some(VERSION) {
            fields.next()?;
        }
        let (_serial, _algorithm) = (fields.next()?, fields.next()?);
        let issuer = fields.expect(SEQUENCE)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let not_before_s = time(validity.next()?)?;
        let not_after_s = time(validity.next()?)?;
        let subject = fields.expect(SEQUENCE)?;
        let names = alternative_names(fields)?;
        Some(Self {
            names,
            not_before_s,
            not_after_s,
            self_signed: issuer == subject,
        })
    }
}

fn alternative_names(mut fields: Der<'_>) -> Option<Vec<String>> {
    while let Some((tag, value)) = fields.next() {
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = Der(Der(value).expect(SEQUENCE)?);
        while let Some((SEQUENCE, extension)) = extensions.next() {
            let mut extension = Der(extension);
            if extension.expect(OBJECT_ID)? == SUBJECT_ALT_NAME {
                return names_in(extension);
            }
        }
    }
    Some(Vec::new())
}

fn names_in(mut extension: Der<'_>) -> Option<Vec<String>> {
    // An optional `critical` flag comes before the value.
    let (_, value) = std::iter::from_fn(|| extension.next()).find(|(tag, _)| *tag == OCTETS)?;
    let mut names = Der(Der(value).expect(SEQUENCE)?);
    Some(
        std::iter::from_fn(|| names.next())
            .filter_map(name)
            .collect(),
    )
}

fn name((tag, value): (u8, &[u8])) -> Option<String> {
    match tag {
        DNS_NAME | URI_NAME => Some(String::from_utf8_lossy(value).into_owned()),
        ADDRESS_NAME => address(value).map(|ip| ip.to_string()),
        _ => None,
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(v4).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into())
}

/// RFC 5280 §4.1.2.5: `YYMMDDHHMMSSZ` to 2049, `YYYYMMDDHHMMSSZ` after.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => (text.get(..2)?.parse::<i64>().ok()?, text.get(2..)?),
        GENERALIZED_TIME => (text.get(..4)?.parse::<i64>().ok()?, text.get(4..)?),
        _ => return None,
    };
    let year = match tag {
        UTC_TIME if year < 50 => year + 2000,
        UTC_TIME => year + 1900,
        _ => year,
    };
    let part = |i: usize| rest.get(2 * i..2 * i + 2)?.parse::<i64>().ok();
    let days = days_from_civil(year, part(0)?, part(1)?);
    Some(((days * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar. Years are counted
/// from March, so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The opposite of [`days_from_civil`]: year, month, day.
pub(super) fn civil_from_days(days: i64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = (shifted + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let small = |n: i64| u8::try_from(n).unwrap_or(1);
    (
        i32::try_from(year).unwrap_or(9999),
        small(month),
        small(day),
    )
}

/// What is left of a DER value's contents.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element: tag and contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => long_length(rest, usize::from(first & 0x7f))?,
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(tag, _)| *tag == wanted)
            .map(|(_, value)| value)
    }
}

fn long_length(bytes: &[u8], count: usize) -> Option<(usize, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(count)?;
    let len = digits
        .iter()
        .fold(0usize, |len, digit| len << 8 | usize::from(*digit));
    Some((len, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_453, (2025, 12, 31)),
        ] {
            assert_eq!(civil_from_days(days), date);
            assert_eq!(
                days_from_civil(date.0.into(), date.1.into(), date.2.into()),
                days
            );
        }
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year.into(), month.into(), day.into()), days);
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(time((UTC_TIME, b"491231235959Z")), Some(2_524_607_999));
        assert_eq!(time((UTC_TIME, b"700101000001Z")), Some(1));
        assert_eq!(
            time((GENERALIZED_TIME, b"20500101000000Z")),
            Some(2_524_608_000)
        );
        assert_eq!(time((UTC_TIME, b"4912312359")), None);
        assert_eq!(time((UTC_TIME, b"49123123595-Z")), None);
        assert_eq!(time((OCTETS, b"491231235959Z")), None);
    }

    #[test]
    fn renewal_is_due_after_two_thirds() {
        let mut summary = CertificateSummary {
            names: vec!["A.example".to_owned()],
            not_before_s: 100,
            not_after_s: 400,
            self_signed: false,
        };
        assert_eq!(summary.renew_at_s(), 300);
        assert!(summary.covers(&["a.Example".to_owned()]) && summary.covers(&[]));
        assert!(!summary.covers(&["a.example".to_owned(), "b.example".to_owned()]));
        // Nonsense is due at its end, and harms nobody.
        summary.not_before_s = i64::MAX;
        assert_eq!(summary.renew_at_s(), 400);
    }

    #[test]
    fn damaged_certificates_are_refused_without_a_panic() {
        let key = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let der = key.cert.der().to_vec();
        assert_eq!(CertificateSummary::of(&der).unwrap().names, ["a.example"]);
        for cut in 0..der.len() {
            assert_eq!(CertificateSummary::of(&der[..cut]), None);
        }
        for at in 0..der.len() {
            for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = der.clone();
                damaged[at] = value;
                let _ = CertificateSummary::of(&damaged);
            }
        }
    }
}
