//! `kubectl sse doctor`: the usual mistakes of a gateway, each with why it matters and what to do.
//!
//! Each room looks at one thing and says what it [found](finding): what is [declared], the [pods], the [jwt], the
//! [way] from clients to pods as it is declared, its [scaling], and a [probe] of the way, which meets the gateway as a
//! [stranger] first. What could not be looked at is said too.

mod declared;
mod finding;
mod jwt;
mod pods;
mod probe;
mod scaling;
mod stranger;
mod way;

use std::process::ExitCode;

use anyhow::Result;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;
use serde::Serialize;
use sse_crds::SseGateway;

use crate::arguments::{self, Output};
use crate::cluster::{Cluster, namespace_of};
use crate::credential::{Credential, Jwt};
use crate::door::{Door, Trust, Url};
use crate::say::{self, Paint};
use finding::{Finding, Severity};

/// Gateways that are looked at at once; of each, several pods.
const AT_ONCE: usize = 4;

/// What was found of a gateway, and how far the look went.
#[derive(Debug, Default, Serialize)]
struct Examination {
    namespace: String,
    name: String,
    findings: Vec<Finding>,
    /// What was looked at.
    looked: Vec<String>,
    /// What was not, and why.
    skipped: Vec<String>,
}

/// # Errors
///
/// When the API server does not answer, there is no gateway, or no JWT is to be had.
pub async fn run(cluster: &Cluster, arguments: &arguments::Doctor) -> Result<ExitCode> {
    let gateways = cluster.gateways(arguments.name.as_deref(), arguments.all_namespaces).await?;
    let jwt = match Credential::of(&arguments.jwt) {
        Some(mut credential) => Some(credential.get().await?),
        None => None,
    };
    let examined = gateways.iter().map(|gateway| examine(cluster, gateway, arguments, jwt.as_ref()));
    let examined: Vec<_> = stream::iter(examined).buffered(AT_ONCE).try_collect().await?;
    match arguments.output {
        Output::Json => say::out(&serde_json::to_string_pretty(&examined)?)?,
        Output::Text => {
            let texts: Vec<_> = examined.iter().map(|one| text(one, Paint::of_output())).collect();
            say::out(&texts.join("\n\n"))?;
        }
    }
    let mut findings = examined.iter().flat_map(|one| &one.findings);
    let is_ill = findings.any(|finding| finding.severity == Severity::Error);
    Ok(if is_ill { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn examine(
    cluster: &Cluster,
    gateway: &SseGateway,
    arguments: &arguments::Doctor,
    jwt: Option<&Jwt>,
) -> Result<Examination> {
    let mut one =
        Examination { namespace: namespace_of(gateway), name: gateway.name_any(), ..Examination::default() };
    one.findings.extend(declared::advice(&gateway.spec));
    one.looked.push("the declaration".into());

    let seen = pods::look(cluster, gateway).await;
    one.looked.push(format!("{} pods", seen.looked.len()));
    one.skipped.extend(seen.skipped.clone());
    one.findings.extend(pods::findings(gateway, &seen));
    one.findings.extend(pods::clock(&seen));
    let clock = seen.clock();

    if let Some(said) = jwt.and_then(Jwt::said) {
        one.findings.extend(jwt::findings(&said, &gateway.spec, clock));
        one.looked.push("the JWT".into());
    } else {
        one.skipped
            .push("credentials and the first byte of a stream: give --jwt-command or --jwt-file".into());
    }
    for way::Way { findings, skipped } in
        [way::look(cluster, gateway).await, scaling::look(cluster, gateway).await]
    {
        one.findings.extend(findings);
        one.skipped.extend(skipped);
    }
    way_to_pods(cluster, gateway, arguments, jwt, &mut one).await?;
    declared::condition(gateway, &mut one.findings);
    finding::settle(&mut one.findings);
    Ok(one)
}

/// Goes the way of a client: by the public URL where there is one, or else to a pod.
async fn way_to_pods(
    cluster: &Cluster,
    gateway: &SseGateway,
    arguments: &arguments::Doctor,
    jwt: Option<&Jwt>,
    one: &mut Examination,
) -> Result<()> {
    let found = match Door::at_url(&arguments.door)? {
        Some(given) => Some(given),
        None => exposed(gateway, arguments)?,
    };
    let door = if let Some(Door::Url { url, .. }) = &found {
        one.looked.push(format!("the URL of {}", url.authority));
        found
    } else {
        one.skipped.push("the way from outside: spec.expose names none; give --url".into());
        // Without a pod that serves there are other findings.
        let way = cluster.way(gateway, None, None).await.ok().map(|(door, _)| door);
        way.filter(|_| jwt.is_some())
    };
    let Some(door) = door else { return Ok(()) };
    // What is known to be wrong with the JWT needs no refusal.
    let refused = one.findings.iter().any(|finding| jwt::CODES.contains(&finding.code));
    one.findings.extend(probe::look(&door, &gateway.spec, jwt.filter(|_| !refused), arguments.slow).await);
    if !arguments.slow {
        one.skipped.push("whether a quiet stream outlives a heartbeat: give --slow".into());
    }
    Ok(())
}

/// The URL at which the gateway is exposed beyond the cluster.
fn exposed(gateway: &SseGateway, arguments: &arguments::Doctor) -> Result<Option<Door>> {
    let expose = &gateway.spec.expose;
    let url = gateway.status.as_ref().and_then(|status| status.url.as_deref());
    let Some(url) = url.filter(|_| expose.ingress.enabled || expose.http_route.enabled) else {
        return Ok(None);
    };
    let Ok(url) = Url::parse(url) else { return Ok(None) };
    // A route without a host of its own has the name of the Service.
    if url.host.rsplit('.').next() == Some("svc") {
        return Ok(None);
    }
    Ok(Some(Door::Url { url, trust: Trust::of_machine(arguments.door.ca_file.as_deref())? }))
}

fn text(one: &Examination, paint: Paint) -> String {
    let mut lines = vec![paint.strong(&format!("{}/{}", one.namespace, one.name))];
    lines.extend(one.findings.iter().map(|finding| finding.text(paint)));
    let count =
        |severity: Severity| one.findings.iter().filter(|finding| finding.severity == severity).count();
    lines.push(match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => paint.good("nothing is wrong, as far as this went"),
        (errors, warnings) => format!("errors: {errors}, warnings: {warnings}"),
    });
    lines.push(paint.faint(&format!("looked at: {}", one.looked.join(", "))));
    lines.extend(one.skipped.iter().map(|skipped| paint.faint(&format!("not looked at: {skipped}"))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn at(expose: &Value, url: &str) -> Option<Url> {
        let gateway = serde_json::from_value(json!({
            "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway", "metadata": {"name": "live"},
            "spec": {"nats": {"url": "nats://nats"}, "auth": {"issuers": []}, "expose": expose},
            "status": {"url": url},
        }))
        .expect("a gateway");
        let asked = Arguments::try_parse_from(["kubectl-sse", "doctor", "live"]);
        let Ok(Arguments { command: Command::Doctor(arguments), .. }) = asked else {
            unreachable!("that is what is asked for");
        };
        match exposed(&gateway, &arguments).expect("whom this machine trusts") {
            Some(Door::Url { url, .. }) => Some(url),
            _ => None,
        }
    }

    #[test]
    fn the_way_from_outside_is_the_url_of_the_status_where_one_is_exposed() {
        let ingress = json!({"ingress": {"enabled": true, "host": "live.example.com"}});
        let route = json!({"httpRoute": {"enabled": true, "hostnames": ["live.example.com"]}});
        for expose in [&ingress, &route] {
            let url = at(expose, "http://live.example.com/api/v1/sse").expect("a URL");
            assert_eq!((&*url.authority, &*url.path, url.tls), ("live.example.com", "/api/v1/sse", false));
        }
        assert!(at(&ingress, "https://live.example.com/api/v1/sse").expect("a URL").tls);
        // A name within the cluster is none from outside, whoever asked for an Ingress.
        assert_eq!(at(&route, "http://live.shop.svc:8080/api/v1/sse"), None);
        assert_eq!(at(&json!({}), "http://live.example.com/api/v1/sse"), None);
        assert_eq!(at(&ingress, "not known yet"), None);
    }
}
