//! `helm test`, which sees an event go through a gateway of its own; and the commands that the notes hand to a person.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use serde_json::json;
use sse_tests::cluster::{
    Namespace, RELEASE, SYSTEM, alone_in_namespace, install, install_with, kubectl, prefix, run,
};
use sse_tests::outside::outside;
use sse_tests::pages::documented;
use sse_tests::pages::shell::Shell;
use sse_tests::process::toolbox;
use tokio::process::Command;

/// The test's pod, its gateway, and all that it makes.
const NAME: &str = "test-sse-gateway";

#[tokio::test(flavor = "multi_thread")]
async fn helm_test_goes_there_and_back_leaves_nothing_and_fails_when_it_should() -> Result<()> {
    alone_in_namespace("round-trip", async |_: &Namespace| {
        // Helm 3 looks for the logs of what it has removed already.
        let told = Shell::of(&documented(file!())?)?.run().await?.printed;
        ensure!(told.contains("got what it had missed, and nothing else"), "{told}");
        nothing_is_left().await?;
        run("helm3", &["test", RELEASE, "--namespace", SYSTEM, "--timeout", "3m"]).await?;
        nothing_is_left().await?;

        let nowhere = "test.nats.url=nats://nowhere.invalid:4222,test.timeoutSeconds=8";
        install_with("helm", &["--set", nowhere]).await?;
        let passed = run("helm", &["test", RELEASE, "--namespace", SYSTEM, "--timeout", "3m"]).await;
        let logs = kubectl(&["-n", SYSTEM, "logs", NAME]).await?;
        ensure!(passed.is_err(), "it passed without NATS: {logs}");
        ensure!(logs.contains("the gateway did not become ready: Ready is False"), "{logs}");
        nothing_works_on().await?;
        // For its logs the pod stays, and nothing by which it could do more.
        ensure!(hooks().await?.trim() == format!("pod/{NAME}"), "{}", hooks().await?);
        install("helm").await?;
        // It takes the place of the one that failed.
        run("helm", &["test", RELEASE, "--namespace", SYSTEM, "--timeout", "3m"]).await?;
        nothing_is_left().await
    })
    .await
}

/// It removes the log that it made, and none that it was pointed at.
#[tokio::test(flavor = "multi_thread")]
async fn helm_test_on_the_prefix_of_another_gateway_fails_and_leaves_its_log_alone() -> Result<()> {
    alone_in_namespace("anothers", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let prefix = prefix(&namespace.name);
        let nats = outside().await?;
        nats.publisher.insist(&format!("{prefix}.acme.user.alice"), "acme:kept", "to be kept").await?;
        let kept = async || {
            let stream = nats.publisher.jetstream.get_stream(format!("SSE_{prefix}")).await?;
            anyhow::Ok((stream.cached_info().created, stream.cached_info().state.messages > 0))
        };
        let before = kept().await?;
        let there = format!("test.nats.subjectPrefix={prefix},test.timeoutSeconds=15");
        install_with("helm", &["--set", &there]).await?;
        let passed = run("helm", &["test", RELEASE, "--namespace", SYSTEM, "--timeout", "3m"]).await;
        let logs = kubectl(&["-n", SYSTEM, "logs", NAME]).await?;
        install("helm").await?;
        ensure!(passed.is_err() && logs.contains("the gateway did not become ready"), "{logs}");
        ensure!(before.1 && kept().await? == before, "the log of another gateway is gone");
        Ok(())
    })
    .await
}

/// What there is of the test itself.
async fn hooks() -> Result<String> {
    let kinds = "pods,serviceaccounts,roles,rolebindings,configmaps";
    kubectl(&["-n", SYSTEM, "get", kinds, "-l", "app.kubernetes.io/component=test", "-o", "name"]).await
}

