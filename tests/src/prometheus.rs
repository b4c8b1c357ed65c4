//! A real Prometheus, as a process or as a pod: it scrapes every second, keeps exemplars, and answers as it answers
//! Grafana.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Door};
use crate::dashboards::read::{list, text};
use crate::eventually;
use crate::process::{Process, START, free_port, toolbox};

pub struct Prometheus {
    client: Client,
    /// Those of a process.
    _own: Option<(Process, TempDir)>,
}

impl Prometheus {
    /// Scrapes these addresses, whose series get these labels; evaluates these rules.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start(targets: &[(SocketAddr, Value)], rules: &Path) -> Result<Self> {
        let dir = TempDir::new()?;
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let scraped: Vec<Value> = targets
            .iter()
            .map(|(address, labels)| json!({"targets": [address.to_string()], "labels": labels}))
            .collect();
        let scraped = json!([{"job_name": "gateways", "static_configs": scraped}]);
        let config = config(&rules.to_string_lossy(), &scraped);
        std::fs::write(path("config.yaml"), config.to_string())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let arguments = [
            format!("--config.file={}", path("config.yaml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address={address}"),
            "--enable-feature=exemplar-storage".to_owned(),
        ];
        let arguments = arguments.each_ref().map(String::as_str);
        let process = Process::start(&toolbox("prometheus"), &arguments, dir.path().join("log"))?;
        let prometheus = Self::at(address);
        let started = prometheus.ready().await;
        started.with_context(|| std::fs::read_to_string(path("log")).unwrap_or_default())?;
        Ok(Self { _own: Some((process, dir)), ..prometheus })
    }

    /// The one that is reached so.
    #[must_use]
    pub fn at(door: impl Into<Door>) -> Self {
        let client = Client { gateway: door.into(), base: String::new(), jwt: String::new() };
        Self { client, _own: None }
    }

    /// Waits until it serves.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub async fn ready(&self) -> Result<()> {
        eventually("a Prometheus that is ready", START, || async {
            let answer = self.client.request(Method::GET, "/-/ready", &[]).await?;
            ensure!(answer.status == 200, "{}", answer.status);
            Ok(())
        })
        .await
    }

    /// What a path of the API answers, its `data`.
    ///
    /// # Errors
    ///
    /// When it refuses, with what it says.
    pub async fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let path = format!("/api/v1/{path}?{}", query.join("&"));
        let answer = self.client.request(Method::GET, &path, &[]).await?;
        let body: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        ensure!(body["status"] == "success", "{}", body["error"]);
        Ok(body["data"].clone())
    }

    /// An expression as Prometheus reads it.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub async fn parsed(&self, expression: &str) -> Result<Value> {
        self.api("parse_query", &[("query", expression)]).await
    }

    /// The selectors of an expression.
    ///
    /// # Errors
    ///
    /// When it is none, or has none.
    pub async fn selectors(&self, expression: &str) -> Result<Vec<String>> {
        fn walk(node: &Value, found: &mut Vec<String>) {
            if ["vectorSelector", "matrixSelector"].contains(&text(&node["type"])) {
                let matchers = list(&node["matchers"]).iter().filter(|one| one["name"] != "__name__");
                let matchers: Vec<String> = matchers
                    .map(|one| format!("{}{}{}", text(&one["name"]), text(&one["type"]), one["value"]))
                    .collect();
                found.push(format!("{}{{{}}}", text(&node["name"]), matchers.join(",")));
            }
            match node {
                Value::Array(nodes) => nodes.iter().for_each(|node| walk(node, found)),
                Value::Object(nodes) => nodes.values().for_each(|node| walk(node, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        walk(&self.parsed(expression).await?, &mut found);
        ensure!(!found.is_empty(), "{expression} selects nothing");
        Ok(found)
    }

    /// Series at this moment: labels and value.
    ///
    /// # Errors
    ///
    /// When the query is wrong.
    pub async fn now(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let data = self.api("query", &[("query", expression)]).await?;
        let series = data["result"].as_array().context("series")?;
        series.iter().map(|one| Ok((one["metric"].clone(), number(&one["value"])?))).collect()
    }

    /// How many series had a number in these last seconds.
    ///
    /// # Errors
    ///
    /// When the query is wrong.
    pub async fn shown(&self, expression: &str, last: Duration) -> Result<usize> {
        let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        // Whole seconds: the last step is this moment.
        let (start, end) = ((end - last.as_secs_f64().ceil()).to_string(), end.to_string());
        let range = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        let data = self.api("query_range", &range).await?;
        let finite = |series: &&Value| {
            let values = series["values"].as_array().map_or(&[][..], Vec::as_slice);
            values.iter().any(|value| number(value).is_ok_and(f64::is_finite))
        };
        Ok(data["result"].as_array().context("series")?.iter().filter(finite).count())
    }
}

/// A configuration that scrapes each second.
#[must_use]
pub fn config(rules: &str, scraped: &Value) -> Value {
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [rules], "scrape_configs": scraped,
    })
}

fn number(sample: &Value) -> Result<f64> {
    Ok(sample[1].as_str().context("a sample")?.parse()?)
}

/// For a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}
