//! Programs started for a cluster carry a mark in their environment, which their children inherit.
//!
//! Comes in: a command, or a mark. Goes out: the command marked, or everyone alive who carries the mark: that is
//! how the leavings of a run that was killed are found. Never: a program that carries no mark of ours.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// What a program was started for.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// A part of one chore: it must not be there when the next chore begins.
    Step,
    /// The daemon of our own, and what it starts.
    Daemon,
}

impl Mark {
    const fn variable(self) -> &'static str {
        match self {
            Self::Step => "CANOPY_CLUSTER_STEP",
            Self::Daemon => "CANOPY_CLUSTER_DAEMON",
        }
    }

    /// Marks a command as one of those that belong to the folder `run`.
    pub(crate) fn put(self, command: &mut Command, run: &Path) {
        command.env(self.variable(), run);
    }

    /// Who carries it now.
    pub(crate) fn carriers(self, run: &Path) -> Vec<Pid> {
        let sought = [self.variable().as_bytes(), b"=", run.as_os_str().as_encoded_bytes()].concat();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids =
            processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_pid()));
            environment.is_ok_and(|environment| carries(&environment, &sought))
        })
        .collect()
    }

    /// Ends whoever carries it, and whomever they start meanwhile.
    pub(crate) fn end_carriers(self, run: &Path) -> Result<()> {
        loop {
            let carriers = self.carriers(run);
            if carriers.is_empty() {
                return Ok(());
            }
            for pid in carriers {
                end(pid, Signal::KILL, Duration::from_secs(10))?;
            }
        }
    }
}

fn carries(environment: &[u8], sought: &[u8]) -> bool {
    environment.split(|byte| *byte == 0).any(|variable| variable == sought)
}

/// Sends a signal and waits for the end that it asks for.
#[cfg(target_os = "linux")]
pub(crate) fn end(pid: Pid, signal: Signal, limit: Duration) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(()); // it is gone
    };
    if kill_process(pid, signal).is_err() {
        return Ok(());
    }
    let limit = Timespec::try_from(limit).context("failed to wait: the limit is too long")?;
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    anyhow::ensure!(
        ended.is_ok_and(|ended| ended > 0),
        "failed to end process {}: it goes on",
        pid.as_raw_pid()
    );
    Ok(())
}

/// Sends a signal. Only Linux lets anyone be found by the mark, so that there is nobody to wait for.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end(pid: Pid, signal: Signal, _limit: Duration) -> Result<()> {
    kill_process(pid, signal).with_context(|| format!("failed to end process {}", pid.as_raw_pid()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_mark_is_one_whole_variable() {
        let check = |environment: &str, expected| {
            assert_eq!(carries(environment.as_bytes(), b"MARK=/run"), expected, "{environment}");
        };
        check("A=1\0MARK=/run\0B=2\0", true);
        check("MARK=/run", true);
        check("MARK=/run/other\0", false);
        check("OTHER_MARK=/run\0", false);
        check("", false);
    }

    #[test]
    fn carriers_and_their_children_are_found_and_ended_and_others_left() {
        let run = tempfile::tempdir().unwrap();
        let start = |marked: bool| {
            // The shell waits for a child that it names, so that there are two to find.
            let mut command = Command::new("sh");
            command.args(["-c", "tail -f /dev/null & echo ready; wait"]).stdout(std::process::Stdio::piped());
            if marked {
                Mark::Step.put(&mut command, run.path());
            }
            let mut child = command.spawn().unwrap();
            let mut ready = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            child
        };
        let (mut marked, mut other) = (start(true), start(false));

        // The child of the shell shows no environment while it becomes another program.
        let began = Instant::now();
        while Mark::Step.carriers(run.path()).len() != 2 {
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", Mark::Step.carriers(run.path()));
            std::thread::yield_now();
        }
        assert_eq!(Mark::Daemon.carriers(run.path()).len(), 0);
        Mark::Step.end_carriers(run.path()).unwrap();
        assert_eq!(Mark::Step.carriers(run.path()).len(), 0);
        assert!(!marked.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "a program without the mark was ended");

        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", other.id())).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        for child in children.split_whitespace() {
            end(child.parse().ok().and_then(Pid::from_raw).unwrap(), Signal::KILL, Duration::from_secs(5))
                .unwrap();
        }
    }
}
