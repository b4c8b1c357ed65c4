//! Private authorities, as companies have them: NATS over TLS by one, the issuer's keys over HTTPS by
//! another, from pods whose image has no file but the gateway, and whose own certificate is of a third. And NATS
//! grants what the chart's README documents, and nothing else.
//!
//! The issuer is the cluster itself: its API server publishes the keys of service accounts, and every
//! cluster has it where pods can reach it, which a server in this process has not.

mod public;
pub mod server;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as KubeNamespace, Pod};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use sse_tests::authority::Authority;
use sse_tests::client::Stream;
use sse_tests::cluster::{Namespace, apply, in_namespace, kubectl, manifest};
use sse_tests::eventually;
use sse_tests::secrets;

use server::{Nats, look_again, secret};

/// The operator asks its pods every 15 seconds.
const TOLD: Duration = Duration::from_secs(40);
/// The gateway's pods.
const GATEWAY: &str = "app.kubernetes.io/instance=live";
/// What nats-server logs of each message and subscription that it does not permit.
const VIOLATION: &str = " Violation";
/// And of each client whose credentials it does not accept.
const REFUSED: &str = "authentication error";

#[tokio::test(flavor = "multi_thread")]
async fn private_authorities_and_the_documented_permissions_serve_and_what_is_wrong_is_named_and_heals()
-> Result<()> {
    in_namespace("private", async |namespace: &Namespace| {
        let mut nats = Nats::start(namespace).await?;
        let cluster = namespace.api::<ConfigMap>().get("kube-root-ca.crt").await?;
        let cluster = cluster.data.and_then(|mut data| data.remove("ca.crt")).context("an authority")?;
        let public = Authority::new()?;
        nats.admit_gateway().await?;
        apply(&manifest(&namespace.name, "live", gateway(namespace).await?)).await?;
        let authorities = async |issuer: &str, server: &str| {
            secret(namespace, "issuer-ca", json!({"ca.crt": issuer})).await?;
            secret(namespace, "nats-ca", json!({"ca.crt": server})).await?;
            look_again(namespace, GATEWAY).await
        };

        let missing = [
            "spec.auth.issuers[0].caSecretRef: issuer-ca/ca.crt",
            "spec.nats.tls.caSecretRef: nats-ca/ca.crt",
            "spec.tls.secretName: live-tls/tls.crt",
        ];
        told(namespace, "Ready", "MissingSecret", &missing).await?;
        public::certify(namespace, &public).await?;
        // Each has the authority of the other.
        authorities(&nats.authority, &cluster).await?;
        let wrong = ["nats.tls.caSecretRef: nats-ca/ca.crt", "UnknownIssuer"];
        told(namespace, "NatsConnected", "Disconnected", &wrong).await?;
        let wrong = ["spec.auth.issuers[0].jwksUri: ", "UnknownIssuer"];
        told(namespace, "Ready", "IssuerUnreachable", &wrong).await?;
        authorities(&cluster, &nats.authority).await?;
        namespace.wait_ready("live").await?;

        let mut streams = everything_that_needs_a_permission(namespace, &nats, &public).await?;
        let log = nats.log().await?;
        ensure!(!log.contains(VIOLATION), "{log}");
        public::is_served_through_the_service(namespace, &nats, &streams, &public).await?;
        public::rotates(namespace, &nats, &mut streams, &public).await?;
        credentials_rotate(namespace, &mut nats, streams).await?;
        let log = nats.log().await?;
        ensure!(!log.contains(VIOLATION), "{log}");
        // The log would have told.
        let denied = nats.connect("gateway").await?;
        denied.client.publish("sse-live.acme.all", "no".into()).await?;
        eventually("a violation in the log", Duration::from_secs(10), || async {
            ensure!(nats.log().await?.contains(VIOLATION));
            Ok(())
        })
        .await
    })
    .await
}

/// Streams of one user, one on each pod.
struct Streams {
    jwt: String,
    subject: String,
    open: Vec<Stream>,
}

/// Events, replay, dead letters and what back ends ask: over both pods.
async fn everything_that_needs_a_permission(
    namespace: &Namespace,
    nats: &Nats<'_>,
    public: &Authority,
) -> Result<Streams> {
    let user = format!("system:serviceaccount:{}:alice", namespace.name);
    let subject = format!("sse.acme.user.{}", user.replace(':', "%3A"));
    let publisher = nats.connect("publisher").await?;
    let token = ["-n", &namespace.name, "create", "token", "alice", "--audience", "sse"];
    let jwt = kubectl(&token).await?.trim().to_owned();
    secrets::jwt(&jwt);
    secrets::user(&user);
    let pods = namespace.ready_pods("live").await?;
    ensure!(pods.len() == 2, "{pods:?}");
    let clients: Vec<_> =
        pods.iter().map(|pod| public::client(namespace, pod, &jwt, public)).collect::<Result<_>>()?;
    let mut streams = [clients[0].open("").await?, clients[1].open("").await?];
    publisher.publish(&subject, "hello").await?;
    for stream in &mut streams {
        ensure!(stream.until("hello").await? == ["hello"]);
    }
    let control = subject.replacen("sse.", "sse-ctl.", 1);
    publisher.client.publish(control, json!({"op": "ping"}).to_string().into()).await?;
    for stream in &mut streams {
        stream.until_raw(":heartbeat\n\n", Duration::from_secs(5)).await?;
    }
    let unlimited = nats.connect_unlimited().await?.client;
    let mut letters = unlimited.subscribe("sse-dead.>").await?;
    unlimited.flush().await?;
    publisher.publish("sse.acme.nowhere", "").await?;
    let letter = tokio::time::timeout(Duration::from_secs(10), letters.next()).await;
    ensure!(letter.context("no dead letter")?.is_some());

    // While nobody listens; each then comes back to the other pod, by a token of the first.
    let cursors = streams.map(|stream| stream.last_id.clone());
    let missed: Vec<_> = (0..20).map(|i| i.to_string()).collect();
    for data in &missed {
        publisher.publish(&subject, data).await?;
    }
    let mut open = Vec::new();
    for (pod, cursor) in [1, 0].into_iter().zip(cursors) {
        let token = clients[1 - pod].token().await?;
        let path = format!("/api/v1/sse/stream?token={token}&lastEventId={cursor}");
        let mut stream = clients[pod].open_at(&path).await?;
        ensure!(stream.until("19").await? == missed);
        open.push(stream);
    }
    Ok(Streams { jwt, subject, open })
}

