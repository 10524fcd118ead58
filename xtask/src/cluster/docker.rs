//! The daemon that runs a cluster's nodes: the one that `docker` finds, or one of our own.
//!
//! Comes in: what is asked of it. Goes out: commands that reach it, and the nodes of clusters. Never: a word to a
//! daemon other than the one that was chosen.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::place::Place;
use super::work::Work;
use crate::shell::{capture, run};

/// The label that kind puts on nodes, with the cluster's name.
const LABEL: &str = "io.x-k8s.kind.cluster";

const REMOVE_LIMIT: Duration = Duration::from_mins(1);

/// A daemon.
pub(crate) enum Docker {
    /// The one that `docker` finds by itself.
    Found,
    /// One that we start and end, with its state in this folder.
    Own(PathBuf),
}

/// What a cluster stands on.
pub(crate) struct Ground {
    pub(crate) docker: Docker,
    pub(crate) node_image: String,
}

impl Docker {
    /// Our own, running or not.
    pub(crate) fn own(place: &Place) -> Self {
        Self::Own(place.run().join("docker"))
    }

    /// The one that clusters of ours run on now, or would.
    pub(crate) fn in_use(place: &Place) -> Self {
        match Self::own(place) {
            Self::Own(state) if state.exists() => Self::Own(state),
            Self::Own(_) | Self::Found => Self::Found,
        }
    }

    /// Where it listens, if that must be said.
    pub(crate) fn host(&self) -> Option<String> {
        match self {
            Self::Found => None,
            Self::Own(state) => Some(format!("unix://{}", socket(state).display())),
        }
    }

    /// A command of a chore that reaches this daemon: `docker`, `kind`.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        work: &Work,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = work.command(program, arguments);
        self.host().map(|host| command.env("DOCKER_HOST", host));
        command
    }

    /// Whether it does what it is asked.
    pub(crate) fn agrees(&self, work: &Work, arguments: &[&str]) -> bool {
        let mut command = self.command(work, "docker", arguments);
        run(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())).is_ok()
    }

    /// Whether it can be asked at all.
    pub(crate) fn answers(&self, work: &Work) -> bool {
        self.agrees(work, &["version"])
    }

    /// Whether it has an image.
    pub(crate) fn has(&self, work: &Work, image: &str) -> bool {
        self.agrees(work, &["image", "inspect", image])
    }

    /// The containers that are nodes of a cluster, however far its making came.
    pub(crate) fn nodes(&self, work: &Work, cluster: &str) -> Result<Vec<String>> {
        let filter = format!("label={LABEL}={cluster}");
        let said =
            capture(&mut self.command(work, "docker", ["ps", "--all", "--quiet", "--filter", &filter]))?;
        Ok(String::from_utf8_lossy(&said).split_whitespace().map(str::to_owned).collect())
    }

    /// Removes a cluster's nodes and what they wrote. One whose making was interrupted is listed before it can be
    /// removed, so that this asks until none is listed.
    pub(crate) fn remove(&self, work: &Work, cluster: &str) -> Result<()> {
        let deadline = Instant::now() + REMOVE_LIMIT;
        loop {
            let nodes = self.nodes(work, cluster)?;
            if nodes.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "failed to remove containers {}", nodes.join(" "));
            let remove = ["rm", "--force", "--volumes"].into_iter().chain(nodes.iter().map(String::as_str));
            self.agrees(work, &remove.collect::<Vec<_>>());
        }
    }
}

/// The socket of a daemon with its state in this folder.
pub(crate) fn socket(state: &Path) -> PathBuf {
    state.with_extension("sock")
}
