//! What the documentation gives to KEDA: its fields are those of KEDA's own source, it scales what can be scaled, and asks for
//! what there is. Whether it is a `ScaledObject` at all is asked in [`crate::valid`].

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schemas::module;
use crate::valid::repository;

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn scaled() -> Value {
    serde_saphyr::from_str(&read("docs/autoscaling/keda.yaml")).expect("YAML")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// What a trigger on Prometheus may say of itself, and whether it must, by the tags of the structure that KEDA reads it into.
/// To the schema it is any text.
fn parameters() -> BTreeMap<String, bool> {
    let source = module("schemas", "github.com/kedacore/keda/v2").join("pkg/scalers/prometheus_scaler.go");
    let source = std::fs::read_to_string(source).expect("the source of the scaler");
    let tags = source.lines().filter_map(|line| Some(line.split_once("`keda:\"name=")?.1.split_once('"')?.0));
    tags.map(|tag| {
        let (name, rest) = tag.split_once(',').expect("more than a name");
        (name.to_owned(), !rest.contains("optional") && !rest.contains("default="))
    })
    .collect()
}

#[test]
fn the_trigger_says_what_keda_reads_and_all_that_it_must() {
    let parameters = parameters();
    assert!(parameters["query"] && !parameters["timeout"], "{parameters:?}");
    let scaled = scaled();
    let triggers = scaled["spec"]["triggers"].as_array().expect("triggers");
    assert_eq!(triggers.iter().map(|one| text(&one["type"])).collect::<Vec<_>>(), ["prometheus"]);
    let told = triggers[0]["metadata"].as_object().expect("what it says");
    for name in told.keys() {
        assert!(parameters.contains_key(name), "KEDA reads no {name}");
    }
    for (name, _) in parameters.iter().filter(|(_, must)| **must) {
        assert!(told.contains_key(name), "KEDA needs {name}");
    }
    text(&told["threshold"]).parse::<f64>().expect("a number, as a text");
}

#[test]
fn it_scales_a_gateway_by_a_metric_of_gateways() {
    let spec = &scaled()["spec"];
    let target = &spec["scaleTargetRef"];
    let definition: Value = serde_saphyr::from_str(&read("crds/ssegateways.yaml")).expect("YAML");
    let defined = &definition["spec"];
    let (group, version) = text(&target["apiVersion"]).split_once('/').expect("group and version");
    assert_eq!((group, text(&target["kind"])), (text(&defined["group"]), text(&defined["names"]["kind"])));
    let mut versions = defined["versions"].as_array().expect("versions").iter();
    let version = versions.find(|one| one["name"] == version).expect("a version that there is");
    // KEDA's autoscaler finds the pods by the selector.
    for path in ["specReplicasPath", "statusReplicasPath", "labelSelectorPath"] {
        assert!(version["subresources"]["scale"][path].is_string(), "{path}");
    }

    let query = text(&spec["triggers"][0]["metadata"]["query"]);
    let metric = query.split('(').nth(1).and_then(|rest| rest.split('{').next()).expect("a metric");
    // Which is what a gateway has: tests/gateway/metrics.rs.
    assert!(read("docs/telemetry.md").contains(&format!("| `{metric}` | gauge |")), "{metric}");
    // And how its PodMonitor labels that: tests/e2e/scaling.rs has the query answered.
    assert!(
        query.contains("namespace=\"default\"") && query.contains("app_kubernetes_io_instance=\"live\""),
        "{query}"
    );
}
