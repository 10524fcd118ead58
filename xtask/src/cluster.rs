//! A real Kubernetes cluster on this machine: kind, on an existing Docker daemon or on one that is started here.
//!
//! `down` removes everything from the machine but what was built.

mod paths;
mod machine;
mod mounts;
mod session;
mod modules;
mod docker;
mod existing_docker;
mod own_docker;
mod nodes;
mod kind;
mod machine_state;
mod self_test;

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use docker::{Docker, NodeSource};
use kind::State;
pub(crate) use modules::Kubernetes;
use session::{Session, print, timed};

use crate::shell::capture;

/// Commands for clusters.
#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Creates a cluster; prints the variables that a shell needs to use it.
    Up {
        /// The number of nodes: a control plane, and two workers if there are three.
        #[arg(long, default_value = "1", value_parser = PossibleValuesParser::new(["1", "3"]).map(|n| n.parse::<usize>().unwrap_or(1)))]
        nodes: usize,
        /// The version of Kubernetes, where nodes are built here.
        #[arg(long, value_enum, default_value = "newest")]
        kubernetes: Kubernetes,
        #[command(flatten)]
        cluster: Name,
    },
    /// Removes one cluster, or all.
    Down {
        /// Removes only this one.
        #[arg(long, value_parser = name)]
        name: Option<String>,
    },
    /// Loads images into every node of a cluster.
    Load {
        /// An image of the cluster's Docker daemon, or an archive.
        #[arg(required = true)]
        images: Vec<String>,
        #[command(flatten)]
        cluster: Name,
    },
    /// Prints what runs.
    Status,
    /// Tests these commands on this machine; no cluster may run.
    Test,
}

/// The name of a cluster.
#[derive(clap::Args)]
pub(crate) struct Name {
    /// The cluster's name.
    #[arg(long, default_value = "canopy", value_parser = name)]
    name: String,
}

