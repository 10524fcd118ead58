//! Starts other programs: to their end, or running until a value is dropped. Nothing else in this crate starts one.
//!
//! The kernel kills them if this process is killed; only `leave` starts one that goes on.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::Pid;

use crate::env_tag::EnvTag;

/// The time between two attempts, unless the program prints a line before.
const INTERVAL: Duration = Duration::from_millis(100);
/// How many of a program's last lines an error has.
const LINES_SHOWN: usize = 40;

/// How many letters of a program's words a report has.
const WORDS_SHOWN: usize = 200;

/// Every program is started by `setpriv` with these arguments.
const GUARD: [&str; 2] = ["--pdeathsig", "KILL"];

/// Arguments of cargo: the profile of tests. Third-party crates are built with it as for `cargo run --release`, once for
/// all checks.
pub(crate) const AS_TESTS: [&str; 2] = ["--profile", "bench"];

/// The target of every build.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The environment of cargo in every check. It is not in `.cargo/config.toml`: some systems have no static C library, and
/// `cargo run` must work there.
pub(crate) const CARGO_ENVIRONMENT: [(&str, &str); 2] = [
    ("CARGO_BUILD_TARGET", TARGET),
    // An image without /dev: random numbers come from the system call.
    (
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"",
    ),
];

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

/// A command that starts in the root of the workspace.
pub(crate) fn command<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new("setpriv");
    command.args(GUARD).arg(program).args(arguments).current_dir(root());
    EnvTag::Check.put(&mut command, check_tag());
    // Variables that cargo sets for this package would make packages whose builds read them build again.
    let is_of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if is_of_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// Cargo, the one that runs this program, with the target and flags of images, so that all checks share what they compile.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut cargo = command(own_cargo(), arguments);
    cargo.envs(CARGO_ENVIRONMENT);
    cargo
}

/// The path of the cargo that runs this program.
pub(crate) fn own_cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// How often the programs of this process were killed: each time the tag of further programs changes.
static KILLED: AtomicU32 = AtomicU32::new(0);

/// The value of the tag of programs that are started now. A process of this program that a check started keeps the tag of
/// that check.
fn check_tag() -> OsString {
    let inherited = std::env::var_os(EnvTag::Check.variable());
    inherited.unwrap_or_else(|| format!("{}.{}", std::process::id(), KILLED.load(Ordering::Relaxed)).into())
}

/// The programs that were started here and still run, each as its process id and its words.
pub(crate) fn running_programs() -> Vec<String> {
    let describe = |pid: Pid| {
        let pid = pid.as_raw_pid();
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        format!("{pid} {}", words.chars().take(WORDS_SHOWN).collect::<String>())
    };
    EnvTag::Check.processes(check_tag()).into_iter().map(describe).collect()
}

/// Kills them. Programs that are started from now on are not among them.
pub(crate) fn kill_programs() -> Result<()> {
    let tag = check_tag();
    KILLED.fetch_add(1, Ordering::Relaxed);
    EnvTag::Check.kill_all(tag)
}

/// Runs a command to its end; its output is not redirected.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| not_started(command))?;
    if status.success() { Ok(()) } else { bail!("{} ended with {status}", words(command)) }
}

/// Runs a command to its end; prints its standard output and returns the lines of it that begin with one of `prefixes`, also if it
/// fails.
#[expect(clippy::print_stdout, reason = "people and programs read it")]
pub(crate) fn run_and_collect(command: &mut Command, prefixes: &[&str]) -> (Vec<String>, Result<()>) {
    let mut collected = Vec::new();
    let mut run = || {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| not_started(command))?;
        let output = child.stdout.take().context("a child with a piped output has one")?;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            if prefixes.iter().any(|prefix| line.starts_with(prefix)) {
                collected.push(line);
            }
        }
        let status = child.wait()?;
        if status.success() { Ok(()) } else { bail!("{} ended with {status}", words(command)) }
    };
    let result = run();
    (collected, result)
}

/// Runs a command to its end with its output on standard error: standard output is for programs.
pub(crate) fn run_aside(command: &mut Command) -> Result<()> {
    run(command.stdout(std::io::stderr()))
}

/// Runs a command to its end and returns its standard output; its standard error is not redirected.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| not_started(command))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        bail!("{} ended with {}", words(command), output.status)
    }
}

/// Runs a command to its end with `input`; returns its standard output followed by its standard error.
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| not_started(command))?;
    let stdin = child.stdin.take().context("a child with a piped input has one")?;
    let output = std::thread::scope(|scope| {
        // In a thread of its own: the child may fill its output before it has read its input.
        scope.spawn(move || { stdin }.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        bail!("{} ended with {}: {text}", words(command), output.status)
    }
}

/// Starts a program that goes on when this one ends; its output goes into `log`.
pub(crate) fn leave(command: &mut Command, log: File) -> Result<Child> {
    let errors = log.try_clone().context("failed to share a log file")?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    command.spawn().with_context(|| format!("failed to start {}", command.get_program().display()))
}

/// Whether the program is on the path.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A program that runs until this value is dropped.
pub(crate) struct Running {
    words: String,
    child: Child,
    lines: Receiver<String>,
    last: VecDeque<String>,
}

impl Running {
    /// Starts a program.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let words = words(command);
        let mut child = command.spawn().with_context(|| not_started(command))?;
        let (sender, lines) = channel();
        if let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) {
            forward(output, sender.clone());
            forward(errors, sender);
        }
        Ok(Self { words, child, lines, last: VecDeque::new() })
    }

    /// Repeats `attempt` until it succeeds. Fails with its last error and the last lines of the program when the program
    /// has ended or `limit` is over.
    pub(crate) fn until<T>(&mut self, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let error = match attempt() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let ended = match self.lines.recv_timeout(INTERVAL) {
                Ok(line) => {
                    self.remember(line);
                    false
                }
                Err(ended) => ended == RecvTimeoutError::Disconnected,
            };
            if ended || Instant::now() > deadline {
                let why = if ended { "ended".to_owned() } else { format!("took more than {limit:?}") };
                return Err(self.with_last_lines(&error.context(why)));
            }
        }
    }

    /// An error with the last lines of the program.
    pub(crate) fn with_last_lines(&mut self, error: &anyhow::Error) -> anyhow::Error {
        while let Ok(line) = self.lines.try_recv() {
            self.remember(line);
        }
        let lines = self.last.make_contiguous().join("\n  ");
        anyhow!("{}: {error:#}; its last lines:\n  {lines}", self.words)
    }

    fn remember(&mut self, line: String) {
        if self.last.len() == LINES_SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn forward(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

/// The command as a person would type it: without `setpriv` and without the folder of the program.
fn words(command: &Command) -> String {
    let mut words = command.get_args().skip(GUARD.len()).map(OsStr::to_string_lossy);
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(program.into()).chain(words).collect::<Vec<_>>().join(" ")
}

fn not_started(command: &Command) -> String {
    format!("failed to start {}: setpriv of the Debian package util-linux is missing", words(command))
}
