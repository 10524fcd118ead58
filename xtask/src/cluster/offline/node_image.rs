//! The image of a node, from Debian's packages, kind's own files and Kubernetes' programs.
//!
//! Comes in: the programs. Goes out: the image's name in our daemon. Never: an image for other inputs than those
//! of the clone.

use std::path::Path;

use anyhow::Result;

use crate::cluster::docker::Docker;
use crate::cluster::modules::{KUBERNETES, TOOLS};
use crate::cluster::place::{inputs, key};
use crate::cluster::work::{Work, quietly, step};
use crate::shell::capture;

/// From the root of the clone, where commands start.
const SCRIPT: &str = "deploy/kind/offline/node-image.sh";
const REPOSITORY: &str = "canopy/node";

/// Builds the image, unless the daemon has it, and removes the ones for other inputs.
pub(crate) fn build(work: &Work, docker: &Docker, programs: &Path) -> Result<String> {
    // kind's own files are part of the image.
    let inputs = inputs(&["deploy/kind/offline", "deploy/kind/tools/go.mod"])?;
    let image = format!("{REPOSITORY}:{}", key(&[std::env::consts::ARCH], &inputs));
    if docker.has(work, &image) {
        return Ok(image);
    }
    step("building the node image", || {
        let kind = TOOLS.sources(work, "sigs.k8s.io/kind")?;
        let kubernetes = KUBERNETES.sources(work, "k8s.io/kubernetes")?;
        let arguments = [image.as_ref(), programs, &kind, &kubernetes, &work.place.scratch()];
        quietly(&mut docker.command(work, SCRIPT, arguments))
    })?;
    let images = ["images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY];
    let said = capture(&mut docker.command(work, "docker", images))?;
    for other in String::from_utf8_lossy(&said).lines().filter(|other| *other != image) {
        // One that a cluster still runs on stays; the next build asks again.
        docker.agrees(work, &["rmi", other]);
    }
    Ok(image)
}
