//! Ground for a cluster where no registry can be reached: everything that would be pulled is made here.
//!
//! Comes in: what is in the way of the common ground. Goes out: a ground of our own, or one line that says what
//! this machine lacks for it. Never: anything on a machine that lacks something.

pub(crate) mod daemon;
mod node_image;

use std::path::Path;

use anyhow::{Result, bail};

use super::docker::Ground;
use super::machine::Machine;
use super::modules::{ALL, KUBERNETES, TOOLS};
use super::work::Work;
use crate::debian::need;

/// What this machine lacks for it, in words for a sentence.
pub(crate) fn lacking() -> Option<String> {
    Machine::this().lacks()
}

/// Makes the ground, as far as it is not there yet.
pub(crate) fn ground(work: &Work, obstacle: &str) -> Result<Ground> {
    if let Some(lacking) = lacking() {
        bail!("no cluster can run here: {obstacle}, and without it this machine lacks {lacking}");
    }
    need("dockerd", "docker.io")?;
    need("mmdebstrap", "mmdebstrap")?;
    let tools = TOOLS.programs(work, &[ALL])?;
    let kubernetes = KUBERNETES.programs(work, &[ALL])?;
    for folder in [&tools, &kubernetes] {
        work.find_first(folder)?;
    }
    // Debian's client is of the daemon's age; a younger one on the path may speak past it.
    work.find_first(Path::new("/usr/bin/docker"))?;
    let docker = daemon::start(work)?;
    let node_image = node_image::build(work, &docker, &kubernetes)?;
    Ok(Ground { docker, node_image })
}
