//! A cluster on a Docker daemon that exists on the machine, from the node image that kind publishes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::docker::{Docker, NodeSource};
use super::modules::TOOLS;
use super::session::Session;
use crate::shell::{capture, exists};

/// The default image of the release of kind that `deploy/kind/tools` pins.
const NODE_IMAGE: &str =
    "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5";
/// What clusters are used with, and the packages of the Go module.
const PROGRAMS: [(&str, &str); 3] = [
    ("kind", "sigs.k8s.io/kind"),
    ("helm", "helm.sh/helm/v4/cmd/helm"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];
/// The network that kind creates for nodes.
const NETWORK: &str = "kind";

/// Why clusters cannot be on the existing Docker daemon, if they cannot. Pulls the node image if need be.
pub(crate) fn why_not(session: &Session) -> Option<String> {
    if !exists("docker") {
        return Some("docker is not installed".to_owned());
    }
    if !Docker::Existing.responds(session) {
        return Some("docker does not respond".to_owned());
    }
    let image = Docker::Existing.has_image(session, NODE_IMAGE)
        || Docker::Existing.succeeds(session, &["pull", NODE_IMAGE]);
    let name = NODE_IMAGE.split('@').next().unwrap_or(NODE_IMAGE);
    (!image).then(|| format!("docker responds but cannot pull {name}"))
}

/// The programs that are missing, with how to get them, where they cannot be built.
pub(crate) fn lacking() -> Vec<String> {
    let missing = PROGRAMS.iter().filter(|(program, _)| !exists("go") && !exists(program));
    missing.map(|(program, _)| format!("{program}, or Go to build it")).collect()
}

/// What a cluster is created from there.
pub(crate) fn node_source(session: &Session) -> Result<NodeSource> {
    if !Docker::Existing.succeeds(session, &["network", "inspect", NETWORK]) {
        let note = network_note(session);
        fs::write(&note, "").with_context(|| format!("failed to write {}", note.display()))?;
    }
    for (program, package) in PROGRAMS {
        let is_usable = exists(program) && (program != "helm" || helm_is_4(session));
        if !is_usable {
            let built = TOOLS.programs(session, &[package]).with_context(|| {
                format!("{program} is missing and cannot be built: install {program}, or Go")
            })?;
            session.put_on_path(&built)?;
        }
    }
    Ok(NodeSource { docker: Docker::Existing, node_image: NODE_IMAGE.to_owned() })
}

/// Removes kind's network if it did not exist before the first cluster.
pub(crate) fn clear(session: &Session) {
    if network_note(session).exists() {
        // Docker refuses while other containers use it.
        Docker::Existing.succeeds(session, &["network", "rm", NETWORK]);
    }
}

/// This file exists if kind's network did not exist before the first cluster.
fn network_note(session: &Session) -> PathBuf {
    session.paths.run().join("network")
}

/// The chart needs helm 4.
fn helm_is_4(session: &Session) -> bool {
    capture(&mut session.command("helm", ["version", "--short"]))
        .is_ok_and(|version| version.starts_with(b"v4."))
}
