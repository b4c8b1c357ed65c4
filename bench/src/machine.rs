//! On what was measured: the machine, and the versions of everything that took part.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use sse_tests::process::toolbox;

use crate::party::cache;

/// What a figure depends on.
#[derive(Default, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    /// Program and version.
    pub versions: Vec<(String, String)>,
    /// Load of the machine by others, before the run.
    pub load: String,
}

impl Machine {
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let nginx = cache("nchan/usr/sbin/nginx");
        let versions = [
            ("nats-server", said(&toolbox("nats-server"), "--version")),
            ("nginx", said(&nginx, "-v")),
            ("Mercure", said(&toolbox("mercure"), "--version")),
            ("rustc", said(Path::new("rustc"), "--version")),
        ];
        let versions = versions.into_iter().filter(|(_, version)| !version.is_empty());
        Self {
            processor: processor.trim_start_matches(['\t', ' ', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions: versions.map(|(name, version)| (name.to_owned(), version)).collect(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The first word that looks like a version.
fn said(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return String::new() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let version = |word: &&str| {
        let word = word.trim_start_matches("nginx/").trim_start_matches('v');
        word.starts_with(|first: char| first.is_ascii_digit()) && word.matches('.').count() == 2
    };
    let word = text.split_whitespace().find(version).unwrap_or_default();
    word.trim_start_matches("nginx/").trim_start_matches('v').to_owned()
}
