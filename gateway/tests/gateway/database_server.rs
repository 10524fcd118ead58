//! Real database servers: `MariaDB` and `PostgreSQL`, as Debian packages them, each in a folder of its own.
//!
//! Comes in: which. Goes out: a server on a free port of loopback, which can be stopped, killed and started again. Never: a
//! process or a file that outlives it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use sea_orm::{Database, DatabaseConnection};
use tempfile::TempDir;

use crate::recording::until;

/// `nobody`: `PostgreSQL` does not run as root.
const NOBODY: u32 = 65534;

/// How far apart the ports of two servers begin: one that is away for a moment must find its own free when it comes back.
const PORT_SPACING: usize = 100;
/// How many servers were made before.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MariaDb,
    Postgres,
}

/// A server with an empty database `canopy`.
pub(crate) struct DatabaseServer {
    kind: Kind,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl DatabaseServer {
    /// Makes a server, and returns when it answers.
    pub(crate) async fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        // Free at this moment, and below the range that is given to those who ask for any.
        let begin =
            std::process::id() as usize % 5_000 + STARTED.fetch_add(1, Ordering::Relaxed) * PORT_SPACING;
        let port = (20_000..32_000)
            .skip(begin)
            .find(|&port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok())
            .unwrap();
        let mut server = Self { kind, folder, port, child: None };
        server.initialise();
        server.restart().await;
        server
    }

    /// Where a gateway finds it.
    pub(crate) fn url(&self) -> String {
        self.url_of("canopy")
    }

    fn url_of(&self, database: &str) -> String {
        let (scheme, port) = (if self.kind == Kind::MariaDb { "mysql" } else { "postgres" }, self.port);
        format!("{scheme}://canopy:s%2Fcret@127.0.0.1:{port}/{database}")
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        Box::pin(Database::connect(self.url())).await.unwrap()
    }

    /// Starts it where it was, and returns when it answers.
    pub(crate) async fn restart(&mut self) {
        let (folder, port) = (self.path(""), self.port.to_string());
        // One that was killed may leave children that hold its memory for a moment.
        until("the server to answer", async || {
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                let arguments: Vec<String> = match self.kind {
                    Kind::MariaDb => vec![
                        "--no-defaults".into(),
                        format!("--datadir={folder}/data"),
                        format!("--port={port}"),
                        "--bind-address=127.0.0.1".into(),
                        format!("--socket={folder}/socket"),
                        format!("--pid-file={folder}/pid"),
                        format!("--init-file={folder}/init.sql"),
                        "--skip-name-resolve".into(),
                        "--innodb-flush-log-at-trx-commit=2".into(),
                    ],
                    Kind::Postgres => {
                        let flags =
                            ["-D", "data", "-p", &port, "-k", &folder, "-h", "127.0.0.1", "-c", "fsync=off"];
                        flags.map(str::to_owned).into()
                    }
                };
                let mut command =
                    self.command(if self.kind == Kind::MariaDb { "mariadbd" } else { "postgres" });
                let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
                let child = command.args(arguments).stderr(log).spawn().unwrap();
                self.child = Some(child);
            }
            let database = if self.kind == Kind::Postgres && !Path::new(&self.path("made")).exists() {
                "postgres"
            } else {
                "canopy"
            };
            let url = self.url_of(database);
            match Box::pin(Database::connect(url)).await {
                Ok(connection) if database == "postgres" => {
                    use sea_orm::ConnectionTrait as _;
                    connection.execute_unprepared("CREATE DATABASE canopy").await.unwrap();
                    fs::write(self.path("made"), "").unwrap();
                    true
                }
                answered => answered.is_ok(),
            }
        })
        .await;
    }

    /// Has it, and all that belongs to it, hold still; or go on.
    pub(crate) fn set_stopped(&self, still: bool) {
        for id in self.processes() {
            // A child may have ended by itself.
            let _ = kill_process(id, if still { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        for id in self.processes() {
            let _ = kill_process(id, Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Its process, and those that it has started.
    fn processes(&self) -> Vec<Pid> {
        let Some(child) = &self.child else { return Vec::new() };
        let parent = child.id().to_string();
        let mut ids = vec![parent.clone()];
        for folder in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            // "id (name) state parent …", where a name may have brackets and blanks.
            let stat = fs::read_to_string(folder.path().join("stat")).unwrap_or_default();
            let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            if after_name.split_whitespace().nth(1) == Some(&parent) {
                ids.push(folder.file_name().to_string_lossy().into_owned());
            }
        }
        ids.iter().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().trim_end_matches('/').to_owned()
    }

    fn initialise(&self) {
        let folder = self.path("");
        match self.kind {
            Kind::MariaDb => {
                let first = "CREATE DATABASE IF NOT EXISTS canopy;\n\
                    CREATE USER IF NOT EXISTS canopy@'127.0.0.1' IDENTIFIED BY 's/cret';\n\
                    GRANT ALL ON canopy.* TO canopy@'127.0.0.1';\n";
                fs::write(self.path("init.sql"), first).unwrap();
                let data = format!("--datadir={folder}/data");
                let flags =
                    ["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"];
                ran(self.command("mariadb-install-db").args(flags));
            }
            Kind::Postgres => {
                fs::write(self.path("password"), "s/cret").unwrap();
                let flags =
                    ["-D", "data", "-U", "canopy", "--auth=scram-sha-256", "--pwfile=password", "--no-sync"];
                ran(self.command("initdb").args(flags).args(["--locale=C.UTF-8", "--encoding=UTF8"]));
            }
        }
    }

    /// A command in its folder, as a user who is not root.
    fn command(&self, program: &str) -> Command {
        let package = if self.kind == Kind::MariaDb { "mariadb-server" } else { "postgresql" };
        let program = find(program, package);
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        }
        // Should this test be killed before it can end the server, the kernel does so.
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        // A MariaDB that starts removes the temporary tables in the folder for them: of another one too, where both have it.
        command.env("TMPDIR", self.folder.path());
        command
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        self.set_stopped(false);
        self.kill();
    }
}

fn ran(command: &mut Command) {
    let Output { status, stderr, .. } = command.stderr(Stdio::piped()).output().unwrap();
    assert!(status.success(), "{command:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
}

/// Where `program` is: on the way, or where Debian has it, of its latest version.
fn find(program: &str, package: &str) -> PathBuf {
    let mut folders: Vec<_> = ["/usr/local/sbin", "/usr/sbin", "/usr/bin"].map(PathBuf::from).into();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    folders.extend(versions.map(|version| version.path().join("bin")));
    let found = folders.into_iter().map(|folder| folder.join(program)).filter(|path| path.is_file()).max();
    found.unwrap_or_else(|| panic!("{program} is missing: install the Debian package {package}"))
}
