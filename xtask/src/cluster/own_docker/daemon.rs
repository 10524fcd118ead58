//! A Docker daemon for clusters, started and ended here.
//!
//! It changes nothing of the machine but for one bridge, which it removes at its end: no rule in the firewall, no forwarding.
//! No packet leaves the machine from its network.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

use crate::cluster::docker::{Docker, socket};
use crate::cluster::machine::lacking_capabilities;
use crate::cluster::mounts::mount_points;
use crate::cluster::paths::Paths;
use crate::cluster::session::{Session, run_quietly, timed};
use crate::env_tag::{EnvTag, end as end_process};
use crate::shell::{command, leave, root, run as run_command};

const START_LIMIT: Duration = Duration::from_mins(1);
/// A node has ten seconds to end, one after the other in the worst case.
const END_LIMIT: Duration = Duration::from_mins(1);
/// The network that kind uses for its nodes if it exists.
const NETWORK: &str = "kind";
/// Files with process ids, in the folder of running clusters.
const DOCKERD: &str = "docker.pid";
const CONTAINERD: &str = "docker/containerd/containerd.pid";
/// The folder of sockets of containerd's shims, which no setting moves.
const SOCKETS: &str = "/run/containerd/s";
/// This file exists if that folder did not exist before the daemon was started here.
const NO_SOCKETS: &str = "no-sockets";
const BRIDGE: &str = "canopy0";
/// The parent of all control groups of nodes.
pub(crate) const CONTROL_GROUP: &str = "canopy-cluster";

/// Starts the daemon unless it responds.
pub(crate) fn start(session: &Session) -> Result<Docker> {
    let docker = Docker::own(&session.paths);
    if !docker.responds(session) {
        // A daemon that does not respond is replaced. The containers that it started run on under the next one.
        if let Some(pid) = recorded(&session.paths.run(), DOCKERD) {
            end_process(pid, Signal::KILL, END_LIMIT)?;
        }
        timed("starting a Docker daemon", || launch(&session.paths))?;
    }
    if !docker.succeeds(session, &["network", "inspect", NETWORK]) {
        let bridge = format!("com.docker.network.bridge.name={BRIDGE}");
        let create = ["network", "create", "--driver", "bridge", "--opt", &bridge, NETWORK];
        run_quietly(&mut docker.command(session, "docker", create))?;
    }
    // Nothing from this bridge is forwarded, whatever the machine forwards otherwise.
    let forwarding = format!("/proc/sys/net/ipv4/conf/{BRIDGE}/forwarding");
    fs::write(&forwarding, "0").with_context(|| format!("failed to write {forwarding}"))?;
    Ok(docker)
}

/// Ends the daemon and removes all that it created but its images.
pub(crate) fn end(session: &Session, docker: &Docker) -> Result<()> {
    let run = session.paths.run();
    docker.succeeds(session, &["network", "rm", NETWORK]);
    if let Some(pid) = recorded(&run, DOCKERD) {
        end_process(pid, Signal::TERM, END_LIMIT)?;
    }
    EnvTag::Daemon.kill_all(&run)?;
    let made_sockets = run.join(NO_SOCKETS).exists();
    unmount(&[run, session.paths.images()])?;
    remove_control_groups(Path::new("/sys/fs/cgroup"));
    if made_sockets {
        remove_sockets(Path::new(SOCKETS));
    }
    Ok(())
}

/// Removes the folders of sockets if they are empty: otherwise another daemon uses them.
fn remove_sockets(sockets: &Path) {
    for folder in sockets.ancestors().take(2) {
        drop(fs::remove_dir(folder));
    }
}

fn launch(paths: &Paths) -> Result<()> {
    let run = paths.run();
    let state = run.join("docker");
    if !Path::new(SOCKETS).exists() {
        let note = run.join(NO_SOCKETS);
        fs::write(&note, "").with_context(|| format!("failed to write {}", note.display()))?;
    }
    for folder in [&state, &paths.images()] {
        fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    }
    let runtime = write_runtime(&run)?;
    // systemd's protocol: the daemon sends a message when it is ready.
    let notify = run.join("notify");
    for record in [DOCKERD, CONTAINERD] {
        if recorded(&run, record).is_none() {
            drop(fs::remove_file(run.join(record)));
        }
    }
    drop(fs::remove_file(&notify));
    drop(fs::remove_file(socket(&state)));
    let ready =
        UnixDatagram::bind(&notify).with_context(|| format!("failed to bind {}", notify.display()))?;

    let mut daemon = Command::new("dockerd");
    daemon.arg("--host").arg(format!("unix://{}", socket(&state).display()));
    daemon.arg("--data-root").arg(paths.images()).arg("--exec-root").arg(&state);
    daemon.arg("--pidfile").arg(run.join(DOCKERD)).args(["--cgroup-parent", CONTROL_GROUP]);
    // Interfaces, forwarding and firewall of the machine stay as they are.
    daemon.args(["--bridge", "none", "--ip-forward=false", "--iptables=false", "--ip6tables=false"]);
    daemon
        .arg("--add-runtime")
        .arg(format!("lacking={}", runtime.display()))
        .args(["--default-runtime", "lacking"]);
    daemon.env("NOTIFY_SOCKET", &notify);
    EnvTag::Daemon.put(&mut daemon, &run);
    // A cluster may outlive the check that first needed the daemon.
    daemon.env_remove(EnvTag::Check.variable());

    let log = run.join("dockerd.log");
    let file = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
    let child = leave(&mut daemon, file)?;
    await_ready(&ready, child).with_context(|| format!("failed to start dockerd: see {}", log.display()))
}

