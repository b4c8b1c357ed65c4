//! A client that comes and goes: to a random gateway, with the last id that its application saw, for
//! a random while. It leaves at any byte, and now and then it stalls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;
use sse_tests::client::{Client, Door, Event, Stream};
use sse_tests::jwt::jwt_with;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::plan::{After, Listener, Plan, decisions};

/// Longer than any run.
const FOREVER: Duration = Duration::from_hours(1);

/// What a client has to tell at the end.
#[derive(Default)]
pub struct Heard {
    /// The place of its first stream: everything after it is due.
    pub start: u64,
    /// Sequence and number of each event.
    pub events: Vec<(u64, usize)>,
    pub streams: usize,
    pub refusals: usize,
    pub stalls: usize,
    /// Stalls that the gateway ended.
    pub cut_stalls: usize,
    /// Each stream and refusal, for a failure.
    pub journal: Vec<String>,
}

/// One client.
pub struct Reader {
    plan: Arc<Plan>,
    listener: Listener,
    gateways: Vec<SocketAddr>,
    jwt: String,
    random: StdRng,
    /// Counts who has had a stream.
    begun: watch::Sender<usize>,
    /// True once nothing is published any more.
    ending: watch::Receiver<bool>,
    began: Instant,
    /// Empty before the first stream.
    epoch: String,
    cursor: String,
    then: After,
    pub heard: Heard,
}

/// What a client does with a stream.
struct Visit {
    stay: Duration,
    cut_after: Option<usize>,
    /// After how many events it stalls, and for how long.
    stall: Option<(usize, Duration)>,
}

impl Reader {
    pub fn new(
        plan: Arc<Plan>,
        index: usize,
        gateways: Vec<SocketAddr>,
        (begun, ending): (watch::Sender<usize>, watch::Receiver<bool>),
    ) -> Self {
        let began = Instant::now();
        let listener = plan.listeners[index].clone();
        let jwt = jwt_with(listener.tenant, listener.user, json!({"topics": listener.topics}));
        let random = decisions(plan.seed, &format!("client {index}"));
        let heard = Heard::default();
        let (epoch, cursor) = (String::new(), String::new());
        Self {
            plan,
            listener,
            gateways,
            jwt,
            random,
            begun,
            ending,
            began,
            epoch,
            cursor,
            then: After::GoOn,
            heard,
        }
    }

    /// Comes and goes until it has the last event.
    pub async fn run(&mut self) -> Result<()> {
        // Some come late: what is before their first stream is not for them.
        sleep(Duration::from_millis(self.random.random_range(0..4000))).await;
        while self.then != After::Done {
            let visit = self.decide();
            let (before, cursor) = (self.heard.events.len(), self.cursor.clone());
            let gateway = self.random.random_range(0..self.gateways.len());
            let told = match self.open(gateway, visit.stall.is_some()).await {
                Ok(stream) => {
                    self.heard.streams += 1;
                    self.note(gateway, &cursor, "opened");
                    let end = self.visit(stream, &visit).await;
                    let told = format!("{end:?}, {} events", self.heard.events.len() - before);
                    self.note(gateway, &cursor, &told);
                    end?;
                    continue;
                }
                Err(error) => self.refused(&error)?,
            };
            self.note(gateway, &cursor, &told);
            sleep(Duration::from_millis(self.random.random_range(50..300))).await;
        }
        Ok(())
    }

    fn note(&mut self, gateway: usize, cursor: &str, told: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.heard
            .journal
            .push(format!("{at:.3} gateway {gateway} from {cursor:?} to {:?}: {told}", self.cursor));
    }

    /// Once nothing is published any more, it stays.
    fn decide(&mut self) -> Visit {
        let random = &mut self.random;
        let stay = Duration::from_millis(random.random_range(100..5000));
        let cut_after = random.random_bool(0.5).then(|| random.random_range(1..150_000));
        let stall = random.random_bool(0.15).then(|| {
            let after = random.random_range(0..50);
            (after, Duration::from_millis(random.random_range(1000..6000)))
        });
        if *self.ending.borrow() {
            return Visit { stay: FOREVER, cut_after: None, stall: None };
        }
        Visit { stay, cut_after, stall }
    }

