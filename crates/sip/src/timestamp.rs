//! Moments as RFC 3339 writes them, for the bodies that carry them.
//!
//! *Invariant*: a moment is milliseconds of Unix time, in UTC; what is written is read back as it was.

const DAY_MS: u64 = 86_400_000;
/// The first of March of year 0 is so many days before 1970: years that begin in March end with the leap day.
const DAYS_TO_EPOCH: i64 = 719_468;
/// Where four digits of a year end.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// Reads `2026-11-22T12:20:13.5+01:00` (RFC 3339 §5.6); without a zone it is UTC, as XML Schema leaves it open.
pub fn parse(text: &str) -> Option<u64> {
    let bytes = text.trim().as_bytes();
    let (date, rest) = bytes.split_at_checked(10)?;
    let (clock, rest) = rest.split_at_checked(9)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else {
        return None;
    };
    let [b'T' | b't' | b' ', h1, h2, b':', n1, n2, b':', s1, s2] = clock else {
        return None;
    };
    let days = days_since_epoch(
        number(&[*y1, *y2, *y3, *y4])?,
        number(&[*m1, *m2])?,
        number(&[*d1, *d2])?,
    )?;
    let (hour, minute, second) = (
        number(&[*h1, *h2])?,
        number(&[*n1, *n2])?,
        number(&[*s1, *s2])?,
    );
    // RFC 3339 §5.7: 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (milliseconds, zone) = fraction(rest)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_seconds(zone)?;
    let unix_ms = u64::try_from(seconds * 1_000 + milliseconds).ok()?;
    (unix_ms < YEAR_10000_MS).then_some(unix_ms)
}

/// Writes a moment in UTC, with milliseconds where it has any.
pub fn write(unix_ms: u64) -> String {
    let (days, of_day_ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    let (year, month, day) = civil(i64::try_from(days).unwrap_or(0));
    let (seconds, ms) = (of_day_ms / 1_000, of_day_ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let whole = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match ms {
        0 => whole + "Z",
        _ => format!("{whole}.{ms:03}Z"),
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        Some(number * 10 + i64::from(digit))
    })
}

/// Milliseconds of a fraction of any length, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let count = digits.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, zone) = digits.split_at_checked(count)?;
    let mut padded = [b'0'; 3];
    for (to, from) in padded.iter_mut().zip(digits) {
        *to = *from;
    }
    (count > 0).then_some((number(&padded)?, zone))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let (sign, h1, h2, m1, m2) = match zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', h1, h2, b':', m1, m2] => (1, h1, h2, m1, m2),
        [b'-', h1, h2, b':', m1, m2] => (-1, h1, h2, m1, m2),
        _ => return None,
    };
    let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    let from_march = (month + 9) % 12;
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(era * 146_097 + days - DAYS_TO_EPOCH)
}

/// Year, month and day of a day since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.250Z", 951_868_799_250),
            ("2026-11-22T12:20:13+01:00", 1_795_346_413_000),
            ("2026-11-22t11:20:13.5z", 1_795_346_413_500),
            ("2026-11-22T06:50:13.0009-04:30", 1_795_346_413_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            (" 2026-11-22T11:20:13 ", 1_795_346_413_000),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn nonsense_is_none() {
        for text in [
            "",
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+01:00x",
            "1969-12-31T23:59:59Z",
            "2026-01-0äT00:00:00Z",
            "+026-01-01T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut ms = 0_u64;
        while ms < YEAR_10000_MS {
            assert_eq!(parse(&write(ms)), Some(ms), "{}", write(ms));
            ms += 987_654_321_987;
        }
        assert_eq!(write(1_795_346_413_000), "2026-11-22T11:20:13Z");
        assert_eq!(write(1_795_346_413_007), "2026-11-22T11:20:13.007Z");
    }
}
