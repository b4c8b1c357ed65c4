//! A NATS server in the namespace of a test: TLS by an authority of its own, and the accounts and users that
//! the chart's README documents.

use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use sse_tests::cluster::{Namespace, apply, kubectl};
use sse_tests::nsc::Accounts;
use sse_tests::outside::Forward;
use sse_tests::publisher::Publisher;
use tempfile::NamedTempFile;

/// Its pod, and the label of it.
const POD: &str = "nats";
const LABEL: &str = "app=nats";
const CONFIG: &str = "
server_name: private
http_port: 8222
jetstream { store_dir: /data }
tls { cert_file: /etc/nats/tls.crt, key_file: /etc/nats/tls.key }
include auth.conf
";

/// A running server.
pub struct Nats<'a> {
    namespace: &'a Namespace,
    accounts: Accounts,
    /// Those that the gateway has.
    credentials: String,
    /// The authority (PEM) that vouches for the server, and a file of it.
    pub authority: String,
    file: NamedTempFile,
    certificate: String,
    key: String,
    forward: Forward,
}

impl<'a> Nats<'a> {
    /// # Errors
    ///
    /// When the pod does not become ready.
    pub async fn start(namespace: &'a Namespace) -> Result<Self> {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/sse-gateway/README.md");
        let accounts = Accounts::documented_for(&readme, &namespace.name, "live")?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        // As pods reach it, and as a port-forward does.
        let names = vec![format!("nats.{}.svc", namespace.name), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?.pem();
        let (authority, key, file) = (authority.pem(), key.serialize_pem(), NamedTempFile::new()?);
        std::fs::write(file.path(), &authority)?;
        configure(namespace, &accounts, &certificate, &key).await?;
        let (service, pod) = objects(namespace)?;
        apply(&service).await?;
        apply(&pod).await?;
        let ready = ["-n", &namespace.name, "wait", "--for=condition=Ready", "--timeout=60s", "pod/nats"];
        kubectl(&ready).await?;
        let forward = Forward::start(&namespace.name, "pod/nats", 4222).await?;
        let credentials = String::new();
        Ok(Self { namespace, accounts, credentials, authority, file, certificate, key, forward })
    }

    /// Gives the gateway new credentials, of the user that is documented for it.
    pub async fn admit_gateway(&mut self) -> Result<()> {
        self.credentials = self.accounts.credentials("gateway")?;
        secret(self.namespace, "live-nats", json!({"nats.creds": self.credentials})).await
    }

    /// Has the server refuse the credentials that the gateway has, once it has loaded its configuration.
    pub async fn revoke_gateway(&mut self) -> Result<()> {
        self.accounts.revoke(&self.credentials)?;
        configure(self.namespace, &self.accounts, &self.certificate, &self.key).await?;
        look_again(self.namespace, LABEL).await
    }

    /// Has the server load its configuration, as it is in the pod now.
    pub async fn reload(&self) -> Result<()> {
        let signal = ["/nats-server", "--signal", "reload=1"];
        kubectl(&[&["-n", &self.namespace.name, "exec", POD, "--"][..], &signal].concat()).await.map(drop)
    }

    /// Everything that it has logged.
    pub async fn log(&self) -> Result<String> {
        kubectl(&["-n", &self.namespace.name, "logs", POD]).await
    }

    /// A connection from outside, as a documented user.
    pub async fn connect(&self, user: &str) -> Result<Publisher> {
        self.connect_with(&self.accounts.credentials(user)?).await
    }

    /// A connection from outside, as a user who may do everything.
    pub async fn connect_unlimited(&self) -> Result<Publisher> {
        self.connect_with(&self.accounts.unlimited()?).await
    }

    async fn connect_with(&self, credentials: &str) -> Result<Publisher> {
        let url = format!("tls://{}", self.forward.address);
        Publisher::over_tls(&url, credentials, self.file.path()).await
    }
}

async fn configure(namespace: &Namespace, accounts: &Accounts, certificate: &str, key: &str) -> Result<()> {
    let files =
        json!({"nats.conf": CONFIG, "auth.conf": accounts.server, "tls.crt": certificate, "tls.key": key});
    secret(namespace, "nats", files).await
}

/// The server's Service and its pod.
pub fn objects(namespace: &Namespace) -> Result<(Value, Value)> {
    let metadata = json!({"namespace": namespace.name, "name": POD, "labels": {"app": "nats"}});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"clusterIP": "None", "selector": {"app": "nats"}, "ports": [{"port": 4222}]},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "nats",
                "image": format!("localhost/nats:{}", std::env::var("SSE_TAG")?),
                "imagePullPolicy": "IfNotPresent",
                "args": ["--config", "/etc/nats/nats.conf"],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8222}, "periodSeconds": 1},
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/nats", "readOnly": true}, {"name": "data", "mountPath": "/data"},
                ],
            }],
            "volumes": [{"name": "config", "secret": {"secretName": "nats"}}, {"name": "data", "emptyDir": {}}],
        },
    });
    Ok((service, pod))
}

/// Makes or changes a Secret.
pub async fn secret(namespace: &Namespace, name: &str, content: Value) -> Result<()> {
    let metadata = json!({"namespace": namespace.name, "name": name});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": content});
    apply(&secret).await.map(drop)
}

/// Has the kubelet look at the Secrets of pods: by itself it does about once a minute.
pub async fn look_again(namespace: &Namespace, pods: &str) -> Result<()> {
    let look = format!("look={:x}", rand::random::<u64>());
    kubectl(&["-n", &namespace.name, "annotate", "pods", "-l", pods, "--overwrite", &look]).await.map(drop)
}
