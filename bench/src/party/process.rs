//! A server of somebody else as a process: its files in a folder of its own, its log kept for a failure.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use sse_tests::eventually;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Killed when dropped, and its children with it.
pub struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not begin.
    pub async fn start(
        folder: TempDir,
        program: &Path,
        arguments: &[&str],
        address: SocketAddr,
    ) -> Result<Self> {
        let log = std::fs::File::create(folder.path().join("log"))?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{}", program.display()))?;
        let process = Self { child, folder };
        let connect = || async { Ok(tokio::net::TcpStream::connect(address).await.map(drop)?) };
        eventually("a server", Duration::from_secs(10), connect).await.with_context(|| process.log())?;
        Ok(process)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The process and its children.
    pub fn ids(&self) -> Result<Vec<u32>> {
        let id = self.child.id().context("the server has ended")?;
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let children = children.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        Ok(std::iter::once(id).chain(children).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Workers outlive a master that is killed.
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A port that was free a moment ago.
///
/// # Errors
///
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Where `peers.sh` put things.
pub fn cache(path: &str) -> PathBuf {
    let bin = sse_tests::process::toolbox("");
    bin.parent().unwrap_or(&bin).join(path)
}