/// The gateway's credentials are revoked, then others take their place: no pod is replaced or started
/// again, and no stream ends.
async fn credentials_rotate(namespace: &Namespace, nats: &mut Nats<'_>, streams: Streams) -> Result<()> {
    let Streams { subject, mut open, .. } = streams;
    let publisher = nats.connect("publisher").await?;
    let before = starts(namespace).await?;
    nats.revoke_gateway().await?;
    eventually("the server's new configuration", TOLD, || async {
        nats.reload().await?;
        let log = nats.log().await?;
        ensure!(log.contains(REFUSED), "{log}");
        Ok(())
    })
    .await?;
    let wrong = ["nats.credentialsSecretRef: live-nats/nats.creds", "authorization violation"];
    told(namespace, "Ready", "NatsDisconnected", &wrong).await?;
    publisher.publish(&subject, "meanwhile").await?;
    nats.admit_gateway().await?;
    look_again(namespace, GATEWAY).await?;
    namespace.wait_ready("live").await?;
    publisher.publish(&subject, "after").await?;
    for stream in &mut open {
        ensure!(stream.until("after").await? == ["meanwhile", "after"]);
    }
    let after = starts(namespace).await?;
    ensure!(before == after, "{before:?} {after:?}");
    Ok(())
}

/// Names of the gateway's pods, and how often each was started again.
async fn starts(namespace: &Namespace) -> Result<Vec<(String, i32)>> {
    let labels = kube::api::ListParams::default().labels(GATEWAY);
    let pods = namespace.api::<Pod>().list(&labels).await?;
    let restarts = |pod: &Pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        containers.into_iter().flatten().map(|container| container.restart_count).sum()
    };
    Ok(pods.iter().map(|pod| (pod.name_any(), restarts(pod))).collect())
}

/// Waits until a condition of the gateway says these things.
async fn told(namespace: &Namespace, condition: &str, reason: &str, texts: &[&str]) -> Result<()> {
    eventually(reason, TOLD, || async {
        let (status, said, message) = namespace.condition("live", condition).await?;
        ensure!(status == "False" && said == reason, "{condition}: {status} {said}: {message}");
        ensure!(texts.iter().all(|text| message.contains(text)), "{condition}: {message}");
        Ok(())
    })
    .await
}

/// What a gateway is told of both.
async fn gateway(namespace: &Namespace) -> Result<Value> {
    let issuer = the_cluster_as_issuer(namespace).await?;
    Ok(json!({
        "nats": {
            "url": format!("tls://nats.{}.svc:4222", namespace.name),
            // The one of the document.
            "subjectPrefix": "sse",
            "credentialsSecretRef": {"name": "live-nats", "key": "nats.creds"},
            "tls": {"caSecretRef": {"name": "nats-ca", "key": "ca.crt"}},
        },
        "auth": {
            "issuers": [{
                "issuer": issuer, "audiences": ["sse"],
                "jwksUri": "https://kubernetes.default.svc/openid/v1/jwks",
                "caSecretRef": {"name": "issuer-ca", "key": "ca.crt"},
            }],
            "defaultTenant": "acme",
        },
        "tls": {"secretName": "live-tls"},
    }))
}

/// Lets everyone read the keys of service accounts, as long as the namespace is there; returns the `iss` of their
/// tokens.
async fn the_cluster_as_issuer(namespace: &Namespace) -> Result<String> {
    let name = &namespace.name;
    apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": name, "name": "alice"}}))
        .await?;
    let uid = Api::<KubeNamespace>::all(namespace.client.clone()).get(name).await?.metadata.uid;
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid});
    let group = "rbac.authorization.k8s.io";
    apply(&json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{name}-issuer"), "ownerReferences": [owner]},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:service-account-issuer-discovery"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:unauthenticated"}],
    }))
    .await?;
    let discovery: Value =
        serde_json::from_str(&kubectl(&["get", "--raw", "/.well-known/openid-configuration"]).await?)?;
    Ok(discovery["issuer"].as_str().context("an issuer")?.to_owned())
}
