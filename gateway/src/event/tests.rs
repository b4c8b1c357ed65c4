use super::*;

fn rules() -> Rules {
    Rules {
        prefix: "sse".into(),
        default_event_type: "message".into(),
        max_payload: 16,
        platform: false,
        ids: true,
    }
}

fn message(headers: &[(&'static str, &str)], payload: &[u8]) -> Message {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.append(*name, *value));
    let payload = Bytes::copy_from_slice(payload);
    Message::new(7, "sse.t.user.u".into(), &map, payload, Source::Annotated)
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.frame.as_bytes()).expect("UTF-8")
}

#[test]
fn headers_become_fields() {
    let plain = rules().read(Epoch(1), &message(&[], b"hi")).expect("an event");
    assert_eq!(text(&plain), "id: 00000001-7\ndata: hi\n\n");
    let headers = [("Sse-Event", "tick"), ("Sse-Retry", "500"), ("Sse-Complete", "true")];
    let full = rules().read(Epoch(1), &message(&headers, b"hi")).expect("an event");
    assert_eq!(text(&full), "id: 00000001-7-end\nevent: tick\nretry: 500\ndata: hi\n\n");
    assert!(full.complete);
}

#[test]
fn a_named_message_type_is_written_and_a_configured_default_too() {
    let named = rules().read(Epoch(1), &message(&[("Sse-Event", "message")], b"x")).expect("an event");
    assert!(text(&named).contains("event: message\n"));
    let rules = Rules { default_event_type: "note".into(), ..rules() };
    assert!(text(&rules.read(Epoch(1), &message(&[], b"x")).expect("an event")).contains("event: note\n"));
}

#[test]
fn a_cloud_event_is_an_event_of_its_type() {
    let data = |headers: &[(&'static str, &str)], payload: &[u8]| {
        let delivery = rules().read(Epoch(1), &message(headers, payload)).expect("an event");
        text(&delivery).split_once('\n').expect("an id").1.to_owned()
    };
    let binary = [("ce-specversion", "1.0"), ("ce-type", "order%20shipped")];
    assert_eq!(data(&binary, b"{}"), "event: order shipped\ndata: {}\n\n");
    assert_eq!(data(&[binary[1], ("Sse-Event", "mine")], b"{}"), "event: mine\ndata: {}\n\n");
    let long = Rules { max_payload: 100, ..rules() };
    let structured = [("Content-Type", "application/cloudevents+json; charset=utf-8")];
    let envelope = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;
    let delivery = long.read(Epoch(1), &message(&structured, envelope)).expect("an event");
    assert_eq!(text(&delivery), "id: 00000001-7\nevent: t\ndata: {\"a\":1}\n\n");
}

#[test]
fn receivers_stand_in_the_subject_or_in_its_list() {
    let audience = |subject: &str, headers: &[(&'static str, &str)]| {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let message = Message::new(7, subject.into(), &map, Bytes::new(), Source::Annotated);
        let rules = rules();
        let checked = rules.check(&message)?;
        Ok(checked.audience.listed().map(str::to_owned).collect::<Vec<_>>())
    };
    let users = [("Sse-Users", "alice, bob"), ("Sse-Users", "carol")];
    assert_eq!(audience("sse.t.users", &users), Ok(vec!["alice".into(), "bob".into(), "carol".into()]));
    assert_eq!(audience("sse.t.users", &[]), Err(Refusal::NoList("Sse-Users")));
    assert!(matches!(audience("sse.t.topics", &[("Sse-Topics", "A")]), Err(Refusal::List(..))));
    let long = format!("{}a", "a,".repeat(2048));
    assert_eq!(audience("sse.t.users", &[("Sse-Users", &long)]), Err(Refusal::LongList("Sse-Users")));
    assert_eq!(audience("sse._platform.all", &[]), Err(Refusal::PlatformOff));
    assert!(matches!(audience("sse.t.nowhere", &[]), Err(Refusal::Subject(_))));
}

#[test]
fn the_payload_limit_is_exact() {
    assert!(rules().read(Epoch(1), &message(&[], &[b'a'; 16])).is_ok());
    assert_eq!(rules().read(Epoch(1), &message(&[], &[b'a'; 17])), Err(Refusal::TooLarge));
}

#[test]
fn one_server_header_is_the_servers_own_but_not_in_the_store() {
    let mut headers = HeaderMap::new();
    headers.append("Nats-Sequence", "7");
    let read =
        |source| rules().read(Epoch(1), &Message::new(7, "sse.t.all".into(), &headers, Bytes::new(), source));
    assert!(read(Source::Annotated).is_ok());
    assert_eq!(read(Source::Stored), Err(Refusal::Forged));
}

/// Headers, payload, and why it is refused.
type Case = (&'static [(&'static str, &'static str)], &'static [u8], Refusal);

#[test]
fn what_can_not_be_an_event_is_refused() {
    let cases: [Case; 6] = [
        (&[("Sse-Event", "")], b"", Refusal::Header("Sse-Event")),
        (&[("Sse-Retry", "+5")], b"", Refusal::Header("Sse-Retry")),
        (&[("Sse-Retry", "99999999999")], b"", Refusal::Header("Sse-Retry")),
        (&[("Nats-Sequence", "9"), ("Nats-Sequence", "7")], b"", Refusal::Forged),
        (&[("Nats-Marker-Reason", "MaxAge")], b"", Refusal::Marker),
        (&[], b"\xff", Refusal::NotUtf8),
    ];
    for (headers, payload, refusal) in cases {
        assert_eq!(rules().read(Epoch(1), &message(headers, payload)), Err(refusal));
    }
}
