//! Command line and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use sse_crds::pod::ImagePullPolicy;
use sse_crds::telemetry::OtlpProtocol;

/// Runs gateways for `SseGateway` resources.
#[derive(Debug, Parser)]
#[command(name = "sse-operator", version, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Image of the gateway pods, where an SseGateway names none of its own. Required to run.
    #[arg(long, env, required = true, value_parser = NonEmptyStringValueParser::new())]
    pub gateway_image: Option<String>,

    /// When the image of the gateway pods is pulled.
    #[arg(long, env, value_enum, default_value = "IfNotPresent")]
    pub gateway_image_pull_policy: PullPolicy,

    /// Namespaces to watch, comma-separated. Empty: all.
    #[arg(long, env, value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Name of the Lease, in the operator's own namespace, by which of several operators one works.
    #[arg(long, env, default_value = "sse-operator", value_parser = NonEmptyStringValueParser::new())]
    pub lease_name: String,

    /// Name of the operator's pod, by which the Lease tells who holds it.
    #[arg(long, env, default_value = "sse-operator")]
    pub pod_name: String,

    /// Most gateways whose pods are replaced at once because of a new default image or a new operator.
    #[arg(long, env, default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_concurrent_rollouts: u16,

    /// Namespace of the operator's own pods, which network policies let in.
    #[arg(long, env, value_parser = NonEmptyStringValueParser::new())]
    pub pod_namespace: Option<String>,

    /// Labels that select the operator's own pods in it: `key=value`, comma-separated.
    #[arg(long, env, value_delimiter = ',', value_parser = label)]
    pub pod_labels: Vec<(String, String)>,

    /// Labels of all that is made for gateways, pods too: `key=value`, comma-separated.
    #[arg(long, env, value_delimiter = ',', value_parser = label)]
    pub common_labels: Vec<(String, String)>,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env, default_value = "[::]:8080")]
    pub listen: SocketAddr,

    /// Form of the log lines.
    #[arg(long, env, value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// Least severity that is logged, or filter directives such as `info,kube=debug`.
    #[arg(long, env, default_value = "info")]
    pub log_level: String,

    /// OpenTelemetry collector of the operator's own traces and metrics: `http://collector:4317`. Empty: nothing is exported.
    #[arg(long, env, default_value = "", value_parser = endpoint)]
    pub otlp_endpoint: String,

    /// Protocol spoken with it.
    #[arg(long, env, value_enum, default_value = "grpc")]
    pub otlp_protocol: Protocol,

    /// File with the headers of each export, one `name=value` a line. Read again when it changes.
    #[arg(long, env)]
    pub otlp_headers_file: Option<PathBuf>,

    /// File with the certificate authority (PEM) of the collector, instead of the public ones.
    #[arg(long, env)]
    pub otlp_ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Prints the CustomResourceDefinition as YAML.
    Crd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

/// [`ImagePullPolicy`], by the names of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl From<PullPolicy> for ImagePullPolicy {
    fn from(policy: PullPolicy) -> Self {
        match policy {
            PullPolicy::Always => Self::Always,
            PullPolicy::IfNotPresent => Self::IfNotPresent,
            PullPolicy::Never => Self::Never,
        }
    }
}

/// [`OtlpProtocol`], as the chart's values name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Grpc,
    Http,
}

impl From<Protocol> for OtlpProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc,
            Protocol::Http => Self::Http,
        }
    }
}

/// What a resource may say, too: credentials are for the headers.
fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_good =
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(|c: char| c == '@' || c.is_whitespace()));
    if is_good || text.is_empty() {
        return Ok(text.to_owned());
    }
    Err("must be http://… or https://…, without credentials".into())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["sse-operator"], arguments].concat())
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn labels_are_pairs() {
        let run = ["--gateway-image", "i", "--pod-namespace", "sse-system", "--pod-labels"];
        let arguments =
            parse(&[&run[..], &["a/b=c, d=e", "--common-labels=team=a"]].concat()).expect("arguments");
        assert_eq!(arguments.pod_namespace.as_deref(), Some("sse-system"));
        assert_eq!(arguments.pod_labels, [("a/b".into(), "c".into()), ("d".into(), "e".into())]);
        assert_eq!(arguments.common_labels, [("team".into(), "a".into())]);
        let wrong = parse(&[&run[..], &["a"]].concat()).expect_err("no pair").to_string();
        assert!(wrong.contains("must be key=value"), "{wrong}");
    }

    #[test]
    fn an_endpoint_is_a_url_without_credentials() {
        let with = |endpoint: &str| parse(&["--gateway-image", "i", "--otlp-endpoint", endpoint]);
        for good in ["", "http://tempo.monitoring.svc:4317", "https://collector/otlp"] {
            assert_eq!(with(good).expect("arguments").otlp_endpoint, good);
        }
        for wrong in ["collector:4317", "http://", "http://me:s3cret@collector", "http://a b"] {
            assert!(with(wrong).expect_err(wrong).to_string().contains("without credentials"), "{wrong}");
        }
    }

    #[test]
    fn only_running_needs_an_image() {
        assert_eq!(parse(&["crd"]).expect("arguments").command, Some(Command::Crd));
        assert!(parse(&[]).expect_err("no image").to_string().contains("--gateway-image"));
        let run = parse(&["--gateway-image", "i", "--watch-namespaces", "a,b"]).expect("arguments");
        assert_eq!(run.gateway_image.as_deref(), Some("i"));
        assert_eq!(run.gateway_image_pull_policy, PullPolicy::IfNotPresent);
        assert_eq!(run.watch_namespaces, ["a", "b"]);
        assert_eq!(run.listen.port(), 8080);
        assert_eq!((run.lease_name.as_str(), run.max_concurrent_rollouts), ("sse-operator", 1));
        assert!(parse(&["--gateway-image", "i", "--max-concurrent-rollouts", "0"]).is_err());
    }
}
