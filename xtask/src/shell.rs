//! Other programs: run to their end, or kept running while something is asked of them.
//!
//! Comes in: a command. Goes out: what it printed, or why it failed, with the command in words. The only file
//! that starts a program. Never: a program that outlives this one, unless it is left running by that name.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

/// How long after a failed attempt the next one follows, where the program says nothing in between.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many of a program's last lines are shown when it disappoints.
const LINES_SHOWN: usize = 40;

/// What stands before every program.
const GUARD: [&str; 2] = ["--pdeathsig", "KILL"];

/// Words for cargo: the profile of tests, for which what others wrote is built as for `cargo run --release`, once for
/// all checks.
pub(crate) const AS_TESTS: [&str; 2] = ["--profile", "bench"];

/// What every program is built for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What cargo is told by every check. It is not in `.cargo/config.toml`: some systems have no static C library, and
/// `cargo run` must work there.
pub(crate) const CARGO_ENVIRONMENT: [(&str, &str); 2] = [
    ("CARGO_BUILD_TARGET", TARGET),
    // An empty image has no /dev: random numbers must come from the system call.
    (
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"",
    ),
];

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

/// A command that starts in the root of the workspace. The kernel ends it should this program be killed before
/// it can do so itself.
pub(crate) fn command<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new("setpriv");
    command.args(GUARD).arg(program).args(arguments).current_dir(root());
    // What cargo said of this package would make packages whose build looks at such words build again, with all that
    // stands on them.
    let is_of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if is_of_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// Cargo, the one that runs this program, with the target and flags of images: a program that any check builds runs where
/// there is no system, and all checks share what they compile.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut cargo = command(own_cargo(), arguments);
    cargo.envs(CARGO_ENVIRONMENT);
    cargo
}

/// Where that is.
pub(crate) fn own_cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command to its end; what it prints is seen at once.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| not_started(command))?;
    if status.success() { Ok(()) } else { bail!("{} ended with {status}", words(command)) }
}

/// Runs a command to its end; what it prints comes on standard error: standard output is for what programs read.
pub(crate) fn run_aside(command: &mut Command) -> Result<()> {
    run(command.stdout(std::io::stderr()))
}

/// Runs a command to its end and returns what it printed; its errors are seen at once.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| not_started(command))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        bail!("{} ended with {}", words(command), output.status)
    }
}

/// Runs a command to its end with `input` and returns what it says on either output.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| not_started(command))?;
    let stdin = child.stdin.take().context("a child with a piped input has one")?;
    let output = std::thread::scope(|scope| {
        // The child may say much before it has read all: writing must not wait for reading, nor the other way.
        scope.spawn(move || { stdin }.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        bail!("{} ended with {}: {said}", words(command), output.status)
    }
}

/// Starts a program that goes on when this one ends, whatever ends it; what it prints goes into `log`.
pub(crate) fn leave(command: &mut Command, log: File) -> Result<Child> {
    let errors = log.try_clone().context("failed to share a log file")?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    command.spawn().with_context(|| format!("failed to start {}", command.get_program().display()))
}

/// Whether there is such a program.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A program that runs until this value goes.
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

    /// Tries until it works, the program ends or `limit` is over; then the last error and lines are told.
    pub(crate) fn until<T>(&mut self, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let error = match attempt() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let ended = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.remember(line);
                    false
                }
                Err(ended) => ended == RecvTimeoutError::Disconnected,
            };
            if ended || Instant::now() > deadline {
                let why = if ended { "ended".to_owned() } else { format!("took more than {limit:?}") };
                return Err(self.disappointed(&error.context(why)));
            }
        }
    }

    /// Wraps an error in what the program said last.
    pub(crate) fn disappointed(&mut self, error: &anyhow::Error) -> anyhow::Error {
        while let Ok(line) = self.lines.try_recv() {
            self.remember(line);
        }
        let said = self.last.make_contiguous().join("\n  ");
        anyhow!("{}: {error:#}; it said last:\n  {said}", self.words)
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
        // It may have ended by itself; either way it is gone afterwards.
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

/// The command as one would type it, without what stands before it and without the folder of the program.
fn words(command: &Command) -> String {
    let mut words = command.get_args().skip(GUARD.len()).map(OsStr::to_string_lossy);
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(program.into()).chain(words).collect::<Vec<_>>().join(" ")
}

fn not_started(command: &Command) -> String {
    format!("failed to start {} by setpriv, which is in the Debian package util-linux", words(command))
}
