//! What a dashboard asks of Prometheus, and how Grafana would send it.

use serde_json::Value;

#[must_use]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Panels that show something: not the rows, which are their headings.
pub fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    list(&board["panels"]).iter().filter(|panel| panel["type"] != "row")
}

/// Name and expression of each query, of panels and of annotations.
#[must_use]
pub fn queries(board: &Value) -> Vec<(String, String)> {
    let title = text(&board["title"]);
    let mut all = Vec::new();
    for panel in panels(board) {
        for target in list(&panel["targets"]) {
            let name = format!("{title}: {} ({})", text(&panel["title"]), text(&target["refId"]));
            all.push((name, text(&target["expr"]).to_owned()));
        }
    }
    for annotation in list(&board["annotations"]["list"]) {
        let name = format!("{title}: annotation {}", text(&annotation["name"]));
        all.push((name, text(&annotation["target"]["expr"]).to_owned()));
    }
    all
}

/// What is chosen in the variables, and how far back a rate looks.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    pub namespace: &'a str,
    pub gateway: &'a str,
    pub rate: &'a str,
}

impl Chosen<'_> {
    /// The expression as Grafana would send it. Of several choices it makes a regular expression.
    #[must_use]
    pub fn sent(&self, expression: &str) -> String {
        expression
            .replace("$__rate_interval", self.rate)
            .replace("$namespace", self.namespace)
            .replace("$gateway", self.gateway)
    }
}
