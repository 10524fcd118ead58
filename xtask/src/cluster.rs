//! A real Kubernetes cluster on this machine: kind, on the Docker that runs here or on one of its own.
//!
//! Comes in: which of the cluster's chores. Goes out: it is done; on standard output only what programs read.
//! Never: a trace on the machine after `down`, but for what was built.

mod place;
mod machine;
mod marked;
mod mounts;
mod work;
mod modules;
mod docker;
mod published;
mod offline;
mod nodes;
mod kind;
mod traces;
mod trial;

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use docker::{Docker, Ground};
use kind::State;
use work::{Work, step, tell};

/// What can be done with clusters.
#[derive(clap::Subcommand)]
pub(crate) enum Chore {
    /// Brings a cluster up; prints what a shell needs to use it.
    Up {
        /// How many nodes: a control plane, and any others as workers.
        #[arg(long, default_value = "1", value_parser = PossibleValuesParser::new(["1", "3"]).map(|n| n.parse::<usize>().unwrap_or(1)))]
        nodes: usize,
        #[command(flatten)]
        cluster: Name,
    },
    /// Takes a cluster down, or all.
    Down {
        /// Only this one.
        #[arg(long, value_parser = name)]
        name: Option<String>,
    },
    /// Puts images into every node of a cluster.
    Load {
        /// An image of the cluster's Docker, or a file that holds one.
        #[arg(required = true)]
        images: Vec<String>,
        #[command(flatten)]
        cluster: Name,
    },
    /// Tells what runs.
    Status,
    /// Proves all of this on this machine; no cluster may run.
    Test,
}

/// Which cluster.
#[derive(clap::Args)]
pub(crate) struct Name {
    /// The cluster's name.
    #[arg(long, default_value = "canopy", value_parser = name)]
    name: String,
}

