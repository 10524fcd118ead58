//! Describes the machine and the versions of a run, without names or paths of the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::results::{Machine, Version};
use crate::server::{output, output_of_both_streams};

/// The Python packages whose versions are recorded.
const PACKAGES: [&str; 6] = ["scikit-learn", "numpy", "fastapi", "pydantic", "uvicorn", "uvloop"];

/// The same of the libraries that make or run model files.
const LIBRARIES: [&str; 8] =
    ["lightgbm", "xgboost", "scikit-learn", "skops", "skl2onnx", "onnxruntime", "tract", "numpy"];

/// Describes this machine before a run of servers; with the packages of `python`, if it is measured.
pub(crate) fn describe(python: Option<&Path>) -> Result<Machine> {
    // nginx prints its version to standard error.
    let nginx = output_of_both_streams(Command::new("nginx").arg("-v"))?;
    let nginx = nginx.trim_start_matches("nginx version: ").replace('/', " ");
    let packages = python.map(|python| packages(python, &PACKAGES)).transpose()?.unwrap_or_default();
    machine(&(nginx + &packages))
}

/// Describes this machine before a run of model files, with the libraries of `python`.
pub(crate) fn describe_without_servers(python: &Path) -> Result<Machine> {
    machine(&packages(python, &LIBRARIES)?)
}

fn machine(programs: &str) -> Result<Machine> {
    let processor = field("/proc/cpuinfo", "model name", ':')?;
    let memory = field("/proc/meminfo", "MemTotal", ':')?;
    let memory_kib: u64 = memory.trim_end_matches(" kB").parse().context("failed to parse MemTotal")?;
    let load = read("/proc/loadavg")?;
    let load_before = load.split(' ').next().and_then(|first| first.parse().ok());
    Ok(Machine {
        date: first_line(&output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?),
        commit: first_line(&output(Command::new("git").args(["describe", "--always", "--dirty"]))?),
        processor,
        processors: std::thread::available_parallelism()?.get(),
        memory_mib: memory_kib / 1024,
        system: field("/etc/os-release", "PRETTY_NAME", '=')?.trim_matches('"').to_owned(),
        kernel: first_line(&read("/proc/sys/kernel/osrelease")?),
        load_before: load_before.context("failed to parse /proc/loadavg")?,
        versions: versions(programs)?,
    })
}

/// A line with name and version for Python and for each package.
fn packages(python: &Path, names: &[&str]) -> Result<String> {
    let script = format!(
        "import importlib.metadata as m, platform; print('Python', platform.python_version())\n\
         for name in {names:?}: print(name, m.version(name))"
    );
    output(Command::new(python).args(["-c", &script]))
}

fn versions(programs: &str) -> Result<Vec<Version>> {
    let lines = output(Command::new("rustc").arg("--version"))? + programs;
    let version = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let version = rest.split(' ').next()?;
        Some(Version { name: name.to_owned(), version: version.to_owned() })
    };
    lines.lines().map(|line| version(line).with_context(|| format!("no version in {line:?}"))).collect()
}

/// The value of the first line of a file that begins with `name`.
fn field(path: &str, name: &str, separator: char) -> Result<String> {
    let text = read(path)?;
    let value = text.lines().find_map(|line| {
        let (found, value) = line.split_once(separator)?;
        (found.trim() == name).then(|| value.trim().to_owned())
    });
    value.with_context(|| format!("{path} has no {name}"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}
