//! Clusters by kind: create one, find its state, load images.
//!
//! The kubeconfig gets its name only once nodes are ready and names resolve.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::docker::{Docker, NodeSource};
use super::nodes::{Node, read};
use super::session::{Session, run_quietly, timed};
use crate::shell::capture;

/// The folder of kind's configurations and of the files that they mount.
const CONFIGURATIONS: &str = "deploy/kind";
/// How long a cluster may take to become ready on a busy machine.
const READY_LIMIT: Duration = Duration::from_mins(5);

/// The state of a cluster.
pub(crate) enum State {
    Absent,
    /// Its creation was interrupted, or its API server does not answer.
    Broken,
    Ready(Vec<Node>),
}

/// The configuration for a number of nodes.
pub(crate) fn configuration(nodes: usize) -> &'static str {
    if nodes == 1 { "one-node.yaml" } else { "three-nodes.yaml" }
}

/// Finds the state of a cluster.
pub(crate) fn state(session: &Session, docker: &Docker, name: &str) -> Result<State> {
    if !docker.responds(session) || docker.nodes(session, name)?.is_empty() {
        return Ok(State::Absent);
    }
    let arguments = ["get", "nodes", "--output", "json", "--request-timeout", "10s"];
    let answer =
        session.paths.kubeconfig(name).exists().then(|| capture(&mut kubectl(session, name, arguments)));
    answer.and_then(Result::ok).map_or(Ok(State::Broken), |json| read(&json).map(State::Ready))
}

/// Creates a cluster and waits until everything in it is ready.
pub(crate) fn create(session: &Session, source: &NodeSource, name: &str, nodes: usize) -> Result<()> {
    let kubeconfig = session.paths.kubeconfig(name);
    let incomplete = kubeconfig.with_extension("incomplete");
    fs::create_dir_all(session.paths.cluster(name))
        .with_context(|| format!("failed to create the folder of cluster {name}"))?;
    let limit = format!("{}s", READY_LIMIT.as_secs());
    timed(&format!("creating cluster {name}, nodes: {nodes}"), || {
        let arguments = ["create", "cluster", "--name", name, "--config", configuration(nodes)];
        let mut create = source.docker.command(session, "kind", arguments);
        create.args(["--image", &source.node_image, "--wait", &limit, "--kubeconfig"]).arg(&incomplete);
        run_quietly(create.current_dir(crate::shell::root().join(CONFIGURATIONS)))
    })?;
    let waits: [&[&str]; 3] = [
        &["wait", "--for=condition=Ready", "nodes", "--all"],
        &["rollout", "status", "daemonset/kube-proxy", "--namespace", "kube-system"],
        &["rollout", "status", "deployment/coredns", "--namespace", "kube-system"],
    ];
    timed("waiting for nodes and DNS", || {
        for wait in waits {
            run_quietly(
                session.command("kubectl", wait).args(["--timeout", &limit]).env("KUBECONFIG", &incomplete),
            )?;
        }
        fs::rename(&incomplete, &kubeconfig)
            .with_context(|| format!("failed to write {}", kubeconfig.display()))
    })
}

/// Loads images into every node of a cluster: an archive if there is such a file, else an image of the daemon.
pub(crate) fn load(session: &Session, docker: &Docker, name: &str, images: &[String]) -> Result<()> {
    for image in images {
        let what = if Path::new(image).is_file() { "image-archive" } else { "docker-image" };
        timed(&format!("loading {image}"), || {
            let from = std::env::current_dir().context("failed to find the current folder")?;
            let mut load = docker.command(session, "kind", ["load", what, image, "--name", name]);
            run_quietly(load.current_dir(from))
        })?;
    }
    Ok(())
}

/// `kubectl` for a cluster.
pub(crate) fn kubectl<const N: usize>(session: &Session, name: &str, arguments: [&str; N]) -> Command {
    let mut command = session.command("kubectl", arguments);
    command.env("KUBECONFIG", session.paths.kubeconfig(name));
    command
}