async fn nothing_is_left() -> Result<()> {
    nothing_works_on().await?;
    let left = hooks().await?;
    ensure!(left.is_empty(), "still there: {left}");
    let nats = outside().await?;
    let mut streams = nats.publisher.jetstream.stream_names();
    while let Some(stream) = streams.try_next().await? {
        ensure!(stream != "SSE_helm_test" && !stream.contains(NAME), "still there: {stream}");
    }
    Ok(())
}

/// The gateway is gone, with its pods and its key.
async fn nothing_works_on() -> Result<()> {
    let declared = format!("ssegateway/{NAME} secret/{NAME} deployment/{NAME}");
    for object in declared.split(' ') {
        let left = kubectl(&["-n", SYSTEM, "get", object, "--ignore-not-found", "-o", "name"]).await?;
        ensure!(left.is_empty(), "still there: {left}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notes_hold_commands_that_work() -> Result<()> {
    alone_in_namespace("notes", async |_: &Namespace| {
        let notes = run("helm", &["get", "notes", RELEASE, "--namespace", SYSTEM]).await?;
        let worked = match followed(&notes).await {
            // It is gone before the logs of the test are kept.
            Err(error) => Err(error.context(live().await)),
            worked => worked,
        };
        kubectl(&["-n", SYSTEM, "delete", "ssegateway/live", "secret/live-jwt", "--ignore-not-found"])
            .await?;
        worked
    })
    .await
}

/// What there is to know of the gateway that the notes declare.
async fn live() -> String {
    let asked = [
        "get ssegateway/live -o yaml",
        "get pods,events -o wide",
        "logs -l app.kubernetes.io/instance=live --prefix --tail=40",
        "logs -l app.kubernetes.io/name=sse-gateway --prefix --tail=40",
    ];
    let mut told = String::new();
    for arguments in asked {
        let arguments: Vec<&str> = ["-n", SYSTEM].into_iter().chain(arguments.split(' ')).collect();
        told += &kubectl(&arguments).await.unwrap_or_else(|error| format!("{error:#}"));
    }
    told
}

/// Does what the notes say, with other ports, which may be taken here, and with NATS' own `nats-pub`, since its `nats`
/// is not to be had from the Go module proxy.
async fn followed(notes: &str) -> Result<()> {
    let (_, steps) = notes.split_once("\n1. ").context("no first step")?;
    let commands: String = steps
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with("2. ") && !line.starts_with("3. "))
        .map(|line| {
            let stays = line.starts_with("curl -N");
            if stays { format!("{line} >\"$OUT\" &\nsees :connected\n") } else { format!("{line}\n") }
        })
        .collect();
    ensure!(commands.contains("sees :connected") && commands.contains("nats --server"), "{notes}");
    let commands = [("8080", "18081"), ("4222", "14223")].iter().fold(commands, |text, (port, free)| {
        text.replace(&format!("{port}:{port}"), &format!("{free}:{port}"))
            .replace(&format!("localhost:{port}"), &format!("localhost:{free}"))
    });
    let script = format!(
        r#"OUT=$(mktemp)
        trap 'kill $(jobs -p); rm -f "$OUT"' EXIT
        trap 'echo "too late at: $BASH_COMMAND" >&2; exit 1' TERM
        sees() {{ until grep -qF -- "$1" "$OUT"; do sleep 0.2; done; }}
        nats() {{ [[ "$1 $3 $4 $5" == "--server pub -H Sse-Event:greeting" ]] && nats-pub -s "$2" "$6" "$7"; }}
        {commands}
        sees '{{"hello":"alice"}}'"#
    );
    let tools = toolbox("nats-pub").parent().context("a folder")?.display().to_string();
    let path = format!("{tools}:{}", std::env::var("PATH")?);
    let mut bash = Command::new("timeout");
    // It ends what the script began, too. The notes themselves wait for three minutes.
    bash.args(["240", "bash", "-euo", "pipefail", "-c", &script]).env("PATH", path).env("no_proxy", "*");
    let output = tokio::time::timeout(Duration::from_secs(260), bash.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(())
}
