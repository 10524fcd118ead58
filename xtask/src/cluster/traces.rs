//! What a cluster could leave behind on a machine.
//!
//! Comes in: the machine as it is now. Goes out: what is there now and was not before. Never: a guess at what is
//! harmless: whatever is new is told.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::marked::Mark;
use super::mounts::mount_points;
use super::offline::daemon::CONTROL_GROUP;
use crate::shell::{capture, command, exists};

/// One machine at one time.
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// Takes stock.
    pub(crate) fn now(run: &Path) -> Result<Self> {
        let mut found = BTreeSet::new();
        let mut add = |what: &str, lines: Vec<String>| {
            found.extend(lines.into_iter().map(|line| format!("{what} {line}")));
        };
        add("process", processes(run));
        let mounts = read("/proc/self/mountinfo")?;
        add("mount", mount_points(&mounts).map(|place| place.display().to_string()).collect());
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
                let said = capture(&mut command(program, arguments))?;
                add(program, rules(&String::from_utf8_lossy(&said)));
            }
        }
        add("socket folder", names("/run/containerd"));
        if run.exists() {
            add("file", names(run));
        }
        Ok(Self(found))
    }

    /// What was not there before.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Those of ours, and those in namespaces of their own, as whatever runs in a container.
fn processes(run: &Path) -> Vec<String> {
    let marked: Vec<_> = [Mark::Step, Mark::Daemon].iter().flat_map(|mark| mark.carriers(run)).collect();
    let ours = fs::read_link("/proc/self/ns/pid").ok();
    let mut found = Vec::new();
    for pid in names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok()) {
        let elsewhere = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|theirs| Some(theirs) != ours);
        if elsewhere || marked.iter().any(|marked| marked.as_raw_pid() == pid) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!("{pid} {}", name.trim()));
        }
    }
    found
}

/// Rules without what changes by itself: comments and counters.
fn rules(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split(" [").next().unwrap_or(line).trim().to_owned()).collect()
}

/// Those of containers, of kubelets and ours; others come and go on any machine.
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
    fn whatever_is_new_is_told_and_what_went_is_not() {
        let of = |lines: &[&str]| Traces(lines.iter().map(|line| (*line).to_owned()).collect());
        let before = of(&["mount /a", "interface eth0"]);
        assert_eq!(of(&["mount /a", "mount /b"]).since(&before), ["mount /b"]);
        assert_eq!(of(&["interface eth0"]).since(&before), [""; 0]);
    }

    #[test]
    fn a_counter_or_a_comment_is_no_rule() {
        let said = "# Generated at noon\n*filter\n:INPUT ACCEPT [12:3456]\n-A INPUT -j DROP\nCOMMIT\n\n";
        assert_eq!(rules(said), ["*filter", ":INPUT ACCEPT", "-A INPUT -j DROP", "COMMIT"]);
    }

    #[test]
    fn a_marked_process_is_a_trace_and_any_other_here_is_not() {
        let run = tempfile::tempdir().unwrap();
        let mut marked = command("sh", ["-c", "echo ready; read forever"]);
        Mark::Daemon.put(&mut marked, run.path());
        let mut marked = marked.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Until it speaks it may still be on its way from one program to the next, without an environment.
        marked.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let traces = |pid: u32| processes(run.path()).iter().any(|line| line.starts_with(&format!("{pid} ")));
        assert!(traces(marked.id()));
        assert!(!traces(std::process::id()));
        marked.kill().unwrap();
        marked.wait().unwrap();
        assert!(!traces(marked.id()));
    }
}
