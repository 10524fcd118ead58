//! A Docker daemon of our own: it changes nothing on the machine but for one bridge, and takes that along.
//!
//! Comes in: a chore. Goes out: a daemon that answers and has kind's network, or no trace of one. Never: a packet
//! out of the machine from that network, nor a rule in the machine's firewall.

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
use crate::cluster::marked::{Mark, end as end_process};
use crate::cluster::mounts::mount_points;
use crate::cluster::place::Place;
use crate::cluster::work::{Work, quietly, step};
use crate::shell::{command, leave, root, run as run_command};

const START_LIMIT: Duration = Duration::from_mins(1);
/// A node is given ten seconds to end, each after the other in the worst case.
const END_LIMIT: Duration = Duration::from_mins(1);
/// The network that kind takes for its nodes, as it finds it.
const NETWORK: &str = "kind";
/// Where the daemon and what it starts note their numbers, below the folder of what runs.
const DOCKERD: &str = "docker.pid";
const CONTAINERD: &str = "docker/containerd/containerd.pid";
/// Where containerd has the sockets of its shims, wherever its state is.
const SOCKETS: &str = "/run/containerd/s";
/// It is there if that folder was not, before our first daemon.
const NO_SOCKETS: &str = "no-sockets";
const BRIDGE: &str = "canopy0";
/// All control groups of nodes are below one of this name.
pub(crate) const CONTROL_GROUP: &str = "canopy-cluster";

/// Starts the daemon, unless it answers.
pub(crate) fn start(work: &Work) -> Result<Docker> {
    let docker = Docker::own(&work.place);
    if !docker.answers(work) {
        // One that answers no more is as good as none. What it started goes on: the next one takes it over.
        if let Some(pid) = recorded(&work.place.run(), DOCKERD) {
            end_process(pid, Signal::KILL, END_LIMIT)?;
        }
        step("starting a Docker daemon", || launch(&work.place))?;
    }
    if !docker.agrees(work, &["network", "inspect", NETWORK]) {
        let bridge = format!("com.docker.network.bridge.name={BRIDGE}");
        let create = ["network", "create", "--driver", "bridge", "--opt", &bridge, NETWORK];
        quietly(&mut docker.command(work, "docker", create))?;
    }
    // Whatever the machine forwards otherwise, nothing that comes from this bridge.
    let forwarding = format!("/proc/sys/net/ipv4/conf/{BRIDGE}/forwarding");
    fs::write(&forwarding, "0").with_context(|| format!("failed to write {forwarding}"))?;
    Ok(docker)
}

/// Ends the daemon with all that it made, but for its images.
pub(crate) fn end(work: &Work, docker: &Docker) -> Result<()> {
    let run = work.place.run();
    docker.agrees(work, &["network", "rm", NETWORK]);
    if let Some(pid) = recorded(&run, DOCKERD) {
        end_process(pid, Signal::TERM, END_LIMIT)?;
    }
    Mark::Daemon.end_carriers(&run)?;
    let made_sockets = run.join(NO_SOCKETS).exists();
    unmount(&[run, work.place.images()])?;
    remove_control_groups(Path::new("/sys/fs/cgroup"));
    if made_sockets {
        remove_sockets(Path::new(SOCKETS));
    }
    Ok(())
}

/// Removes the folders of sockets, which a daemon leaves empty. One that is not empty belongs to another daemon and stays.
fn remove_sockets(sockets: &Path) {
    for folder in sockets.ancestors().take(2) {
        drop(fs::remove_dir(folder));
    }
}

