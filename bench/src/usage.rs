//! What a server has used so far, from what the kernel says of its processes.
//!
//! Comes in: the id of a process group. Goes out: CPU time and memory of all its processes together. Never: a
//! process that left the group, or one that ended before.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// What the processes of a group have used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Time on a CPU since each began, of all threads, in user code and in the kernel.
    pub(crate) cpu: Duration,
    /// The part of it in the kernel.
    pub(crate) kernel: Duration,
    /// Memory that is resident now, in KiB; what two processes share is counted for each.
    pub(crate) resident: u64,
    /// The most that was resident at any time, in KiB.
    pub(crate) peak: u64,
}

/// What the processes of `group` have used.
pub(crate) fn of_group(group: u32) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut found = false;
    for entry in fs::read_dir("/proc").context("failed to list /proc")? {
        let folder = entry.context("failed to list /proc")?.path();
        // Whatever is no process, or ended meanwhile, has no such file.
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

/// The time this process has spent on a CPU.
pub(crate) fn of_this_process() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("failed to read /proc/self/stat")?;
    let Times { user, kernel, .. } = times(&stat).context("failed to understand /proc/self/stat")?;
    Ok(user + kernel)
}

/// What one process says.
#[derive(Debug, PartialEq)]
struct Times {
    group: u32,
    user: Duration,
    kernel: Duration,
}

/// The process group, and the time in user code and in the kernel, of one line of `/proc/<pid>/stat`.
fn times(stat: &str) -> Option<Times> {
    // The name in parentheses may hold anything, spaces and parentheses too.
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

    /// How many nanoseconds a tick of the clock takes.
    fn tick() -> u128 {
        1_000_000_000 / u128::from(rustix::param::clock_ticks_per_second())
    }

    #[test]
    fn a_processs_name_does_not_confuse_its_fields() {
        let fields = "S 1 77 77 0 -1 4194560 100 0 0 0 250 31 9 9 20 0 3 0 111 222 333";
        for name in ["nginx", "a b) S 9 9", ") ) ("] {
            let Times { group, user, kernel } = times(&format!("123 ({name}) {fields}")).unwrap();
            assert_eq!((group, user.as_nanos() / 250, kernel.as_nanos() / 31), (77, tick(), tick()));
        }
        assert_eq!(times(""), None);
        assert_eq!(times("1 (x) S 1"), None);
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let status = "Name:\tx\nVmHWM:\t    5124 kB\nVmRSS:\t    4096 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(4096));
        assert_eq!(kibibytes(status, "VmHWM:"), Some(5124));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_group_without_a_process_is_told() {
        let none = u32::MAX - 1;
        assert!(of_group(none).unwrap_err().to_string().starts_with("process group 4294967294 has no"));
    }
}
