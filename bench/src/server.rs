//! A server that is measured: a process with children of its own, from its start to its end.
//!
//! Comes in: a command. Goes out: what its processes use. The only file that starts and ends processes. Never: a
//! process left behind, by whatever way the measurement ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

use crate::usage::{Usage, of_group};

/// How long a server may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    /// Starts a server in a process group of its own. What it prints is thrown away, as it would be written to a
    /// pipe elsewhere: the cost of making it stays, the cost of keeping it is not the server's.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().with_context(|| format!("failed to start {name} ({command:?})"))?;
        Ok(Self { name, child })
    }

    /// What it is called in the results.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What its processes have used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        of_group(self.child.id()).with_context(|| format!("failed to measure {}", self.name))
    }

    /// Fails once the server has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; run it by hand to see why", self.name),
        }
    }

    /// Asks the server to end and waits until it has.
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
        // Children that outlived it are in its group; where nobody is left there is nobody to tell.
        _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        drop(self.child.wait());
    }
}

/// An address of this machine that nobody listens on, and that the kernel gives to no outgoing connection: one that
/// is asked for before anybody listens could otherwise be connected to itself.
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

/// Runs a program to its end and returns what it printed; its errors are seen at once.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a program to its end and returns what it printed on either output.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("failed to start {command:?}"))?;
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that waits for a child of its own.
    fn family() -> Server {
        Server::start("sh", Command::new("sh").args(["-c", "sleep 1000 & wait"])).unwrap()
    }

    #[tokio::test]
    async fn a_server_ends_when_it_is_asked_to() {
        let status = family().end().await.unwrap();
        assert_eq!(status.to_string(), "signal: 15 (SIGTERM)");
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_server_that_goes_out_of_scope() {
        let server = family();
        let group = server.child.id();
        assert!(of_group(group).is_ok());
        drop(server);
        // The orphan is reaped by whoever adopts it, which may take a moment.
        let gone = async {
            while of_group(group).is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the whole group to be gone");
    }
}