/// The process whose id a file has, if it is still the one that wrote it: ids are reused.
fn recorded(run: &Path, record: &str) -> Option<Pid> {
    let pid = fs::read_to_string(run.join(record)).ok()?;
    let pid = Pid::from_raw(pid.trim().parse().ok()?)?;
    EnvTag::Daemon.processes(run).contains(&pid).then_some(pid)
}

/// Waits for the daemon's message that it is ready.
fn await_ready(ready: &UnixDatagram, mut daemon: Child) -> Result<()> {
    ready.set_read_timeout(Some(Duration::from_millis(200)))?;
    let deadline = Instant::now() + START_LIMIT;
    let mut message = [0; 256];
    while Instant::now() < deadline {
        if ready.recv(&mut message).is_ok_and(|length| message[..length].starts_with(b"READY=1")) {
            return Ok(());
        }
        if let Some(status) = daemon.try_wait()? {
            bail!("dockerd ended with {status} before it was ready");
        }
    }
    bail!("dockerd was not ready after {START_LIMIT:?}")
}

/// Writes the runtime script, and beside it the list of capabilities that the machine does not have.
fn write_runtime(run: &Path) -> Result<PathBuf> {
    let script = root().join("deploy/kind/node/runc");
    let runtime = run.join("runc");
    let failed = || format!("failed to write {}", runtime.display());
    fs::copy(&script, &runtime).with_context(failed)?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).with_context(failed)?;
    fs::write(run.join("lacking.sed"), deletions(&lacking_capabilities())).with_context(failed)?;
    Ok(runtime)
}

/// A script for sed that deletes words from JSON lists without spaces.
fn deletions(words: &[&str]) -> String {
    let delete = |word: &&str| format!("s/\"{word}\",//g\ns/,\"{word}\"//g\ns/\"{word}\"//g\n");
    words.iter().map(delete).collect()
}

/// Unmounts what a daemon that was killed left mounted in some folders, the last first.
fn unmount(folders: &[PathBuf]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read /proc/self/mountinfo")?;
    for point in
        mount_points(&mounts).rev().filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
    {
        run_command(&mut command("umount", [point]))?;
    }
    Ok(())
}

/// Removes the control groups of nodes, which a daemon leaves empty: one per hierarchy, below the group that started it.
fn remove_control_groups(below: &Path) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == CONTROL_GROUP {
            remove_tree(&path);
        } else {
            remove_control_groups(&path);
        }
    }
}

/// Removes a control group from its leaves up; one that is not empty stays.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    drop(fs::remove_dir(group));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::run_with_input;

    #[test]
    fn only_empty_folders_of_sockets_are_removed() {
        let run = tempfile::tempdir().unwrap();
        let sockets = run.path().join("containerd/s");
        fs::create_dir_all(&sockets).unwrap();
        fs::write(sockets.join("of-another"), "").unwrap();
        remove_sockets(&sockets);
        assert!(sockets.join("of-another").exists());
        fs::remove_file(sockets.join("of-another")).unwrap();
        remove_sockets(&sockets);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
    }

    #[test]
    fn missing_capabilities_are_deleted_anywhere_in_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("lacking.sed");
        fs::write(&script, deletions(&["CAP_B", "CAP_D"])).unwrap();
        let check = |text: &str, expected: &str| {
            let mut sed = command("sed", ["-f".as_ref(), script.as_os_str()]);
            assert_eq!(run_with_input(&mut sed, text).unwrap(), expected);
        };
        check(
            r#"{"a":["CAP_A","CAP_B","CAP_C"],"b":["CAP_B","CAP_D"]}"#,
            r#"{"a":["CAP_A","CAP_C"],"b":[]}"#,
        );
        check(r#"["CAP_A","CAP_D"]"#, r#"["CAP_A"]"#);
        check(r#"["CAP_BB","CAP_B"]"#, r#"["CAP_BB"]"#);
    }
}
