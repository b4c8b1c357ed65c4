//! A client's search for its events, along the pages of the log.

use std::mem;
use std::sync::Arc;

use super::page::Page;
use crate::event::{Delivery, Entry};
use crate::postings::Key;

/// Bytes of events with which a client goes and writes them. A client that stopped at each page would write,
/// and be woken, for each single event when thousands come back together.
const ENOUGH: usize = 16 * 1024;
/// What an event takes beside its frame, in bytes.
const OVERHEAD: usize = 128;

/// Who searches.
pub trait Listens: Send + Sync {
    /// Subjects on which its events come, and others'; `<prefix>.<tenant>.topic` for all topics.
    fn subjects(&self) -> &[Key];

    /// The event, if it is for this client.
    fn delivery(&self, entry: &Arc<Entry>) -> Option<Arc<Delivery>>;
}

/// What a search has found.
#[derive(Debug)]
pub struct Found {
    /// Oldest first.
    pub events: Vec<Arc<Delivery>>,
    /// There are no others for this client up to here.
    pub upto: u64,
    /// Instead of events: the log has nothing up to there any more.
    pub trimmed: bool,
}

pub(super) struct Search {
    listener: Arc<dyn Listens>,
    after: u64,
    /// Sequence of the first message that was not looked at.
    next: u64,
    /// Where it ends. What comes later is the hub's to hand out, by what the client listens to then.
    upto: u64,
    events: Vec<Arc<Delivery>>,
    bytes: usize,
}

impl Search {
    pub const fn new(listener: Arc<dyn Listens>, after: u64, upto: u64) -> Self {
        Self { listener, after, next: after + 1, upto, events: Vec::new(), bytes: 0 }
    }

    /// Whether it is this listener's, who has everything up to there.
    pub fn is(&self, listener: &Arc<dyn Listens>, after: u64) -> bool {
        self.after == after && Arc::ptr_eq(&self.listener, listener)
    }

    /// Where it ends.
    pub const fn upto(&self) -> u64 {
        self.upto
    }

    /// Where it goes on; `None` when its client has enough to do.
    pub const fn goes_on(&self) -> Option<u64> {
        if self.bytes < ENOUGH && self.next <= self.upto { Some(self.next) } else { None }
    }

    /// Whether there is something to tell the client.
    pub const fn has_come_on(&self) -> bool {
        self.next > self.after + 1
    }

    /// Memory of what was found, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks through a page that has the next message.
    pub fn look(&mut self, page: &Page) {
        let upto = page.upto.min(self.upto);
        for entry in page.on(self.listener.subjects(), self.next - 1) {
            let sequence = entry.message.sequence;
            if sequence > upto {
                break;
            }
            if self.bytes >= ENOUGH {
                self.next = sequence;
                return;
            }
            if let Some(delivery) = self.listener.delivery(entry) {
                self.bytes += OVERHEAD + delivery.frame.as_bytes().len();
                self.events.push(delivery);
            }
        }
        self.next = upto + 1;
    }

    /// Hands over what came of it so far, in a log that begins at `first`; it goes on from there.
    pub fn hand_over(&mut self, first: u64) -> Found {
        let trimmed = !self.has_come_on() && self.next < first;
        if trimmed {
            self.next = first;
        }
        self.after = self.next - 1;
        self.bytes = 0;
        Found { events: mem::take(&mut self.events), upto: self.after, trimmed }
    }

    /// Lets go of what was not handed over, and is where it was before that.
    pub fn go_back(&mut self) {
        self.events = Vec::new();
        self.bytes = 0;
        self.next = self.after + 1;
    }

    /// Whether there is nothing more to hand over.
    pub const fn is_over(&self) -> bool {
        self.after >= self.upto
    }
}
