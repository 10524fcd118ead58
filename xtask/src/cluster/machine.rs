//! What this machine is, as far as a cluster depends on it.
//!
//! Comes in: what the kernel and the distribution say of themselves. Goes out: what is lacking, by name.
//! Never: a change of the machine.

use std::fs;

use crate::shell::exists;

/// What must be so where docker cannot do it alone: checked before anything is installed or built.
pub(crate) struct Machine {
    pub(crate) linux: bool,
    pub(crate) root: bool,
    /// `ID` and `VERSION_ID` of the distribution.
    pub(crate) distribution: (String, String),
    pub(crate) go: bool,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self {
            linux: cfg!(target_os = "linux"),
            root: rustix::process::geteuid().is_root(),
            distribution: (field(&release, "ID"), field(&release, "VERSION_ID")),
            go: exists("go"),
        }
    }

    /// What it lacks, in words for a sentence.
    pub(crate) fn lacks(&self) -> Option<String> {
        let debian = self.distribution.0 == "debian" && self.distribution.1 == "12";
        let parts = [(self.linux, "Linux"), (self.root, "root"), (debian, "Debian 12"), (self.go, "Go")];
        let missing: Vec<_> = parts.iter().filter(|(there, _)| !there).map(|(_, name)| *name).collect();
        (!missing.is_empty()).then(|| missing.join(" and "))
    }
}

fn field(release: &str, name: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// The capabilities that the kernel knows and this process may never have.
pub(crate) fn lacking_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    lacking(&status, last.trim().parse().unwrap_or(0))
}

/// In the order of their bits.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

fn lacking(status: &str, last: usize) -> Vec<&'static str> {
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let Some(bounding) = bounding.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()) else {
        return Vec::new();
    };
    let known = CAPABILITIES.iter().take(last + 1).enumerate();
    known.filter(|(bit, _)| bounding >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_outside_the_bounding_set_are_lacking() {
        let status = |bits: &str| format!("Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t{bits}\n");
        assert_eq!(lacking(&status("000001ffffffffff"), 40), [""; 0]);
        assert_eq!(lacking(&status("000001fffeffffff"), 40), ["CAP_SYS_RESOURCE"]);
        assert_eq!(lacking(&status("000001fffffffffe"), 40), ["CAP_CHOWN"]);
        // An older kernel knows fewer: what it does not know, nobody asks for.
        assert_eq!(lacking(&status("0000003fffffffff"), 37), [""; 0]);
        assert_eq!(lacking(&status("0000003fffffffff"), 38), ["CAP_PERFMON"]);
        assert_eq!(lacking("Name:\tx\n", 40), [""; 0]);
    }

    #[test]
    fn a_machine_tells_all_that_it_lacks_at_once() {
        let machine = |linux, root, (id, version): (&str, &str), go| {
            Machine { linux, root, distribution: (id.to_owned(), version.to_owned()), go }.lacks()
        };
        assert_eq!(machine(true, true, ("debian", "12"), true), None);
        assert_eq!(machine(true, false, ("debian", "12"), true).as_deref(), Some("root"));
        assert_eq!(
            machine(true, false, ("ubuntu", "12"), false).as_deref(),
            Some("root and Debian 12 and Go")
        );
        assert_eq!(machine(false, true, ("", ""), true).as_deref(), Some("Linux and Debian 12"));
    }

    #[test]
    fn a_distribution_names_itself_with_and_without_quotes() {
        let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(
            (field(release, "ID"), field(release, "VERSION_ID")),
            ("debian".to_owned(), "12".to_owned())
        );
        assert_eq!(field("", "ID"), "");
    }
}
