//! When a pod lets go, and what becomes of many pods that do.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn word(pod: &str, streams: impl Into<Option<u32>>) -> Word {
    Word { pod: pod.into(), streams: streams.into() }
}

/// A fleet that has heard these pods, the first of which is its own, and has settled.
fn settled(streams: &[u32], now: Instant) -> (Fleet, Instant) {
    let mut fleet = Fleet::new("0".into(), now);
    let settled = now + SETTLE;
    for at in [now, settled] {
        for (pod, streams) in streams.iter().enumerate() {
            fleet.hear(word(&pod.to_string(), *streams), at);
        }
    }
    (fleet, settled)
}

fn verdict(streams: &[u32]) -> Verdict {
    let (mut fleet, now) = settled(streams, Instant::now());
    fleet.look(streams[0], now)
}

fn count(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::LetGo(LetGo { count, .. }) => count,
        Verdict::Fair | Verdict::Rest => 0,
    }
}

#[test]
fn a_hot_pod_lets_three_in_a_hundred_go_and_never_more_than_a_hundred() {
    assert_eq!(verdict(&[300, 0, 0]), Verdict::LetGo(LetGo { count: 9, mean: 100, pods: 3 }));
    assert_eq!(count(verdict(&[20, 0])), 1);
    assert_eq!(count(verdict(&[15_000, 0])), 100);
    assert_eq!(count(verdict(&[u32::MAX, 0])), 100);
}

#[test]
fn nobody_goes_below_the_mean_and_who_is_about_even_keeps_its_streams() {
    assert_eq!(count(verdict(&[1010, 1000, 800, 1000])), 30);
    assert_eq!(count(verdict(&[1003, 1200, 800, 1000])), 2);
    for fair in [&[0, 900][..], &[950, 950, 2000, 0], &[1000, 851], &[10, 0], &[1000], &[1000, 1000, 1000]] {
        assert_eq!(verdict(fair), Verdict::Fair, "{fair:?}");
    }
}

#[test]
fn nothing_is_let_go_of_while_a_pod_is_late_comes_or_goes() {
    let (mut fleet, mut now) = settled(&[300, 0, 0], Instant::now());
    let mut next = |fleet: &mut Fleet, speak: &[&str]| {
        now += TELL;
        for pod in speak {
            fleet.hear(word(pod, if *pod == "0" { 300 } else { 0 }), now);
        }
        count(fleet.look(300, now)) > 0
    };
    assert!(next(&mut fleet, &["0", "1"]), "one word may be missing");
    assert!(!next(&mut fleet, &["0", "1"]), "2 is late");
    assert!(next(&mut fleet, &["0", "1", "2"]));
    // 2 has ended without a word: it is late, then forgotten, then the others settle.
    let without: Vec<bool> = (0..7).map(|_| next(&mut fleet, &["0", "1"])).collect();
    assert_eq!(without, [true, false, false, false, false, false, true]);
    // Without NATS a pod does not even hear itself.
    let silent: Vec<bool> = (0..4).map(|_| next(&mut fleet, &[])).collect();
    assert_eq!(silent, [true, false, false, false]);
}

#[test]
fn a_pod_that_says_that_it_goes_counts_no_more() {
    let (mut fleet, now) = settled(&[300, 0, 310], Instant::now());
    assert_eq!(count(fleet.look(300, now)), 9);
    fleet.hear(word("1", None), now);
    for pod in ["0", "2"] {
        fleet.hear(word(pod, 305), now + SETTLE);
    }
    assert_eq!(fleet.look(300, now + SETTLE), Verdict::Fair);
}

#[test]
fn where_clients_are_led_back_there_is_an_end_until_the_next_ten_minutes() {
    let start = Instant::now();
    let (mut fleet, begun) = settled(&[1000, 0], start);
    let mut gone = [0, 0];
    for second in 0..900 {
        let now = begun + SECOND * second;
        fleet.hear(word("0", 1000), now);
        fleet.hear(word("1", 0), now);
        let went = count(fleet.look(1000, now));
        fleet.let_go(went);
        gone[usize::from(now - start >= WINDOW)] += went;
    }
    assert!(gone.iter().all(|gone| (1260..1300).contains(gone)), "{gone:?}");
}