fn launch(place: &Place) -> Result<()> {
    let run = place.run();
    let state = run.join("docker");
    if !Path::new(SOCKETS).exists() {
        let note = run.join(NO_SOCKETS);
        fs::write(&note, "").with_context(|| format!("failed to write {}", note.display()))?;
    }
    for folder in [&state, &place.images()] {
        fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    }
    let runtime = write_runtime(&run)?;
    // systemd's protocol: it tells when it is ready.
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
    daemon.arg("--data-root").arg(place.images()).arg("--exec-root").arg(&state);
    daemon.arg("--pidfile").arg(run.join(DOCKERD)).args(["--cgroup-parent", CONTROL_GROUP]);
    // The machine's interfaces, forwarding and firewall stay as they are.
    daemon.args(["--bridge", "none", "--ip-forward=false", "--iptables=false", "--ip6tables=false"]);
    daemon
        .arg("--add-runtime")
        .arg(format!("lacking={}", runtime.display()))
        .args(["--default-runtime", "lacking"]);
    daemon.env("NOTIFY_SOCKET", &notify);
    Mark::Daemon.put(&mut daemon, &run);

    let log = run.join("dockerd.log");
    let file = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
    let child = leave(&mut daemon, file)?;
    await_ready(&ready, child).with_context(|| format!("failed to start dockerd: see {}", log.display()))
}

/// Who noted a number and is still about. The number alone is no proof: it may be someone else's by now.
fn recorded(run: &Path, record: &str) -> Option<Pid> {
    let pid = fs::read_to_string(run.join(record)).ok()?;
    let pid = Pid::from_raw(pid.trim().parse().ok()?)?;
    Mark::Daemon.carriers(run).contains(&pid).then_some(pid)
}

/// Waits for the daemon's word that it is ready.
fn await_ready(ready: &UnixDatagram, mut daemon: Child) -> Result<()> {
    ready.set_read_timeout(Some(Duration::from_millis(200)))?;
    let deadline = Instant::now() + START_LIMIT;
    let mut word = [0; 256];
    while Instant::now() < deadline {
        if ready.recv(&mut word).is_ok_and(|length| word[..length].starts_with(b"READY=1")) {
            return Ok(());
        }
        if let Some(status) = daemon.try_wait()? {
            bail!("it ended with {status}");
        }
    }
    bail!("it was not ready after {START_LIMIT:?}")
}

/// Puts the runtime where the daemon is told to find it, beside what is lacking.
fn write_runtime(run: &Path) -> Result<PathBuf> {
    let script = root().join("deploy/kind/offline/runc");
    let runtime = run.join("runc");
    let failed = || format!("failed to write {}", runtime.display());
    fs::copy(&script, &runtime).with_context(failed)?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).with_context(failed)?;
    fs::write(run.join("lacking.sed"), deletions(&lacking_capabilities())).with_context(failed)?;
    Ok(runtime)
}

/// The script for sed that deletes words from lists in JSON without spaces.
fn deletions(words: &[&str]) -> String {
    let delete = |word: &&str| format!("s/\"{word}\",//g\ns/,\"{word}\"//g\ns/\"{word}\"//g\n");
    words.iter().map(delete).collect()
}

/// Unmounts whatever a daemon that was killed had mounted in some folders, the last first.
fn unmount(folders: &[PathBuf]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read what is mounted")?;
    for place in
        mount_points(&mounts).rev().filter(|place| folders.iter().any(|folder| place.starts_with(folder)))
    {
        run_command(&mut command("umount", [place]))?;
    }
    Ok(())
}

/// Removes our control groups: a daemon leaves them empty. There is one per hierarchy, below that of who started it.
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
    use crate::shell::feed;

    #[test]
    fn empty_folders_of_sockets_go_and_others_stay() {
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
    fn lacking_capabilities_go_from_the_first_the_last_and_the_only_place() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("lacking.sed");
        fs::write(&script, deletions(&["CAP_B", "CAP_D"])).unwrap();
        let check = |text: &str, expected: &str| {
            let mut sed = command("sed", ["-f".as_ref(), script.as_os_str()]);
            assert_eq!(feed(&mut sed, text).unwrap(), expected);
        };
        check(
            r#"{"a":["CAP_A","CAP_B","CAP_C"],"b":["CAP_B","CAP_D"]}"#,
            r#"{"a":["CAP_A","CAP_C"],"b":[]}"#,
        );
        check(r#"["CAP_A","CAP_D"]"#, r#"["CAP_A"]"#);
        check(r#"["CAP_BB","CAP_B"]"#, r#"["CAP_BB"]"#);
    }
}
