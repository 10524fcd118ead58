//! A real cluster, asked as people ask it, with `kubectl` and `helm`, and struck where they cannot reach.
//!
//! Comes in: words of a command, perhaps a manifest. Goes out: what it printed, or why it failed. Never: a cluster
//! that was not named; which one it is, `KUBECONFIG` says.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process::Process;

/// What `kubectl` prints when asked with `words`.
pub fn kubectl(words: &[&str]) -> Result<String> {
    run("kubectl", words, "")
}

/// The same, read as JSON.
pub fn kubectl_json(words: &[&str]) -> Result<Value> {
    let text = kubectl(&[words, &["--output", "json"]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("kubectl {} printed no JSON", words.join(" ")))
}

/// The same as another account may, with `input` to read.
pub fn kubectl_as(user: &str, words: &[&str], input: &str) -> Result<String> {
    run("kubectl", &[&["--as", user], words].concat(), input)
}

/// Applies a manifest in a namespace; fails with the words of the API server where it refuses.
pub fn apply(namespace: &str, manifest: &str) -> Result<String> {
    run("kubectl", &["apply", "--namespace", namespace, "--filename", "-"], manifest)
}

/// Creates objects that are not there yet, without the copy of each that `apply` keeps in an annotation.
pub fn create(namespace: &str, manifest: &str) -> Result<()> {
    run("kubectl", &["create", "--namespace", namespace, "--filename", "-"], manifest).map(drop)
}

/// What `helm` prints when asked with `words`.
pub fn helm(words: &[&str]) -> Result<String> {
    run("helm", words, "")
}

/// Creates what is no object of its own, at its path.
pub fn create_at(path: &str, body: &Value) -> Result<String> {
    run("kubectl", &["create", "--raw", path, "--filename", "-"], &body.to_string())
}

/// What the Docker that the cluster stands on prints when asked with `words`.
pub fn docker(words: &[&str]) -> Result<String> {
    run("docker", words, "")
}

/// What a shell on a node of a cluster by kind prints when it runs `script` with `words`.
pub fn on_node(node: &str, script: &str, words: &[&str]) -> Result<String> {
    docker(&[&["exec", node, "sh", "-c", script, "sh"], words].concat())
}

/// Where nodes and pods find this machine: the gateway of the network of all clusters by kind.
pub fn this_machine() -> Result<IpAddr> {
    let networks: Value = serde_json::from_str(&docker(&["network", "inspect", "kind"])?)?;
    let ranges = networks[0]["IPAM"]["Config"].as_array().context("a network has ranges")?;
    let mut gateways = ranges.iter().filter_map(|range| range["Gateway"].as_str()?.parse().ok());
    gateways.find(IpAddr::is_ipv4).with_context(|| format!("no gateway in {networks}"))
}

/// A `kubectl` that goes on until this value is dropped.
pub fn kubectl_running(words: &[&str]) -> Result<Process> {
    let keep = |name: &'static str| std::env::var(name).ok().map(|value| (name, value));
    let environment: Vec<_> = ["PATH", "HOME", "KUBECONFIG"].into_iter().filter_map(keep).collect();
    let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
    Process::start(&find("kubectl")?, &words, &environment)
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(program));
    found.find(|file| file.is_file()).with_context(|| format!("no {program} is on the path"))
}

fn run(program: &str, words: &[&str], input: &str) -> Result<String> {
    ensure!(
        std::env::var_os("KUBECONFIG").is_some(),
        "KUBECONFIG names no cluster: run these tests by `cargo xtask check --only e2e`, or set it"
    );
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("failed to start {program}"))?;
    let stdin = child.stdin.take().context("a child with a piped input has one")?;
    let output = std::thread::scope(|scope| {
        // The child may say much before it has read all: writing must not wait for reading, nor the other way.
        scope.spawn(move || { stdin }.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} ended with {}: {said}{complaint}", words.join(" "), output.status);
    }
    Ok(said)
}
