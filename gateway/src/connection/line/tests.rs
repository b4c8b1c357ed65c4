//! Lines with real sockets, and what an outbox does with them.

use std::future::poll_fn;
use std::time::Duration;

use sse_crds::delivery::OverflowPolicy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::connection::End;
use crate::connection::outbox::{Next, Outbox, Room};
use crate::connection::writer::Writer;
use crate::cursor::{Cursor, Epoch};
use crate::telemetry::Telemetry;
use crate::wire::{self, Block};

const SOON: Duration = Duration::from_secs(5);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address"));
    let (client, accepted) = tokio::join!(client, listener.accept());
    (client.expect("a client"), accepted.expect("a connection").0)
}

fn event(sequence: u64, data: &str) -> Arc<Delivery> {
    let frame = Block { id: None, event: None, retry: None, data }.encode();
    Arc::new(Delivery { sequence, frame, complete: false, stored: None, origin: None })
}

fn socket(stream: TcpStream, chunked: bool) -> Line {
    Line::Socket(Socket::new(stream, chunked, b"head\r\n\r\n", &wire::connected()))
}

fn outbox(line: Line) -> Arc<Outbox> {
    let outbox = Outbox::new(2, OverflowPolicy::CatchUp, Telemetry::counting().observer());
    outbox.open(line, Cursor::new(Epoch(1), 0));
    outbox
}

/// What the client gets until the stream ends.
async fn all(mut client: TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(SOON, client.read_to_end(&mut bytes)).await.expect("in time").expect("a clean end");
    String::from_utf8(bytes).expect("UTF-8")
}

/// Lets the stream's task wait once, and see whether it has something to do.
async fn waits(outbox: &Outbox) -> bool {
    futures::poll!(std::pin::pin!(outbox.woken())).is_pending()
}

#[tokio::test]
async fn a_body_is_in_chunks_or_for_an_old_client_bare_and_ends_in_good_order() {
    for (chunked, expected) in [
        (true, "head\r\n\r\nc\r\n:connected\n\n\r\n9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n"),
        (false, "head\r\n\r\n:connected\n\ndata: a\n\ndata: b\n\n"),
    ] {
        let (mut client, server) = pair().await;
        // More than a request: it is never read, and must not make the end a reset.
        client.write_all(b"more").await.expect("sent");
        let outbox = outbox(socket(server, chunked));
        assert_eq!(timeout(SOON, outbox.room()).await, Ok(Room::There));
        let events = [event(1, "a"), event(2, "b")];
        outbox.writer(|writer| writer.events(&events, false)).expect("written");
        timeout(SOON, outbox.ending()).await.expect("it goes out");
        drop(outbox);
        assert_eq!(all(client).await, expected);
    }
}

#[tokio::test]
async fn while_the_task_waits_the_hub_writes_and_nobody_is_woken() {
    let (client, server) = pair().await;
    let outbox = outbox(socket(server, true));
    outbox.offer(&event(1, "too early"), false);
    assert_eq!(timeout(SOON, outbox.room()).await, Ok(Room::There));
    let Next::Write(items) = outbox.next(0) else { panic!("nothing waits") };
    assert_eq!(items.len(), 1, "the head comes first");
    assert!(waits(&outbox).await);
    outbox.offer(&event(2, "at once"), false);
    outbox.offer(&event(2, "twice"), false);
    assert!(waits(&outbox).await);
    assert_eq!(outbox.writer(|writer| writer.position()).sequence, 2);
    // What completes a stream is for the task, which ends it.
    let mut last = Arc::unwrap_or_clone(event(3, "last"));
    last.complete = true;
    outbox.offer(&Arc::new(last), false);
    assert!(!waits(&outbox).await);
    let Next::Write(items) = outbox.next(0) else { panic!("nothing waits") };
    assert_eq!(items.len(), 1);
    outbox.claim();
    outbox.offer(&event(4, "busy"), false);
    assert!(matches!(outbox.next(0), Next::Write(items) if items.len() == 1));
    timeout(SOON, outbox.ending()).await.expect("it goes out");
    drop(outbox);
    let text = all(client).await;
    assert_eq!(text.matches("data: ").count(), 1, "{text}");
    assert!(text.contains("data: at once\n\n"), "{text}");
}

