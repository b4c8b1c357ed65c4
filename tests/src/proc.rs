//! What the kernel says of a process and of its sockets.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Bytes of a page of x86-64 and, as a rule, of aarch64.
const PAGE: usize = 4096;

/// Resident memory of a process, in bytes.
///
/// # Errors
///
/// When there is no such process.
pub fn memory(id: u32) -> Result<usize> {
    let text = std::fs::read_to_string(format!("/proc/{id}/statm"))?;
    let pages: usize = text.split(' ').nth(1).context("a number of pages")?.parse()?;
    Ok(pages * PAGE)
}

/// The most resident memory that a process ever had, in bytes: no moment between two looks is missed.
///
/// # Errors
///
/// When there is no such process.
pub fn peak(id: u32) -> Result<usize> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak")?;
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes << 10)
}

/// Time that a process has spent on processors.
///
/// # Errors
///
/// When there is no such process.
pub fn processor_time(id: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // After the name, which is in parentheses and may hold anything.
    let fields = text.rsplit_once(')').context("a name")?.1.split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

/// Open sockets of a process.
///
/// # Errors
///
/// When there is no such process.
pub fn sockets(id: u32) -> Result<usize> {
    let mut count = 0;
    for file in std::fs::read_dir(format!("/proc/{id}/fd"))? {
        // One that was closed meanwhile is no socket any more.
        let target = std::fs::read_link(file?.path()).unwrap_or_default();
        count += usize::from(target.to_string_lossy().starts_with("socket:"));
    }
    Ok(count)
}

/// Bytes that the kernel holds on both ends of the IPv4 connections to a local port.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn queued(port: u16) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let end = format!(":{port:04X}");
    let mut bytes = 0;
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = words[..] else { continue };
        if local.ends_with(&end) || remote.ends_with(&end) {
            for queue in queues.split(':') {
                bytes += usize::from_str_radix(queue, 16)?;
            }
        }
    }
    Ok(bytes)
}
