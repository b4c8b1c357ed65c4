use std::time::Duration;

use super::*;

fn identity(user: &str) -> Identity {
    let token = |text| Token::encode(text).expect("a short id");
    Identity {
        tenant: token("t"),
        user: token(user),
        topics: Vec::new(),
        publish: Vec::new(),
        tags: std::collections::BTreeMap::new(),
        expires: 0,
    }
}

#[test]
fn of_many_racers_as_many_win_as_there_are_slots() {
    let limits = Limits::new(10, 15);
    let race = |user: &'static str| {
        let limits = limits.clone();
        std::thread::spawn(move || limits.take(&identity(user)))
    };
    let racers: Vec<_> = (0..40).map(|_| race("a")).collect();
    let slots: Vec<_> = racers.into_iter().filter_map(|racer| racer.join().expect("no panic").ok()).collect();
    assert_eq!((slots.len(), limits.total()), (10, 10));
    assert_eq!(limits.take(&identity("a")).err(), Some(Full::User));
    let others: Vec<_> = (0..5).map(|_| limits.take(&identity("b"))).collect();
    assert!(others.iter().all(Result::is_ok));
    assert_eq!(limits.take(&identity("c")).err(), Some(Full::Pod));
    drop((slots, others));
    assert_eq!(limits.total(), 0);
    assert!(limits.counts.lock().expect("no panic").users.is_empty());
}

fn user(id: &str) -> User {
    (Token::encode("t").expect("a short id"), Token::encode(id).expect("a short id"))
}

/// What one pod has to tell, told to the other.
fn tell(from: &Limits, name: &str, to: &Limits) -> usize {
    let news = from.news(usize::MAX);
    let count = news.len();
    to.hear(name, news, Instant::now());
    count
}

#[test]
fn a_user_with_streams_at_two_pods_has_one_more_than_the_limit_at_most() {
    let (one, two) = (Limits::new(10, 100), Limits::new(10, 100));
    let take = |limits: &Arc<Limits>| limits.take(&identity("a"));
    let at_one: Vec<Slot> = (0..6).map(|_| take(&one).expect("room")).collect();
    assert_eq!(tell(&one, "one", &two), 1);
    let at_two: Vec<Slot> = std::iter::from_fn(|| take(&two).ok()).collect();
    assert_eq!(at_two.len(), 5);
    assert_eq!(tell(&two, "two", &one), 1);
    assert_eq!(take(&one).err(), Some(Full::Elsewhere));
    // Another is not concerned.
    assert!(two.take(&identity("b")).is_ok());
    drop(at_one);
    assert_eq!(tell(&one, "one", &two), 1);
    let more: Vec<Slot> = std::iter::from_fn(|| take(&two).ok()).collect();
    assert_eq!(more.len(), 5);
}

#[test]
fn of_a_single_stream_a_pod_tells_when_another_has_several_and_then_once() {
    let (one, two) = (Limits::new(10, 100), Limits::new(10, 100));
    let single = one.take(&identity("a")).expect("room");
    assert_eq!(tell(&one, "one", &two), 0);
    let _several = [two.take(&identity("a")), two.take(&identity("a"))];
    assert_eq!(tell(&two, "two", &one), 1);
    assert_eq!(tell(&one, "one", &two), 1);
    assert_eq!(two.counts().elsewhere.streams(&user("a")), 1);
    assert_eq!((tell(&two, "two", &one), tell(&one, "one", &two)), (0, 0), "they have told each other");
    drop(single);
    assert_eq!(tell(&one, "one", &two), 1);
    assert_eq!(two.counts().elsewhere.streams(&user("a")), 0);

    // A limit that a single stream comes near to.
    let low = Limits::new(1, 100);
    let _single = low.take(&identity("a"));
    assert_eq!(tell(&low, "low", &one), 1);
}

#[test]
fn what_a_pod_told_is_forgotten_with_it_or_when_it_is_old() {
    let (limits, now) = (Limits::new(10, 100), Instant::now());
    let hear = |pod: &str| limits.hear(pod, [(user("a"), 9)], now);
    let streams = || limits.counts().elsewhere.streams(&user("a"));
    hear("one");
    hear("one");
    hear("two");
    assert_eq!(streams(), 18);
    limits.forget(|pod| pod == "one", now);
    assert_eq!(streams(), 9);
    limits.forget(|_| false, now + Duration::from_secs(89));
    assert_eq!(streams(), 9);
    limits.forget(|_| false, now + Duration::from_secs(90));
    assert_eq!(streams(), 0);
    // One that joined late is told of all.
    let _several = [limits.take(&identity("a")), limits.take(&identity("a")), limits.take(&identity("b"))];
    assert_eq!(limits.news(usize::MAX).len(), 1);
    limits.tell_again();
    assert_eq!(limits.news(usize::MAX), [(user("a"), 2)]);
}
