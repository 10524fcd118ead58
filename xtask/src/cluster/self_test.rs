//! Tests of `cargo xtask cluster` on this machine: no cluster may run before, and nothing of one is left afterwards.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::docker::Docker;
use super::kind::kubectl;
use super::machine_state::MachineState;
use super::nodes::read;
use super::session::{Session, print};
use crate::shell::{Running, capture, command, run as run_command, run_with_input};

const NAME: &str = "canopy-test";
/// The limit for an `up` whose programs and images have been built.
const SECOND_UP_LIMIT: Duration = Duration::from_mins(1);
/// The limit for the refusal of a name outside the cluster.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

/// Runs the tests; `full` adds an `up` that is killed at several moments, and three nodes.
pub(crate) fn run(full: bool) -> Result<()> {
    // What an interrupted run left.
    action(&["down", "--name", NAME])?;
    let session = Session::read_only()?;
    let before = MachineState::now(&session.paths.run())?;
    ensure!(
        session.paths.clusters().is_empty(),
        "a cluster is up: remove it first, with `cargo xtask cluster down`"
    );

    let result = tests(&session, &before, full);
    if result.is_err() {
        action(&["down"])?;
    }
    result
}

fn tests(session: &Session, before: &MachineState, full: bool) -> Result<()> {
    timed_test("up, with what had to be built", || action(&["up", "--name", NAME]))?;
    timed_test("nodes are ready", || ready(session, 1))?;
    timed_test("names resolve inside a pod, and others are refused at once", || names(session))?;
    timed_test("the audit log has writes and their authors", || audit(session))?;
    timed_test("images load by name and from a file", || images(session))?;
    timed_test("up again changes nothing", || unchanged(session))?;
    timed_test("down after the daemon was killed, if it was started here", || {
        kill_daemon(session)?;
        action(&["down"])
    })?;
    nothing_left(session, before)?;
    if full { killed(session, before) } else { Ok(()) }
}

/// After an `up` that was killed, `down` and another `up`, of three nodes, succeed.
fn killed(session: &Session, before: &MachineState) -> Result<()> {
    for (moment, has_come) in [DAEMON, API_SERVER] {
        timed_test(&format!("up killed when {moment}, then down"), || {
            killed_up(session, has_come)?;
            action(&["down"])
        })?;
        nothing_left(session, before)?;
    }

    let (moment, has_come) = NODE;
    killed_up(session, has_come)?;
    let what = format!("up of three nodes after an up that was killed when {moment}");
    let second = timed_test(&what, || action(&["up", "--name", NAME, "--nodes", "3"]))?;
    ensure!(second < SECOND_UP_LIMIT, "the second up took {second:?}, more than {SECOND_UP_LIMIT:?}");
    ready(session, 3)?;
    timed_test("names resolve inside a pod on a worker", || names(session))?;
    timed_test("down", || action(&["down"]))?;
    nothing_left(session, before)
}

/// Succeeds once a condition holds.
type Condition = fn(&Session) -> Result<()>;

const DAEMON: (&str, Condition) = ("the daemon responds", |session| {
    ensure!(Docker::in_use(&session.paths).responds(session), "no daemon responds");
    Ok(())
});
const NODE: (&str, Condition) = ("the node starts", |session| {
    let docker = Docker::in_use(&session.paths);
    ensure!(docker.responds(session) && !docker.nodes(session, NAME)?.is_empty(), "there is no node");
    Ok(())
});
const API_SERVER: (&str, Condition) = ("the API server answers", |session| {
    let kubeconfig = session.paths.kubeconfig(NAME).with_extension("incomplete");
    ensure!(kubeconfig.exists(), "there is no kubeconfig");
    let mut ask = session.command("kubectl", ["get", "--raw", "/readyz", "--request-timeout", "2s"]);
    run_with_input(ask.env("KUBECONFIG", kubeconfig), "").map(|_| ())
});

