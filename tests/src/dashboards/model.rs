//! What panels and dashboards are made of. Panels flow from left to right; each has a description, a unit and
//! thresholds where there is a value that asks for a look.

use serde_json::{Value, json};

/// Of the 24 columns of a dashboard.
const COLUMNS: u64 = 24;

/// The label that a `PodMonitor` gives to the series of a gateway is the name of the `SseGateway`.
const GATEWAY: &str = "app_kubernetes_io_instance";
const SELECTED: &str = r#"{namespace=~"$namespace",app_kubernetes_io_instance=~"$gateway""#;

/// Deliveries that took time, of the selected gateways, in the traces of the time range.
const SLOW: &str = concat!(
    "/explore?schemaVersion=1&orgId=1&panes=%7B%22traces%22%3A%7B%22datasource%22%3A%22${tempo_datasource}%22%2C",
    "%22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22datasource%22%3A%7B%22type%22%3A%22tempo%22%2C%22uid%22%3A%22${tempo_datasource}",
    "%22%7D%2C%22queryType%22%3A%22traceql%22%2C%22query%22%3A%22%7Bname%3D%5C%22sse.deliver%5C%22%26%26",
    "duration%3E100ms%26%26resource.k8s.namespace.name%3D~%5C%22${namespace:regex}%5C%22%26%26",
    "resource.sse.gateway.name%3D~%5C%22${gateway:regex}%5C%22%7D%22%7D%5D%2C",
    "%22range%22%3A%7B%22from%22%3A%22${__from}%22%2C%22to%22%3A%22${__to}%22%7D%7D%7D",
);
/// The trace of an exemplar.
const TRACE: &str = concat!(
    "/explore?schemaVersion=1&orgId=1&panes=%7B%22trace%22%3A%7B%22datasource%22%3A%22${tempo_datasource}%22%2C",
    "%22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22datasource%22%3A%7B%22type%22%3A%22tempo%22%2C%22uid%22%3A%22${tempo_datasource}",
    "%22%7D%2C%22queryType%22%3A%22traceql%22%2C%22query%22%3A%22${__value.raw}%22%7D%5D%2C",
    "%22range%22%3A%7B%22from%22%3A%22${__from}%22%2C%22to%22%3A%22${__to}%22%7D%7D%7D",
);

fn prometheus() -> Value {
    json!({"type": "prometheus", "uid": "${prometheus_datasource}"})
}

/// Short forms: `{OF` selects what the variables say, `BY` are the labels of a gateway.
fn long(expression: &str) -> String {
    expression.replace("{OF", SELECTED).replace("BY", &format!("namespace, {GATEWAY}"))
}

fn legend(text: &str) -> String {
    text.replace("GATEWAY", &format!("{{{{namespace}}}}/{{{{{GATEWAY}}}}}"))
}

pub struct Panel {
    value: Value,
    width: u64,
    height: u64,
}

