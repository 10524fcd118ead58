//! CPU time and memory of a process group, read from `/proc`. Processes that have ended do not count.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The resources of all processes of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time since the start of each process, of all threads, in user code and in the kernel.
    pub(crate) cpu: Duration,
    /// The part of `cpu` in the kernel.
    pub(crate) kernel: Duration,
    /// Resident memory, in KiB; memory that two processes share counts twice.
    pub(crate) resident: u64,
    /// Peak resident memory, in KiB.
    pub(crate) peak: u64,
}

/// The resources of the process group `group`.
pub(crate) fn of_group(group: u32) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut found = false;
    for entry in fs::read_dir("/proc").context("failed to list /proc")? {
        let folder = entry.context("failed to list /proc")?.path();
        // Folders that are not processes, and processes that have ended, have no such file.
        let Ok(stat) = fs::read_to_string(folder.join("stat")) else { continue };
        let Some(Times { group: of, user, kernel }) = times(&stat) else { continue };
        if of != group {
            continue;
        }
        found = true;
        let status = fs::read_to_string(folder.join("status"))
            .with_context(|| format!("failed to read {}/status", folder.display()))?;
        usage.cpu += user + kernel;
        usage.kernel += kernel;
        usage.resident += kibibytes(&status, "VmRSS:").unwrap_or(0);
        usage.peak += kibibytes(&status, "VmHWM:").unwrap_or(0);
    }
    ensure!(found, "process group {group} has no process: the server ended");
    Ok(usage)
}

/// CPU time of this process.
pub(crate) fn of_this_process() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("failed to read /proc/self/stat")?;
    let Times { user, kernel, .. } = times(&stat).context("failed to parse /proc/self/stat")?;
    Ok(user + kernel)
}

/// Resident memory of this process, in KiB.
pub(crate) fn of_this_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
    kibibytes(&status, "VmRSS:").context("/proc/self/status has no VmRSS")
}

/// The fields of `/proc/<pid>/stat` that are needed.
#[derive(Debug, PartialEq)]
struct Times {
    group: u32,
    user: Duration,
    kernel: Duration,
}

/// Parses a line of `/proc/<pid>/stat`.
fn times(stat: &str) -> Option<Times> {
    // The name in parentheses can contain spaces and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let time =
        |ticks: u64| Duration::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second());
    Some(Times { group: field(5)?.try_into().ok()?, user: time(field(14)?), kernel: time(field(15)?) })
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nanoseconds per clock tick.
    fn tick() -> u128 {
        1_000_000_000 / u128::from(rustix::param::clock_ticks_per_second())
    }

    #[test]
    fn a_process_name_with_parentheses_is_skipped() {
        let fields = "S 1 77 77 0 -1 4194560 100 0 0 0 250 31 9 9 20 0 3 0 111 222 333";
        for name in ["nginx", "a b) S 9 9", ") ) ("] {
            let Times { group, user, kernel } = times(&format!("123 ({name}) {fields}")).unwrap();
            assert_eq!((group, user.as_nanos() / 250, kernel.as_nanos() / 31), (77, tick(), tick()));
        }
        assert_eq!(times(""), None);
        assert_eq!(times("1 (x) S 1"), None);
    }

    #[test]
    fn memory_is_read_by_name() {
        let status = "Name:\tx\nVmHWM:\t    5124 kB\nVmRSS:\t    4096 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(4096));
        assert_eq!(kibibytes(status, "VmHWM:"), Some(5124));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_group_without_a_process_is_an_error() {
        let none = u32::MAX - 1;
        assert!(of_group(none).unwrap_err().to_string().starts_with("process group 4294967294 has no"));
    }
}
