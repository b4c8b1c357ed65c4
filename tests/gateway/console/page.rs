//! What the page shows: the stream, what is published, a drop that is resumed, the pods and the trace.

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::collector::Collector;
use sse_tests::console::Console;
use sse_tests::jwt::{jwt, jwt_with};
use sse_tests::process::{Nats, merge};

use super::{gateway, operator, url};

const ROW: &str = "#rows tr";

#[tokio::test]
async fn a_person_sees_events_filters_pauses_publishes_and_is_shown_that_a_drop_costs_nothing() -> Result<()>
{
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let publisher = nats.publisher().await?;
    let (own, jwt) = ("sse.acme.user.operator%40acme%2Eexample", operator());
    let mut page = Console::open(&url(&gateway)).await?;
    page.look("1-start").await?;
    page.connect(&jwt, "orders.eu").await?;
    page.look("2-connected").await?;
    for number in 1..=6 {
        let data = json!({"orderId": number, "state": "paid", "lines": [{"sku": "A-17", "count": 2}, {"sku": "B-4", "count": 1}]});
        publisher.publish_with(own, &[("Sse-Event", "order.paid")], &data.to_string()).await?;
    }
    publisher
        .publish_with("sse.acme.topic.orders.eu", &[("Sse-Event", "order.shipped")], r#"{"orderId":3}"#)
        .await?;
    publisher.publish("sse.acme.all", "Maintenance at noon.").await?;
    page.until(ROW, |rows| rows.len() == 8 && rows[0].contains("Maintenance at noon.")).await?;

    // From the page itself: it comes back to it, and only of this one does it know how long that took.
    page.fill("#data", r#"{"orderId":42}"#).await?;
    page.click("#publish").await?;
    page.shows("#published", "The log has it: ").await?;
    let rows = page.until(ROW, |rows| rows.len() == 9 && rows[0].trim_end().ends_with("ms")).await?;
    ensure!(rows[0].contains(r#"{"orderId":42}"#) && rows[1].trim_end().ends_with('–'), "{rows:?}");
    page.shows("#latency-note", "median of 1").await?;
    page.look("3-live").await?;

    page.fill("#filter", "SHIPPED").await?;
    page.until(ROW, |rows| rows.len() == 2 && rows.iter().all(|row| row.contains("order.shipped"))).await?;
    page.fill("#filter", "").await?;
    page.click("#pause").await?;
    publisher.publish(own, "while paused").await?;
    page.shows("#waiting", "1 waiting").await?;
    ensure!(page.texts(ROW).await?.len() == 9, "a list that is paused stays");
    page.look("4-paused").await?;
    page.click("#pause").await?;
    page.shows(ROW, "while paused").await?;
    page.click("#raw").await?;
    page.shows(ROW, ":connected").await?;
    page.shows(ROW, "event: order.paid").await?;
    page.look("5-raw").await?;
    page.click("#raw").await?;

    page.click("#drop").await?;
    page.shows("#state", "Dropped").await?;
    page.until("#ribbon .away", |cells| !cells.is_empty()).await?;
    page.look("6-away").await?;
    page.shows("#verdict", "No gap, no duplicate.").await?;
    ensure!(page.texts("#ribbon .came").await?.len() == 5);
    let figures = page.text("#figures").await?.replace('\n', " ");
    for figure in ["Sent while away 5", "Replayed 5", "Missing 0", "Repeated 0"] {
        ensure!(figures.contains(figure), "{figures}");
    }
    page.shows("#state", "Live").await?;
    page.look("7-resumed").await?;
    page.size(420, 900).await?;
    page.look("8-narrow").await?;
    ensure!(page.requests().await?.iter().filter(|request| request.contains("lastEventId=")).count() == 1);

    page.size(1440, 900).await?;
    let payload = jwt.split('.').nth(1).expect("three parts");
    ensure!(!page.kept().await?.contains(payload), "the JWT is in the document or a storage");
    page.click("#clear").await?;
    page.shows("#empty", "Waiting for events").await?;
    page.click("#leave").await?;
    page.shows("#start", "See your events arrive").await?;
    let (requests, origin) = (page.requests().await?, url(&gateway));
    for request in &requests {
        ensure!(request.contains(&origin) && !request.contains(payload), "{request}");
    }
    page.is_content().await
}

#[tokio::test]
async fn the_lines_to_copy_name_the_event_as_every_publisher_would_and_hold_no_jwt() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut page = Console::open(&url(&gateway)).await?;
    page.connect(&operator(), "").await?;
    page.fill("#type", "it's").await?;
    page.fill("#data", r#"{"a":"it's"}"#).await?;
    let quoted = r#"'{"a":"it'\''s"}'"#;
    let nats_line = page.text("#line").await?;
    ensure!(
        nats_line.starts_with(&format!("nats pub 'sse.acme.user.operator%40acme%2Eexample' {quoted}")),
        "{nats_line}"
    );
    page.choose("#target", "topic").await?;
    page.fill("#name", "Orders.EU").await?;
    page.click("#tab-curl").await?;
    let curl = page.text("#line").await?;
    for part in
        ["/api/v1/sse/events'", r#""Authorization: Bearer $JWT""#, "'Sse-Subject: topic.orders.eu'", quoted]
    {
        ensure!(curl.contains(part), "{part} is not in {curl}");
    }
    // A shell reads it as it is meant.
    let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}; JWT=of-the-shell; {curl}");
    let said = std::process::Command::new("sh").args(["-c", &script]).output()?.stdout;
    let said = String::from_utf8(said)?;
    ensure!(said.contains("Sse-Event: it's\n") && said.ends_with("{\"a\":\"it's\"}\n"), "{said}");
    for (tab, part) in [
        ("#tab-python", r#""sse.acme.topic.orders.eu""#),
        ("#tab-javascript", r#"h.set("Sse-Event", "it's")"#),
    ] {
        page.click(tab).await?;
        page.shows("#line", part).await?;
    }
    page.choose("#target", "all").await?;
    page.shows("#subject", "sse.acme.all").await?;
    page.is_content().await
}

#[tokio::test]
async fn what_is_refused_or_can_not_be_known_is_said() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway =
        gateway(&nats, json!({"publish": {"enabled": false}, "stream": {"heartbeatIntervalSeconds": 5}}))
            .await?;
    let mut page = Console::open(&url(&gateway)).await?;
    for (jwt, topics, said) in [
        ("", "", "Paste a JWT first."),
        ("not a jwt", "", "This is no JWT"),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJub2JvZHkifQ.c2lnbmF0dXJl",
            "",
            "The issuer of the credential is not known.",
        ),
        (
            &jwt("acme", "no-topics-user"),
            "orders.eu",
            "The credential grants no subscription to the topic orders.eu.",
        ),
    ] {
        page.fill("#jwt", jwt).await?;
        page.fill("#topics", topics).await?;
        page.click("#start button").await?;
        page.shows("#refusal", said).await?;
    }
    page.look("9-refused").await?;
    page.fill("#topics", "").await?;
    page.click("#start button").await?;
    page.shows("#state", "Live").await?;
    page.shows("#publish-why", "Publishing over HTTP is off").await?;
    ensure!(page.attribute("#publish", "aria-disabled").await?.as_deref() == Some("true"));
    page.shows("#trace-note", "no collector").await?;
    page.click("#drop").await?;
    page.shows("#verdict", "No gap was told").await?;
    ensure!(!page.text("#figures").await?.contains("Missing"), "what it can not know");
    gateway.kill().await?;
    page.shows("#state", "Coming back in").await?;
    page.look("10-coming-back").await?;
    gateway.restart()?;
    gateway.ready().await?;
    page.shows("#state", "Live").await?;
    page.is_content().await
}

#[tokio::test]
async fn an_outage_a_gap_and_an_end_are_shown_as_what_they_are() -> Result<()> {
    let mut nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut page = Console::open(&url(&gateway)).await?;
    page.connect(&operator(), "").await?;
    nats.kill().await?;
    page.shows("#nats", "NATS away").await?;
    page.shows("#outage:not([hidden])", "goes on without a gap when NATS is back").await?;
    page.look("11-nats-away").await?;
    nats.restart().await?;
    page.shows("#nats", "NATS connected").await?;
    page.until("#outage:not([hidden])", <[String]>::is_empty).await?;
    // The log is made anew while the line is cut: what was sent meanwhile is gone with the old one.
    page.click("#drop").await?;
    page.shows("#figures", "Sent while away\n5").await?;
    let publisher = nats.publisher().await?;
    publisher.jetstream.delete_stream("SSE_sse").await?;
    page.shows("#verdict", "The gateway tells a gap: epoch.").await?;
    page.look("12-gap").await?;
    let subject = "sse.acme.user.operator%40acme%2Eexample";
    publisher
        .insist_with(subject, &[("Sse-Complete", "true"), ("Nats-Msg-Id", "acme:end")], "the end")
        .await?;
    page.shows("#state", "Complete").await?;
    page.look("13-complete").await?;
    page.is_content().await
}

#[tokio::test]
async fn a_session_ends_with_its_jwt_and_says_so() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut page = Console::open(&url(&gateway)).await?;
    let brief = jwt_with("acme", "brief-user", json!({"exp": sse_tests::jwt::now() + 15}));
    page.connect(&brief, "").await?;
    page.shows("#refusal", "The credential has expired.").await?;
    page.shows("#state", "Refused").await?;
    page.is_content().await
}

#[tokio::test]
async fn the_trace_that_is_shown_is_that_of_the_stream_and_leads_where_the_spec_says() -> Result<()> {
    let (nats, collector) = (Nats::start().await?, Collector::start().await?);
    let mut more = json!({"console": {"traceUrl": "https://grafana.example.com/trace/{traceId}?orgId=1"}});
    merge(&mut more, json!({"telemetry": collector.telemetry("grpc")}));
    let gateway = gateway(&nats, more).await?;
    let mut page = Console::open(&url(&gateway)).await?;
    page.connect(&operator(), "").await?;
    let trace = page.until("#trace", |texts| texts.iter().any(|text| text.len() == 32)).await?.concat();
    let link = page.attribute("#trace-link", "href").await?;
    assert_eq!(link, Some(format!("https://grafana.example.com/trace/{trace}?orgId=1")));
    let connect = collector.spans(|spans| {
        spans.iter().any(|span| span.name == "sse.connect" && span.trace == trace).then_some(())
    });
    connect.await?;
    page.is_content().await
}
