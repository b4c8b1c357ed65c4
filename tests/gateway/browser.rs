//! Our client for browsers: its built bundle in the tabs of a real Chromium, at two gateways behind one address. While
//! numbered events are published without a pause, each tab sees each once and in order, whatever happens to the pods, to
//! NATS, to credentials, to the page and to the clock.

mod credentials;
mod outages;
mod page;
mod shared;
mod spread;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::balancer::Balancer;
use sse_tests::browser::Browser;
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats, merge};
use sse_tests::publisher::Publisher;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// For all that a tab still has to see, on a machine that is busy.
const ROUND: Duration = Duration::from_mins(1);
/// Between two events.
const PACE: Duration = Duration::from_millis(50);

/// Two gateways, NATS, and a browser.
struct World {
    nats: Nats,
    one: Gateway,
    two: Gateway,
    balancer: Balancer,
    browser: Browser,
    publisher: Publisher,
}

impl World {
    async fn start(more: Value) -> Result<Self> {
        let (nats, browser) = (Nats::start().await?, Browser::start()?);
        let mut patch = json!({
            "auth": {"modes": ["Token", "Bearer", "Cookie"], "cookie": {"name": "session"}},
            "cors": {"allowedOrigins": [browser.origin]},
            "stream": {"heartbeatIntervalSeconds": 5},
        });
        merge(&mut patch, more);
        let one = Gateway::start(&nats, patch.clone()).await?;
        let two = Gateway::start(&nats, patch).await?;
        let balancer = Balancer::start(vec![one.address, two.address]).await?;
        let publisher = nats.publisher().await?;
        Ok(Self { nats, one, two, balancer, browser, publisher })
    }

    fn url(&self) -> String {
        format!("http://{}/api/v1/sse", self.balancer.address)
    }

    /// The script of a page of alice that tells everything. `options` is JavaScript, and counts more.
    fn script(&self, function: &str, options: &str) -> String {
        let (url, jwt) = (self.url(), jwt("acme", "alice"));
        format!(
            r#"
            import {{ connect, GatewayEventSource }} from "sse-gateway-client";
            import {{ connectShared }} from "sse-gateway-client/shared";
            const told = {{
                onEvent: ({{ type, id, data }}) => tell({{ type, id, data }}),
                onReset: (reset) => tell({{ reset }}),
                onState: (state, {{ status = "" }}) => tell({{ state, status: status ? ` ${{status}}` : "" }}),
            }};
            window.client = {function}({{
                url: "{url}", getJwt: () => "{jwt}", minDelay: 200, maxDelay: 2000, heartbeat: 5000, ...told, {options}
            }});"#
        )
    }

    /// Opens a tab that connects with these options, and waits for its stream.
    async fn connect(&mut self, tab: u64, options: &str) -> Result<()> {
        let script = self.script("connect", options);
        self.browser.open(tab, &script).await?;
        self.opened(tab, 1).await
    }

    /// Waits until a tab has had so many streams.
    async fn opened(&self, tab: u64, times: usize) -> Result<()> {
        self.state(tab, "open", times).await
    }

    /// Waits until a tab was in a state so often.
    async fn state(&self, tab: u64, wanted: &str, times: usize) -> Result<()> {
        eventually("a state", ROUND, || async {
            let states = self.browser.states(tab);
            let count = states.iter().filter(|state| *state == wanted).count();
            ensure!(
                count >= times,
                "{wanted} in tab {tab}: {:?} {}",
                self.browser.told(tab),
                self.browser.said()
            );
            Ok(())
        })
        .await
    }

    /// The open streams of both gateways.
    async fn streams(&self) -> Result<u64> {
        let mut count = 0;
        for gateway in [&self.one, &self.two] {
            count += gateway.status().await?["connections"].as_u64().context("a number")?;
        }
        Ok(count)
    }

    async fn until_streams(&self, wanted: u64) -> Result<()> {
        eventually("streams", ROUND, || async {
            let count = self.streams().await?;
            ensure!(count == wanted, "{count} and not {wanted}");
            Ok(())
        })
        .await
    }

    fn publishing(&self) -> Numbers {
        Numbers::begin(self.publisher.clone())
    }

    /// Each tab sees the numbers from `first` to `last` once, in order, and nothing else.
    async fn see(&self, tabs: &[u64], first: u64, last: u64) -> Result<()> {
        let expected: Vec<String> = (first..=last).map(|number| number.to_string()).collect();
        for tab in tabs {
            let seen = || self.browser.seen(*tab).into_iter().map(|event| event.data).collect::<Vec<_>>();
            let all = eventually("all events", ROUND, || async {
                ensure!(seen().last() == expected.last(), "{:?}", self.browser.states(*tab));
                Ok(())
            });
            let seen_too = || self.about(*tab, &seen(), &expected);
            all.await.with_context(seen_too)?;
            ensure!(seen() == expected, "{}", seen_too());
        }
        Ok(())
    }

    fn about(&self, tab: u64, seen: &[String], expected: &[String]) -> String {
        let differ = seen.iter().zip(expected).position(|(one, other)| one != other);
        let at = differ.unwrap_or(seen.len().min(expected.len()));
        let around = &seen[at.saturating_sub(2)..seen.len().min(at + 5)];
        let told = self.browser.told(tab);
        let others: Vec<_> = told.iter().filter(|told| told["data"].is_null()).collect();
        format!("tab {tab}: {} of {}, at {at}: {around:?}; {others:?}", seen.len(), expected.len())
    }
}

/// Publishes 1, 2, 3… to alice, until it is told to stop.
struct Numbers {
    stop: watch::Sender<bool>,
    published: watch::Receiver<u64>,
    publishing: JoinHandle<Result<u64>>,
}

impl Numbers {
    fn begin(publisher: Publisher) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (count, published) = watch::channel(0);
        let publishing = tokio::spawn(async move {
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !*stopped.borrow() {
                pace.tick().await;
                let number = *count.borrow() + 1;
                let id = format!("acme:{number}");
                publisher.insist("sse.acme.user.alice", &id, &number.to_string()).await?;
                count.send_replace(number);
            }
            Ok(*count.borrow())
        });
        Self { stop, published, publishing }
    }

    /// Waits until so many more are published. Returns how many there are.
    async fn more(&mut self, count: u64) -> Result<u64> {
        let wanted = *self.published.borrow() + count;
        Ok(*self.published.wait_for(|published| *published >= wanted).await?)
    }

    /// Stops. Returns how many there are.
    async fn end(self) -> Result<u64> {
        self.stop.send_replace(true);
        self.publishing.await?
    }
}
