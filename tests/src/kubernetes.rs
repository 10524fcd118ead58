//! Runs `kubectl`, `helm` and `docker` against the cluster of `KUBECONFIG`, each with a time limit.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process::Process;

/// The longest time that one command may take. The waits of `kubectl` and `helm` themselves are shorter.
const LIMIT: Duration = Duration::from_mins(5);
/// The exit code of `timeout` if it ended the command.
const TIMED_OUT: i32 = 124;

/// The output of a `kubectl` command.
pub fn kubectl(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments, "")
}

/// The JSON output of a `kubectl` command.
pub fn kubectl_json(arguments: &[&str]) -> Result<Value> {
    let text = kubectl(&[arguments, &["--output", "json"]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("kubectl {} printed no JSON", arguments.join(" ")))
}

/// The output of a `kubectl` command that runs with the rights of `user`, with `input` as its standard input.
pub fn kubectl_as(user: &str, arguments: &[&str], input: &str) -> Result<String> {
    run("kubectl", &[&["--as", user], arguments].concat(), input)
}

/// Applies a manifest in a namespace; an error has the text of the API server.
pub fn apply(namespace: &str, manifest: &str) -> Result<String> {
    run("kubectl", &["apply", "--namespace", namespace, "--filename", "-"], &as_yaml(manifest))
}

/// A manifest that every kubectl takes as YAML. Older ones take text that begins with a brace as JSON to its end, so that
/// keys without quotes and the separators of documents would be errors.
fn as_yaml(manifest: &str) -> String {
    format!("---\n{manifest}")
}

/// Creates objects, without the copy of each that `apply` keeps in an annotation.
pub fn create(namespace: &str, manifest: &str) -> Result<()> {
    run("kubectl", &["create", "--namespace", namespace, "--filename", "-"], &as_yaml(manifest)).map(drop)
}

/// The output of a `helm` command.
pub fn helm(arguments: &[&str]) -> Result<String> {
    run("helm", arguments, "")
}

/// Creates a subresource, such as an eviction, at its path.
pub fn create_at(path: &str, body: &Value) -> Result<String> {
    run("kubectl", &["create", "--raw", path, "--filename", "-"], &body.to_string())
}

/// The output of a command of the Docker that runs the cluster.
pub fn docker(arguments: &[&str]) -> Result<String> {
    run("docker", arguments, "")
}

/// The output of a shell script that runs on a node, with `arguments` as its positional parameters.
pub fn on_node(node: &str, script: &str, arguments: &[&str]) -> Result<String> {
    docker(&[&["exec", node, "sh", "-c", script, "sh"], arguments].concat())
}

/// The address at which nodes and pods reach this machine: the gateway of the network of kind.
pub fn this_machine() -> Result<IpAddr> {
    let networks: Value = serde_json::from_str(&docker(&["network", "inspect", "kind"])?)?;
    let ranges = networks[0]["IPAM"]["Config"].as_array().context("a network has ranges")?;
    let mut gateways = ranges.iter().filter_map(|range| range["Gateway"].as_str()?.parse().ok());
    gateways.find(IpAddr::is_ipv4).with_context(|| format!("no gateway in {networks}"))
}

/// A `kubectl` command that runs until the value is dropped.
pub fn kubectl_running(arguments: &[&str]) -> Result<Process> {
    let keep = |name: &'static str| std::env::var(name).ok().map(|value| (name, value));
    let environment: Vec<_> = ["PATH", "HOME", "KUBECONFIG"].into_iter().filter_map(keep).collect();
    let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
    Process::start(&find("kubectl")?, &arguments, &environment)
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(program));
    found.find(|file| file.is_file()).with_context(|| format!("no {program} is on the path"))
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    ensure!(
        std::env::var_os("KUBECONFIG").is_some(),
        "KUBECONFIG is not set: run these tests with `cargo xtask e2e`, or set it to the file of a cluster"
    );
    let limit = LIMIT.as_secs().to_string();
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", &limit, program])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("failed to start {program}"))?;
    let stdin = child.stdin.take().context("a child with a piped input has one")?;
    let output = std::thread::scope(|scope| {
        // The child may print before it has read all of its input, so reading and writing must be concurrent.
        scope.spawn(move || { stdin }.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(TIMED_OUT) {
        bail!("{program} {} did not end within {LIMIT:?}: {printed}", arguments.join(" "));
    }
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} ended with {}: {printed}{errors}", arguments.join(" "), output.status);
    }
    Ok(printed)
}