impl Panel {
    fn new(kind: &str, title: &str, description: &str, unit: &str) -> Self {
        let value = json!({
            "type": kind, "title": title, "description": description, "datasource": prometheus(),
            "fieldConfig": {
                "defaults": {
                    "unit": unit, "color": {"mode": "palette-classic"},
                    "thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": null}]},
                },
                "overrides": [],
            },
            "targets": [],
        });
        Self { value, width: 8, height: 8 }
    }

    /// Lines over time.
    pub fn lines(title: &str, description: &str, unit: &str) -> Self {
        let mut panel = Self::new("timeseries", title, description, unit);
        panel.value["fieldConfig"]["defaults"]["min"] = json!(0);
        panel.value["fieldConfig"]["defaults"]["custom"] = json!({
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false,
            "stacking": {"group": "A", "mode": "none"}, "thresholdsStyle": {"mode": "off"},
        });
        panel.value["options"] = json!({
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        });
        panel
    }

    /// The last value, with its course behind it.
    pub fn number(title: &str, description: &str, unit: &str) -> Self {
        let mut panel = Self::new("stat", title, description, unit);
        panel.value["fieldConfig"]["defaults"]["color"] = json!({"mode": "thresholds"});
        panel.value["options"] = json!({
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
            "wideLayout": true, "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
        });
        panel.sized(4, 4)
    }

    /// Buckets of a histogram over time.
    pub fn heatmap(title: &str, description: &str, unit: &str, expression: &str) -> Self {
        let mut panel = Self::new("heatmap", title, description, unit);
        panel.value["options"] = json!({
            "calculate": false, "cellGap": 1, "showValue": "never", "legend": {"show": true},
            "color": {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64, "reverse": false,
                "fill": "dark-orange", "scale": "exponential"},
            "exemplars": {"color": "rgba(255,0,255,0.7)"}, "filterValues": {"le": 1e-9},
            "rowsFrame": {"layout": "auto"}, "tooltip": {"mode": "single", "showColorScale": false, "yHistogram": false},
            "yAxis": {"axisPlacement": "left", "reverse": false, "unit": unit},
        });
        let mut panel = panel.of(expression, "{{le}}");
        panel.value["targets"][0]["format"] = json!("heatmap");
        panel
    }

    /// One more query.
    pub fn of(mut self, expression: &str, name: &str) -> Self {
        let targets = self.value["targets"].as_array_mut().expect("targets");
        let id = ["A", "B", "C", "D", "E"][targets.len()];
        targets.push(json!({
            "refId": id, "datasource": prometheus(), "editorMode": "code", "expr": long(expression),
            "legendFormat": legend(name), "range": true, "instant": false,
        }));
        self
    }

    pub fn sized(self, width: u64, height: u64) -> Self {
        Self { width, height, ..self }
    }

    /// From here on it asks for a look (orange), and for more (red).
    pub fn look_at(mut self, orange: f64, red: f64) -> Self {
        let defaults = &mut self.value["fieldConfig"]["defaults"];
        let steps = json!([
            {"color": "green", "value": null}, {"color": "orange", "value": orange}, {"color": "red", "value": red},
        ]);
        defaults["thresholds"]["steps"] = steps;
        if defaults["custom"].is_object() {
            defaults["custom"]["thresholdsStyle"]["mode"] = json!("line");
        }
        self
    }

    /// Anything at all asks for a look.
    pub fn none_expected(mut self) -> Self {
        let steps = json!([{"color": "green", "value": null}, {"color": "red", "value": 0.000_001}]);
        self.value["fieldConfig"]["defaults"]["thresholds"]["steps"] = steps;
        self
    }

    /// Less than this is wrong.
    pub fn at_least(mut self, least: f64) -> Self {
        let steps = json!([{"color": "red", "value": null}, {"color": "green", "value": least}]);
        self.value["fieldConfig"]["defaults"]["thresholds"]["steps"] = steps;
        self
    }

    pub fn at_most(mut self, most: f64) -> Self {
        self.value["fieldConfig"]["defaults"]["max"] = json!(most);
        self
    }

    pub fn stacked(mut self) -> Self {
        self.value["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] = json!("normal");
        self
    }

    /// Exemplars, and ways to the traces.
    pub fn traced(mut self) -> Self {
        for target in self.value["targets"].as_array_mut().expect("targets") {
            target["exemplar"] = json!(true);
        }
        let link = |title: &str, url: &str| json!([{"title": title, "url": url, "targetBlank": true}]);
        self.value["fieldConfig"]["defaults"]["links"] = link("Slow deliveries in the traces", SLOW);
        let trace = json!({
            "matcher": {"id": "byName", "options": "trace_id"},
            "properties": [{"id": "links", "value": link("This delivery in its trace", TRACE)}],
        });
        self.value["fieldConfig"]["overrides"].as_array_mut().expect("overrides").push(trace);
        self
    }
}

/// The names that Grafana's linter wants.
fn source(kind: &str, label: &str) -> Value {
    json!({"name": format!("{kind}_datasource"), "label": label, "type": "datasource", "query": kind, "regex": "", "hide": 0,
        "multi": false, "includeAll": false, "refresh": 1, "options": []})
}