#[test]
fn many_pods_tell_less_often_and_strangers_fill_no_memory() {
    let (fleet, now) = settled(&[1; 200], Instant::now());
    assert_eq!(fleet.interval(), Duration::from_secs(10));
    let mut fleet = Fleet::new("0".into(), now);
    (0..3 * MOST_PODS).for_each(|pod| fleet.hear(word(&pod.to_string(), 1), now));
    assert_eq!(fleet.pods.len(), MOST_PODS);
}

/// Pods whose clients come back to any of them, and what happened.
struct World {
    pods: Vec<(Fleet, u32)>,
    /// Who comes back when, and where.
    away: Vec<(Instant, usize)>,
    gone: Vec<u32>,
}

impl World {
    fn new(streams: &[u32], now: Instant) -> Self {
        let pod = |(pod, streams): (usize, &u32)| (Fleet::new(pod.to_string(), now), *streams);
        let pods = streams.iter().enumerate().map(pod).collect();
        Self { pods, away: Vec::new(), gone: Vec::new() }
    }

    /// One second, with a word of each pod in every other.
    fn second(&mut self, second: u32, now: Instant) {
        for speaker in 0..self.pods.len() {
            if (second as usize + speaker).is_multiple_of(2) {
                let word = word(&speaker.to_string(), self.pods[speaker].1);
                self.pods.iter_mut().for_each(|(fleet, _)| fleet.hear(word.clone(), now));
            }
        }
        let mut gone = 0;
        for index in 0..self.pods.len() {
            let (fleet, streams) = &mut self.pods[index];
            let went = count(fleet.look(*streams, now));
            fleet.let_go(went);
            *streams -= went;
            gone += went;
            for _ in 0..went {
                let back = now + Duration::from_millis(rand::random_range(500..=2000));
                self.away.push((back, rand::random_range(0..self.pods.len())));
            }
        }
        self.gone.push(gone);
        for (_, pod) in self.away.extract_if(.., |(back, _)| *back <= now) {
            self.pods[pod].1 += 1;
        }
    }

    fn streams(&self) -> Vec<u32> {
        self.pods.iter().map(|(_, streams)| *streams).collect()
    }
}

proptest! {
    /// Wherever the streams are in the beginning, and however many pods are new, all pods come within 20 % of each other
    /// and then leave each other in peace; hardly a client is sent away twice.
    #[test]
    fn a_fleet_comes_even_and_stays_so(
        old in proptest::collection::vec(200_u32..2000, 1..4),
        new in 1_usize..4,
    ) {
        let streams: Vec<u32> = old.iter().copied().chain(std::iter::repeat_n(0, new)).collect();
        let (total, began) = (streams.iter().sum::<u32>(), Instant::now());
        prop_assume!(total >= 100 * u32::try_from(streams.len()).expect("a few"));
        let mut world = World::new(&streams, began);
        for second in 0..400 {
            world.second(second, began + SECOND * second);
        }
        let even = world.streams();
        let (most, fewest) = (even.iter().max().expect("pods"), even.iter().min().expect("pods"));
        prop_assert!(most - fewest <= 10.max(most / 5), "{streams:?} became {even:?}");
        let late: u32 = world.gone[300..].iter().sum();
        prop_assert!(late == 0, "{streams:?} still moves: {:?}", world.gone);
        let all: u32 = world.gone.iter().sum();
        prop_assert!(all * 4 <= total * 5 + 4 * 10 * 6, "{all} of {total} were sent away");
        let quickest = world.gone.iter().max().expect("seconds");
        let pace: u32 = old.iter().map(|streams| (streams * 3 / 100 + 1).min(100)).sum();
        prop_assert!(*quickest <= pace * 2, "{quickest} in a second");
    }
}
