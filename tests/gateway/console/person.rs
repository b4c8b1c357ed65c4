//! Who uses no mouse, and who does not see.

use anyhow::{Result, bail, ensure};
use serde_json::json;
use sse_tests::console::Console;
use sse_tests::process::Nats;

use super::{gateway, operator, url};

/// Stops of the Tab key in a session without events, from the list's tools round to them.
const STOPS: [&str; 17] = [
    "filter",
    "raw",
    "pause",
    "clear",
    "scroll",
    "skip",
    "leave",
    "target",
    "name",
    "type",
    "data",
    "publish",
    "tab-nats",
    "copy",
    "line-panel",
    "drop",
    "filter",
];

/// Goes on with Tab until this has the focus. Answers the stops on the way, each of which shows that it has the focus.
async fn tab_to(page: &mut Console, wanted: &str) -> Result<Vec<String>> {
    let mut stops = Vec::new();
    while stops.len() < 40 {
        page.press(&["Tab"]).await?;
        let stop = page.focused().await?;
        // Between the end and the beginning is what is of the browser itself.
        if stop != "body" {
            stops.push(stop);
        }
        if stops.last().is_some_and(|stop| stop == wanted) {
            return Ok(stops);
        }
    }
    bail!("{wanted} is not among {stops:?}")
}

async fn connect(page: &mut Console) -> Result<()> {
    ensure!(page.focused().await? == "jwt", "it begins where one has to write");
    page.write(&operator()).await?;
    page.press(&["Tab", "Tab", "Enter"]).await?;
    page.shows("#state", "Live").await
}

#[tokio::test]
async fn the_keyboard_alone_leads_through_all_of_it_and_the_focus_is_always_seen() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut page = Console::open(&url(&gateway)).await?;
    connect(&mut page).await?;
    // The tools of the list come first after its title, where a session begins.
    let mut stops = tab_to(&mut page, "filter").await?;
    stops.extend(tab_to(&mut page, "filter").await?);
    assert_eq!(stops, STOPS);
    tab_to(&mut page, "pause").await?;
    page.press(&["Space"]).await?;
    ensure!(page.attribute("#pause", "aria-pressed").await?.as_deref() == Some("true"));
    page.press(&["Space"]).await?;
    tab_to(&mut page, "tab-nats").await?;
    for (key, tab, part) in [
        ("ArrowRight", "tab-curl", "curl "),
        ("End", "tab-javascript", "import { connect"),
        ("ArrowRight", "tab-nats", "nats pub"),
        ("ArrowLeft", "tab-javascript", "import { connect"),
        ("Home", "tab-nats", "nats pub"),
    ] {
        page.press(&[key]).await?;
        assert_eq!(page.focused().await?, tab);
        page.shows("#line", part).await?;
    }
    tab_to(&mut page, "data").await?;
    page.press(&["Control+a"]).await?;
    page.write(&json!({"long": "x".repeat(100), "end": 1}).to_string()).await?;
    tab_to(&mut page, "publish").await?;
    page.press(&["Enter"]).await?;
    page.shows("#rows", "xxx").await?;
    // Past all other tools, into the list.
    tab_to(&mut page, "skip").await?;
    page.press(&["Enter"]).await?;
    let stops = tab_to(&mut page, "summary").await?;
    assert_eq!(stops, ["filter", "raw", "pause", "clear", "scroll", "summary"]);
    page.press(&["Enter"]).await?;
    page.shows("#rows details pre", "\"end\": 1").await?;
    tab_to(&mut page, "leave").await?;
    page.press(&["Enter"]).await?;
    ensure!(page.focused().await? == "jwt", "it ends where it began");
    page.is_content().await
}

#[tokio::test]
async fn who_does_not_see_is_told_what_became_of_the_connection_and_not_of_each_event() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut page = Console::open(&url(&gateway)).await?;
    connect(&mut page).await?;
    ensure!(page.attribute("#announce", "aria-live").await?.as_deref() == Some("polite"));
    page.shows("#announce", "Live.").await?;
    nats.publisher().await?.publish("sse.acme.all", "hello").await?;
    page.shows("#rows", "hello").await?;
    page.shows("#announce", "Live.").await?;
    ensure!(page.attribute("#rows", "aria-live").await?.is_none());
    tab_to(&mut page, "drop").await?;
    page.press(&["Enter"]).await?;
    page.shows("#announce", "The connection is dropped.").await?;
    let told = "No gap, no duplicate. Sent while away 5, Replayed 5, Missing 0, Repeated 0.";
    page.shows("#announce", told).await?;
    ensure!(page.focused().await? == "drop", "the focus stays");
    page.is_content().await
}
