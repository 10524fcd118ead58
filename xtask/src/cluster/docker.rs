//! The Docker daemon that runs a cluster's nodes: one that exists on the machine, or one that is started here.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::paths::Paths;
use super::session::Session;
use crate::shell::{capture, run};

/// The label that kind puts on nodes, with the cluster's name.
const LABEL: &str = "io.x-k8s.kind.cluster";

const REMOVE_LIMIT: Duration = Duration::from_mins(1);

/// A daemon.
pub(crate) enum Docker {
    /// The one that `docker` reaches without settings.
    Existing,
    /// One that is started and ended here, with its state in this folder.
    Own(PathBuf),
}

/// What a cluster is created from.
pub(crate) struct NodeSource {
    pub(crate) docker: Docker,
    pub(crate) node_image: String,
}

impl Docker {
    /// The one that is started here, running or not.
    pub(crate) fn own(paths: &Paths) -> Self {
        Self::Own(paths.run().join("docker"))
    }

    /// The one that the clusters run on.
    pub(crate) fn in_use(paths: &Paths) -> Self {
        match Self::own(paths) {
            Self::Own(state) if state.exists() => Self::Own(state),
            Self::Own(_) | Self::Existing => Self::Existing,
        }
    }

    /// The value for `DOCKER_HOST`, if it needs one.
    pub(crate) fn host(&self) -> Option<String> {
        match self {
            Self::Existing => None,
            Self::Own(state) => Some(format!("unix://{}", socket(state).display())),
        }
    }

    /// A program that reaches this daemon: `docker`, `kind`.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        session: &Session,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = session.command(program, arguments);
        self.host().map(|host| command.env("DOCKER_HOST", host));
        command
    }

    /// Whether `docker` succeeds with these arguments.
    pub(crate) fn succeeds(&self, session: &Session, arguments: &[&str]) -> bool {
        let mut command = self.command(session, "docker", arguments);
        run(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())).is_ok()
    }

    /// Whether it responds.
    pub(crate) fn responds(&self, session: &Session) -> bool {
        self.succeeds(session, &["version"])
    }

    /// Whether it has an image.
    pub(crate) fn has_image(&self, session: &Session, image: &str) -> bool {
        self.succeeds(session, &["image", "inspect", image])
    }

    /// The containers that are nodes of a cluster, also of one whose creation was interrupted.
    pub(crate) fn nodes(&self, session: &Session, cluster: &str) -> Result<Vec<String>> {
        let filter = format!("label={LABEL}={cluster}");
        let output =
            capture(&mut self.command(session, "docker", ["ps", "--all", "--quiet", "--filter", &filter]))?;
        Ok(String::from_utf8_lossy(&output).split_whitespace().map(str::to_owned).collect())
    }

    /// Removes a cluster's nodes and their volumes. A container whose creation was interrupted is listed before it can be
    /// removed: this repeats until none is listed.
    pub(crate) fn remove(&self, session: &Session, cluster: &str) -> Result<()> {
        let deadline = Instant::now() + REMOVE_LIMIT;
        loop {
            let nodes = self.nodes(session, cluster)?;
            if nodes.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "containers {} still exist a minute after `docker rm --force`",
                nodes.join(" ")
            );
            let remove = ["rm", "--force", "--volumes"].into_iter().chain(nodes.iter().map(String::as_str));
            self.succeeds(session, &remove.collect::<Vec<_>>());
        }
    }
}

/// The socket of a daemon with its state in this folder.
pub(crate) fn socket(state: &Path) -> PathBuf {
    state.with_extension("sock")
}