/// A variable of the values that a label has.
fn label(name: &str, title: &str, definition: &str, several: bool) -> Value {
    let mut variable = json!({
        "name": name, "label": title, "type": "query", "datasource": prometheus(), "definition": definition,
        "query": {"qryType": 1, "query": definition, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2, "regex": "", "sort": 1, "hide": 0, "multi": several, "includeAll": several, "options": [],
    });
    if several {
        variable["allValue"] = json!(".*");
        variable["current"] = json!({"text": ["All"], "value": ["$__all"]});
    }
    variable
}

/// Which gateways: one, or several.
pub fn gateways(several: bool) -> Vec<Value> {
    let gateway =
        format!(r#"label_values(sse_server_active_connections{{namespace=~"$namespace"}}, {GATEWAY})"#);
    vec![
        source("prometheus", "Prometheus data source"),
        source("tempo", "Tempo data source"),
        label("namespace", "Namespace", "label_values(sse_server_active_connections, namespace)", several),
        label("gateway", "Gateway", &gateway, several),
    ]
}

/// Where the operators run.
pub fn operators() -> Vec<Value> {
    let namespace = label("namespace", "Namespace", "label_values(sse_operator_leader, namespace)", true);
    vec![source("prometheus", "Prometheus data source"), namespace]
}

/// Marks on the panels, at the times at which the expression has a value.
pub fn annotation(name: &str, color: &str, expression: &str, title: &str, text: &str) -> Value {
    let (expression, step) = (long(expression), "15s");
    json!({
        "name": name, "datasource": prometheus(), "enable": true, "hide": false, "iconColor": color,
        "target": {"refId": "Anno", "datasource": prometheus(), "expr": expression, "interval": step},
        // Where Grafana looked before it had targets here.
        "expr": expression, "step": step,
        "titleFormat": title, "textFormat": legend(text), "tagKeys": "pod",
    })
}

/// What changes a gateway: pods that go, whether the operator replaces them, and versions that come.
pub fn changes() -> Vec<Value> {
    vec![
        annotation(
            "Draining pods",
            "orange",
            "max by (BY, pod) (sse_server_draining{OF}) == 1",
            "A pod drains",
            "GATEWAY, {{pod}}",
        ),
        // The operator does not say which gateway it rolls out: one whose pods drain meanwhile.
        annotation(
            "Rollouts",
            "blue",
            "max by (BY) (sse_server_draining{OF}) == 1 and on () max(sse_operator_rollouts) > 0",
            "The operator replaces pods",
            "GATEWAY",
        ),
        annotation(
            "New versions",
            "purple",
            "count by (BY, version) (sse_server_build_info{OF}) unless count by (BY, version) (sse_server_build_info{OF} offset 1m)",
            "A version comes",
            "GATEWAY, {{version}}",
        ),
    ]
}

pub struct Board {
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub variables: Vec<Value>,
    pub annotations: Vec<Value>,
    pub rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Board {
    /// As Grafana imports it.
    pub fn json(self) -> Value {
        let mut panels = Vec::new();
        let mut top = 0;
        for (title, row) in self.rows {
            let place = json!({"x": 0, "y": top, "w": COLUMNS, "h": 1});
            let id = panels.len() + 1;
            panels.push(json!({"id": id, "type": "row", "title": title, "collapsed": false, "gridPos": place, "panels": []}));
            top += 1;
            let (mut left, mut highest) = (0, 0);
            for Panel { mut value, width, height } in row {
                if left + width > COLUMNS {
                    (left, top, highest) = (0, top + highest, 0);
                }
                value["id"] = json!(panels.len() + 1);
                value["gridPos"] = json!({"x": left, "y": top, "w": width, "h": height});
                panels.push(value);
                (left, highest) = (left + width, highest.max(height));
            }
            top += highest;
        }
        json!({
            "uid": self.uid, "title": self.title, "description": self.description, "tags": ["sse-gateway"],
            "schemaVersion": 41, "version": 1, "editable": false, "graphTooltip": 1, "refresh": "30s", "timezone": "",
            "time": {"from": "now-1h", "to": "now"}, "timepicker": {}, "fiscalYearStartMonth": 0, "weekStart": "",
            "links": [{"type": "dashboards", "title": "SSE gateways", "tags": ["sse-gateway"], "asDropdown": false,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "", "url": ""}],
            "annotations": {"list": self.annotations}, "templating": {"list": self.variables}, "panels": panels,
        })
    }
}
