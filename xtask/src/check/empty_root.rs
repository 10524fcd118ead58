//! Our images have no system in them: each program must do its work where there is nothing but itself.
//!
//! Comes in: static programs. Goes out: their sizes, and predictions from folders that hold a program, a bundle
//! of certificates and a resolv.conf. Never: a library, a shell, a device or a variable from this machine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::binaries::{Static, statically};
use crate::debian;
use crate::http::{free_address, get, get_text, post};
use crate::shell::{Running, command, root, run};

const BYTES_MAX: u64 = 25_000_000;
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const RESOLVER: &str = "/etc/resolv.conf";
/// How long a program may take until it is ready, training included.
const START: Duration = Duration::from_secs(30);

/// Builds, weighs and runs all of them.
pub(super) fn check() -> Result<()> {
    debian::need_file(CERTIFICATES, "ca-certificates")?;
    let Static { canopy, operator, gateway, predictor } = statically()?;
    // The operator does its work in a cluster only, and from its image.
    weigh([&canopy, &operator, &gateway, &predictor])?;
    line(&gateway, &predictor)?;
    up(&canopy)
}

#[expect(clippy::print_stdout, reason = "people read it")]
fn weigh(programs: [&Path; 4]) -> Result<()> {
    for program in programs {
        let bytes = fs::metadata(program).with_context(|| format!("no {}", program.display()))?.len();
        println!("{:>10} bytes  {}", bytes, program.display());
        ensure!(bytes <= BYTES_MAX, "{} has more than {BYTES_MAX} bytes", program.display());
    }
    Ok(())
}

/// A model is prepared, served, and asked through a gateway, each in a folder of its own.
fn line(gateway: &Path, predictor: &Path) -> Result<()> {
    let folder = EmptyRoot::new(predictor)?;
    fs::write(folder.path.join("config.json"), config().to_string())?;
    let prepare = ["prepare", "--config", "/config.json", "--dir", "/model"];
    run(&mut folder.command(&prepare))?;
    let serve = ["serve", "--config", "/config.json", "--dir", "/model"];
    let (_predictor, predictor) = folder.start(&serve, "--listen", &[])?;
    predicts(&post(predictor, "/predict", &row())?["prediction"])?;

    let folder = EmptyRoot::new(gateway)?;
    let predictors = format!("demo=http://{predictor}");
    let flags = ["--predictors", &predictors, "--database-url", "sqlite:///canopy.db", "--list-predictions"];
    // A collector behind TLS: its client needs the certificates, and must not hold up anything.
    let (_gateway, gateway) =
        folder.start(&flags, "--listen", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")])?;
    answers(gateway)
}

fn up(canopy: &Path) -> Result<()> {
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

/// A folder that holds one program and what an image would give it.
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

    /// Starts the program and waits until it is ready; returns where it takes requests.
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
        let mut running = Running::start(&mut chroot).context("only root may change the root")?;
        running.until(START, || get_text(admin, "/ready"))?;
        Ok((running, address))
    }
}
