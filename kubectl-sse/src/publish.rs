//! `kubectl sse publish`: one event, over the gateway's own HTTP with a JWT that may.
//!
//! Where the gateway takes none over HTTP, or with `--dry-run`, the line is printed that publishes it by NATS' own tool:
//! who may publish to NATS has its credentials, and this program does not go looking for them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hyper::Method;
use sse_crds::SseGatewaySpec;
use sse_crds::encoding::{IN_TOKENS, percent};
use tokio::io::stdin;

use crate::arguments;
use crate::cluster::Cluster;
use crate::credential::{Credential, Said};
use crate::door::{Answer, Door};
use crate::input;
use crate::say;
use crate::session;

/// Standard input has to end in this time.
const INPUT: Duration = Duration::from_mins(1);
/// Larger events than any gateway takes are not sent.
const MAX_DATA: u64 = 8 * 1024 * 1024;

/// An event: the subject below the tenant, the headers, the payload.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    subject: String,
    headers: Vec<(&'static str, String)>,
    data: String,
}

/// # Errors
///
/// When the event was not taken.
pub async fn run(cluster: &Cluster, arguments: &arguments::Publish) -> Result<ExitCode> {
    let gateway = cluster.gateway(&arguments.name).await?;
    let mut credential = Credential::of(&arguments.jwt);
    let event = event(arguments, data(&arguments.data).await?)?;
    let enabled = gateway.spec.publish.enabled;
    if arguments.dry_run || !enabled {
        let jwt = match &mut credential {
            Some(credential) => Some(credential.get().await?),
            None => None,
        };
        let said = jwt.and_then(|jwt| jwt.said());
        let tenant = tenant(arguments.tenant.as_deref(), said.as_ref(), &gateway.spec)?;
        say::out(&nats_line(&gateway.spec, &tenant, &event))?;
        if arguments.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        say::note(
            "nothing was published: spec.publish.enabled is false. The line above does it, where NATS is reached",
        );
        return Ok(ExitCode::FAILURE);
    }
    let mut credential = credential
        .take()
        .context("a JWT whose publish claim covers the subject is needed: --jwt-command, --jwt-file or --jwt; or --dry-run")?;
    let jwt = credential.get().await?;
    let url = Door::at_url(&arguments.door)?;
    let (door, _) = cluster.way(&gateway, url.as_ref(), None).await?;
    let path = format!("{}/events", session::base(&door, &gateway.spec));
    let authorization = jwt.bearer();
    let mut headers = vec![("authorization", authorization.as_str()), ("sse-subject", &event.subject)];
    headers.extend(event.headers.iter().map(|(name, value)| (*name, value.as_str())));
    let response = door.open().await?.ask(Method::POST, &path, &headers, event.data.clone()).await?;
    let answer = Answer::of(response).await?;
    if answer.status != 202 {
        let detail = answer.detail().unwrap_or_else(|| "no word of why: it may not be the gateway".into());
        bail!("the gateway answered {}: {detail}", answer.status.as_u16());
    }
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    say::out(body["id"].as_str().unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

async fn data(argument: &str) -> Result<String> {
    if let Some(file) = argument.strip_prefix('@') {
        return tokio::fs::read_to_string(file).await.with_context(|| format!("--data {file}"));
    }
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    input::whole(stdin(), MAX_DATA, INPUT).await.context("--data -")
}

fn event(arguments: &arguments::Publish, data: String) -> Result<Event> {
    let token = |id: &str| percent(id, IN_TOKENS);
    // Topics are in lower case, and each of their levels is a token.
    let topic = |name: &str| {
        let levels: Vec<_> = name.trim().to_lowercase().split('.').map(token).collect();
        levels.join(".")
    };
    let list = |names: &[String], of: &dyn Fn(&str) -> String| {
        names.iter().map(|name| of(name.trim())).collect::<Vec<_>>().join(",")
    };
    let mut headers = Vec::new();
    let subject = if let Some(user) = &arguments.user {
        format!("user.{}", token(user))
    } else if !arguments.users.is_empty() {
        headers.push(("Sse-Users", list(&arguments.users, &token)));
        "users".into()
    } else if let Some(name) = &arguments.topic {
        format!("topic.{}", topic(name))
    } else if !arguments.topics.is_empty() {
        headers.push(("Sse-Topics", list(&arguments.topics, &topic)));
        "topics".into()
    } else if let Some(id) = &arguments.connection {
        format!("conn.{id}")
    } else {
        "all".into()
    };
    ensure!(!data.is_empty(), "--data: the event is empty");
    headers.extend(arguments.event.clone().map(|name| ("Sse-Event", name)));
    headers.extend(arguments.retry.map(|ms| ("Sse-Retry", ms.to_string())));
    headers.extend(arguments.complete.then(|| ("Sse-Complete", "true".into())));
    headers.extend(arguments.message_id.clone().map(|id| ("Nats-Msg-Id", id)));
    Ok(Event { subject, headers, data })
}

/// The tenant that is named, or that of the JWT, or that of everybody.
fn tenant(named: Option<&str>, said: Option<&Said>, spec: &SseGatewaySpec) -> Result<String> {
    let claimed = said.and_then(|said| said.text(&spec.auth.tenant_claim));
    let default = Some(spec.auth.default_tenant.clone()).filter(|tenant| !tenant.is_empty());
    named.map(str::to_owned).or(claimed).or(default).context("--tenant is needed, or a JWT that names one")
}

/// What publishes the event by NATS' own tool, as a shell takes it.
fn nats_line(spec: &SseGatewaySpec, tenant: &str, event: &Event) -> String {
    let nats = &spec.nats;
    let tenant = percent(tenant, IN_TOKENS);
    let mut words = vec!["nats".to_owned(), "--server".into(), quoted(&nats.url)];
    if nats.credentials_secret_ref.is_some() {
        // A publisher's own: those of the gateway are not for others.
        words.extend(["--creds".into(), "publisher.creds".into()]);
    }
    if let Some(secret) = &nats.tls.ca_secret_ref {
        words.extend(["--tlsca".into(), quoted(&secret.key)]);
    }
    words.extend(["pub".into(), quoted(&format!("{}.{tenant}.{}", nats.subject_prefix, event.subject))]);
    words.push(quoted(&event.data));
    for (name, value) in &event.headers {
        // The window of names is the whole stream's.
        let value = if *name == "Nats-Msg-Id" { format!("{tenant}:{value}") } else { value.clone() };
        words.extend(["-H".into(), quoted(&format!("{name}:{value}"))]);
    }
    words.join(" ")
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/%=@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn asked(arguments: &[&str]) -> Event {
        let all = [&["kubectl-sse", "publish", "live"], arguments].concat();
        let Ok(Arguments { command: Command::Publish(publish), .. }) = Arguments::try_parse_from(all) else {
            unreachable!("that is what is asked for");
        };
        event(&publish, publish.data.clone()).expect("an event")
    }

    fn spec(nats: &serde_json::Value) -> SseGatewaySpec {
        serde_json::from_value(json!({"nats": nats, "auth": {"issuers": []}})).expect("a spec")
    }

    #[test]
    fn whoever_is_meant_is_spelled_as_the_gateway_reads_it() {
        let subject = |arguments: &[&str]| asked(&[arguments, &["--data", "x"]].concat()).subject;
        assert_eq!(subject(&["--user", "alice@example.com"]), "user.alice%40example%2Ecom");
        assert_eq!(subject(&["--topic", "Orders.EU"]), "topic.orders.eu");
        assert_eq!(subject(&["--all"]), "all");
        let event = asked(&["--users", "a.b,c", "--event", "lunch", "--complete", "--data", "x"]);
        assert_eq!(event.subject, "users");
        let headers = [("Sse-Users", "a%2Eb,c"), ("Sse-Event", "lunch"), ("Sse-Complete", "true")];
        assert_eq!(event.headers, headers.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn the_line_for_nats_can_be_pasted() {
        let event = asked(&["--user", "alice", "--data", "it's {1}", "--message-id", "7"]);
        let line = nats_line(&spec(&json!({"url": "nats://nats:4222"})), "acme.eu", &event);
        let expected = r"nats --server nats://nats:4222 pub sse.acme%2Eeu.user.alice 'it'\''s {1}' -H Nats-Msg-Id:acme%2Eeu:7";
        assert_eq!(line, expected);
    }

    #[test]
    fn the_tenant_is_the_named_one_or_the_credentials() {
        let spec = spec(&json!({"url": "nats://nats"}));
        let said = Said {
            algorithm: String::new(),
            claims: [("tenant".into(), json!("acme"))].into_iter().collect(),
        };
        assert_eq!(tenant(Some("other"), Some(&said), &spec).expect("a tenant"), "other");
        assert_eq!(tenant(None, Some(&said), &spec).expect("a tenant"), "acme");
        assert!(tenant(None, None, &spec).is_err());
    }
}
