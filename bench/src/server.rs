//! A measured server: a process with its children. When the value is dropped, all of its processes are killed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

use crate::usage::{Usage, of_group};

/// The longest time from SIGTERM to the end of a server.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    /// Starts a server in its own process group. Its output is discarded: the cost of writing it counts, the cost of
    /// storing it does not.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().with_context(|| format!("failed to start {name} ({command:?})"))?;
        Ok(Self { name, child })
    }

    /// Its name in the results.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The resources that its processes have used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        of_group(self.child.id()).with_context(|| format!("failed to measure {}", self.name))
    }

    /// Returns an error if the server has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; run it by hand to see why", self.name),
        }
    }

    /// Sends SIGTERM and waits until the server has ended.
    pub(crate) async fn end(mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(5)).await;
        }
        bail!("{} did not end within {PATIENCE:?} of SIGTERM", self.name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Children that outlived it are in its group. It is no error if no process is left.
        _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        drop(self.child.wait());
    }
}

/// A free address of this machine whose port is not ephemeral: a connection from an ephemeral port to itself would succeed
/// before the server listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, NEXT.fetch_add(1, Ordering::Relaxed)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port is free from 20000 on")
}

/// Runs a program to its end and returns its standard output; its standard error is inherited.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a program to its end and returns its standard output and standard error.
pub(crate) fn output_of_both_streams(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("failed to start {command:?}"))?;
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell with a child process.
    fn family() -> Server {
        Server::start("sh", Command::new("sh").args(["-c", "sleep 1000 & wait"])).unwrap()
    }

    #[tokio::test]
    async fn a_server_ends_on_sigterm() {
        let status = family().end().await.unwrap();
        assert_eq!(status.to_string(), "signal: 15 (SIGTERM)");
    }

    #[tokio::test]
    async fn a_dropped_server_leaves_no_process() {
        let server = family();
        let group = server.child.id();
        assert!(of_group(group).is_ok());
        drop(server);
        // The process that adopts the orphan may reap it a moment later.
        let gone = async {
            while of_group(group).is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the whole group to be gone");
    }
}