/// Runs a command; an error is printed in one line.
pub(crate) fn run(action: &Action) -> ExitCode {
    let result = match action {
        Action::Up { nodes, kubernetes, cluster } => {
            up(&cluster.name, *nodes, *kubernetes).and_then(|()| print_use(&cluster.name))
        }
        Action::Down { name } => down(name.as_deref()),
        Action::Load { images, cluster } => load(&cluster.name, images),
        Action::Status => status(),
        Action::Test => self_test(true),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Tests these commands on this machine; `full` adds an `up` that is killed, and three nodes.
pub(crate) fn self_test(full: bool) -> Result<()> {
    self_test::run(full)
}

/// What this machine lacks for a cluster, in one line each; none where an existing Docker daemon or one that is started
/// here will do.
pub(crate) fn lacking() -> Result<Vec<String>> {
    let session = Session::read_only()?;
    if matches!(Docker::in_use(&session.paths), Docker::Own(_)) {
        return Ok(Vec::new());
    }
    let Some(why_not) = existing_docker::why_not(&session) else { return Ok(existing_docker::lacking()) };
    Ok(own_docker::lacking()
        .into_iter()
        .map(|lacking| format!("{lacking}, to start a Docker daemon for a cluster, since {why_not}"))
        .collect())
}

/// Removes one cluster, or what there is of it.
pub(crate) fn remove(name: &str) -> Result<()> {
    down(Some(name))
}

fn up(name: &str, nodes: usize, kubernetes: Kubernetes) -> Result<()> {
    let session = Session::exclusive()?;
    let source = node_source(&session, kubernetes)?;
    match kind::state(&session, &source.docker, name)? {
        State::Ready(found) => {
            let has = found.len();
            ensure!(
                has == nodes,
                "cluster {name} is up with nodes: {has}, not {nodes}; remove it first: `cargo xtask cluster down`"
            );
            print(&format!("{name} is up: {}", nodes::line(&found)));
        }
        State::Absent => kind::create(&session, &source, name, nodes)?,
        State::Broken => {
            timed(&format!("removing the broken cluster {name}"), || source.docker.remove(&session, name))?;
            kind::create(&session, &source, name, nodes)?;
        }
    }
    Ok(())
}

/// What a cluster is created from: the Docker daemon that has clusters already, else an existing one, else one that is
/// started here.
fn node_source(session: &Session, kubernetes: Kubernetes) -> Result<NodeSource> {
    match (Docker::in_use(&session.paths), kubernetes) {
        (Docker::Own(_), _) => own_docker::node_source(
            session,
            kubernetes,
            "another cluster is on a daemon that was started here",
        ),
        (Docker::Existing, Kubernetes::Oldest) => {
            own_docker::node_source(session, kubernetes, "kind publishes no node image of the oldest version")
        }
        (Docker::Existing, Kubernetes::Newest) => match existing_docker::why_not(session) {
            None => existing_docker::node_source(session),
            Some(why_not) => own_docker::node_source(session, kubernetes, &why_not),
        },
    }
}

#[expect(clippy::print_stdout, reason = "a shell reads it")]
fn print_use(name: &str) -> Result<()> {
    let session = Session::read_only()?;
    print("for this shell: eval \"$(cargo xtask cluster up)\"");
    println!("export KUBECONFIG='{}'", session.paths.kubeconfig(name).display());
    if let Some(host) = Docker::in_use(&session.paths).host() {
        println!("export DOCKER_HOST='{host}'");
    }
    println!("export PATH='{}':\"$PATH\"", session.paths.programs().display());
    Ok(())
}

/// Builds Jaeger and Prometheus; commands for a cluster find them.
pub(crate) fn build_backends() -> Result<()> {
    let session = Session::exclusive()?;
    for module in modules::BACKENDS {
        session.put_on_path(&module.programs(&session, &[modules::ALL])?)?;
    }
    Ok(())
}

/// A cluster that exists until this value is dropped.
pub(crate) struct TestCluster {
    name: &'static str,
    session: Session,
    is_kept: bool,
}

impl TestCluster {
    /// Creates one; removes first what an interrupted run left of it.
    pub(crate) fn new(name: &'static str, nodes: usize, kubernetes: Kubernetes) -> Result<Self> {
        down(Some(name))?;
        // Before it is up, so that one that does not come up is removed, too.
        let cluster = Self { name, session: Session::read_only()?, is_kept: false };
        up(name, nodes, kubernetes)?;
        Ok(cluster)
    }

    /// Creates one of one node unless it is up, and keeps it.
    pub(crate) fn kept(name: &'static str) -> Result<Self> {
        up(name, 1, Kubernetes::Newest)?;
        Ok(Self { name, session: Session::read_only()?, is_kept: true })
    }

    /// Its version of Kubernetes.
    pub(crate) fn version(&self) -> Result<String> {
        let json =
            capture(&mut kind::kubectl(&self.session, self.name, ["get", "nodes", "--output", "json"]))?;
        Ok(nodes::read(&json)?.first().context("a cluster has nodes")?.version.clone())
    }

    /// A command that finds this cluster, its Docker daemon and its programs.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Docker::in_use(&self.session.paths).command(&self.session, program, arguments);
        command.env("KUBECONFIG", self.session.paths.kubeconfig(self.name));
        command
    }

    /// Loads images of its Docker daemon.
    pub(crate) fn load(&self, images: &[String]) -> Result<()> {
        load(self.name, images)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = down(Some(self.name)) {
            print(&format!("error: {error:#}"));
        }
    }
}

fn down(name: Option<&str>) -> Result<()> {
    let session = Session::exclusive()?;
    let docker = match Docker::in_use(&session.paths) {
        // Only a running daemon can remove what one that was killed left.
        Docker::Own(_) => own_docker::daemon::start(&session)?,
        Docker::Existing => Docker::Existing,
    };
    for cluster in session.paths.clusters().iter().filter(|cluster| name.is_none_or(|name| name == *cluster))
    {
        timed(&format!("removing cluster {cluster}"), || {
            docker.remove(&session, cluster)?;
            fs::remove_dir_all(session.paths.cluster(cluster))
                .context("failed to remove the folder of the cluster")
        })?;
    }
    if !session.paths.clusters().is_empty() {
        return Ok(());
    }
    match docker {
        Docker::Own(_) => timed("ending the Docker daemon", || own_docker::daemon::end(&session, &docker))?,
        Docker::Existing => existing_docker::clear(&session),
    }
    let run = session.paths.run();
    fs::remove_dir_all(&run).with_context(|| format!("failed to remove {}", run.display()))
}

fn load(name: &str, images: &[String]) -> Result<()> {
    let session = Session::exclusive()?;
    let docker = Docker::in_use(&session.paths);
    match kind::state(&session, &docker, name)? {
        State::Ready(_) => kind::load(&session, &docker, name, images),
        State::Absent | State::Broken => bail!("no cluster {name} is up: run `cargo xtask cluster up`"),
    }
}

#[expect(clippy::print_stdout, reason = "people read it")]
fn status() -> Result<()> {
    let session = Session::read_only()?;
    let docker = Docker::in_use(&session.paths);
    println!("docker   {}", docker.host().unwrap_or_else(|| "the existing daemon".to_owned()));
    let clusters = session.paths.clusters();
    if clusters.is_empty() {
        println!("cluster  none");
    }
    for name in clusters {
        let line = match kind::state(&session, &docker, &name)? {
            State::Ready(nodes) => {
                format!("{}, KUBECONFIG={}", nodes::line(&nodes), session.paths.kubeconfig(&name).display())
            }
            State::Broken => "incomplete, or it does not answer".to_owned(),
            State::Absent => "it has no nodes".to_owned(),
        };
        println!("cluster  {name}: {line}");
    }
    Ok(())
}

/// Checks a cluster's name, which is part of its nodes' host names and of a path.
fn name(text: &str) -> Result<String, String> {
    let letters = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let ends = text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-');
    if letters && ends && text.len() <= 40 {
        Ok(text.to_owned())
    } else {
        Err("a name has at most 40 lowercase letters, digits and dashes, and begins with a letter".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_valid_in_a_host_name_and_a_path() {
        for good in ["canopy", "a", "e2e-1"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "..", "a/b", "A", "1a", "a-", "a b", &"a".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
