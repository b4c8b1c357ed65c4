//! What is rendered, and what the documentation shows, by the schemas of Kubernetes and of others' definitions: kubeconform.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sse_tests::process::toolbox;

use crate::schemas::{module, of_custom_resources, of_kubernetes};

/// Kinds in the documentation whose definitions no package registry has: their modules are not to be had from the Go module proxy
/// (Flux), or bring a quarter of a gigabyte for one file (Argo CD).
const UNKNOWN: &str = "Application,HelmRelease,GitRepository,OCIRepository";

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The schemas of one version of Kubernetes, of our definition and of those of others.
fn schemas(kubernetes: &Path) -> tempfile::TempDir {
    let schemas = tempfile::tempdir().expect("a directory");
    assert!(of_kubernetes(kubernetes, schemas.path()) > 300, "kinds of Kubernetes");
    let mut definitions = vec![repository().join("crds/ssegateways.yaml")];
    for (of, files) in [
        (
            "github.com/prometheus-operator/prometheus-operator",
            &[
                "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
                "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
            ][..],
        ),
        (
            "github.com/cert-manager/cert-manager",
            &[
                "deploy/crds/cert-manager.io_certificates.yaml",
                "deploy/crds/cert-manager.io_issuers.yaml",
                "deploy/crds/cert-manager.io_clusterissuers.yaml",
            ][..],
        ),
        ("github.com/kedacore/keda/v2", &["config/crd/bases/keda.sh_scaledobjects.yaml"][..]),
        (
            "sigs.k8s.io/gateway-api",
            &[
                "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
                "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
                "config/crd/standard/gateway.networking.k8s.io_backendtlspolicies.yaml",
            ][..],
        ),
    ] {
        let source = module("schemas", of);
        definitions.extend(files.iter().map(|file| source.join(file)));
    }
    for file in definitions {
        assert!(!of_custom_resources(&file, schemas.path()).is_empty(), "{}", file.display());
    }
    schemas
}

/// How many objects of these manifests are valid, which all must be.
fn valid(schemas: &Path, manifests: &str, skip: &str) -> Result<u64, String> {
    let location = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", schemas.display());
    let mut kubeconform = Command::new(toolbox("kubeconform"))
        .args(["-strict", "-summary", "-output", "json", "-skip", skip, "-schema-location", &location])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubeconform");
    let mut stdin = kubeconform.stdin.take().expect("its input");
    stdin.write_all(manifests.as_bytes()).expect("written");
    drop(stdin);
    let output = kubeconform.wait_with_output().expect("its end");
    let told = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
    if output.status.success() {
        Ok(report["summary"]["valid"].as_u64().unwrap_or_default())
    } else {
        Err(report["resources"].to_string())
    }
}

fn rendered(helm: &str, version: &str, values: &[&str]) -> String {
    let chart = repository().join("charts/sse-gateway");
    let mut command = Command::new(toolbox(helm));
    command.args(["template", "trial"]).arg(&chart).args(["--namespace", "trial", "--kube-version", version]);
    for file in values {
        command.arg("--values").arg(chart.join("tests/values").join(file));
    }
    let output = command.output().expect("Helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The YAML of objects in our documents, and the files that the demo applies.
fn shown() -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for folder in ["", "docs", "docs/autoscaling", "docs/runbooks", "charts/sse-gateway", "tests/demo"] {
        for file in std::fs::read_dir(repository().join(folder)).expect("a folder") {
            let file = file.expect("a file").path();
            let text = || std::fs::read_to_string(&file).expect("text");
            let blocks: Vec<String> = match file.extension().and_then(|ending| ending.to_str()) {
                Some("yaml") => vec![text()],
                Some("md") => text()
                    .split("```yaml\n")
                    .skip(1)
                    .filter_map(|rest| Some(rest.split_once("```")?.0.into()))
                    .collect(),
                _ => continue,
            };
            let objects =
                blocks.into_iter().filter(|block| block.lines().any(|line| line.starts_with("kind:")));
            shown.extend(objects.map(|block| (file.display().to_string(), block)));
        }
    }
    shown
}

#[test]
fn what_is_rendered_and_shown_is_valid_from_the_oldest_version_to_the_present() {
    for (folder, version) in [("schemas", "1.33.0"), ("kubernetes", "1.36.0")] {
        let schemas = schemas(&module(folder, "k8s.io/kubernetes"));
        for (values, least) in [(&[][..], 15), (&["everything.yaml"][..], 25)] {
            let count = valid(schemas.path(), &rendered("helm", version, values), "");
            let count = count.unwrap_or_else(|wrong| panic!("{version} {values:?}: {wrong}"));
            assert!(count >= least, "{version} {values:?}: only {count}");
        }
        let all = shown();
        for file in ["README.md", "docs/install.md", "docs/autoscaling/keda.yaml", "tests/demo/gateway.yaml"]
        {
            assert!(all.iter().any(|(path, _)| path.ends_with(file)), "{file}");
        }
        for (file, block) in all {
            valid(schemas.path(), &block, UNKNOWN).unwrap_or_else(|wrong| panic!("{file}: {wrong}\n{block}"));
        }
        // It can fail: over a field that is none, a type, and what ours requires.
        for (from, to) in [("replicas:", "replica:"), ("serviceAccountName: ", "serviceAccountName: 1 #")] {
            let broken = rendered("helm", version, &[]).replace(from, to);
            valid(schemas.path(), &broken, "").expect_err(to);
        }
        let gateway = "apiVersion: ssegateway.io/v1alpha1\nkind: SseGateway\nmetadata: {name: live}\nspec: {auth: {issuers: []}}\n";
        valid(schemas.path(), gateway, "").expect_err("no nats");
    }
}

/// What Chart.yaml tells Artifact Hub under this name.
fn told(name: &str) -> Value {
    let chart =
        std::fs::read_to_string(repository().join("charts/sse-gateway/Chart.yaml")).expect("Chart.yaml");
    let chart: Value = serde_saphyr::from_str(&chart).expect("YAML");
    let text = chart["annotations"][format!("artifacthub.io/{name}")].as_str().expect("the annotation");
    serde_saphyr::from_str(text).expect("YAML in YAML")
}

#[test]
fn what_the_chart_tells_artifact_hub_of_the_resource_is_so() {
    let schemas = tempfile::tempdir().expect("a directory");
    let file = repository().join("crds/ssegateways.yaml");
    of_custom_resources(&file, schemas.path());
    let examples = told("crdsExamples");
    let examples = examples.as_array().expect("examples");
    assert!(!examples.is_empty());
    for example in examples {
        assert_eq!(valid(schemas.path(), &example.to_string(), ""), Ok(1), "{example}");
        let broken = example.to_string().replace("\"url\"", "\"urls\"");
        valid(schemas.path(), &broken, "").expect_err("no url");
    }
    let definition = std::fs::read_to_string(file).expect("the definition");
    let definition: Value = serde_saphyr::from_str(&definition).expect("YAML");
    let [resource]: [Value; 1] =
        told("crds").as_array().expect("a list").clone().try_into().expect("one resource");
    assert_eq!(resource["name"], definition["metadata"]["name"]);
    assert_eq!(resource["kind"], definition["spec"]["names"]["kind"]);
    assert_eq!(resource["version"], definition["spec"]["versions"][0]["name"]);
}
