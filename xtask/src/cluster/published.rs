//! The common ground of a cluster: a Docker that runs, and the node image that kind publishes.
//!
//! Comes in: the Docker that is found. Goes out: what a cluster stands on, or what is in the way of it. Never: a
//! change of that Docker beyond an image that was pulled.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::docker::{Docker, Ground};
use super::modules::{KUBERNETES, TOOLS};
use super::work::Work;
use crate::shell::{capture, exists};

/// The image that this release of kind was published with, for the Kubernetes that `offline` builds.
const NODE_IMAGE: &str =
    "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed";

/// The network that kind puts nodes in.
const NETWORK: &str = "kind";

/// Whether there is a Docker that answers.
pub(crate) fn docker_runs(work: &Work) -> bool {
    exists("docker") && Docker::Found.answers(work)
}

/// Why clusters cannot stand on the Docker that is found, if they cannot.
pub(crate) fn obstacle(work: &Work) -> Option<&'static str> {
    if !exists("docker") {
        return Some("docker is not installed");
    }
    if !Docker::Found.answers(work) {
        return Some("docker does not answer");
    }
    let image = Docker::Found.has(work, NODE_IMAGE) || Docker::Found.agrees(work, &["pull", NODE_IMAGE]);
    (!image).then_some("docker cannot pull kind's node image")
}

/// The ground where there is no obstacle.
pub(crate) fn ground(work: &Work) -> Result<Ground> {
    if !Docker::Found.agrees(work, &["network", "inspect", NETWORK]) {
        let note = network_note(work);
        fs::write(&note, "").with_context(|| format!("failed to write {}", note.display()))?;
    }
    for (program, module, package) in [
        ("kind", TOOLS, "sigs.k8s.io/kind"),
        ("helm", TOOLS, "helm.sh/helm/v4/cmd/helm"),
        ("kubectl", KUBERNETES, "k8s.io/kubernetes/cmd/kubectl"),
    ] {
        let there = exists(program) && (program != "helm" || helm_is_4(work));
        if !there {
            let built = module.programs(work, &[package]).with_context(|| {
                format!("{program} is missing and cannot be built: install {program}, or Go")
            })?;
            work.find_first(&built)?;
        }
    }
    Ok(Ground { docker: Docker::Found, node_image: NODE_IMAGE.to_owned() })
}

/// Removes what kind leaves: its network, if it was made for a cluster of ours and is not used by others.
pub(crate) fn clear(work: &Work) {
    if network_note(work).exists() {
        Docker::Found.agrees(work, &["network", "rm", NETWORK]);
    }
}

/// It is there if kind's network was not, before our first cluster.
fn network_note(work: &Work) -> PathBuf {
    work.place.run().join("network")
}

/// Charts that helm 4 installs may be none for helm 3.
fn helm_is_4(work: &Work) -> bool {
    capture(&mut work.command("helm", ["version", "--short"]))
        .is_ok_and(|version| version.starts_with(b"v4."))
}