#[tokio::test]
async fn events_that_come_together_go_out_together_also_when_they_are_more_than_may_wait() {
    let (client, server) = pair().await;
    let outbox = outbox(socket(server, false));
    assert_eq!(timeout(SOON, outbox.room()).await, Ok(Room::There));
    assert_eq!(outbox.next(0), Next::Wait);
    assert!(waits(&outbox).await);
    let position = || outbox.writer(|writer| writer.position()).sequence;
    assert!(outbox.offer(&event(1, "1"), true));
    assert!(!outbox.offer(&event(2, "2"), true), "it is asked for once");
    assert_eq!(position(), 0);
    // Two may wait.
    outbox.offer(&event(3, "3"), true);
    assert_eq!(position(), 2);
    outbox.flush();
    assert_eq!(position(), 3);
    assert!(waits(&outbox).await);
    timeout(SOON, outbox.ending()).await.expect("it goes out");
    drop(outbox);
    let text = all(client).await;
    assert!(text.ends_with(":connected\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n"), "{text}");
}

#[tokio::test]
async fn what_the_kernel_does_not_take_goes_out_before_anything_else() {
    let (client, server) = pair().await;
    let outbox = outbox(socket(server, false));
    assert_eq!(timeout(SOON, outbox.room()).await, Ok(Room::There));
    assert_eq!(outbox.next(0), Next::Wait);
    assert!(waits(&outbox).await);
    let large = "x".repeat(8 * 1024 * 1024);
    outbox.offer(&event(1, &large), false);
    assert!(!waits(&outbox).await, "the rest of it is for the task");
    outbox.offer(&event(2, "after"), false);
    assert!(futures::poll!(std::pin::pin!(outbox.room())).is_pending());
    let reader = tokio::spawn(all(client));
    assert_eq!(timeout(SOON, outbox.room()).await, Ok(Room::There));
    let Next::Write(items) = outbox.next(0) else { panic!("nothing waits") };
    let [crate::connection::outbox::Item::Event(after)] = &items[..] else { panic!("{}", items.len()) };
    outbox.writer(|writer| writer.events(std::slice::from_ref(after), false)).expect("written");
    timeout(SOON, outbox.ending()).await.expect("it goes out");
    drop(outbox);
    let text = reader.await.expect("no panic");
    assert!(text.ends_with(&format!("data: {large}\n\ndata: after\n\n")), "{} bytes", text.len());
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_by_whoever_waits() {
    let (client, server) = pair().await;
    let outbox = outbox(socket(server, true));
    assert_eq!(timeout(SOON, outbox.room()).await, Ok(Room::There));
    drop(client);
    assert_eq!(timeout(SOON, outbox.woken()).await, Ok(Err(Gone)));
}

#[tokio::test]
async fn a_slot_holds_one_write_until_its_body_takes_it() {
    let cut = CancellationToken::new();
    let outbox = outbox(Line::Slot(Slot::new(cut.clone(), CancellationToken::new(), &wire::connected())));
    let taken = async || poll_fn(|context| outbox.poll_take(context)).await.map(|write| write.bytes);
    assert!(waits(&outbox).await);
    outbox.offer(&event(1, "a"), false);
    assert!(!waits(&outbox).await, "the first bytes are still there");
    assert!(futures::poll!(std::pin::pin!(outbox.room())).is_pending());
    assert_eq!(taken().await.as_deref(), Some(&b":connected\n\n"[..]));
    assert_eq!(outbox.room().await, Room::There);
    assert!(matches!(outbox.next(0), Next::Write(_)));
    assert!(waits(&outbox).await);
    outbox.offer(&event(2, "b"), false);
    assert_eq!(taken().await.as_deref(), Some(&b"data: b\n\n"[..]));
    let (ended, end) = tokio::join!(timeout(SOON, outbox.ending()), taken());
    assert!(ended.is_ok() && end.is_none());
    outbox.writer(Writer::cut);
    assert!(cut.is_cancelled());
    outbox.leave();
    assert_eq!(outbox.room().await, Room::Gone);
}

#[tokio::test]
async fn a_stream_is_let_go_of_once_and_not_while_anything_waits_for_it() {
    let goodbye = CancellationToken::new();
    let slot = Slot::new(CancellationToken::new(), goodbye.clone(), &wire::connected());
    let outbox = outbox(Line::Slot(slot));
    assert!(waits(&outbox).await);
    assert!(!outbox.let_go(), "the first bytes are still there");
    assert!(poll_fn(|context| outbox.poll_take(context)).await.is_some());
    outbox.fall_behind(7);
    assert!(!outbox.let_go() && !goodbye.is_cancelled());
    assert!(outbox.go_live(7, 9));
    assert!(outbox.let_go() && goodbye.is_cancelled());
    assert_eq!(outbox.next(9), Next::End(End::Rebalance));
    assert!(!outbox.let_go());
}
