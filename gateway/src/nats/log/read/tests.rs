use async_nats::HeaderMap;

use super::*;

fn answer(status: u16, sequence: Option<&str>) -> async_nats::Message {
    let mut headers = HeaderMap::new();
    headers.append("Nats-Subject", "sse.t.all");
    sequence.into_iter().for_each(|sequence| headers.append("Nats-Sequence", sequence));
    async_nats::Message {
        subject: "_INBOX.x".into(),
        reply: None,
        payload: Bytes::new(),
        headers: Some(headers),
        status: StatusCode::from_u16(status).ok(),
        description: None,
        length: 0,
    }
}

/// nats-server 2.15 takes such a line out when it stores a message; others need not.
#[test]
fn a_status_is_believed_only_when_it_is_the_servers_own() {
    for status in [204, 404, 503] {
        assert!(annotated(&answer(status, Some("7"))).is_some_and(|message| message.sequence == 7));
        assert!(annotated(&answer(status, None)).is_none());
    }
    assert!(matches!(ended(&answer(204, None)), Ok(true)));
    assert!(matches!(ended(&answer(404, None)), Ok(true)));
    assert!(ended(&answer(503, None)).is_err());
}
