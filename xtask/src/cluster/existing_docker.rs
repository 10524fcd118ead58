//! A cluster on a Docker daemon that exists on the machine, from the node image that kind publishes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::docker::{Docker, NodeSource};
use super::modules::{KUBERNETES, Module, TOOLS};
use super::session::Session;
use crate::shell::{capture, exists};

/// The image that the pinned release of kind was published with, for the Kubernetes that is built elsewhere.
const NODE_IMAGE: &str =
    "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed";
/// What clusters are used with, and the Go packages that they are built from.
const PROGRAMS: [(&str, Module, &str); 3] = [
    ("kind", TOOLS, "sigs.k8s.io/kind"),
    ("helm", TOOLS, "helm.sh/helm/v4/cmd/helm"),
    ("kubectl", KUBERNETES, "k8s.io/kubernetes/cmd/kubectl"),
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
    let missing = PROGRAMS.iter().filter(|(program, ..)| !exists("go") && !exists(program));
    missing.map(|(program, ..)| format!("{program}, or Go to build it")).collect()
}

/// What a cluster is created from there.
pub(crate) fn node_source(session: &Session) -> Result<NodeSource> {
    if !Docker::Existing.succeeds(session, &["network", "inspect", NETWORK]) {
        let note = network_note(session);
        fs::write(&note, "").with_context(|| format!("failed to write {}", note.display()))?;
    }
    for (program, module, package) in PROGRAMS {
        let is_usable = exists(program) && (program != "helm" || helm_is_4(session));
        if !is_usable {
            let built = module.programs(session, &[package]).with_context(|| {
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
