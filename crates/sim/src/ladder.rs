//! What was sent, drawn as RFC 3665 draws it: one column for each machine, one arrow for each datagram.
//!
//! *Invariant*: nothing in a ladder depends on tags, branches or nonces, so that it can be compared as text.

use std::fmt::Write;
use std::net::SocketAddr;

/// Between two columns.
const WIDTH: usize = 30;

/// Somebody in the picture.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    address: SocketAddr,
}

/// A ladder, growing.
#[derive(Debug, Clone, Default)]
pub struct Ladder {
    columns: Vec<Column>,
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
enum Line {
    Arrow {
        at_us: u64,
        from: SocketAddr,
        to: SocketAddr,
        what: String,
        lost: bool,
    },
    Remark {
        at_us: u64,
        text: String,
    },
}

impl Ladder {
    /// Adds a machine at the right.
    pub fn column(&mut self, name: &str, address: SocketAddr) {
        let name = name.to_owned();
        self.columns.push(Column { name, address });
    }

    /// A datagram left.
    pub fn arrow(&mut self, at_us: u64, hop: (SocketAddr, SocketAddr), octets: &[u8], lost: bool) {
        self.lines.push(Line::Arrow {
            at_us,
            from: hop.0,
            to: hop.1,
            what: title(octets),
            lost,
        });
    }

    /// Something happened that is no datagram.
    pub fn remark(&mut self, at_us: u64, text: impl Into<String>) {
        let text = text.into();
        self.lines.push(Line::Remark { at_us, text });
    }

    /// Forgets what was before.
    pub fn clear(&mut self) {
        self.lines.clear();
    }

    /// How many datagrams with this title went from one to another.
    #[must_use]
    pub fn count(&self, sender: SocketAddr, receiver: SocketAddr, title: &str) -> usize {
        let same = |line: &&Line| {
            matches!(line, Line::Arrow { from, to, what, .. }
                if *from == sender && *to == receiver && what == title)
        };
        self.lines.iter().filter(same).count()
    }

    /// The picture.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = " ".repeat(10);
        for column in &self.columns {
            let _ = write!(out, "{:<WIDTH$}", column.name); // Writing to a String cannot fail.
        }
        let mut out = out.trim_end().to_owned();
        out.push('\n');
        for line in &self.lines {
            out.push_str(self.line(line).trim_end());
            out.push('\n');
        }
        out
    }

    fn line(&self, line: &Line) -> String {
        match line {
            Line::Remark { at_us, text } => format!("{}  -- {text} --", clock(*at_us)),
            Line::Arrow {
                at_us,
                from,
                to,
                what,
                lost,
            } => {
                let place = |address: &SocketAddr| {
                    self.columns
                        .iter()
                        .position(|column| column.address == *address)
                };
                match (place(from), place(to)) {
                    (Some(from), Some(to)) if from != to => {
                        format!("{}  {}", clock(*at_us), self.drawn(from, to, what, *lost))
                    }
                    _ => format!("{}  {from} -> {to}: {what}", clock(*at_us)),
                }
            }
        }
    }

    /// One arrow among the life lines.
    fn drawn(&self, from: usize, to: usize, what: &str, lost: bool) -> String {
        let (left, right) = (from.min(to), from.max(to));
        let room = (right - left) * WIDTH - 1;
        let inner = room.saturating_sub(2);
        let title: String = what.chars().take(inner.saturating_sub(2)).collect();
        let dashes = format!("{:-^inner$}", format!(" {title} "));
        let arrow = match (from < to, lost) {
            (true, false) => format!("-{dashes}>"),
            (false, false) => format!("<{dashes}-"),
            (true, true) => format!("-{dashes}X"),
            (false, true) => format!("X{dashes}-"),
        };
        let mut out = String::new();
        for place in 0..self.columns.len() {
            out.push('|');
            match place {
                _ if place == left => out.push_str(&arrow),
                _ if place > left && place < right => {
                    out.pop();
                }
                _ => out.push_str(&" ".repeat(WIDTH - 1)),
            }
        }
        out
    }
}

fn clock(at_us: u64) -> String {
    format!("{:>4}.{:03}", at_us / 1_000_000, at_us / 1_000 % 1_000)
}

/// Method, or status with its reason and what it answers.
fn title(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("SIP/2.0 ") {
        None => {
            let method = first.split(' ').next().unwrap_or_default();
            // What a MESSAGE carries makes the difference between two of them.
            match text
                .lines()
                .find_map(carried)
                .filter(|_| method == "MESSAGE")
            {
                Some(what) => format!("{method} ({what})"),
                None => method.to_owned(),
            }
        }
        Some(status) => {
            let cseq = text.lines().find_map(|line| line.strip_prefix("CSeq: "));
            let method = cseq
                .and_then(|value| value.split(' ').nth(1))
                .unwrap_or_default();
            let status: String = status.chars().take(14).collect();
            format!("{} ({method})", status.trim_end())
        }
    }
}

/// What a line says of what is carried, where that is more than a text; in CPIM, what is wrapped comes later.
fn carried(line: &str) -> Option<&str> {
    match line.strip_prefix("Content-Type: ")? {
        "message/cpim" => Some("cpim"),
        "message/imdn+xml" => Some("imdn"),
        "application/im-iscomposing+xml" => Some("composing"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_run_between_life_lines() {
        let address = |last: u8| SocketAddr::from(([192, 0, 2, last], 5060));
        let mut ladder = Ladder::default();
        for (name, last) in [("a", 1), ("b", 2), ("c", 3)] {
            ladder.column(name, address(last));
        }
        ladder.arrow(
            1_500,
            (address(1), address(2)),
            b"OPTIONS sip:b SIP/2.0",
            false,
        );
        let answer = b"SIP/2.0 200 OK\r\nCSeq: 1 BYE\r\n";
        ladder.arrow(1_000_000, (address(3), address(1)), answer, true);
        ladder.remark(2_000_000, "end");
        let expected = "          a                       b                       c\n   \
            0.001  |------- OPTIONS ------->|                       |\n   \
            1.000  |X--------------- 200 OK (BYE) -----------------|\n   \
            2.000  -- end --\n";
        assert_eq!(ladder.text().lines().count(), expected.lines().count());
        for (drawn, wanted) in ladder.text().lines().zip(expected.lines()) {
            assert_eq!(
                drawn.split_whitespace().next(),
                wanted.split_whitespace().next()
            );
            assert_eq!(drawn.contains('X'), wanted.contains('X'));
            if drawn.contains('|') {
                assert_eq!(drawn.chars().nth(10), Some('|'));
                assert_eq!(drawn.chars().nth(10 + 2 * WIDTH), Some('|'));
            }
        }
        assert_eq!(ladder.count(address(1), address(2), "OPTIONS"), 1);
    }
}
