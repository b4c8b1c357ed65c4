//! A real nginx in front of a gateway, with the mistakes that people make in its configuration.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::authority::Pair;
use crate::eventually;
use crate::process::{Process, START, cache, free_port};

/// A running nginx. Ends when dropped.
pub struct Nginx {
    pub address: SocketAddr,
    _process: Process,
    _dir: TempDir,
}

/// What it is told.
#[derive(Default)]
pub struct Settings<'a> {
    /// Serves TLS with this pair.
    pub tls: Option<&'a Pair>,
    /// Offers HTTP/2 within it.
    pub http2: bool,
    /// More directives of the location.
    pub location: &'a str,
}

impl Nginx {
    /// Passes requests on to `target`, which is `host:port`.
    ///
    /// # Errors
    ///
    /// When it does not begin to listen.
    pub async fn start(target: &str, settings: Settings<'_>) -> Result<Self> {
        let (dir, address) = (tempfile::tempdir()?, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
        let path = dir.path().display().to_string();
        let mut listen = address.to_string();
        let mut certificate = String::new();
        if let Some(pair) = settings.tls {
            std::fs::write(dir.path().join("tls.crt"), &pair.certificate)?;
            std::fs::write(dir.path().join("tls.key"), &pair.key)?;
            listen.push_str(if settings.http2 { " ssl http2" } else { " ssl" });
            write!(certificate, "ssl_certificate {path}/tls.crt; ssl_certificate_key {path}/tls.key;")?;
        }
        let mut folders = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            write!(folders, "{kind}_temp_path {path}/{kind}; ")?;
        }
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr warn;
            events {{ worker_connections 256; }}
            http {{
                access_log off; {folders}
                server {{
                    listen {listen}; {certificate}
                    location / {{
                        proxy_pass http://{target}; proxy_http_version 1.1; proxy_set_header Connection \"\";
                        {}
                    }}
                }}
            }}\n",
            settings.location
        );
        std::fs::write(dir.path().join("nginx.conf"), config)?;
        let program = cache().join("nginx/usr/sbin/nginx");
        ensure!(program.exists(), "no nginx: run tests/nginx/install.sh");
        let (arguments, log) =
            (["-c", &format!("{path}/nginx.conf"), "-e", "stderr"], dir.path().join("log"));
        let process = Process::start(&program, &arguments, log.clone())?;
        eventually("nginx to listen", START, || async {
            ensure!(TcpStream::connect(address).is_ok(), "{}", std::fs::read_to_string(&log)?);
            Ok(())
        })
        .await?;
        Ok(Self { address, _process: process, _dir: dir })
    }
}
