//! What is published: to whom, the how-manieth, and when, in 33 bytes that are found by one look for a `~`.

use memchr::memchr;
use rustix::time::{ClockId, clock_gettime};

/// Begins a stamp; no head, id or framing of any party has it.
const MARK: u8 = b'~';
/// After the mark, in hexadecimal: recipient (8), number (8), time (16).
pub const DIGITS: usize = 32;
/// Bytes of an event.
pub const SIZE: usize = 100;
/// The recipient of what everybody gets.
pub const ALL: u32 = u32::MAX;

/// One event, as it stands in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub to: u32,
    /// Counted from 0 for each recipient, and for everybody.
    pub number: u32,
    /// Nanoseconds of the machine's monotonic clock.
    pub at: u64,
}

/// Nanoseconds of the machine's monotonic clock, the same in all processes.
#[must_use]
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

impl Stamp {
    /// Appends the payload of [`SIZE`] bytes.
    pub fn append(&self, payload: &mut Vec<u8>) {
        let end = payload.len() + SIZE;
        payload.push(MARK);
        let (to, number) = (u64::from(self.to), u64::from(self.number));
        for (value, digits) in [(to, 8), (number, 8), (self.at, 16)] {
            for digit in (0..digits).rev() {
                let nibble = usize::try_from(value >> (4 * digit) & 15).unwrap_or_default();
                payload.push(b"0123456789abcdef"[nibble]);
            }
        }
        payload.resize(end, b'.');
    }

    fn parse(digits: &[u8]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| {
            digits.get(range)?.iter().try_fold(0_u64, |value, digit| {
                let nibble = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                Some(value << 4 | u64::from(nibble))
            })
        };
        let small = |range| u32::try_from(number(range)?).ok();
        Some(Self { to: small(0..8)?, number: small(8..16)?, at: number(16..32)? })
    }
}

/// Finds stamps in what a socket gives, wherever it is cut.
#[derive(Default)]
pub struct Scan {
    /// The digits of a stamp that is not complete.
    begun: Option<Vec<u8>>,
}

impl Scan {
    /// Calls `found` for each stamp that is complete now.
    pub fn take(&mut self, mut bytes: &[u8], mut found: impl FnMut(Stamp)) {
        if let Some(mut digits) = self.begun.take() {
            let (more, rest) = bytes.split_at(bytes.len().min(DIGITS - digits.len()));
            digits.extend_from_slice(more);
            bytes = rest;
            if digits.len() < DIGITS {
                self.begun = Some(digits);
                return;
            }
            Stamp::parse(&digits).into_iter().for_each(&mut found);
        }
        while let Some(at) = memchr(MARK, bytes) {
            let rest = &bytes[at + 1..];
            let Some((digits, rest)) = rest.split_at_checked(DIGITS) else {
                self.begun = Some(rest.to_vec());
                return;
            };
            Stamp::parse(digits).into_iter().for_each(&mut found);
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_found_wherever_the_bytes_are_cut() {
        let stamps = [Stamp { to: 7, number: 0, at: now() }, Stamp { to: ALL, number: 0xfeed, at: u64::MAX }];
        let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n:connected\n\ndata: ".to_vec();
        for stamp in stamps {
            stamp.append(&mut bytes);
            bytes.extend_from_slice(b"\n\n");
        }
        for cut in 0..bytes.len() {
            let (mut scan, mut found) = (Scan::default(), Vec::new());
            scan.take(&bytes[..cut], |stamp| found.push(stamp));
            scan.take(&bytes[cut..], |stamp| found.push(stamp));
            assert_eq!(found, stamps, "cut at {cut}");
        }
    }

    #[test]
    fn a_payload_has_its_size() {
        let mut payload = Vec::new();
        Stamp { to: 1, number: 2, at: 3 }.append(&mut payload);
        assert_eq!(payload.len(), SIZE);
    }
}
