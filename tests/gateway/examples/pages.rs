//! The use cases as `make dev` serves them, in a real Chromium: each page shows what the script beside it publishes.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::browser::Browser;
use sse_tests::examples::{Dev, run};

/// A browser at the pages.
struct World {
    dev: Dev,
    browser: Browser,
    tab: u64,
}

impl World {
    async fn act(&mut self, deed: &str, more: Value) -> Result<()> {
        let mut deed = json!({"do": deed, "tab": self.tab});
        sse_tests::process::merge(&mut deed, more);
        let acted = self.browser.act(deed).await;
        acted.with_context(|| format!("{:?} {}", self.browser.told(self.tab), self.dev.said()))
    }

    /// Opens a page, which shows its code and becomes this.
    async fn visit(&mut self, path: &str, state: &str) -> Result<()> {
        self.tab += 1;
        let url = format!("{}/{path}", self.dev.pages);
        self.act("visit", json!({"url": url})).await?;
        self.act("see", json!({"selector": "figure script"})).await?;
        self.see(&[state]).await
    }

    /// The page shows all of these.
    async fn see(&mut self, texts: &[&str]) -> Result<()> {
        for text in texts {
            self.act("see", json!({"text": text})).await?;
        }
        ensure!(self.browser.told(self.tab).is_empty(), "{:?}", self.browser.told(self.tab));
        Ok(())
    }

    /// Opens the page of a use case, has its publisher tell what it tells, and sees it.
    async fn shows(&mut self, case: &str, texts: &[&str]) -> Result<()> {
        self.visit(&format!("{case}/"), "open").await?;
        run(self.dev.publisher(case)).await?;
        self.see(texts).await.with_context(|| case.to_owned())
    }
}

#[tokio::test]
async fn each_use_case_shows_on_its_page_what_its_publisher_tells() -> Result<()> {
    let mut world = World { dev: Dev::start().await?, browser: Browser::start()?, tab: 0 };
    world.shows("notifications", &["Your parcel is at the door."]).await?;
    world.shows("dashboard", &["87 %", "The load is above 80 %.", "degraded"]).await?;
    world.shows("orders", &["42", "paid", "packed", "shipped"]).await?;

    world.shows("chat", &["bob: Hello!"]).await?;
    world.act("say", json!({"label": "Say", "text": "alice: Hi, Bob."})).await?;
    world.see(&["alice: Hi, Bob."]).await?;

    world.shows("audit", &["signed.in", "role.granted"]).await?;
    world.act("reload", json!({})).await?;
    world.see(&["open", "signed.in", "role.granted"]).await?;

    // Whoever joins when all is said sees it, too.
    let mut job = world.dev.publisher("progress");
    job.env("PACE", "0");
    let page = run(job).await?;
    let path =
        page.trim().strip_prefix(&world.dev.pages).context("a page")?.trim_start_matches('/').to_owned();
    world.visit(&path, "complete").await?;
    world.see(&["100 %, done", "The report is ready"]).await
}
