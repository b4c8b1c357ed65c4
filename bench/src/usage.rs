//! What processes and the kernel use: processor time to the nanosecond, memory, and memory of sockets.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sse_tests::proc;

/// Bytes of a page of x86-64 and, as a rule, of aarch64.
const PAGE: u64 = 4096;

/// Processor time of these processes: of all their threads to the nanosecond, or, when threads have ended, of the
/// whole in ticks.
///
/// # Errors
///
/// When one is gone.
pub fn processor_time(processes: &[u32]) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for id in processes {
        let mut threads = 0;
        for task in std::fs::read_dir(format!("/proc/{id}/task")).context("a process")? {
            // It may have ended since.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            threads += text.split(' ').next().context("a time")?.parse::<u64>()?;
        }
        sum += Duration::from_nanos(threads).max(proc::processor_time(*id)?);
    }
    Ok(sum)
}

/// Memory of these processes in bytes: of what they share, each has its part.
///
/// # Errors
///
/// When one is gone.
pub fn memory(processes: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for id in processes {
        let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        // Of one process alone, what the others see too: resident is what a container is charged.
        let field = if processes.len() == 1 { "Rss:" } else { "Pss:" };
        let line = text.lines().find_map(|line| line.strip_prefix(field)).context("a line")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
    }
    Ok(sum)
}

/// Bytes that the kernel holds for what waits in TCP sockets, of both ends.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn sockets() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("TCP")?;
    let pages: u64 = line.rsplit(' ').next().context("pages")?.parse()?;
    Ok(pages * PAGE)
}
