//! A cluster on a Docker daemon that is started here, where no image can be pulled: everything that would be pulled is built.
//!
//! Nothing is installed or built on a machine that lacks something.

pub(crate) mod daemon;
mod node_image;

use std::path::Path;

use anyhow::{Result, ensure};

use super::docker::NodeSource;
use super::machine::Machine;
use super::modules::{ALL, Kubernetes, TOOLS};
use super::session::Session;
use crate::debian::need;

/// What this machine lacks for it.
pub(crate) fn lacking() -> Vec<String> {
    Machine::this().lacks()
}

/// What a cluster is created from, built if need be; `why` says why no existing daemon is used.
pub(crate) fn node_source(session: &Session, kubernetes: Kubernetes, why: &str) -> Result<NodeSource> {
    let lacking = lacking();
    ensure!(
        lacking.is_empty(),
        "no cluster can run here: {why}, and to start a Docker daemon this machine lacks {}",
        lacking.join(", ")
    );
    need("dockerd", "docker.io")?;
    // A package of its own since Debian 13.
    need("docker", "docker-cli")?;
    need("mmdebstrap", "mmdebstrap")?;
    let tools = TOOLS.programs(session, &[ALL])?;
    session.put_on_path(&tools)?;
    let kubernetes = kubernetes.module();
    let programs = kubernetes.programs(session, &[ALL])?;
    session.put_on_path(&programs)?;
    // Debian's client has the version of the daemon; a newer one on the path may use an API that the daemon does not have.
    session.put_on_path(Path::new("/usr/bin/docker"))?;
    let docker = daemon::start(session)?;
    let node_image = node_image::build(session, &docker, kubernetes, &programs, &tools)?;
    Ok(NodeSource { docker, node_image })
}
