//! A cluster, by kind on a ground.
//!
//! Comes in: a name, a number of nodes. Goes out: a cluster whose nodes are ready and whose names resolve, images in it, or how
//! far along it is. Never: a half-made cluster under a kubeconfig that promises a whole one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::docker::{Docker, Ground};
use super::nodes::{Node, read};
use super::work::{Work, quietly, step};
use crate::shell::capture;

/// Where kind's configurations are, and what they name beside themselves.
const CONFIGURATIONS: &str = "deploy/kind";
/// How long a cluster may take to become ready on a machine that has other things to do.
const READY_LIMIT: Duration = Duration::from_mins(5);

/// How far along a cluster is.
pub(crate) enum State {
    Absent,
    /// Its making was interrupted, or it answers no more.
    Broken,
    Whole(Vec<Node>),
}

/// The configuration for a number of nodes.
pub(crate) fn configuration(nodes: usize) -> &'static str {
    if nodes == 1 { "one-node.yaml" } else { "three-nodes.yaml" }
}

/// Asks how far along a cluster is.
pub(crate) fn state(work: &Work, docker: &Docker, name: &str) -> Result<State> {
    if !docker.answers(work) || docker.nodes(work, name)?.is_empty() {
        return Ok(State::Absent);
    }
    let arguments = ["get", "nodes", "--output", "json", "--request-timeout", "10s"];
    let asked = work.place.kubeconfig(name).exists().then(|| capture(&mut kubectl(work, name, arguments)));
    asked.and_then(Result::ok).map_or(Ok(State::Broken), |said| read(&said).map(State::Whole))
}

/// Creates a cluster and waits until everything in it is ready.
pub(crate) fn create(work: &Work, ground: &Ground, name: &str, nodes: usize) -> Result<()> {
    let whole = work.place.kubeconfig(name);
    let half = whole.with_extension("half");
    fs::create_dir_all(work.place.cluster(name)).with_context(|| format!("failed to note cluster {name}"))?;
    let limit = format!("{}s", READY_LIMIT.as_secs());
    step(&format!("creating cluster {name}, nodes: {nodes}"), || {
        let arguments = ["create", "cluster", "--name", name, "--config", configuration(nodes)];
        let mut create = ground.docker.command(work, "kind", arguments);
        create.args(["--image", &ground.node_image, "--wait", &limit, "--kubeconfig"]).arg(&half);
        quietly(create.current_dir(crate::shell::root().join(CONFIGURATIONS)))
    })?;
    let waits: [&[&str]; 3] = [
        &["wait", "--for=condition=Ready", "nodes", "--all"],
        &["rollout", "status", "daemonset/kube-proxy", "--namespace", "kube-system"],
        &["rollout", "status", "deployment/coredns", "--namespace", "kube-system"],
    ];
    step("waiting for nodes and names", || {
        for wait in waits {
            quietly(work.command("kubectl", wait).args(["--timeout", &limit]).env("KUBECONFIG", &half))?;
        }
        fs::rename(&half, &whole).with_context(|| format!("failed to write {}", whole.display()))
    })
}

/// Puts images into every node of a cluster: archives where there is such a file, else the daemon's images.
pub(crate) fn load(work: &Work, docker: &Docker, name: &str, images: &[String]) -> Result<()> {
    for image in images {
        let what = if Path::new(image).is_file() { "image-archive" } else { "docker-image" };
        step(&format!("loading {image}"), || {
            let from = std::env::current_dir().context("failed to find the current folder")?;
            let mut load = docker.command(work, "kind", ["load", what, image, "--name", name]);
            quietly(load.current_dir(from))
        })?;
    }
    Ok(())
}

/// A command that asks a cluster.
pub(crate) fn kubectl<const N: usize>(work: &Work, name: &str, arguments: [&str; N]) -> Command {
    let mut command = work.command("kubectl", arguments);
    command.env("KUBECONFIG", work.place.kubeconfig(name));
    command
}
