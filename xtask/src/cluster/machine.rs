//! What this machine has of what a cluster of our own daemon needs.

use std::fs;

use crate::shell::{capture, command, exists};

/// The Debian releases whose packages make a daemon and a node.
const DEBIAN: [&str; 2] = ["12", "13"];
/// What the Go modules of clusters require.
const GO: Version = (1, 26, 6);
/// Since this version Go downloads the version that a module requires, unless its settings forbid it.
const GO_DOWNLOADS: Version = (1, 21, 0);

type Version = (u32, u32, u32);

/// What is checked before anything is installed or built.
pub(crate) struct Machine {
    pub(crate) linux: bool,
    pub(crate) root: bool,
    /// `ID` and `VERSION_ID` of the distribution.
    pub(crate) distribution: (String, String),
    /// What `go version` prints, and whether Go may download a newer version of itself.
    pub(crate) go: Option<(String, bool)>,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let go = |arguments: [&str; 2]| {
            let output = capture(&mut command("go", arguments.into_iter().filter(|word| !word.is_empty())));
            String::from_utf8_lossy(&output.unwrap_or_default()).trim().to_owned()
        };
        Self {
            linux: cfg!(target_os = "linux"),
            root: rustix::process::geteuid().is_root(),
            distribution: (field(&release, "ID"), field(&release, "VERSION_ID")),
            go: exists("go").then(|| (go(["version", ""]), go(["env", "GOTOOLCHAIN"]).contains("auto"))),
        }
    }

    /// What it lacks, each in words.
    pub(crate) fn lacks(&self) -> Vec<String> {
        let (id, version) = &self.distribution;
        let mut lacking = Vec::new();
        if !self.linux {
            lacking.push("Linux".to_owned());
        }
        if !self.root {
            lacking.push("root".to_owned());
        }
        if id != "debian" || !DEBIAN.contains(&version.as_str()) {
            let found = if id.is_empty() { "another system".to_owned() } else { format!("{id} {version}") };
            lacking.push(format!("Debian {} (this is {found})", DEBIAN.join(" or ")));
        }
        let needed = format!("Go {}.{}.{} or newer", GO.0, GO.1, GO.2);
        match &self.go {
            None => lacking.push(needed),
            Some((output, downloads)) => {
                let version = go_version(output);
                let is_enough = version >= Some(GO) || (*downloads && version >= Some(GO_DOWNLOADS));
                if !is_enough {
                    lacking.push(format!(
                        "{needed} (this is {output:?}; Debian's own is too old: see go.dev/dl)"
                    ));
                }
            }
        }
        lacking
    }
}

/// The version in `go version go1.26.8 linux/amd64`.
fn go_version(output: &str) -> Option<Version> {
    let version = output.split(' ').nth(2)?.strip_prefix("go")?;
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

fn field(release: &str, name: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// The capabilities of the kernel that this process can never have.
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
    fn capabilities_outside_the_bounding_set_are_missing() {
        let status = |bits: &str| format!("Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t{bits}\n");
        assert_eq!(lacking(&status("000001ffffffffff"), 40), [""; 0]);
        assert_eq!(lacking(&status("000001fffeffffff"), 40), ["CAP_SYS_RESOURCE"]);
        assert_eq!(lacking(&status("000001fffffffffe"), 40), ["CAP_CHOWN"]);
        // An older kernel has fewer capabilities.
        assert_eq!(lacking(&status("0000003fffffffff"), 37), [""; 0]);
        assert_eq!(lacking(&status("0000003fffffffff"), 38), ["CAP_PERFMON"]);
        assert_eq!(lacking("Name:\tx\n", 40), [""; 0]);
    }

    #[test]
    fn everything_that_a_machine_lacks_is_listed() {
        let go = |version: &str, downloads| Some((format!("go version {version} linux/amd64"), downloads));
        let check = |root, (id, version): (&str, &str), go, expected: &[&str]| {
            let distribution = (id.to_owned(), version.to_owned());
            assert_eq!(Machine { linux: true, root, distribution, go }.lacks(), expected);
        };
        check(true, ("debian", "12"), go("go1.26.8", false), &[]);
        check(true, ("debian", "13"), go("go1.27", false), &[]);
        check(true, ("debian", "13"), go("go1.24.4", true), &[]);
        check(true, ("debian", "12"), None, &["Go 1.26.6 or newer"]);
        check(
            true,
            ("debian", "12"),
            go("go1.19.8", true),
            &[
                "Go 1.26.6 or newer (this is \"go version go1.19.8 linux/amd64\"; Debian's own is too old: see go.dev/dl)",
            ],
        );
        check(
            false,
            ("ubuntu", "24.04"),
            None,
            &["root", "Debian 12 or 13 (this is ubuntu 24.04)", "Go 1.26.6 or newer"],
        );
    }

    #[test]
    fn the_version_of_go_that_is_required_is_the_one_of_the_modules() {
        for module in ["tools", "oldest"] {
            let go_mod =
                fs::read_to_string(crate::shell::root().join(format!("deploy/kind/{module}/go.mod")));
            let go_mod = go_mod.unwrap();
            let required = go_mod.lines().find_map(|line| line.strip_prefix("go ")).unwrap();
            assert!(
                go_version(&format!("go version go{required} x")) <= Some(GO),
                "{module} requires {required}"
            );
        }
    }

    #[test]
    fn the_fields_of_a_release_may_have_quotes() {
        let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(
            (field(release, "ID"), field(release, "VERSION_ID")),
            ("debian".to_owned(), "12".to_owned())
        );
        assert_eq!(field("", "ID"), "");
    }
}
