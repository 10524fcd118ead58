//! The image of a node: Debian's packages, kind's own files and Kubernetes' programs.

use std::path::Path;

use anyhow::Result;

use crate::cluster::docker::Docker;
use crate::cluster::modules::{Module, TOOLS};
use crate::cluster::paths::{inputs, key};
use crate::cluster::session::{Session, run_quietly, timed};
use crate::shell::capture;

/// From the root of the clone.
const SCRIPT: &str = "deploy/kind/node/build.sh";
const REPOSITORY: &str = "canopy/node";

/// Builds the image from Kubernetes' programs and tools, unless the daemon has it, and removes images for other inputs.
pub(crate) fn build(
    session: &Session,
    docker: &Docker,
    kubernetes: &Module,
    programs: &Path,
    tools: &Path,
) -> Result<String> {
    // kind's own files are part of the image.
    let inputs = inputs(&["deploy/kind/node", "deploy/kind/tools", kubernetes.folder])?;
    let image = format!("{REPOSITORY}:{}", key(&[std::env::consts::ARCH], &inputs));
    if docker.has_image(session, &image) {
        return Ok(image);
    }
    timed("building the node image", || {
        let kind = TOOLS.sources(session, "sigs.k8s.io/kind")?;
        let kubernetes = kubernetes.sources(session, "k8s.io/kubernetes")?;
        let arguments = [image.as_ref(), programs, tools, &kind, &kubernetes, &session.paths.scratch()];
        run_quietly(&mut docker.command(session, SCRIPT, arguments))
    })?;
    let images = ["images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY];
    let output = capture(&mut docker.command(session, "docker", images))?;
    for other in String::from_utf8_lossy(&output).lines().filter(|other| *other != image) {
        // Docker refuses while a cluster uses it; the next build repeats this.
        docker.succeeds(session, &["rmi", other]);
    }
    Ok(image)
}
