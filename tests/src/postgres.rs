//! A real `PostgreSQL`, as Debian packages it, that pods of a cluster can reach.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::process::{Process, free_address_of};
use crate::wait::{SOON, until};

/// The user and group `nobody`, because `PostgreSQL` does not run as root.
const NOBODY: u32 = 65534;
/// The folder for its data. That of `TMPDIR` may be below a folder that `nobody` cannot enter, such as the home of root.
const REACHED_BY_ALL: &str = "/tmp";
/// The folder in which Debian has a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
const PASSWORD: &str = "secret";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Postgres {
    /// Starts one that listens at `at`; returns when it is ready.
    pub async fn start(at: IpAddr) -> Result<Self> {
        let folder = tempfile::tempdir_in(REACHED_BY_ALL)?;
        chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::write(&password, PASSWORD)?;
        let initdb = [
            format!("--pgdata={}", data.display()),
            format!("--pwfile={}", password.display()),
            "--username=canopy".to_owned(),
            "--auth=scram-sha-256".to_owned(),
            "--no-sync".to_owned(),
        ];
        let made = Command::new("/usr/bin/setpriv").args(as_nobody("initdb", &initdb)?).output()?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let hosts = data.join("pg_hba.conf");
        let allowed = fs::read_to_string(&hosts)? + "host all all 0.0.0.0/0 scram-sha-256\n";
        fs::write(&hosts, allowed)?;

        let address = free_address_of(at)?;
        let flags = [
            format!("-D{}", data.display()),
            format!("-p{}", address.port()),
            format!("-h{}", address.ip()),
            format!("-k{}", folder.path().display()),
            "-cfsync=off".to_owned(),
        ];
        let mut process =
            Process::start(Path::new("/usr/bin/setpriv"), &as_nobody("postgres", &flags)?, &[])?;
        until("PostgreSQL to answer", SOON, async || {
            process.still_runs()?;
            let lines = process.lines();
            let is_ready = lines.iter().any(|line| line.contains("ready to accept connections"));
            ensure!(is_ready, "it says {lines:?}");
            Ok(())
        })
        .await?;
        Ok(Self { address, process, _folder: folder })
    }

    /// The URL of its database for a gateway.
    pub fn url(&self) -> String {
        format!("postgres://canopy:{PASSWORD}@{}/postgres", self.address)
    }

    /// Its output so far, for the report of a failed test.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }
}

/// The arguments of `setpriv` that run a program as `nobody`.
fn as_nobody(program: &str, flags: &[String]) -> Result<Vec<String>> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let programs = versions.map(|version| version.path().join("bin").join(program));
    let program: PathBuf = programs
        .filter(|path| path.is_file())
        .max()
        .with_context(|| format!("{program} is missing: install the Debian package postgresql"))?;
    // A change of the user resets the signal for the death of the parent, so it is set again.
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig=KILL"].map(str::to_owned);
    Ok([&words[..], &[program.display().to_string()], flags].concat())
}
