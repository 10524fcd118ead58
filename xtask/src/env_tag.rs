//! Variables in the environment of the programs that are started here. Children inherit them, so that all processes of a run
//! are found in `/proc` and can be ended, also those whose parent was killed.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// What a process was started for.
#[derive(Clone, Copy)]
pub(crate) enum EnvTag {
    /// A check; the value is the process id of this program.
    Check,
    /// A command for clusters, which must have ended when the next one begins; the value is the folder of running clusters.
    Cluster,
    /// The Docker daemon that is started here and what it starts; the value is the same folder.
    Daemon,
}

impl EnvTag {
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Check => "CANOPY_CHECK",
            Self::Cluster => "CANOPY_CLUSTER_STEP",
            Self::Daemon => "CANOPY_CLUSTER_DAEMON",
        }
    }

    /// Tags a command.
    pub(crate) fn put(self, command: &mut Command, value: impl AsRef<OsStr>) {
        command.env(self.variable(), value);
    }

    /// The processes that have this tag with this value.
    pub(crate) fn processes(self, value: impl AsRef<OsStr>) -> Vec<Pid> {
        let sought = [self.variable().as_bytes(), b"=", value.as_ref().as_encoded_bytes()].concat();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_pid()));
            environment.is_ok_and(|environment| has(&environment, &sought))
        })
        .collect()
    }

    /// Kills all processes that have this tag with this value, until there are none.
    pub(crate) fn kill_all(self, value: impl AsRef<OsStr>) -> Result<()> {
        loop {
            let processes = self.processes(&value);
            if processes.is_empty() {
                return Ok(());
            }
            for pid in processes {
                end(pid, Signal::KILL, Duration::from_secs(10))?;
            }
        }
    }
}

fn has(environment: &[u8], sought: &[u8]) -> bool {
    environment.split(|byte| *byte == 0).any(|variable| variable == sought)
}

/// Sends a signal and waits until the process has ended.
#[cfg(target_os = "linux")]
pub(crate) fn end(pid: Pid, signal: Signal, limit: Duration) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(()); // it has ended
    };
    if kill_process(pid, signal).is_err() {
        return Ok(());
    }
    let limit = Timespec::try_from(limit).context("failed to wait: the limit is too long")?;
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    anyhow::ensure!(
        ended.is_ok_and(|ended| ended > 0),
        "process {} still runs after the signal",
        pid.as_raw_pid()
    );
    Ok(())
}

/// Sends a signal. Only on Linux are processes found by their tag.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end(pid: Pid, signal: Signal, _limit: Duration) -> Result<()> {
    kill_process(pid, signal).with_context(|| format!("failed to end process {}", pid.as_raw_pid()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_tag_is_compared_as_a_whole_variable() {
        let check = |environment: &str, expected| {
            assert_eq!(has(environment.as_bytes(), b"TAG=/run"), expected, "{environment}");
        };
        check("A=1\0TAG=/run\0B=2\0", true);
        check("TAG=/run", true);
        check("TAG=/run/other\0", false);
        check("OTHER_TAG=/run\0", false);
        check("", false);
    }

    #[test]
    fn tagged_processes_and_their_children_are_killed_and_others_left_alone() {
        let run = tempfile::tempdir().unwrap();
        let start = |tagged: bool| {
            // The shell and its child: two processes.
            let mut command = Command::new("sh");
            command.args(["-c", "tail -f /dev/null & echo ready; wait"]).stdout(std::process::Stdio::piped());
            if tagged {
                EnvTag::Cluster.put(&mut command, run.path());
            }
            let mut child = command.spawn().unwrap();
            let mut ready = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            child
        };
        let (mut tagged, mut other) = (start(true), start(false));

        // The child has no environment for a moment, while it executes another program.
        let began = Instant::now();
        while EnvTag::Cluster.processes(run.path()).len() != 2 {
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", EnvTag::Cluster.processes(run.path()));
            std::thread::yield_now();
        }
        assert_eq!(EnvTag::Daemon.processes(run.path()).len(), 0);
        EnvTag::Cluster.kill_all(run.path()).unwrap();
        assert_eq!(EnvTag::Cluster.processes(run.path()).len(), 0);
        assert!(!tagged.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "a process without the tag was killed");

        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", other.id())).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        for child in children.split_whitespace() {
            end(child.parse().ok().and_then(Pid::from_raw).unwrap(), Signal::KILL, Duration::from_secs(5))
                .unwrap();
        }
    }
}
