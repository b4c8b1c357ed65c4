//! Candidates before one Lease, kept as an API server keeps it: each write must know the version that
//! it replaces.

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::join;
use hyper::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Default)]
struct Store {
    lease: Mutex<(u64, Option<Value>)>,
    down: AtomicBool,
}

impl Store {
    fn candidate(self: &Arc<Self>, pod: &str) -> Candidate {
        let store = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let store = store.clone();
            async move { Ok::<_, Infallible>(store.answer(request).await) }
        });
        let client = Client::new(service, "sse-system");
        Candidate::new(client, "operator", pod, Arc::default())
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("a body");
        // Candidates that try at the same time read before either of them writes.
        tokio::task::yield_now().await;
        let (code, answer) = if self.down.load(Relaxed) {
            (500, failure(500, "InternalError"))
        } else {
            self.serve(&head.method, &body)
        };
        Response::builder()
            .status(code)
            .body(Body::from(answer.to_string().into_bytes()))
            .expect("a response")
    }

    fn serve(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let mut guard = self.lease.lock().expect("no panic");
        let (version, lease) = &mut *guard;
        let mut sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, &lease) {
            (&Method::GET, Some(lease)) => return (200, lease.clone()),
            (&Method::POST, Some(_)) => return (409, failure(409, "AlreadyExists")),
            (&Method::PUT, Some(lease)) => {
                let known = &sent["metadata"]["resourceVersion"];
                if known != &lease["metadata"]["resourceVersion"] {
                    return (409, failure(409, "Conflict"));
                }
            }
            (&Method::POST, None) => {}
            _ => return (404, failure(404, "NotFound")),
        }
        *version += 1;
        sent["metadata"]["resourceVersion"] = json!(version.to_string());
        *lease = Some(sent.clone());
        (200, sent)
    }

    fn delete(&self) {
        self.lease.lock().expect("no panic").1 = None;
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock().expect("no panic").1.clone().expect("a Lease");
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

async fn won(candidate: &mut Candidate) -> Duration {
    let began = Instant::now();
    candidate.won(|_| {}).await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn of_two_that_try_at_once_one_holds_it() {
    let store = Arc::<Store>::default();
    let (mut a, mut b) = (store.candidate("a"), store.candidate("b"));
    let (a_took, b_took) = join(in_time(a.take()), in_time(b.take())).await;
    let won = [a_took.expect("an answer"), b_took.expect("an answer")];
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    assert_eq!(store.holder(), if won[0] { a.identity() } else { b.identity() });
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_is_never_taken_and_an_abandoned_one_only_when_it_ran_out() {
    let store = Arc::<Store>::default();
    let (mut a, mut b) = (store.candidate("a"), store.candidate("b"));
    assert!(won(&mut a).await < RETRY);
    let lost = timeout(Duration::from_mins(5), join(a.lost(), b.won(|_| {}))).await;
    assert!(lost.is_err(), "the holder renewed it all the time");
    assert!(a.tenure.holds() && !b.tenure.holds());

    // Killed: it neither renews nor releases.
    let waited = won(&mut b).await;
    assert!(!a.tenure.holds(), "both at once");
    assert!(waited < DURATION + 2 * RETRY, "{waited:?}");
    assert!(matches!(a.lost().await, Lost::Taken(holder) if holder == b.identity()));
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_the_next_try() {
    let store = Arc::<Store>::default();
    let (mut a, mut b) = (store.candidate("a"), store.candidate("b"));
    won(&mut a).await;
    assert!(!b.take().await.expect("an answer"));
    a.release().await;
    assert!(!a.tenure.holds());
    assert!(won(&mut b).await < RETRY);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_can_not_renew_is_done_before_another_may_begin() {
    let store = Arc::<Store>::default();
    let mut a = store.candidate("a");
    won(&mut a).await;
    store.down.store(true, Relaxed);
    let began = Instant::now();
    assert!(matches!(a.lost().await, Lost::Unrenewed { .. }));
    assert!(began.elapsed() <= RENEW_WITHIN && !a.tenure.holds());
    const { assert!(RENEW_WITHIN.as_secs() + ANSWER.as_secs() < DURATION.as_secs()) };
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_waited_out() {
    let store = Arc::<Store>::default();
    let mut a = store.candidate("a");
    won(&mut a).await;
    store.down.store(true, Relaxed);
    assert!(timeout(Duration::from_secs(7), a.lost()).await.is_err());
    store.down.store(false, Relaxed);
    assert!(timeout(Duration::from_mins(1), a.lost()).await.is_err(), "still ours");
}

#[tokio::test(start_paused = true)]
async fn who_waits_lets_a_deleted_leases_holder_notice_first() {
    let store = Arc::<Store>::default();
    let (mut a, mut b) = (store.candidate("a"), store.candidate("b"));
    won(&mut a).await;
    assert!(!b.take().await.expect("an answer"));
    store.delete();
    assert!(!b.take().await.expect("an answer"));
    assert!(matches!(a.lost().await, Lost::Deleted));
    let waited = won(&mut b).await;
    assert!(waited > RETRY && waited < DURATION + RETRY, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_started_again_is_another_candidate() {
    let store = Arc::<Store>::default();
    let (mut a, mut again) = (store.candidate("a"), store.candidate("a"));
    won(&mut a).await;
    assert_ne!(a.identity(), again.identity());
    assert!(!again.take().await.expect("an answer"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_a_try_that_succeeds_takes_it_back() {
    let store = Arc::<Store>::default();
    let (mut a, mut b) = (store.candidate("a"), store.candidate("b"));
    won(&mut a).await;
    store.down.store(true, Relaxed);
    let told = Mutex::new(Vec::new());
    let tell = |why| told.lock().expect("no panic").push(why);
    assert!(timeout(RETRY, b.won(tell)).await.is_err());
    store.down.store(false, Relaxed);
    assert!(timeout(RETRY, b.won(tell)).await.is_err());
    let told = told.into_inner().expect("no panic");
    assert!(
        told[0].as_deref().is_some_and(|why| why.starts_with("Lease operator can not be had: ")),
        "{told:?}"
    );
    assert_eq!(told.last(), Some(&None));
}
