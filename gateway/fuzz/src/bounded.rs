//! The short run of each target: its seeds, then changes of them that proptest picks and shrinks.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{TestError, TestRunner};

use crate::{jwt, posted, target};

/// Where to change an input, how many bytes go, and what comes.
type Edit = (Index, usize, Vec<u8>);

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = std::fs::read_dir(&dir).expect("a folder of seeds");
    let seeds: Vec<_> =
        files.map(|file| std::fs::read(file.expect("a seed").path()).expect("a seed")).collect();
    assert!(!seeds.is_empty(), "{} is empty", dir.display());
    seeds
}

fn changed(seeds: &[Vec<u8>]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let part = |(seed, from, size): (Vec<u8>, Index, usize)| {
        let from = from.index(seed.len() + 1);
        seed[from..seed.len().min(from + size)].to_vec()
    };
    let hostile: [&[u8]; 12] =
        [b"\r", b"\n", b"\0", b".", b"*", b">", b"%", b" ", b"\"", b"\xff", b"\xe2\x80", b"-"];
    let piece = prop_oneof![
        (select(seeds.to_vec()), any::<Index>(), 0..30_usize).prop_map(part),
        select(hostile.to_vec()).prop_map(<[u8]>::to_vec),
        vec(any::<u8>(), 0..4),
        "[0-9A-Za-z]{1,3}|\\PC".prop_map(String::into_bytes),
    ];
    let edit = (any::<Index>(), 0..6_usize, piece);
    (select(seeds.to_vec()), vec(edit, 0..5)).prop_map(|(seed, edits)| edits.into_iter().fold(seed, apply))
}

fn apply(mut input: Vec<u8>, (at, removed, inserted): Edit) -> Vec<u8> {
    let at = at.index(input.len() + 1);
    input.splice(at..input.len().min(at + removed), inserted);
    input
}

fn run(name: &str, cases: u32) {
    let check = target(name);
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| check(seed));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let outcome = TestRunner::new(config).run(&changed(&seeds), |input| {
        check(&input);
        Ok(())
    });
    if let Err(TestError::Fail(why, input)) = outcome {
        panic!("{why}\nthe input, for corpus/{name}: {:?}", input.escape_ascii().to_string());
    }
    outcome.expect("the run was not cut short");
}

#[test]
fn what_is_encoded_is_what_three_parsers_read() {
    run("encoder", 400);
}

#[test]
fn a_cursor_has_one_spelling() {
    run("cursor", 2000);
}

#[test]
fn a_subject_has_one_reader_and_no_wildcard() {
    run("subject", 2000);
}

#[test]
fn an_operation_means_what_was_written() {
    run("control", 2000);
}

#[test]
fn a_message_is_one_event_or_refused() {
    run("event", 2000);
}

#[test]
fn what_is_taken_of_history_is_in_order_once_and_below_the_log() {
    run("history", 2000);
}

#[test]
fn a_configuration_that_is_accepted_can_be_used() {
    run("config", 500);
}

#[test]
fn of_a_request_one_credential_counts_and_a_foreign_page_has_no_cookie() {
    run("request", 2000);
}

#[test]
fn what_is_posted_and_taken_is_not_refused_later() {
    run("posted", 2000);
}

#[test]
fn a_signature_alone_makes_no_identity() {
    run("jwt", 1000);
}

#[test]
fn a_key_serves_only_what_it_was_made_for() {
    run("keys", 500);
}

#[test]
fn seeds_that_are_good_are_taken() {
    let jwts: [&[u8]; 3] = [
        include_bytes!("../corpus/jwt/good"),
        include_bytes!("../corpus/jwt/lists"),
        include_bytes!("../corpus/jwt/numbers"),
    ];
    assert!(jwts.into_iter().all(jwt::is_taken));
    let posts: [&[u8]; 4] = [
        include_bytes!("../corpus/posted/plain"),
        include_bytes!("../corpus/posted/largest"),
        include_bytes!("../corpus/posted/binary"),
        include_bytes!("../corpus/posted/structured"),
    ];
    assert!(posts.into_iter().all(posted::is_taken));
    assert!(!posted::is_taken(include_bytes!("../corpus/posted/too-large")));
}
