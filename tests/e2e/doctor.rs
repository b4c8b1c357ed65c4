//! The doctor of `kubectl sse`: mistakes are planted, and it names each and nothing else; of a gateway that is well it
//! has nothing to say, also through a proxy that is right.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sse_tests::authority::{Authority, Pair};
use sse_tests::cluster::{Namespace, apply, in_namespace, kubectl, manifest, prefix};
use sse_tests::eventually;
use sse_tests::jwt::{ISSUER, KEY, now, signed};
use sse_tests::kubectl_sse::{diagnosis, jwt_file};
use sse_tests::nginx::{Nginx, Settings};
use sse_tests::outside::Forward;

use crate::private::server;

/// Pods are started, images looked for in vain, and NATS waited for.
const SOON: Duration = Duration::from_secs(90);

/// A gateway that is well but for the patch.
fn gateway(namespace: &Namespace, name: &str, patch: Value) -> Value {
    let mut declared = manifest(&namespace.name, name, json!({"replicas": 1}));
    // A log of its own.
    declared["spec"]["nats"]["subjectPrefix"] = format!("{}_{name}", prefix(&namespace.name)).into();
    declared["spec"]["auth"]["issuers"][0]["audiences"] = json!(["sse"]);
    sse_tests::process::merge(&mut declared["spec"], patch);
    declared
}

fn issuers(patch: Value) -> Value {
    let mut issuer = json!({"issuer": ISSUER, "audiences": ["sse"], "algorithms": ["HS256"],
        "keySecretRef": {"name": "jwt", "key": "key"}});
    sse_tests::process::merge(&mut issuer, patch);
    if let Some(fields) = issuer.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    json!({"auth": {"issuers": [issuer]}})
}

fn jwt(patch: Value) -> String {
    let mut claims = json!({
        "iss": ISSUER, "aud": "sse", "sub": "alice", "tenant": "acme", "iat": now(), "exp": now() + 3600,
    });
    sse_tests::process::merge(&mut claims, patch);
    signed(&claims, KEY, Algorithm::HS256)
}

