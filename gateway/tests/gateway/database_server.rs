//! `MariaDB` and `PostgreSQL` servers from the Debian packages, each in a temporary folder and on a free port of loopback.

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

/// The user `nobody`: `PostgreSQL` does not run as root.
const NOBODY: u32 = 65534;

/// The distance between the ports of two servers, so that a restarted server finds its port free.
const PORT_SPACING: usize = 100;
/// How many servers have been started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// The kind of server.
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
    /// Starts a server and waits until it accepts connections.
    pub(crate) async fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        // A free port below the ephemeral range.
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

    /// The URL for a gateway.
    pub(crate) fn url(&self) -> String {
        self.url_of("canopy")
    }

    fn url_of(&self, database: &str) -> String {
        let (scheme, port) = (if self.kind == Kind::MariaDb { "mysql" } else { "postgres" }, self.port);
        format!("{scheme}://canopy:s%2Fcret@127.0.0.1:{port}/{database}")
    }

    /// A connection for the test.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        Box::pin(Database::connect(self.url())).await.unwrap()
    }

    /// Starts the server on its port and waits until it accepts connections.
    pub(crate) async fn restart(&mut self) {
        let (folder, port) = (self.path(""), self.port.to_string());
        // The children of a killed server may hold its shared memory for a moment.
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

    /// Stops or continues all processes of the server.
    pub(crate) fn set_stopped(&self, still: bool) {
        for id in self.processes() {
            // A child may have exited.
            let _ = kill_process(id, if still { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        for id in self.processes() {
            let _ = kill_process(id, Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// The server's process and its children.
    fn processes(&self) -> Vec<Pid> {
        let Some(child) = &self.child else { return Vec::new() };
        let parent = child.id().to_string();
        let mut ids = vec![parent.clone()];
        for folder in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            // The format is "id (name) state parent …"; a name may contain brackets and spaces.
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

    /// A command in the server's folder, run as a user other than root.
    fn command(&self, program: &str) -> Command {
        let package = if self.kind == Kind::MariaDb { "mariadb-server" } else { "postgresql" };
        let program = find(program, package);
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        }
        // The kernel kills the server if the test is killed.
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        // A MariaDB deletes temporary tables in this folder when it starts, including those of other servers.
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

/// The path of `program`: a system folder, or Debian's folder of the latest version.
fn find(program: &str, package: &str) -> PathBuf {
    let mut folders: Vec<_> = ["/usr/local/sbin", "/usr/sbin", "/usr/bin"].map(PathBuf::from).into();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    folders.extend(versions.map(|version| version.path().join("bin")));
    let found = folders.into_iter().map(|folder| folder.join(program)).filter(|path| path.is_file()).max();
    found.unwrap_or_else(|| panic!("{program} is missing: install the Debian package {package}"))
}
