//! The committed CustomResourceDefinition is the one that the types make.

use std::path::Path;

#[test]
fn the_committed_crd_is_the_derived_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ssegateways.yaml");
    let derived = serde_saphyr::to_string(&sse_crds::crd().expect("a definition")).expect("YAML");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &derived).expect("a writable checkout");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == derived, "crds/ssegateways.yaml is not what the types make: run `make crds`");
}

#[test]
fn the_crd_stays_small_enough_for_etcd_and_for_kubectl_apply() {
    let json = serde_json::to_string(&sse_crds::crd().expect("a definition")).expect("JSON");
    assert!(json.len() < 200_000, "{} bytes", json.len());
}
