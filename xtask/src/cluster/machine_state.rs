//! What a cluster could leave behind on a machine: processes, mounts, interfaces, control groups, rules, files.
//!
//! Everything that is new counts; nothing is assumed to be harmless.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::mounts::mount_points;
use super::own_docker::daemon::CONTROL_GROUP;
use crate::env_tag::EnvTag;
use crate::shell::{capture, command, exists};

/// The state of this machine at one time.
pub(crate) struct MachineState(BTreeSet<String>);

impl MachineState {
    /// Reads it.
    pub(crate) fn now(run: &Path) -> Result<Self> {
        let mut found = BTreeSet::new();
        let mut add = |what: &str, lines: Vec<String>| {
            found.extend(lines.into_iter().map(|line| format!("{what} {line}")));
        };
        add("process", processes(run));
        let mounts = read("/proc/self/mountinfo")?;
        add("mount", mount_points(&mounts).map(|point| point.display().to_string()).collect());
        add("interface", names("/sys/class/net"));
        add("control group", control_groups("/sys/fs/cgroup".as_ref()));
        add("forwarding", vec![read("/proc/sys/net/ipv4/ip_forward")?.trim().to_owned()]);
        for [program, arguments @ ..] in [
            ["ip", "rule", "list"],
            ["ip", "route", "list"],
            ["iptables-save", "", ""],
            ["ip6tables-save", "", ""],
            ["nft", "list", "ruleset"],
        ] {
            if exists(program) {
                let arguments = arguments.into_iter().filter(|argument| !argument.is_empty());
                let output = capture(&mut command(program, arguments))?;
                add(program, rules(&String::from_utf8_lossy(&output)));
            }
        }
        add("socket folder", names("/run/containerd"));
        if run.exists() {
            add("file", names(run));
        }
        Ok(Self(found))
    }

    /// What is new since `before`.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Tagged processes, and processes in other namespaces, as in containers.
fn processes(run: &Path) -> Vec<String> {
    let tagged: Vec<_> =
        [EnvTag::Cluster, EnvTag::Daemon].iter().flat_map(|tag| tag.processes(run)).collect();
    let ours = fs::read_link("/proc/self/ns/pid").ok();
    let mut found = Vec::new();
    for pid in names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok()) {
        let elsewhere = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|theirs| Some(theirs) != ours);
        if elsewhere || tagged.iter().any(|tagged| tagged.as_raw_pid() == pid) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!("{pid} {}", name.trim()));
        }
    }
    found
}

/// Rules without comments and counters, which change by themselves.
fn rules(output: &str) -> Vec<String> {
    let lines = output.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split(" [").next().unwrap_or(line).trim().to_owned()).collect()
}

/// Control groups of containers, kubelets and the daemon that is started here; others come and go on any machine.
fn control_groups(below: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(below).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path().display().to_string();
        found.extend(control_groups(&entry.path()));
        if [CONTROL_GROUP, "/docker/", "kube"].iter().any(|maker| path.contains(maker)) {
            found.push(path);
        }
    }
    found
}

fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn only_what_is_new_is_listed() {
        let of = |lines: &[&str]| MachineState(lines.iter().map(|line| (*line).to_owned()).collect());
        let before = of(&["mount /a", "interface eth0"]);
        assert_eq!(of(&["mount /a", "mount /b"]).since(&before), ["mount /b"]);
        assert_eq!(of(&["interface eth0"]).since(&before), [""; 0]);
    }

    #[test]
    fn comments_and_counters_are_left_out() {
        let output = "# Generated at noon\n*filter\n:INPUT ACCEPT [12:3456]\n-A INPUT -j DROP\nCOMMIT\n\n";
        assert_eq!(rules(output), ["*filter", ":INPUT ACCEPT", "-A INPUT -j DROP", "COMMIT"]);
    }

    #[test]
    fn only_a_tagged_process_is_listed() {
        let run = tempfile::tempdir().unwrap();
        let mut tagged = command("sh", ["-c", "echo ready; read forever"]);
        EnvTag::Daemon.put(&mut tagged, run.path());
        let mut tagged = tagged.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Before its first line it may still be between `fork` and `exec`, without an environment.
        tagged.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let is_listed =
            |pid: u32| processes(run.path()).iter().any(|line| line.starts_with(&format!("{pid} ")));
        assert!(is_listed(tagged.id()));
        assert!(!is_listed(std::process::id()));
        tagged.kill().unwrap();
        tagged.wait().unwrap();
        assert!(!is_listed(tagged.id()));
    }
}