    /// By a token, also one of another gateway, or by the JWT; the cursor in the query or in a header.
    async fn open(&mut self, gateway: usize, narrow: bool) -> Result<Stream> {
        let address = self.gateways[gateway];
        let door = if narrow { Door::Narrow(address) } else { address.into() };
        let client = |gateway: Door| Client { gateway, base: "/api/v1/sse".into(), jwt: self.jwt.clone() };
        let mut query = vec![format!("lastEventId={}", self.cursor)];
        if !self.listener.topics.is_empty() {
            query.push(format!("topics={}", self.listener.topics.join(",").replace('>', "%3E")));
        }
        let bearer = format!("Bearer {}", self.jwt);
        let mut headers = Vec::new();
        if self.random.random_bool(0.3) {
            let mint = *self.gateways.choose(&mut self.random).context("a gateway")?;
            query.push(format!("token={}", client(mint.into()).token().await?));
        } else {
            headers.push(("authorization", bearer.as_str()));
        }
        if self.random.random_bool(0.5) {
            query.remove(0);
            headers.push(("last-event-id", self.cursor.as_str()));
        }
        let path = format!("/api/v1/sse/stream?{}", query.join("&"));
        let mut stream = client(door).stream(&path, &headers).await?;
        if self.cursor.is_empty() {
            self.cursor = stream.position().await?;
            let (epoch, sequence) = self.cursor.split_once('-').context("a cursor")?;
            self.heard.start = sequence.parse()?;
            self.epoch = epoch.into();
            self.begun.send_modify(|begun| *begun += 1);
        }
        Ok(stream)
    }

    /// A gateway that is killed, or away from NATS, is no failure; any other refusal is.
    fn refused(&mut self, error: &anyhow::Error) -> Result<String> {
        self.heard.refusals += 1;
        let text = format!("{error:#}");
        let answered = ["token: ", "stream: "].iter().find_map(|prefix| text.strip_prefix(prefix));
        if let Some(status) = answered {
            ensure!(status.starts_with("503") || status.starts_with("429"), "refused: {text}");
        }
        Ok(format!("refused: {}", text.lines().next().unwrap_or_default()))
    }

    async fn visit(&mut self, mut stream: Stream, visit: &Visit) -> Result<&'static str> {
        stream.cut_after = visit.cut_after;
        let mut ending = self.ending.clone();
        let (mut count, mut stalled) = (0, false);
        let leave = sleep(visit.stay);
        tokio::pin!(leave);
        let how = loop {
            if let Some((after, long)) = visit.stall
                && !stalled
                && count >= after
            {
                stalled = true;
                self.heard.stalls += 1;
                sleep(long).await;
            }
            tokio::select! {
                next = stream.next(FOREVER) => match next? {
                    Some(event) => {
                        count += 1;
                        self.take(&event)?;
                        if self.then != After::GoOn {
                            break "it has the end";
                        }
                    }
                    None => break "the stream ended",
                },
                () = leave.as_mut(), if !*ending.borrow_and_update() => break "it left",
            }
        };
        if !stream.last_id.is_empty() {
            self.cursor.clone_from(&stream.last_id);
        }
        let cut = stream.cut_after == Some(0);
        self.heard.cut_stalls += usize::from(stalled && how == "the stream ended" && !cut);
        Ok(if cut { "it was cut" } else { how })
    }

    fn take(&mut self, event: &Event) -> Result<()> {
        if event.name == "reset" {
            bail!("a reset: {}", event.data);
        }
        let (epoch, sequence) = event.id.split_once('-').context("a cursor")?;
        ensure!(epoch == self.epoch, "epoch {epoch} instead of {}", self.epoch);
        let sequence = sequence.parse()?;
        let last = self.heard.events.last().map_or(self.heard.start, |(sequence, _)| *sequence);
        ensure!(sequence > last, "{sequence} came after {last}: twice, or out of order");
        let n: usize = event.data.split(' ').next().context("a number")?.parse()?;
        let planned = self.plan.events.get(n).context("an event that nobody planned")?;
        ensure!(planned.payload == event.data && planned.name == event.name, "{event:?} is not {n}");
        self.heard.events.push((sequence, n));
        self.then = Plan::after(n);
        Ok(())
    }
}