/// Does a chore. What is in its way is told in one line: on a machine that lacks something, that is the answer.
pub(crate) fn run(chore: &Chore) -> ExitCode {
    let done = match chore {
        Chore::Up { nodes, cluster } => up(&cluster.name, *nodes).and_then(|()| print_use(&cluster.name)),
        Chore::Down { name } => down(name.as_deref()),
        Chore::Load { images, cluster } => load(&cluster.name, images),
        Chore::Status => status(),
        Chore::Test => try_out(true),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Proves on this machine what is promised; `full` adds the long trials.
pub(crate) fn try_out(full: bool) -> Result<()> {
    trial::run(full)
}

/// Fails at once where it is plain that no cluster can run here.
pub(crate) fn foresee() -> Result<()> {
    let work = Work::look()?;
    match offline::lacking() {
        Some(lacking) if !published::docker_runs(&work) => {
            bail!(
                "no cluster can run here: docker does not answer, and without it this machine lacks {lacking}"
            )
        }
        Some(_) | None => Ok(()),
    }
}

/// Takes one cluster down, or what there is of it.
pub(crate) fn remove(name: &str) -> Result<()> {
    down(Some(name))
}

fn up(name: &str, nodes: usize) -> Result<()> {
    let work = Work::begin()?;
    let ground = ground(&work)?;
    match kind::state(&work, &ground.docker, name)? {
        State::Whole(found) => {
            let has = found.len();
            ensure!(
                has == nodes,
                "cluster {name} is up with nodes: {has}, not {nodes}; take it down first, with `cargo xtask cluster down`"
            );
            tell(&format!("{name} is up: {}", nodes::line(&found)));
        }
        State::Absent => kind::create(&work, &ground, name, nodes)?,
        State::Broken => {
            step(&format!("removing the broken cluster {name}"), || ground.docker.remove(&work, name))?;
            kind::create(&work, &ground, name, nodes)?;
        }
    }
    Ok(())
}

/// What a cluster shall stand on: what clusters stand on already, else the common ground, else our own.
fn ground(work: &Work) -> Result<Ground> {
    match Docker::in_use(&work.place) {
        Docker::Own(_) => offline::ground(work, "another cluster is on a Docker of its own"),
        Docker::Found => match published::obstacle(work) {
            None => published::ground(work),
            Some(obstacle) => offline::ground(work, obstacle),
        },
    }
}

#[expect(clippy::print_stdout, reason = "a shell reads it")]
fn print_use(name: &str) -> Result<()> {
    let work = Work::look()?;
    tell("for this shell: eval \"$(cargo xtask cluster up)\"");
    println!("export KUBECONFIG='{}'", work.place.kubeconfig(name).display());
    if let Some(host) = Docker::in_use(&work.place).host() {
        println!("export DOCKER_HOST='{host}'");
    }
    println!("export PATH='{}':\"$PATH\"", work.place.programs().display());
    Ok(())
}

/// Sees to what metrics and traces go to in tests: commands for a cluster find it.
pub(crate) fn find_backends() -> Result<()> {
    let work = Work::begin()?;
    for module in modules::BACKENDS {
        work.find_first(&module.programs(&work, &[modules::ALL])?)?;
    }
    Ok(())
}

/// A cluster that is there until this value goes.
pub(crate) struct Borrowed {
    name: &'static str,
    work: Work,
    is_kept: bool,
}

impl Borrowed {
    /// Brings one up anew: what an interrupted run left of it is no ground for another.
    pub(crate) fn new(name: &'static str, nodes: usize) -> Result<Self> {
        down(Some(name))?;
        up(name, nodes)?;
        Ok(Self { name, work: Work::look()?, is_kept: false })
    }

    /// Brings one up unless it is up, and leaves it up.
    pub(crate) fn kept(name: &'static str, nodes: usize) -> Result<Self> {
        up(name, nodes)?;
        Ok(Self { name, work: Work::look()?, is_kept: true })
    }

    /// A command that finds this cluster, its Docker and its programs.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Docker::in_use(&self.work.place).command(&self.work, program, arguments);
        command.env("KUBECONFIG", self.work.place.kubeconfig(self.name));
        command
    }

    /// Puts images of its Docker into it.
    pub(crate) fn load(&self, images: &[String]) -> Result<()> {
        load(self.name, images)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = down(Some(self.name)) {
            tell(&format!("error: {error:#}"));
        }
    }
}

fn down(name: Option<&str>) -> Result<()> {
    let work = Work::begin()?;
    let docker = match Docker::in_use(&work.place) {
        // A daemon that was killed has left what only a daemon can remove.
        Docker::Own(_) => offline::daemon::start(&work)?,
        Docker::Found => Docker::Found,
    };
    for cluster in work.place.clusters().iter().filter(|cluster| name.is_none_or(|name| name == *cluster)) {
        step(&format!("removing cluster {cluster}"), || {
            docker.remove(&work, cluster)?;
            fs::remove_dir_all(work.place.cluster(cluster)).context("failed to forget the cluster")
        })?;
    }
    if !work.place.clusters().is_empty() {
        return Ok(());
    }
    match docker {
        Docker::Own(_) => step("ending the Docker daemon", || offline::daemon::end(&work, &docker))?,
        Docker::Found => published::clear(&work),
    }
    let run = work.place.run();
    fs::remove_dir_all(&run).with_context(|| format!("failed to remove {}", run.display()))
}

fn load(name: &str, images: &[String]) -> Result<()> {
    let work = Work::begin()?;
    let docker = Docker::in_use(&work.place);
    match kind::state(&work, &docker, name)? {
        State::Whole(_) => kind::load(&work, &docker, name, images),
        State::Absent | State::Broken => bail!("no cluster {name} is up: run `cargo xtask cluster up`"),
    }
}

#[expect(clippy::print_stdout, reason = "people read it")]
fn status() -> Result<()> {
    let work = Work::look()?;
    let docker = Docker::in_use(&work.place);
    println!("docker   {}", docker.host().unwrap_or_else(|| "the one that is found".to_owned()));
    let clusters = work.place.clusters();
    if clusters.is_empty() {
        println!("cluster  none");
    }
    for name in clusters {
        let line = match kind::state(&work, &docker, &name)? {
            State::Whole(nodes) => {
                format!("{}, KUBECONFIG={}", nodes::line(&nodes), work.place.kubeconfig(&name).display())
            }
            State::Broken => "half-made, or it does not answer".to_owned(),
            State::Absent => "none of its nodes is there".to_owned(),
        };
        println!("cluster  {name}: {line}");
    }
    Ok(())
}

/// A cluster's name is part of its nodes' host names, and here of a path.
fn name(text: &str) -> Result<String, String> {
    let letters = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let ends = text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-');
    if letters && ends && text.len() <= 40 {
        Ok(text.to_owned())
    } else {
        Err("take at most 40 small letters, digits and dashes, a letter first".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_for_a_host_and_a_path() {
        for good in ["canopy", "a", "e2e-1"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "..", "a/b", "A", "1a", "a-", "a b", &"a".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
