//! Proves on this machine what the chores promise.
//!
//! Comes in: a machine without a cluster. Goes out: the seconds of each promise, or the first that is not kept.
//! Never: a cluster or a trace of one afterwards.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::docker::Docker;
use super::kind::kubectl;
use super::nodes::read;
use super::traces::Traces;
use super::work::{Work, tell};
use crate::shell::{Running, capture, command, feed, run as run_command};

const NAME: &str = "canopy-test";
/// What a cluster may take that was up before.
const SECOND_UP_LIMIT: Duration = Duration::from_mins(1);
/// Names outside the cluster are refused rather than waited for.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

/// Runs the trials; `full` adds those of an `up` that is killed, and of three nodes.
pub(crate) fn run(full: bool) -> Result<()> {
    // What an interrupted trial left behind.
    chore(&["down", "--name", NAME])?;
    let work = Work::look()?;
    let before = Traces::now(&work.place.run())?;
    ensure!(
        work.place.clusters().is_empty(),
        "a cluster is up: take it down first, with `cargo xtask cluster down`"
    );

    let result = trials(&work, &before, full);
    if result.is_err() {
        chore(&["down"])?;
    }
    result
}

fn trials(work: &Work, before: &Traces, full: bool) -> Result<()> {
    told("up, with whatever had to be built", || chore(&["up", "--name", NAME]))?;
    told("nodes are ready", || ready(work, 1))?;
    told("names resolve inside a pod, and others are refused at once", || names(work))?;
    told("the audit log tells who wrote", || audit(work))?;
    told("images load by name and from a file", || images(work))?;
    told("up again changes nothing", || unchanged(work))?;
    told("down of a cluster whose daemon was killed", || {
        daemon_killed(work)?;
        chore(&["down"])
    })?;
    nothing_left(work, before)?;
    if full { killed(work, before) } else { Ok(()) }
}

/// What is left of an `up` that was killed hinders neither a `down` nor another `up`, of three nodes.
fn killed(work: &Work, before: &Traces) -> Result<()> {
    for (moment, come) in [DAEMON, API_SERVER] {
        told(&format!("up killed when {moment}, then down"), || {
            killed_up(work, come)?;
            chore(&["down"])
        })?;
        nothing_left(work, before)?;
    }

    let (moment, come) = NODE;
    killed_up(work, come)?;
    let what = format!("up of three nodes after an up that was killed when {moment}");
    let second = told(&what, || chore(&["up", "--name", NAME, "--nodes", "3"]))?;
    ensure!(second < SECOND_UP_LIMIT, "the second up took {second:?}, more than {SECOND_UP_LIMIT:?}");
    ready(work, 3)?;
    told("names resolve inside a pod on a worker", || names(work))?;
    told("down", || chore(&["down"]))?;
    nothing_left(work, before)
}