/// Runs a test, prints the time it took and returns it.
fn timed_test(what: &str, act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    act().with_context(|| format!("failed: {what}"))?;
    print(&format!("== {what}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(start.elapsed())
}

/// A command for clusters in a process of its own, as people run it.
fn process(arguments: &[&str]) -> Result<Command> {
    let this = std::env::current_exe().context("failed to find this program")?;
    Ok(command(this, ["cluster"].iter().chain(arguments)))
}

fn action(arguments: &[&str]) -> Result<()> {
    run_command(process(arguments)?.stdout(std::io::stderr()))
}

/// Starts an `up` and kills it once a condition holds.
fn killed_up(session: &Session, has_come: Condition) -> Result<()> {
    let mut up = Running::start(&mut process(&["up", "--name", NAME])?)?;
    up.until(Duration::from_mins(2), || has_come(session))?;
    drop(up);
    Ok(())
}

/// Kills the daemon, if it was started here.
fn kill_daemon(session: &Session) -> Result<()> {
    let Docker::Own(state) = Docker::in_use(&session.paths) else { return Ok(()) };
    let pid = std::fs::read_to_string(state.with_extension("pid"))
        .context("failed to read the id of the daemon's process")?;
    run_command(&mut command("kill", ["-KILL", pid.trim()]))
}

fn ready(session: &Session, expected: usize) -> Result<()> {
    let nodes = read(&capture(&mut kubectl(session, NAME, ["get", "nodes", "--output", "json"]))?)?;
    let ready = nodes.iter().filter(|node| node.ready).count();
    ensure!(ready == expected, "{ready} nodes are ready, not {expected}: {nodes:?}");
    Ok(())
}

/// Resolves names in a pod. It mounts the node's programs, so that an image that the node has will do.
fn names(session: &Session) -> Result<()> {
    let pod = include_str!("self_test/names.yaml");
    run_with_input(&mut kubectl(session, NAME, ["apply", "--filename", "-"]), pod)?;
    let succeeded = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/names", "--timeout", "60s"];
    run_with_input(&mut kubectl(session, NAME, succeeded), "")?;
    let output = capture(&mut kubectl(session, NAME, ["logs", "names"]))?;
    let output = String::from_utf8_lossy(&output);
    let mut lines = output.lines();
    let found = lines.next().unwrap_or_default();
    ensure!(
        found.ends_with("kubernetes.default.svc.cluster.local"),
        "the API server's name was not found: {output}"
    );
    let milliseconds: u64 =
        lines.next().unwrap_or_default().parse().with_context(|| format!("no time: {output}"))?;
    let own = matches!(Docker::in_use(&session.paths), Docker::Own(_));
    ensure!(
        !own || u128::from(milliseconds) < REFUSAL_LIMIT.as_millis(),
        "a name outside the cluster was refused after {milliseconds} ms"
    );
    run_with_input(&mut kubectl(session, NAME, ["delete", "pod", "names", "--now"]), "").map(|_| ())
}

/// Creates an object and finds that in the audit log, through the API server.
fn audit(session: &Session) -> Result<()> {
    run_with_input(&mut kubectl(session, NAME, ["create", "configmap", "audited"]), "")?;
    let path = format!("/api/v1/nodes/{NAME}-control-plane/proxy/logs/kubernetes/audit.log");
    let log = capture(&mut kubectl(session, NAME, ["get", "--raw", &path]))?;
    let log = String::from_utf8_lossy(&log);
    let written = |line: &str| line.contains("\"verb\":\"create\"") && line.contains("\"name\":\"audited\"");
    ensure!(log.lines().any(written), "the audit log does not have a write");
    ensure!(!log.lines().any(|line| line.contains("\"verb\":\"get\"")), "the audit log has reads");
    Ok(())
}

/// Loads an empty image each way and finds it on the node.
fn images(session: &Session) -> Result<()> {
    let docker = Docker::in_use(&session.paths);
    let file = session.paths.run().join("image.tar");
    for (image, from) in [("canopy/by-name:1", None), ("canopy/by-file:1", Some(file.to_string_lossy()))] {
        let empty = "\0".repeat(1024);
        run_with_input(&mut docker.command(session, "docker", ["import", "-", image]), &empty)?;
        if let Some(file) = &from {
            run_with_input(&mut docker.command(session, "docker", ["save", "--output", file, image]), "")?;
        }
        action(&["load", "--name", NAME, from.as_deref().unwrap_or(image)])?;
        let node = format!("{NAME}-control-plane");
        let asked = run_with_input(
            &mut docker.command(session, "docker", ["exec", &node, "crictl", "images", "--quiet", image]),
            "",
        )?;
        ensure!(!asked.trim().is_empty(), "the node has no image {image}");
        run_with_input(&mut docker.command(session, "docker", ["rmi", image]), "")?;
    }
    Ok(())
}

/// A second `up` keeps the cluster: a new one would have other uids.
fn unchanged(session: &Session) -> Result<()> {
    let identity = || {
        let arguments = ["get", "namespace", "kube-system", "--output", "jsonpath={.metadata.uid}"];
        capture(&mut kubectl(session, NAME, arguments))
    };
    let before = identity()?;
    action(&["up", "--name", NAME])?;
    ensure!(identity()? == before, "a second up created another cluster");
    let Err(refusal) = run_with_input(&mut process(&["up", "--name", NAME, "--nodes", "3"])?, "") else {
        bail!("up with another number of nodes was not refused");
    };
    ensure!(
        refusal.to_string().contains("nodes: 1, not 3"),
        "up was refused for another reason: {refusal:#}"
    );
    ensure!(identity()? == before, "an up that was refused created another cluster");
    Ok(())
}

fn nothing_left(session: &Session, before: &MachineState) -> Result<()> {
    let left = MachineState::now(&session.paths.run())?.since(before);
    if left.is_empty() {
        print("== nothing is left");
        return Ok(());
    }
    bail!("down left behind:\n  {}", left.join("\n  "))
}