/// Waits until the doctor says exactly this, with these words in it.
async fn names(
    namespace: &Namespace,
    gateway: &str,
    arguments: &[&str],
    codes: &[&str],
    word: &str,
) -> Result<()> {
    eventually(gateway, SOON, || async {
        let (found, all) = diagnosis(&namespace.name, gateway, arguments).await?;
        ensure!(found == codes && all.to_string().contains(word), "{found:?} and not {codes:?}: {all:#}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_with_gateways_and_their_pods() -> Result<()> {
    in_namespace("ill", async |namespace: &Namespace| {
        nats_that_permits_little(namespace).await?;
        let owner = json!({"nats": {"subjectPrefix": prefix(&namespace.name)}});
        apply(&gateway(namespace, "owner", owner.clone())).await?;
        namespace.wait_ready("owner").await?;
        // The host of an Ingress that nobody serves leads nowhere: this does.
        let forward = Forward::start(&namespace.name, "service/owner", 8080).await?;
        let url = format!("http://{}", forward.address);
        let planted = planted(namespace, owner);
        for Planted { name, patch, .. } in &planted {
            apply(&gateway(namespace, name, patch.clone())).await?;
        }
        let named = planted.iter().map(async |Planted { name, codes, word, .. }| {
            let arguments = if *name == "impatient" { vec!["--url", &url] } else { vec![] };
            names(namespace, name, &arguments, codes, word).await
        });
        try_join_all(named).await.map(drop)
    })
    .await
}

/// A mistake in a declaration, or of what is around it.
struct Planted {
    name: &'static str,
    patch: Value,
    /// What has to be named, a word of it, and nothing else.
    codes: &'static [&'static str],
    word: &'static str,
}

fn planted(namespace: &Namespace, owned: Value) -> Vec<Planted> {
    let denying = format!("nats://nats.{}.svc:4222", namespace.name);
    let keys =
        json!({"keySecretRef": null, "algorithms": ["RS256"], "jwksUri": "https://nowhere.invalid/keys"});
    let ingress = json!({"enabled": true, "host": "live.invalid",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "10"}});
    let plant = |name, patch, codes, word| Planted { name, patch, codes, word };
    let unreachable = json!({"nats": {"url": "nats://nowhere.invalid:4222"}});
    let absent = json!({"pod": {"image": "localhost/absent:1", "imagePullPolicy": "Never"}});
    // As many as the schema allows: a usual node has no room for them.
    let files = json!({"limits": {"maxConnectionsPerPod": 1_000_000}});
    let impatient = json!({"replicas": 0, "expose": {"ingress": ingress}});
    vec![
        plant("unreachable", unreachable, &["NatsUnreachable"], "nowhere.invalid"),
        plant("denied", json!({"nats": {"url": denying}}), &["NatsPermission"], "JS.API"),
        plant(
            "secret",
            issuers(json!({"keySecretRef": {"name": "absent"}})),
            &["MissingSecret"],
            "create secret generic absent --from-file=key=",
        ),
        plant("image", absent, &["ImageNotPulled"], "localhost/absent:1"),
        plant("owned", owned, &["StreamOwned"], "/owner"),
        plant("keys", issuers(keys), &["JwksUnreachable"], "auth.issuers[0].jwksUri"),
        plant("files", files, &["OpenFileLimit"], "LimitNOFILE"),
        plant(
            "impatient",
            impatient,
            &["HeartbeatAboveProxyTimeout", "IngressNotServed", "ScaledToZero"],
            "proxy-read-timeout",
        ),
    ]
}

/// A NATS server whose users may publish to nobody but who asks them.
async fn nats_that_permits_little(namespace: &Namespace) -> Result<()> {
    let config = "
server_name: little
http_port: 8222
jetstream { store_dir: /data }
authorization { users: [{ user: anyone, password: anyone, permissions: { publish: [\"_INBOX.>\"], subscribe: [\">\"] } }] }
no_auth_user: anyone
";
    server::secret(namespace, "nats", json!({"nats.conf": config})).await?;
    let (service, pod) = server::objects(namespace)?;
    apply(&service).await?;
    apply(&pod).await?;
    let ready = ["-n", &namespace.name, "wait", "--for=condition=Ready", "--timeout=60s", "pod/nats"];
    kubectl(&ready).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_with_credentials_and_proxies_and_nothing_where_all_is_well()
-> Result<()> {
    in_namespace("well", async |namespace: &Namespace| {
        apply(&gateway(namespace, "live", json!({"stream": {"heartbeatIntervalSeconds": 5}}))).await?;
        namespace.wait_ready("live").await?;
        let pods = namespace.ready_pods("live").await?;
        let pod = format!("pod/{}", pods.first().context("a pod")?);
        let forward = Forward::start(&namespace.name, &pod, 8080).await?;
        let authority = Authority::new()?;
        let (pair, trusted) = (authority.pair()?, tempfile::NamedTempFile::new()?);
        std::fs::write(trusted.path(), authority.pem())?;
        let trusted = trusted.path().to_string_lossy().into_owned();

        credentials(namespace).await?;
        proxies(namespace, &forward.address, &pair, &trusted).await
    })
    .await
}

async fn credentials(namespace: &Namespace) -> Result<()> {
    let cases: [(Value, &[&str], &str); 5] = [
        (json!({}), &[], ""),
        (json!({"iss": "https://another.example"}), &["WrongIssuer"], "https://another.example"),
        (json!({"aud": "billing"}), &["WrongAudience"], "billing"),
        (json!({"iat": now() + 300, "nbf": now() + 300}), &["JwtNotYetValid"], "NTP"),
        (json!({"exp": now() - 60}), &["JwtExpired"], "expired"),
    ];
    let named = cases.iter().map(async |(patch, codes, word)| {
        let file = jwt_file(&jwt(patch.clone()))?;
        names(namespace, "live", &["--jwt-file", &file.path().to_string_lossy()], codes, word).await
    });
    try_join_all(named).await?;
    // Only the gateway itself can tell.
    let claims = json!({"iss": ISSUER, "aud": "sse", "sub": "alice", "tenant": "acme", "exp": now() + 3600});
    let forged = signed(&claims, "another key that is long enough for HS256", Algorithm::HS256);
    let file = jwt_file(&forged)?;
    names(namespace, "live", &["--jwt-file", &file.path().to_string_lossy()], &["JwtRefused"], "signature")
        .await
}

async fn proxies(namespace: &Namespace, target: &str, pair: &Pair, trusted: &str) -> Result<()> {
    let unbuffered = "proxy_buffering off;";
    // What is passed over HTTP/1.1 is handed on as it comes, unless somebody compresses it.
    let buffering =
        "proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types text/event-stream; gzip_min_length 0;";
    let compressing = "proxy_buffering off; gzip on; gzip_types text/event-stream; gzip_min_length 0;";
    let settings = |http2, location| Settings { tls: Some(pair), http2, location };
    let cases: [(Settings<'_>, &[&str]); 7] = [
        (settings(true, unbuffered), &[]),
        (settings(true, buffering), &["ProxyBuffers"]),
        (settings(true, compressing), &["Compressed"]),
        (settings(true, "proxy_buffering off; proxy_read_timeout 2s;"), &["HeartbeatAboveProxyTimeout"]),
        (settings(false, unbuffered), &["Http1Only"]),
        (settings(true, "rewrite ^ /nowhere break;"), &["WrongPath"]),
        (settings(true, "return 404;"), &["NotTheGateway"]),
    ];
    let file = jwt_file(&jwt(json!({})))?;
    let file = file.path().to_string_lossy();
    let named = cases.into_iter().map(async |(settings, codes)| {
        let nginx = Nginx::start(target, settings).await?;
        let url = format!("https://{}/api/v1/sse", nginx.address);
        let arguments = ["--url", &url, "--ca-file", trusted, "--jwt-file", &file, "--slow"];
        let word = if codes.is_empty() { "" } else { &*nginx.address.to_string() };
        names(namespace, "live", &arguments, codes, word).await
    });
    try_join_all(named).await?;
    // Whose certificate nobody vouches for.
    let nginx = Nginx::start(target, settings(true, unbuffered)).await?;
    let https = format!("https://{}", nginx.address);
    names(namespace, "live", &["--url", &https], &["TlsBroken"], "--ca-file").await?;
    // What is behind a redirect to HTTPS is looked at, too.
    let redirect = format!("return 308 {https}$request_uri;");
    let plain = Nginx::start(target, Settings { location: &redirect, ..Settings::default() }).await?;
    let url = format!("http://{}/api/v1/sse", plain.address);
    let arguments = ["--url", &url, "--ca-file", trusted, "--jwt-file", &file];
    names(namespace, "live", &arguments, &["RedirectedToHttps"], &https).await
}
