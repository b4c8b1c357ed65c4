//! Connections that have no stream: who comes has so long for a request, and who had an answer may wait so
//! long for the next. There is room for a number of them; beyond it the one goes whose time is over first,
//! so that strangers who only hold sockets keep nobody out. Whoever is being answered, or has a stream, waits
//! for nothing and is not counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::Version;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::seldom::Seldom;

/// How often it is looked whose time is over.
pub const LOOK: Duration = Duration::from_millis(250);

/// How long a connection may have no stream.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From its first byte, or its beginning, to the end of a request's head.
    pub head: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
}

/// Who waits, by the end of its time.
pub struct Lobby {
    patience: Patience,
    most: Box<dyn Fn() -> usize + Send + Sync>,
    waiting: Mutex<Waiting>,
    told: Seldom,
}

#[derive(Default)]
struct Waiting {
    ends: BTreeMap<Place, CancellationToken>,
    next: u64,
}

/// When the time of a connection is over; and a number, since several may come at once.
type Place = (Instant, u64);

impl Lobby {
    /// One with room for `most` connections, as many as that are at the time.
    #[must_use]
    pub fn new(patience: Patience, most: impl Fn() -> usize + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { patience, most: Box::new(most), waiting: Mutex::default(), told: Seldom::default() })
    }

    /// Lets a connection in, of which nothing is known yet.
    pub fn enter(self: &Arc<Self>) -> Arc<Visit> {
        let cut = CancellationToken::new();
        let place = Some(self.wait(self.patience.head, &cut));
        let state = State { place, busy: 0, silent: false };
        Arc::new(Visit { lobby: self.clone(), cut, state: Mutex::new(state) })
    }

    /// Cuts so many of those that wait, when the system has no room left.
    pub fn make_room(&self, count: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (0..count).filter_map(|_| waiting.ends.pop_first()).for_each(|(_, cut)| cut.cancel());
    }

    /// Cuts those whose time is over.
    pub fn look(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some(first) = waiting.ends.first_entry()
            && first.key().0 <= now
        {
            first.remove().cancel();
        }
    }

    fn wait(&self, patience: Duration, cut: &CancellationToken) -> Place {
        let most = (self.most)();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.ends.len() >= most
            && let Some((_, first)) = waiting.ends.pop_first()
        {
            first.cancel();
            if let Some(others) = self.told.turn() {
                warn!(
                    most,
                    others, "Too many connections have no stream; the one that waited longest is cut."
                );
            }
        }
        waiting.next += 1;
        let place = (Instant::now() + patience, waiting.next);
        waiting.ends.insert(place, cut.clone());
        place
    }

    fn leave(&self, place: Option<Place>) {
        let Some(place) = place else { return };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).ends.remove(&place);
    }
}

/// A connection, from its beginning to its end.
pub struct Visit {
    lobby: Arc<Lobby>,
    /// Ends it.
    pub cut: CancellationToken,
    state: Mutex<State>,
}

struct State {
    /// While it waits.
    place: Option<Place>,
    /// Requests that are being answered, and streams.
    busy: usize,
    /// Whether the next byte begins a request: between two of HTTP/1.
    silent: bool,
}

impl Visit {
    /// Notes that bytes came: the head that they begin has less time than a silent connection.
    pub fn heard(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.silent) && state.place.is_some() {
            self.lobby.leave(state.place.take());
            state.place = Some(self.lobby.wait(self.lobby.patience.head, &self.cut));
        }
    }

    /// Whether a request is being answered, or there is a stream.
    pub fn is_busy(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).busy > 0
    }

    /// Notes that it is over as far as the lobby is concerned: it will not wait again.
    pub fn leave(&self) {
        self.cut.cancel();
    }

    /// Notes that a request came, or a stream begins; what is returned is held while it lasts.
    #[must_use]
    pub fn begin(self: &Arc<Self>, version: Version) -> Busy {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.busy += 1;
        state.silent = false;
        self.lobby.leave(state.place.take());
        Busy { visit: self.clone(), http1: version < Version::HTTP_2 }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let place = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).place.take();
        self.lobby.leave(place);
    }
}

/// A request that is being answered, or a stream.
pub struct Busy {
    visit: Arc<Visit>,
    http1: bool,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Visit { lobby, cut, state } = &*self.visit;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.busy -= 1;
        if state.busy == 0 && !cut.is_cancelled() {
            state.silent = self.http1;
            state.place = Some(lobby.wait(lobby.patience.idle, cut));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_mins(2);

    fn lobby(most: usize) -> Arc<Lobby> {
        Lobby::new(Patience { head: HEAD, idle: IDLE }, move || most)
    }

    async fn after(lobby: &Lobby, time: Duration) {
        tokio::time::advance(time).await;
        lobby.look();
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_and_a_silent_connection_more() {
        let lobby = lobby(10);
        let (slow, quiet) = (lobby.enter(), lobby.enter());
        drop(quiet.begin(Version::HTTP_11));
        after(&lobby, HEAD).await;
        assert!(slow.cut.is_cancelled() && !quiet.cut.is_cancelled());
        after(&lobby, HEAD).await;
        quiet.heard();
        after(&lobby, HEAD / 2).await;
        // Byte by byte is not faster.
        quiet.heard();
        assert!(!quiet.cut.is_cancelled());
        after(&lobby, HEAD / 2).await;
        assert!(quiet.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_between_two_requests_of_http2_begins_no_head() {
        let lobby = lobby(10);
        let visit = lobby.enter();
        drop(visit.begin(Version::HTTP_2));
        visit.heard();
        after(&lobby, IDLE.saturating_sub(HEAD)).await;
        visit.heard();
        assert!(!visit.cut.is_cancelled());
        after(&lobby, HEAD).await;
        assert!(visit.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_has_no_deadline_and_no_place() {
        let lobby = lobby(1);
        let visit = lobby.enter();
        let (request, stream) = (visit.begin(Version::HTTP_2), visit.begin(Version::HTTP_2));
        drop(request);
        after(&lobby, 10 * IDLE).await;
        let other = lobby.enter();
        assert!(!visit.cut.is_cancelled() && !other.cut.is_cancelled());
        drop(stream);
        assert!(other.cut.is_cancelled(), "there is room for one");
        after(&lobby, IDLE).await;
        assert!(visit.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_most_the_one_goes_whose_time_is_over_first() {
        let lobby = lobby(3);
        let known = lobby.enter();
        drop(known.begin(Version::HTTP_11));
        let mut strangers = Vec::new();
        for _ in 0..10 {
            strangers.push(lobby.enter());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let cut: Vec<bool> = strangers.iter().map(|visit| visit.cut.is_cancelled()).collect();
        assert_eq!(cut, [[true; 8].as_slice(), &[false; 2]].concat());
        assert!(!known.cut.is_cancelled());
        drop((strangers, known));
        assert!(lobby.waiting.lock().expect("no panic").ends.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_made_of_those_that_wait_alone() {
        let lobby = lobby(10);
        let (waiting, busy) = (lobby.enter(), lobby.enter());
        let _request = busy.begin(Version::HTTP_11);
        lobby.make_room(5);
        assert!(waiting.cut.is_cancelled() && !busy.cut.is_cancelled());
    }
}
