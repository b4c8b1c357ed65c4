//! The proxies of `docs/proxies` in front of a gateway: real ones, with the very files that a reader takes. Of a copy,
//! addresses and places of files are others, and nothing else is.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::authority::{Authority, Pair};
use crate::client::{Client, Door};
use crate::process::{Process, START, cache, free_port, toolbox};
use crate::{eventually, secrets};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/proxies");

#[derive(Clone, Copy, Debug)]
pub enum Product {
    Nginx,
    HaProxy,
    Traefik,
    Envoy,
    Caddy,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Product {
    pub const ALL: [Self; 5] = [Self::Nginx, Self::HaProxy, Self::Traefik, Self::Envoy, Self::Caddy];

    /// Those that a reader takes; it is started with the first one.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["nginx.conf"],
            Self::HaProxy => &["haproxy.cfg"],
            Self::Traefik => &["traefik.yaml", "traefik-dynamic.yaml"],
            Self::Envoy => &["envoy.yaml"],
            Self::Caddy => &["Caddyfile"],
        }
    }

    /// What is another one in the copy: where it listens, where the gateway is, where files are.
    fn places(self, own: SocketAddr, gateway: SocketAddr, dir: &str) -> Vec<(String, String)> {
        let port = own.port();
        let listen = match self {
            Self::Nginx => ("listen 443 ", format!("listen {own} ")),
            Self::HaProxy => ("bind :443 ", format!("bind {own} ")),
            Self::Traefik => ("\":443\"", format!("\"{own}\"")),
            Self::Envoy => ("0.0.0.0, port_value: 443", format!("127.0.0.1, port_value: {port}")),
            Self::Caddy => ("\nlive.example.com {", format!("\nhttps://:{port} {{")),
        };
        let upstream = match self {
            Self::Envoy => {
                ("live.demo.svc, port_value: 8080", format!("127.0.0.1, port_value: {}", gateway.port()))
            }
            _ => ("live.demo.svc:8080", gateway.to_string()),
        };
        let folder = (&*format!("/etc/{self}/"), format!("{dir}/"));
        let scratch = matches!(self, Self::Nginx).then(|| ("/tmp/", format!("{dir}/")));
        let all = scratch.into_iter().chain([listen, upstream, folder]);
        all.map(|(from, to)| (from.to_owned(), to)).collect()
    }

    /// The command that runs it in the foreground.
    fn command(self, dir: &str) -> (PathBuf, Vec<String>) {
        let file = format!("{dir}/{}", self.files()[0]);
        let installed = |name: &str| cache().join("proxies/bin").join(name);
        let (program, arguments): (_, Vec<&str>) = match self {
            Self::Nginx => {
                let alone = "daemon off; master_process off;";
                (cache().join("nginx/usr/sbin/nginx"), vec!["-e", "stderr", "-g", alone, "-c", &file])
            }
            Self::HaProxy => (installed("haproxy"), vec!["-db", "-f", &file]),
            Self::Traefik => (installed("traefik"), vec!["--configFile", &file]),
            // Several may run on a machine; what it logs is seen soon.
            Self::Envoy => {
                let more = ["--disable-hot-restart", "-l", "warning", "--file-flush-interval-msec", "100"];
                (installed("envoy"), [&more[..], &["-c", &file]].concat())
            }
            Self::Caddy => (toolbox("caddy"), vec!["run", "--adapter", "caddyfile", "--config", &file]),
        };
        (program, arguments.into_iter().map(str::to_owned).collect())
    }

    /// Starts it in front of a gateway.
    ///
    /// # Errors
    ///
    /// When its files do not have the addresses that a reader sees there, or it does not begin to serve.
    pub async fn start(self, gateway: SocketAddr, authority: &Authority) -> Result<InFront> {
        let (dir, address) = (tempfile::tempdir()?, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
        let path = dir.path().to_str().context("a path of text")?;
        self.copy(address, gateway, dir.path())?;
        put(dir.path(), &authority.pair()?)?;
        let (program, arguments) = self.command(path);
        ensure!(program.exists(), "no {self}: run tests/proxies/install.sh");
        // Caddy keeps a home, and has a port of its own for orders.
        let mut all =
            vec![format!("HOME={path}"), format!("XDG_DATA_HOME={path}"), format!("XDG_CONFIG_HOME={path}")];
        all.push(format!("CADDY_ADMIN=127.0.0.1:{}", free_port()?));
        all.push(program.display().to_string());
        all.extend(arguments);
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let process = Process::start(Path::new("env"), &all, dir.path().join("log"))?;
        let proxy = InFront { product: self, address, dir, _process: process };
        proxy.serves(authority.client("http/1.1")?).await.with_context(|| proxy.log())?;
        Ok(proxy)
    }

    fn copy(self, own: SocketAddr, gateway: SocketAddr, dir: &Path) -> Result<()> {
        let read = |name: &&str| std::fs::read_to_string(Path::new(FILES).join(name));
        let mut texts: Vec<_> = self.files().iter().map(read).collect::<Result<_, _>>()?;
        for (from, to) in self.places(own, gateway, &dir.display().to_string()) {
            ensure!(
                texts.iter().any(|text| text.contains(&from)),
                "{self}: {from:?} is in none of its files"
            );
            texts.iter_mut().for_each(|text| *text = text.replace(&from, &to));
        }
        for (name, text) in self.files().iter().zip(texts) {
            std::fs::write(dir.join(name), text)?;
        }
        Ok(())
    }
}

/// The certificate, in two files, and in one as `HAProxy` has it.
fn put(dir: &Path, pair: &Pair) -> Result<()> {
    secrets::file(&pair.key);
    std::fs::write(dir.join("tls.crt"), &pair.certificate)?;
    std::fs::write(dir.join("tls.key"), &pair.key)?;
    Ok(std::fs::write(dir.join("tls.pem"), format!("{}{}", pair.certificate, pair.key))?)
}

/// A running proxy. Ends when dropped.
pub struct InFront {
    pub product: Product,
    address: SocketAddr,
    _process: Process,
    dir: TempDir,
}

impl InFront {
    /// The way in, within TLS.
    #[must_use]
    pub fn door(&self, trust: Arc<ClientConfig>) -> Door {
        Door::Tls(self.address, trust)
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until the answers are those of the gateway.
    async fn serves(&self, trust: Arc<ClientConfig>) -> Result<()> {
        let client = Client { gateway: self.door(trust), base: String::new(), jwt: String::new() };
        eventually("the gateway's own answer", START, || async {
            let answer = client.request(Method::GET, "/api/v1/sse/nothing", &[]).await?;
            let kind = answer.headers.get("content-type").context("a type")?;
            ensure!(kind == "application/problem+json", "{answer:?}");
            Ok(())
        })
        .await
    }
}
