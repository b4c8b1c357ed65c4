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
fn the_crd_as_shipped_stays_small_enough_for_etcd_and_for_kubectl_apply() {
    let shipped = ["ssegateways.yaml", "../charts/sse-gateway/files/ssegateways.yaml"].map(|file| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a shipped file")
    });
    // `kubectl apply` keeps all of it, as JSON, in one annotation too.
    let json = serde_json::to_string(&sse_crds::crd().expect("a definition")).expect("JSON");
    for text in shipped.into_iter().chain([json]) {
        assert!((10_000..200_000).contains(&text.len()), "{} bytes", text.len());
    }
}
