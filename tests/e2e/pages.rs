//! The commands of runbooks, of `kubectl sse` and of other pages, as they stand, against a gateway that serves; and what a
//! page shows of their answers is in their answers.

use anyhow::{Context as _, Result, ensure};
use futures::future::{try_join, try_join_all};
use serde_json::json;
use sse_tests::cluster::{Namespace, in_namespace, prefix};
use sse_tests::jwt::jwt_with;
use sse_tests::outside::{Forward, outside};
use sse_tests::pages::shell::Shell;
use sse_tests::pages::{Block, documented, nats};

/// Words that a page shows of an answer, which each answer has.
const SHOWN: [(&str, &[&str]); 4] = [
    ("kubectl get ssegateways", &["NAME   READY   REPLICAS   CONNECTIONS   URL", "live   True    2 "]),
    (
        "kubectl sse status",
        &[
            "/live  Ready\n",
            "├─ url  ",
            "├─ generation  ",
            ", rolled out",
            "├─ connections ",
            "├─ pod live-",
            " connections, NATS connected, lag 0, v",
            "└─ stream SSE_",
            "  last event ",
            ", epoch ",
        ],
    ),
    (
        "kubectl sse doctor live --jwt-command",
        &[
            "looked at: the declaration, 2 pods, the JWT",
            "not looked at:",
            "whether a quiet stream outlives a heartbeat: give --slow",
        ],
    ),
    ("kubectl sse drain", &[": evicted, with ", ": gone after ", " connections (+"]),
];
/// A command without an end, and what it prints when it is at it.
const WATCHES: (&str, &str) = ("curl -N", ":connected\n");

/// What a reader would have.
struct Reader<'a> {
    namespace: &'a Namespace,
    pod: String,
    url: String,
    jwt: String,
}

impl Reader<'_> {
    fn shell<'b>(&self, blocks: impl IntoIterator<Item = &'b Block>) -> Result<Shell> {
        let name = &self.namespace.name;
        let own = format!("#!/bin/sh\necho {}\n", self.jwt);
        let shell = Shell::of(blocks)?.within(name).knowing("JWT", &self.jwt);
        let shell =
            shell.with("NAMESPACE", name).with("-n default", &format!("-n {name}")).with("GATEWAY", "live");
        let shell = shell.with("POD", &self.pod).with("live-6c9f-4xk2p", &self.pod);
        let shell = shell
            .with("https://live.example.com", &self.url)
            .with("SSE_sse", &format!("SSE_{}", prefix(name)));
        shell.finding("my-jwt", &own)?.finding("jwt", &self.jwt)?.finding("service.jwt", &self.jwt)
    }

    async fn run(&self, block: &Block) -> Result<()> {
        let shell = self.shell([block])?;
        let (watches, begun) = WATCHES;
        let ran = if block.text.contains(watches) { shell.prints(begun).await } else { shell.run().await };
        let ran = ran.with_context(|| block.place())?;
        for (_, shown) in SHOWN.iter().filter(|(command, _)| block.text.contains(command)) {
            for words in *shown {
                ensure!(block.text.contains(words), "{} does not show {words:?}", block.place());
                ensure!(
                    ran.printed.contains(words),
                    "{}: {words:?} is not in {}",
                    block.place(),
                    ran.printed
                );
            }
        }
        if !ran.asked.is_empty() {
            let outside = outside().await?;
            let asked = ran.asked.iter().map(|call| nats::done(call, &outside.publisher));
            try_join_all(asked).await.with_context(|| block.place())?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_runbooks_and_pages_work_on_a_gateway_that_serves() -> Result<()> {
    in_namespace("pages", async |namespace: &Namespace| {
        let spec = json!({
            "publish": {"enabled": true}, "stream": {"heartbeatIntervalSeconds": 5}, "topics": {"public": ["orders.*"]},
        });
        namespace.gateway("live", spec).await?;
        let forward = Forward::start(&namespace.name, "service/live", 8080).await?;
        let jwt = jwt_with("acme", "alice", json!({"publish": ["user.*"]}));
        let pod = namespace.ready_pods("live").await?.pop().context("a pod")?;
        let reader = Reader { namespace, pod, url: format!("http://{}", forward.address), jwt };

        let (mut streams, mut last, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for block in documented(file!())? {
            match &block.text {
                text if text.contains("sse tail") || text.contains("sse publish") => streams.push(block),
                // It takes the pod away.
                text if text.contains("sse drain") => last.push(block),
                _ => others.push(block),
            }
        }
        ensure!((streams.len(), last.len()) == (2, 1) && others.len() >= 12, "{} others", others.len());
        let event = r#"  order.shipped  {"orderId":42}"#;
        ensure!(streams[0].text.contains(event), "{}", streams[0].text);
        let told = try_join_all(others.iter().map(|block| reader.run(block)));
        let tailed = reader.shell(&streams)?.streaming().then(&format!("sees '{event}'")).run();
        try_join(told, tailed).await?;
        try_join_all(last.iter().map(|block| reader.run(block))).await.map(drop)
    })
    .await
}
