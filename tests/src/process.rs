//! A running program, with its log lines, signals and exit status. It is killed when the value is dropped or the test ends.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::wait::{SOON, until};

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// The threads that read its output.
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a program with these environment variables and no others.
    pub fn start(program: &Path, arguments: &[String], environment: &[(&str, String)]) -> Result<Self> {
        // If the test itself is killed, the kernel ends the program.
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(arguments).env_clear();
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("failed to start {}", program.display()))?;
        let (lines, mut readers) = (Arc::default(), Vec::new());
        if let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) {
            readers.extend([keep(output, &lines), keep(errors, &lines)]);
        }
        Ok(Self { child, lines, readers })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines of its output so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its log lines so far, parsed as JSON.
    pub fn log(&self) -> Result<Vec<Value>> {
        let read = |line: &String| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
        self.lines().iter().map(read).collect()
    }

    /// The log lines that `is` accepts, once there are `count` of them.
    pub async fn log_of(&self, what: &str, count: usize, is: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        until(what, SOON, async || {
            let (found, others): (Vec<_>, Vec<_>) = self.log()?.into_iter().partition(&is);
            ensure!(
                found.len() >= count,
                "expected {count} such lines, got {}: {found:?}; other lines: {others:?}",
                found.len()
            );
            Ok(found)
        })
        .await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.context("a process has an id")?, signal)
            .with_context(|| format!("failed to send {signal:?}"))
    }

    /// Fails with the output if the process has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("ended with {status}: {}", self.lines().join("\n")),
        }
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        let ended = until("the process to end", SOON, async || {
            child.try_wait()?.ok_or_else(|| anyhow!("the process still runs"))
        });
        let ended = ended.await;
        if ended.is_ok() {
            // The rest of its output may still be in the pipe.
            for reader in self.readers.drain(..) {
                reader.join().map_err(|_| anyhow!("a reader of its output panicked"))?;
            }
        }
        ended.with_context(|| self.lines().join("\n"))
    }

    /// Sends SIGKILL and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.kill());
    }
}

/// A free address of loopback, outside the range from which the kernel takes ports.
pub fn free_address() -> Result<SocketAddr> {
    free_address_of(Ipv4Addr::LOCALHOST.into())
}

/// The same for another address of this machine.
pub fn free_address_of(ip: IpAddr) -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the range of ports for outgoing connections; test programs that run together start apart.
    let start = 10_000 + std::process::id() % 10_000;
    for _ in 0..1000 {
        let port = start + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::new(ip, u16::try_from(port)?);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("expected a free port among the thousand from {start} on, got none")
}

fn keep(from: impl Read + Send + 'static, to: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let to = to.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}
