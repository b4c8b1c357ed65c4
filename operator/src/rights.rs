//! The rights that the chart grants are those that `main.rs` tells.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

/// Verbs by API group and resource.
type Rights = BTreeMap<(String, String), BTreeSet<String>>;

const TABLE: &str = include_str!("main.rs");
/// The rules for what is watched.
const CHART: &str = include_str!("../../charts/sse-gateway/templates/rbac.yaml");
/// The Role of the operator's own namespace.
const LEASE: &str = include_str!("../../charts/sse-gateway/templates/lease.yaml");

fn words(cell: &str) -> impl Iterator<Item = String> {
    cell.split(',').map(|word| word.trim().trim_matches('`').to_owned())
}

fn told() -> Rights {
    let mut rights = Rights::new();
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(2);
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let group = cells[0].trim_matches('`').replace("(core)", "");
        for resource in words(cells[1]) {
            rights.insert((group.clone(), resource), words(cells[2]).collect());
        }
    }
    rights
}

/// The rules of a template, from what precedes them to what follows.
fn rules(template: &str, from: &str, to: &str) -> Vec<PolicyRule> {
    let after = template.split_once(from).expect("the rules").1;
    let rules = after.split_once(to).expect("their end").0;
    serde_saphyr::from_str(&rules.replace("{{ $name }}", "name")).expect("YAML")
}

fn watched() -> Vec<PolicyRule> {
    rules(CHART, "{{- define \"sse-gateway.rules\" -}}", "{{- end }}")
}

fn own() -> Vec<PolicyRule> {
    rules(LEASE, "\nrules:\n", "\n---")
}

fn granted(rules: Vec<PolicyRule>) -> Rights {
    let mut rights = Rights::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let verbs = rights.entry((group.clone(), resource.clone())).or_default();
                verbs.extend(rule.verbs.iter().cloned());
            }
        }
    }
    rights
}

#[test]
fn the_chart_grants_what_is_told_and_nothing_else() {
    assert!(told().len() > 10, "the table was read: {:?}", told());
    assert_eq!(granted([watched(), own()].concat()), told());
}

#[test]
fn only_leases_are_of_the_operators_own_namespace() {
    let leases = ("coordination.k8s.io".to_owned(), "leases".to_owned());
    assert!(granted(own()).into_keys().eq([leases.clone()]));
    assert!(!granted(watched()).contains_key(&leases));
}

#[test]
fn no_right_is_on_secrets_and_none_is_on_everything() {
    for ((group, resource), verbs) in granted([watched(), own()].concat()) {
        assert!(resource != "secrets" && resource != "*" && group != "*", "{group} {resource}");
        assert!(!verbs.contains("*"), "{resource}");
    }
}
