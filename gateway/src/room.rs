//! How many sockets fit under the open-file limit, and what they are for: streams, and connections that have
//! none yet. Whoever comes has a socket before it has a stream, also when it is to be told that there is no room.

use tracing::warn;

/// Files that are no clients: listeners, NATS, secrets, the admin port.
const SPARE: u64 = 200;
/// Connections without a stream may be as many as streams, or so many where those are few.
const WAITING: u32 = 1000;

/// Sockets, and streams among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    sockets: u32,
    /// Streams, at most.
    pub streams: u32,
    /// Connections without a stream, whatever room there is.
    waiting: u32,
}

impl Room {
    /// Raises the open-file limit to the hard one, for as many streams as are `wanted`.
    #[must_use]
    pub fn make(wanted: u32) -> Self {
        let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
        let room = Self::under(limit, wanted);
        if room.streams < wanted {
            let fit = room.streams;
            warn!(
                limit,
                wanted, fit, "The open-file limit is too small for limits.maxConnectionsPerPod; lowered it."
            );
        }
        room
    }

    fn under(limit: u64, wanted: u32) -> Self {
        let sockets = u32::try_from(limit.saturating_sub(SPARE)).unwrap_or(u32::MAX).max(10);
        let streams = wanted.min(sockets - sockets / 5);
        Self { sockets, streams, waiting: wanted.max(WAITING) }
    }

    /// How many connections without a stream there may be beside so many streams.
    #[must_use]
    pub fn beside(&self, streams: u32) -> usize {
        // Streams of HTTP/2 share their sockets: there is more room than this says.
        let free = self.sockets.saturating_sub(streams).max(self.sockets - self.streams);
        usize::try_from(free.min(self.waiting)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_those_that_wait_for_one_fit_under_the_limit() {
        let room = Room::under(1_048_576, 15_000);
        assert_eq!((room.streams, room.beside(0), room.beside(15_000)), (15_000, 15_000, 15_000));
        let room = Room::under(20_200, 15_000);
        assert_eq!((room.streams, room.beside(0), room.beside(15_000)), (15_000, 15_000, 5000));
        let room = Room::under(1024, 15_000);
        assert_eq!((room.streams, room.beside(0), room.beside(660)), (660, 824, 164));
        assert_eq!(room.beside(u32::MAX), 164, "a client can always come to be refused");
        let room = Room::under(1_048_576, 10);
        assert_eq!((room.streams, room.beside(10)), (10, 1000));
        assert_eq!(Room::under(0, 10), Room { sockets: 10, streams: 8, waiting: 1000 });
    }
}