/// How a moment is known.
type Come = fn(&Work) -> Result<()>;
/// What it is called, and how it is known.
type Moment = (&'static str, Come);

const DAEMON: Moment = ("there is a daemon", |work| {
    ensure!(Docker::in_use(&work.place).answers(work), "no daemon answers");
    Ok(())
});
const NODE: Moment = ("its node starts", |work| {
    let docker = Docker::in_use(&work.place);
    ensure!(docker.answers(work) && !docker.nodes(work, NAME)?.is_empty(), "no node is there");
    Ok(())
});
const API_SERVER: Moment = ("its API server answers", |work| {
    let half = work.place.kubeconfig(NAME).with_extension("half");
    ensure!(half.exists(), "there is no kubeconfig");
    let mut ask = work.command("kubectl", ["get", "--raw", "/readyz", "--request-timeout", "2s"]);
    feed(ask.env("KUBECONFIG", half), "").map(|_| ())
});

/// Does something, tells how long it took and answers it.
fn told(what: &str, act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    act().with_context(|| format!("failed: {what}"))?;
    tell(&format!("== {what}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(start.elapsed())
}

/// A chore in a process of its own, as people run it.
fn process(arguments: &[&str]) -> Result<Command> {
    let this = std::env::current_exe().context("failed to find this program")?;
    Ok(command(this, ["cluster"].iter().chain(arguments)))
}

fn chore(arguments: &[&str]) -> Result<()> {
    run_command(process(arguments)?.stdout(std::io::stderr()))
}

/// Begins an `up` and kills it at a moment, with no chance to clean up.
fn killed_up(work: &Work, come: Come) -> Result<()> {
    let mut up = Running::start(&mut process(&["up", "--name", NAME])?)?;
    up.until(Duration::from_mins(2), || come(work))?;
    drop(up);
    Ok(())
}

/// Kills a daemon of our own; one that was found is not ours to kill.
fn daemon_killed(work: &Work) -> Result<()> {
    let Docker::Own(state) = Docker::in_use(&work.place) else { return Ok(()) };
    let pid =
        std::fs::read_to_string(state.with_extension("pid")).context("failed to read the daemon's number")?;
    run_command(&mut command("kill", ["-KILL", pid.trim()]))
}

fn ready(work: &Work, expected: usize) -> Result<()> {
    let nodes = read(&capture(&mut kubectl(work, NAME, ["get", "nodes", "--output", "json"]))?)?;
    let ready = nodes.iter().filter(|node| node.ready).count();
    ensure!(ready == expected, "{ready} nodes are ready, not {expected}: {nodes:?}");
    Ok(())
}

/// Asks for names from a pod that borrows the node's programs, so that no image is needed but one that is there.
fn names(work: &Work) -> Result<()> {
    let pod = include_str!("trial/names.yaml");
    feed(&mut kubectl(work, NAME, ["apply", "--filename", "-"]), pod)?;
    let succeeded = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/names", "--timeout", "60s"];
    feed(&mut kubectl(work, NAME, succeeded), "")?;
    let said = capture(&mut kubectl(work, NAME, ["logs", "names"]))?;
    let said = String::from_utf8_lossy(&said);
    let mut lines = said.lines();
    let found = lines.next().unwrap_or_default();
    ensure!(
        found.ends_with("kubernetes.default.svc.cluster.local"),
        "the API server's name was not found: {said}"
    );
    let milliseconds: u64 =
        lines.next().unwrap_or_default().parse().with_context(|| format!("no time: {said}"))?;
    let own = matches!(Docker::in_use(&work.place), Docker::Own(_));
    ensure!(
        !own || u128::from(milliseconds) < REFUSAL_LIMIT.as_millis(),
        "a name outside the cluster was refused after {milliseconds} ms"
    );
    feed(&mut kubectl(work, NAME, ["delete", "pod", "names", "--now"]), "").map(|_| ())
}

/// Writes something and looks for it in the log, by the API server alone.
fn audit(work: &Work) -> Result<()> {
    feed(&mut kubectl(work, NAME, ["create", "configmap", "audited"]), "")?;
    let path = format!("/api/v1/nodes/{NAME}-control-plane/proxy/logs/kubernetes/audit.log");
    let log = capture(&mut kubectl(work, NAME, ["get", "--raw", &path]))?;
    let log = String::from_utf8_lossy(&log);
    let written = |line: &str| line.contains("\"verb\":\"create\"") && line.contains("\"name\":\"audited\"");
    ensure!(log.lines().any(written), "the audit log does not tell of a write");
    ensure!(!log.lines().any(|line| line.contains("\"verb\":\"get\"")), "the audit log tells of reads");
    Ok(())
}

/// Loads an empty image each way and asks the node for it.
fn images(work: &Work) -> Result<()> {
    let docker = Docker::in_use(&work.place);
    let file = work.place.run().join("image.tar");
    for (image, from) in [("canopy/by-name:1", None), ("canopy/by-file:1", Some(file.to_string_lossy()))] {
        let empty = "\0".repeat(1024);
        feed(&mut docker.command(work, "docker", ["import", "-", image]), &empty)?;
        if let Some(file) = &from {
            feed(&mut docker.command(work, "docker", ["save", "--output", file, image]), "")?;
        }
        chore(&["load", "--name", NAME, from.as_deref().unwrap_or(image)])?;
        let node = format!("{NAME}-control-plane");
        let asked = feed(
            &mut docker.command(work, "docker", ["exec", &node, "crictl", "images", "--quiet", image]),
            "",
        )?;
        ensure!(!asked.trim().is_empty(), "the node has no image {image}");
        feed(&mut docker.command(work, "docker", ["rmi", image]), "")?;
    }
    Ok(())
}

/// The namespaces of a cluster that was made anew would have other identities.
fn unchanged(work: &Work) -> Result<()> {
    let identity = || {
        let arguments = ["get", "namespace", "kube-system", "--output", "jsonpath={.metadata.uid}"];
        capture(&mut kubectl(work, NAME, arguments))
    };
    let before = identity()?;
    chore(&["up", "--name", NAME])?;
    ensure!(identity()? == before, "a second up made another cluster");
    let Err(refusal) = feed(&mut process(&["up", "--name", NAME, "--nodes", "3"])?, "") else {
        bail!("up with another number of nodes was not refused");
    };
    ensure!(
        refusal.to_string().contains("nodes: 1, not 3"),
        "up was refused for another reason: {refusal:#}"
    );
    ensure!(identity()? == before, "an up that was refused made another cluster");
    Ok(())
}

fn nothing_left(work: &Work, before: &Traces) -> Result<()> {
    let left = Traces::now(&work.place.run())?.since(before);
    if left.is_empty() {
        tell("== nothing is left");
        return Ok(());
    }
    bail!("down left behind:\n  {}", left.join("\n  "))
}
