//! Deterministic mutations of seeds, by octets and by what SIP is made of.
//!
//! *Invariant*: the same seed number gives the same inputs on every machine.

/// SplitMix64: small, fast, and good enough to choose mutations.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            usize::try_from(self.next() % bound as u64).unwrap_or(0)
        }
    }
}

/// What separates and what surprises.
const PIECES: [&[u8]; 64] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n ",
    b"\r\n\t",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"=",
    b"<",
    b">",
    b"\"",
    b"\\",
    b"\\\"",
    b"@",
    b"?",
    b"&",
    b"/",
    b"%",
    b"%00",
    b"%4",
    b"%25",
    b"[",
    b"]",
    b":::",
    b"*",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xc3\xa9",
    b"sip:",
    b"sips:",
    b"tel:",
    b"SIP/2.0",
    b"SIP/2.0 200 OK\r\n",
    b"l: 0\r\n",
    b"Content-Length: ",
    b"Content-Length: 5\r\n",
    b"l:\r\n 3\r\n",
    b"Via: SIP/2.0/UDP h;rport;received\r\n",
    b"v: ",
    b"Route: <sip:a;lr>,",
    b"<sip:a@b;lr>, ",
    b";rport",
    b";rport=",
    b";received=",
    b";tag=",
    b";lr",
    b";q=0.1",
    b";expires=",
    b"INVITE ",
    b"ACK ",
    b"CSeq: 1 INVITE\r\n",
    b"-1",
    b"0",
    b"255",
    b"65536",
    b"2147483648",
    b"4294967296",
    b"18446744073709551616",
];

/// What separates and what surprises in CPIM and XML.
const BODY_PIECES: [&[u8]; 28] = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\r\n ",
    b" ",
    b":",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"\0",
    b"\xff",
    b"NS: x <urn:y>\r\n",
    b"NS: <urn:z>\r\n",
    b"Require: x.A,B\r\n",
    b"imdn.Message-ID: ",
    b"\\u0000",
    b"\\ud83d",
    b";lang=\"",
    b"xmlns=\"urn:ietf:params:xml:ns:imdn\"",
    b"<state>active</state>",
    b"</",
    b"/>",
    b"<a>",
    b"<!DOCTYPE a [<!ENTITY b \"c\">]>",
    b"&b;",
    b"&#0;",
    b"<![CDATA[",
];

/// What is put into the inputs of a target.
pub(crate) fn pieces(target: &str) -> &'static [&'static [u8]] {
    match target {
        "cpim" | "imdn" | "iscomposing" => &BODY_PIECES,
        _ => &PIECES,
    }
}

/// A mutant of one of the seeds: one to eight changes.
pub(crate) fn mutant(random: &mut Random, seeds: &[Vec<u8>], pieces: &[&[u8]]) -> Vec<u8> {
    let mut octets = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        let other = &seeds[random.below(seeds.len())];
        mutate(random, &mut octets, other, pieces);
    }
    octets
}

fn mutate(random: &mut Random, octets: &mut Vec<u8>, other: &[u8], pieces: &[&[u8]]) {
    let at = random.below(octets.len() + 1);
    match random.below(10) {
        0 => flip(random, octets),
        1 => drop(octets.splice(at..at, pieces[random.below(pieces.len())].iter().copied())),
        2 => {
            let piece = pieces[random.below(pieces.len())];
            let end = (at + piece.len()).min(octets.len());
            drop(octets.splice(at..end, piece.iter().copied()));
        }
        3 => drop(octets.drain(at..(at + random.below(20)).min(octets.len()))),
        4 => {
            let copy = octets[at..(at + random.below(60)).min(octets.len())].to_vec();
            let place = random.below(octets.len() + 1);
            drop(octets.splice(place..place, copy));
        }
        5 => octets.truncate(at),
        6 => splice_lines(random, octets, other),
        7 => drop(octets.splice(at..at, random.below(100_000).to_string().into_bytes())),
        8 => {
            let from = random.below(other.len());
            octets.truncate(at);
            octets.extend_from_slice(&other[from.min(other.len())..]);
        }
        _ => remove_line(random, octets),
    }
    octets.truncate(8_192);
}

fn flip(random: &mut Random, octets: &mut [u8]) {
    let at = random.below(octets.len());
    if let Some(octet) = octets.get_mut(at) {
        *octet = match random.below(3) {
            0 => *octet ^ (1 << random.below(8)),
            1 => *octet ^ 0x20,
            _ => (random.next() & 255) as u8,
        };
    }
}

fn lines(octets: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let ends = octets
        .iter()
        .enumerate()
        .filter(|(_, octet)| **octet == b'\n')
        .map(|(at, _)| at + 1);
    ends.map(|end| std::mem::replace(&mut start, end)..end)
        .collect()
}

/// A line of another message at the place of one of ours.
fn splice_lines(random: &mut Random, octets: &mut Vec<u8>, other: &[u8]) {
    let (ours, theirs) = (lines(octets), lines(other));
    if ours.is_empty() || theirs.is_empty() {
        return;
    }
    let place = ours[random.below(ours.len())].start;
    let line = theirs[random.below(theirs.len())].clone();
    drop(octets.splice(place..place, other[line].iter().copied()));
}

fn remove_line(random: &mut Random, octets: &mut Vec<u8>) {
    let ours = lines(octets);
    if !ours.is_empty() {
        drop(octets.drain(ours[random.below(ours.len())].clone()));
    }
}
