//! Services that do not do what they should.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use sse_tests::client::Stream;
use sse_tests::eventually;
use sse_tests::history::{Says, Service};
use sse_tests::process::Nats;
use tokio::time::{Instant, sleep};

use super::{FIRST, LAST, World, numbers, seen};

/// What the client sees when nobody answers.
fn without_history() -> Vec<String> {
    [vec!["reset expired".to_owned()], numbers(FIRST..=LAST)].concat()
}

#[tokio::test]
async fn a_service_that_lies_has_nothing_written_twice_or_out_of_order_and_no_gap_is_silent() -> Result<()> {
    let world = World::trimmed(Nats::start().await?, json!({"maxEvents": 8})).await?;
    let (w, other) = (&world, json!({"id": "0badcafe-5", "data": "other"}));
    let with = |mut page: Value, at: usize, entry: Value| {
        page["events"].as_array_mut().into_iter().for_each(|events| events.insert(at, entry.clone()));
        page
    };
    let bad = |patch: Value| {
        let mut entry = w.event(5);
        sse_tests::process::merge(&mut entry, patch);
        with(w.page([4, 6], false), 1, entry)
    };
    let (all, gap) = (numbers(4..=11), "reset expired".to_owned());
    let told = |before: Vec<u64>| [numbers(before), vec![gap.clone()]].concat();
    // Pages, and what comes before the log.
    let cases: Vec<(Vec<Value>, Vec<String>)> = vec![
        (vec![w.page(4..=7, true), w.page(8..=11, false)], all.clone()),
        (vec![w.page([], false)], vec![]),
        // What the client has, what was given, and what the log has; more of what nobody asked for.
        (vec![w.page([3, 4, 4, 5, 11, 12, 13, 99], true)], numbers([4, 5, 11])),
        (vec![w.page(4..=7, true), w.page(7..=11, false)], all.clone()),
        (vec![w.page([6, 5, 4, 7], false)], told(vec![6, 7])),
        (vec![w.page([1, 2], false)], told(vec![])),
        (vec![w.page([4, 5], true), w.page([4, 5], true)], told(vec![4, 5])),
        (vec![with(w.page([4], false), 0, other.clone())], told(vec![4])),
        (vec![with(w.page([4], false), 1, other)], told(vec![4])),
        (vec![bad(json!({"id": "17"}))], told(vec![4, 6])),
        (vec![bad(json!({"id": null}))], numbers([4, 6])),
        (vec![bad(json!({"id": "  "}))], numbers([4, 6])),
        (vec![bad(json!({"data": null}))], numbers([4, 6])),
        (vec![bad(json!({"event": "a\r\nid: 0badcafe-1\r\n"}))], numbers([4, 6])),
        (vec![bad(json!({"event": "a\u{0}"}))], numbers([4, 6])),
        (vec![bad(json!({"data": "x".repeat(16_385)}))], numbers([4, 6])),
        (vec![w.page([], true)], told(vec![])),
        (vec![w.page([4, 5], true), w.page([], true)], told(vec![4, 5])),
        (vec![w.page(4..=11, true)], told((4..=11).collect())),
        (vec![w.page((4..=11).flat_map(|n| [n, n]), true)], told((4..=11).collect())),
        // The second page does not come, or is none.
        (vec![w.page([4, 5], true), json!("nonsense")], told(vec![4, 5])),
    ];
    let (pages, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let ways: HashMap<String, Vec<Value>> =
        pages.into_iter().enumerate().map(|(case, pages)| (format!("case-{case}"), pages)).collect();
    let (ways, count) = (Arc::new(ways), expected.len());
    let asked = Arc::new(std::sync::Mutex::new(HashMap::<String, usize>::new()));
    let _service = Service::start(&world.publisher.client, move |question| {
        let user = question["user"].as_str().unwrap_or_default().to_owned();
        let mut asked = asked.lock().expect("no panic");
        let page = asked.entry(user.clone()).or_default();
        *page += 1;
        let says = ways[&user].get(*page - 1).cloned().map_or(Says::Nothing, Says::from);
        async move { says }
    })
    .await?;
    for (case, expected) in expected.iter().enumerate() {
        let mut stream = world.gateway.client("acme", &format!("case-{case}")).open(&world.cursor(3)).await?;
        let expected = [expected.clone(), numbers(FIRST..=LAST)].concat();
        let seen = seen(&mut stream, &LAST.to_string()).await?;
        ensure!(seen == expected, "case {case}: {seen:?} instead of {expected:?}");
        ensure!(!String::from_utf8_lossy(&stream.raw).contains('\r'), "case {case}");
    }
    let mut sum = 0.0;
    for result in ["served", "partial", "failed"] {
        let ways = world.metric(&format!("_total{{result=\"{result}\"}}")).await?;
        ensure!(ways >= 2.0, "{result}: {ways}");
        sum += ways;
    }
    ensure!((sum - f64::from(u32::try_from(count)?)).abs() < 0.1, "{sum} of {count}");
    for reason in ["blank", "id", "order", "known", "event"] {
        let skipped = world.metric(&format!("_skipped_total{{reason=\"{reason}\"}}")).await?;
        ensure!(skipped >= 1.0, "{reason}: {skipped}");
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_late_absent_or_failing_changes_nothing_but_a_count() -> Result<()> {
    let nats = Nats::start_with("max_payload: 8388608").await?;
    let world = World::trimmed(nats, json!({"timeoutSeconds": 1})).await?;
    let expired = async |user: &str, result: &str| {
        let begun = Instant::now();
        let mut stream = world.gateway.client("acme", &format!("zoe-{user}")).open(&world.cursor(3)).await?;
        let seen = seen(&mut stream, &LAST.to_string()).await?;
        ensure!(seen == without_history(), "{user}: {seen:?}");
        ensure!(begun.elapsed() < Duration::from_secs(4), "{user}: {:?}", begun.elapsed());
        let counted = world.metric(&format!("_total{{result=\"{result}\"}}")).await?;
        ensure!(counted >= 1.0, "{user}: {counted}");
        anyhow::Ok(())
    };
    expired("absent", "absent").await?;
    let large = w_large(&world);
    let _service = Service::start(&world.publisher.client, move |question| {
        let large = large.clone();
        async move {
            let text = |text: &'static str| Says::Reply(text.into());
            match question["user"].as_str().unwrap_or_default().trim_start_matches("zoe-") {
                "late" => {
                    sleep(Duration::from_millis(1300)).await;
                    Says::from(json!({"events": [{"id": "late", "data": "late"}]}))
                }
                "error" => text(r#"{"error": "I do not know"}"#),
                "header" => Says::Error,
                "text" => text("no JSON at all"),
                "ack" => text(r#"{"stream": "SSE_sse", "seq": 7}"#),
                "types" => text(r#"{"events": [{"id": 4, "data": {"a": 1}}]}"#),
                "empty" => text(""),
                "large" => large,
                _ => Says::Nothing,
            }
        }
    })
    .await?;
    for (user, result) in [
        ("silent", "late"),
        ("late", "late"),
        ("error", "refused"),
        ("header", "refused"),
        ("text", "failed"),
        ("ack", "failed"),
        ("types", "failed"),
        ("empty", "failed"),
        ("large", "failed"),
    ] {
        expired(user, result).await?;
    }
    // Others are told why, and go on with what comes from then on.
    for (cursor, reason) in [("what", "invalid"), ("00000000-5", "epoch")] {
        let mut stream = world.gateway.client("acme", "zoe-silent").open(cursor).await?;
        world.publisher.publish("sse.acme.all", "meanwhile").await?;
        let seen = seen(&mut stream, "meanwhile").await?;
        ensure!(seen == [format!("reset {reason}"), "meanwhile".to_owned()], "{seen:?}");
    }
    let log = world.gateway.log();
    ensure!(log.contains("History was not served as asked for."), "{log}");
    ensure!(!log.contains("I do not know") && !log.contains("no JSON at all"), "an answer is in the log");
    Ok(())
}

/// An honest answer, but too large to be taken.
fn w_large(world: &World) -> Says {
    let mut events: Vec<Value> = (4..=11).map(|sequence| world.event(sequence)).collect();
    events.extend((0..200).map(|_| json!({"id": null, "data": "x".repeat(16_000)})));
    Says::from(json!({"events": events, "more": false}))
}

/// Users that come back at the same time, each with a cursor older than the log.
const CLIENTS: usize = 300;

async fn storm(world: &World, kind: &str) -> Result<Vec<Stream>> {
    let open = (0..CLIENTS).map(|i| async move {
        world.gateway.client("acme", &format!("{kind}-{i}")).open(&world.cursor(3)).await
    });
    try_join_all(open).await
}

#[tokio::test]
async fn a_storm_of_clients_that_come_back_is_a_few_questions_at_a_time() -> Result<()> {
    let world = World::trimmed(Nats::start().await?, json!({"timeoutSeconds": 2})).await?;
    let mut live = world.gateway.client("acme", "zoe-live").open("").await?;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (honest, at_once) = (world.page(4..=11, false), most.clone());
    let _service = Service::start(&world.publisher.client, move |question| {
        let (now, most, honest) = (now.clone(), most.clone(), honest.clone());
        async move {
            if question["user"].as_str().is_some_and(|user| user.starts_with("silent")) {
                return Says::Nothing;
            }
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Says::from(honest)
        }
    })
    .await?;
    let mut streams = storm(&world, "good").await?;
    let all = [numbers(4..=11), numbers(FIRST..=LAST)].concat();
    for stream in &mut streams {
        ensure!(seen(stream, &LAST.to_string()).await? == all);
    }
    let most = at_once.load(Ordering::SeqCst);
    ensure!((2..=64).contains(&most), "{most} at once");
    drop(streams);

    let begun = Instant::now();
    let mut streams = storm(&world, "silent").await?;
    // Nobody else waits for it.
    for i in 0..5 {
        let sent = Instant::now();
        world.publisher.publish("sse.acme.user.zoe-live", &format!("live {i}")).await?;
        ensure!(
            live.next(Duration::from_secs(1)).await?.is_some_and(|event| event.data == format!("live {i}"))
        );
        ensure!(sent.elapsed() < Duration::from_secs(1));
    }
    for stream in &mut streams {
        ensure!(seen(stream, &LAST.to_string()).await? == without_history());
    }
    ensure!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    let (busy, late) =
        (world.metric("_total{result=\"busy\"}").await?, world.metric("_total{result=\"late\"}").await?);
    ensure!(busy >= 1.0 && late >= 1.0, "busy {busy}, late {late}");
    eventually("the streams to be the only ones", Duration::from_secs(5), || async {
        let status = world.gateway.status().await?;
        ensure!(status["connections"] == CLIENTS + 1, "{status}");
        Ok(())
    })
    .await
}
