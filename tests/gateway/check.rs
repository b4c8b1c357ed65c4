//! `sse-gateway check`, as somebody runs it before there is a cluster: what is wrong is on stderr, all of it at once, with exit
//! code 1; what is allowed and will hurt is there, too, and does not fail; what is good is said on stdout.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sse_tests::process::built;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);
const GOOD: &str = "
nats: {url: 'nats://n:4222'}
auth: {issuers: [{issuer: a, audiences: [live], algorithms: [HS256], keySecretRef: {name: k, key: k}}]}
";

/// Exit code, stdout and stderr.
async fn run(arguments: &[&str]) -> Result<(i32, String, String)> {
    let mut command = Command::new(built("sse-gateway")?);
    command.arg("check").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(DEADLINE, command.output()).await.context("it does not end")??;
    let code = output.status.code().context("ended by a signal")?;
    Ok((code, String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

async fn check(file: &str) -> Result<(i32, String, String)> {
    let dir = TempDir::new()?;
    let path = dir.path().join("gateway.yaml");
    std::fs::write(&path, file)?;
    let path = path.to_string_lossy();
    let (code, said, complaints) = run(&["--config", &path]).await?;
    Ok((code, said.replace(&*path, "FILE"), complaints))
}

/// The same as the resource that somebody applies.
fn resource(spec: &str) -> String {
    let head = "apiVersion: ssegateway.io/v1alpha1\nkind: SseGateway\nmetadata: {name: live}\nspec:\n";
    spec.lines().fold(head.to_owned(), |mut all, line| {
        let _ = writeln!(all, "  {line}");
        all
    })
}

/// What is said of each field; each line is of one, and none comes twice.
fn by_field(lines: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for line in lines {
        let (field, message) = line.split_once(": ").with_context(|| format!("no field: {line:?}"))?;
        ensure!(all.insert(field.to_owned(), message.to_owned()).is_none(), "twice: {line}");
    }
    Ok(all)
}

#[tokio::test]
async fn a_good_declaration_is_said_to_be_good_and_nothing_else_is() -> Result<()> {
    for file in [GOOD.to_owned(), resource(GOOD)] {
        assert_eq!(check(&file).await?, (0, "FILE is good.\n".into(), String::new()), "{file}");
    }
    Ok(())
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once_with_what_is_allowed() -> Result<()> {
    let wrong = r#"
nats: {url: "http://n:4222", subjectPrefix: a.b, stream: {storage: Disk}}
auth: {modes: [Token, Header], issuers: [{issuer: a, algorithms: [none], jwksUri: "https://a/keys"}]}
stream: {heartbeatIntervalSeconds: 90, heartbeatMode: Loud, retryMs: hunter2}
limits: {overflowPolicy: Drop, connectionBufferSize: 0}
cors: {allowedOrigins: ["*"]}
logging: {level: loud}
replicas: [hunter2]
colour: red
"#;
    let expected = [
        ("auth.issuers[0].algorithms[0]", &["HS256", "RS256", "ES256", "EdDSA"][..]),
        ("auth.modes[1]", &["Token", "Bearer", "Cookie"]),
        ("colour", &["no such field"]),
        ("cors.allowedOrigins[0]", &["https://host", "without '*'"]),
        ("limits.connectionBufferSize", &["is 0", "1 to 100000"]),
        ("limits.overflowPolicy", &["CatchUp", "DropOldest", "Disconnect"]),
        ("logging.level", &["error", "warn", "info", "debug", "trace"]),
        ("nats.stream.storage", &["File", "Memory"]),
        ("nats.subjectPrefix", &["a-z 0-9 _"]),
        ("nats.url", &["nats://host:port", "tls://host:port"]),
        ("replicas", &["must be"]),
        ("stream.heartbeatMode", &["Comment", "Event"]),
        ("stream.retryMs", &["must be"]),
    ];
    for file in [wrong.to_owned(), resource(wrong)] {
        let (code, said, complaints) = check(&file).await?;
        assert_eq!((code, said.as_str()), (1, ""), "{complaints}");
        // A value may be a secret that was put into the wrong place.
        ensure!(!complaints.contains("hunter2"), "{complaints}");
        let (warnings, errors): (Vec<&str>, Vec<&str>) =
            complaints.lines().partition(|line| line.starts_with("warning: "));
        let errors = by_field(&errors)?;
        let fields: Vec<&str> = errors.keys().map(String::as_str).collect();
        assert_eq!(fields, expected.map(|(field, _)| field), "{complaints}");
        for (field, allowed) in expected {
            ensure!(allowed.iter().all(|part| errors[field].contains(part)), "{field}: {}", errors[field]);
        }
        // What can be read is looked at beside what can not.
        ensure!(warnings.iter().any(|line| line.contains("heartbeatIntervalSeconds")), "{complaints}");
    }
    Ok(())
}

#[tokio::test]
async fn what_will_hurt_is_a_warning_and_no_failure() -> Result<()> {
    let harmful = r#"
nats: {url: "nats://n:4222"}
auth: {issuers: [{issuer: a, algorithms: [HS256], keySecretRef: {name: k, key: k}}], modes: [Bearer]}
stream: {heartbeatIntervalSeconds: 60}
cors: {allowedOrigins: ["http://app.example.com"]}
"#;
    let (code, said, complaints) = check(harmful).await?;
    assert_eq!((code, said.as_str()), (0, "FILE is good.\n"), "{complaints}");
    let warnings: Vec<&str> = complaints.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    assert_eq!(warnings.len(), complaints.lines().count(), "{complaints}");
    let warnings = by_field(&warnings)?;
    for (field, why) in [
        ("auth.issuers[0].audiences", "any other service"),
        ("auth.modes", "EventSource can not send a header"),
        ("cors.allowedOrigins[0]", "changed on the way"),
        ("stream.heartbeatIntervalSeconds", "silent for 60 s"),
    ] {
        ensure!(warnings.get(field).is_some_and(|message| message.contains(why)), "{field}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_declaration_is_told_and_so_is_a_command_that_names_none() -> Result<()> {
    for (file, what) in [("nats: [", "no YAML"), ("", "must be"), ("[]", "must be")] {
        let (code, said, complaints) = check(file).await?;
        assert_eq!((code, said.as_str()), (1, ""), "{file:?}: {complaints}");
        ensure!(complaints.contains(what), "{file:?}: {complaints}");
    }
    let (code, said, complaints) = run(&["--config", "/nowhere/gateway.yaml"]).await?;
    assert_eq!((code, said.as_str()), (1, ""), "{complaints}");
    ensure!(complaints.starts_with("/nowhere/gateway.yaml: No such file"), "{complaints}");
    let (code, said, complaints) = run(&[]).await?;
    assert_eq!((code, said.as_str()), (2, ""), "{complaints}");
    ensure!(complaints.contains("--config"), "{complaints}");
    Ok(())
}
