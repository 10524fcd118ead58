//! Images hold one program each: every program must work in a root that holds nothing but itself, a bundle of certificates and a
//! resolv.conf.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::binaries::{Build, Static, statically};
use crate::debian;
use crate::http::{free_address, get, get_text, post};
use crate::shell::{Running, command, root, run};

/// The limit for each program in an image.
const BYTES_MAX: u64 = 25_000_000;
/// The limit for `canopy`, which has gateway and predictor in it.
const CANOPY_BYTES_MAX: u64 = 32_000_000;
pub(super) const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const RESOLVER: &str = "/etc/resolv.conf";
/// How long a program may take to become ready, training included.
const START: Duration = Duration::from_secs(30);

/// Builds the programs quickly and runs them.
pub(super) fn check() -> Result<()> {
    works(&statically(Build::Quick)?)
}

/// Builds the programs as they are distributed, compares their sizes with the limit and runs them; the sizes for people.
pub(super) fn check_distribution() -> Result<Vec<String>> {
    let programs = statically(Build::Distribution)?;
    let sizes = sizes([
        (programs.canopy.as_path(), CANOPY_BYTES_MAX),
        (programs.operator.as_path(), BYTES_MAX),
        (programs.gateway.as_path(), BYTES_MAX),
        (programs.predictor.as_path(), BYTES_MAX),
    ])?;
    works(&programs)?;
    Ok(sizes)
}

/// The operator works only in a cluster: the tests there run it.
fn works(Static { canopy, operator: _, gateway, predictor }: &Static) -> Result<()> {
    debian::need_file(CERTIFICATES, "ca-certificates")?;
    through_a_gateway(gateway, predictor)?;
    in_one_process(canopy)
}

#[expect(clippy::print_stdout, reason = "people read it")]
fn sizes(programs: [(&Path, u64); 4]) -> Result<Vec<String>> {
    let mut sizes = Vec::new();
    for (program, limit) in programs {
        let bytes = fs::metadata(program).with_context(|| format!("no {}", program.display()))?.len();
        let name = program.file_name().unwrap_or_default().display();
        println!("{bytes:>10} bytes  {name}");
        ensure!(bytes <= limit, "{name} has {bytes} bytes, more than {limit}");
        sizes.push(format!("{name} {bytes} bytes"));
    }
    Ok(sizes)
}

/// Prepares a model, serves it, and sends requests through a gateway; each program is in a root of its own.
fn through_a_gateway(gateway: &Path, predictor: &Path) -> Result<()> {
    let folder = EmptyRoot::new(predictor)?;
    fs::write(folder.path.join("config.json"), config().to_string())?;
    let prepare = ["prepare", "--config", "/config.json", "--dir", "/model"];
    run(&mut folder.command(&prepare)).with_context(needs_root)?;
    let serve = ["serve", "--config", "/config.json", "--dir", "/model"];
    let (_predictor, predictor) = folder.start(&serve, "--listen", &[])?;
    predicts(&post(predictor, "/predict", &row())?["prediction"])?;

    let folder = EmptyRoot::new(gateway)?;
    let predictors = format!("demo=http://{predictor}");
    let flags = ["--predictors", &predictors, "--database-url", "sqlite:///canopy.db", "--list-predictions"];
    // A collector behind TLS that does not answer: its client needs the certificates, and must not delay requests.
    let (_gateway, gateway) =
        folder.start(&flags, "--listen", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")])?;
    answers(gateway)
}

/// `canopy up`.
fn in_one_process(canopy: &Path) -> Result<()> {
    let predictor = free_address()?.to_string();
    let flags = ["up", "--data", "/data", "--predictor", &predictor];
    let (_up, gateway) = EmptyRoot::new(canopy)?.start(&flags, "--gateway", &[])?;
    answers(gateway)
}

fn answers(gateway: SocketAddr) -> Result<()> {
    get(gateway, "/api/test")?;
    let users = get(gateway, "/api/users")?;
    ensure!(users["users"][0]["name"] == "Alice", "GET /api/users answered {users}");
    predicts(&post(gateway, "/api/predict", &row())?["prediction"]["class"])
}

/// A chroot fails for everyone but root: the only case in which the remedy is not in the program.
fn needs_root() -> String {
    let is_root = rustix::process::geteuid().is_root();
    let remedy = if is_root { "" } else { ": changing the root needs root" };
    format!("a static program failed in an empty root{remedy}")
}

fn predicts(class: &Value) -> Result<()> {
    ensure!(*class == 1, "two positive features are class 1, but the answer is {class}");
    Ok(())
}

fn row() -> Value {
    json!({"features": [2.0, 2.0, 0.0, 0.0]})
}

fn config() -> Value {
    let forest = json!({
        "trees": 100, "minSamplesLeaf": 1, "maxFeatures": "Sqrt", "bootstrap": true, "seed": 42,
    });
    json!({
        "model": "demo", "namespace": "default", "version": "1.0", "revision": "0a1b2c3d",
        "train": {
            "data": {"synthetic": {"samples": 1000, "features": 4, "seed": 42}},
            "algorithm": {"randomForest": forest}, "standardize": true, "testPercent": 20,
        },
        "features": [], "classes": [],
    })
}

/// A root with one program and the files that an image has.
struct EmptyRoot {
    path: PathBuf,
}

impl EmptyRoot {
    fn new(program: &Path) -> Result<Self> {
        let name = program.file_name().context("a program has a name")?;
        let path = root().join("target/empty-root").join(name);
        drop(fs::remove_dir_all(&path)); // of an earlier run, if any
        for file in [CERTIFICATES, RESOLVER] {
            let copy = path.join(file.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().unwrap_or(&path))?;
            fs::copy(file, &copy).with_context(|| format!("failed to copy {file}"))?;
        }
        fs::copy(program, path.join("program"))?;
        Ok(Self { path })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut chroot = command("chroot", [self.path.as_os_str(), "/program".as_ref()]);
        chroot.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        chroot
    }

    /// Starts the program and waits until it is ready; returns its address.
    fn start(
        &self,
        arguments: &[&str],
        listen: &str,
        environment: &[(&str, &str)],
    ) -> Result<(Running, SocketAddr)> {
        let (address, admin) = (free_address()?, free_address()?);
        let mut chroot = self.command(arguments);
        chroot.args([listen, &address.to_string(), "--admin", &admin.to_string()]);
        chroot.envs(environment.iter().copied());
        let mut running = Running::start(&mut chroot)?;
        running.until(START, || get_text(admin, "/ready")).with_context(needs_root)?;
        Ok((running, address))
    }
}
