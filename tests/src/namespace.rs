//! A namespace for each test. If the test fails, its content is printed.
//!
//! A namespace is deleted at the end of its test, also after a panic; with `CANOPY_KEEP` set, that of a failed test stays.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::api;
use crate::cleanup::with_cleanup;
use crate::kubernetes::{apply, kubectl};
use crate::wait::until;

/// The longest time for the namespace of an interrupted run to be deleted: it may have a thousand models.
const GONE_WITHIN: Duration = Duration::from_mins(10);

/// A namespace of a test.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

/// How many characters of an error are repeated at the end of the check.
const FAILURE_MAX: usize = 600;

/// Runs a test in a namespace of its own that admits only pods of the restricted level, and prints its seconds.
#[expect(clippy::print_stdout, reason = "the seconds help to find slow tests")]
pub async fn in_namespace(name: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) -> Result<()> {
    // An interrupted run may have left it.
    kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait=false"])?;
    until(&format!("the end of an earlier namespace {name}"), GONE_WITHIN, async || {
        let left = kubectl(&["get", "namespace", name, "--ignore-not-found", "--output", "name"])?;
        ensure!(left.is_empty(), "{left} still exists");
        Ok(())
    })
    .await?;
    let labels = "pod-security.kubernetes.io/enforce: restricted";
    let manifest =
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}");
    apply(name, &manifest)?;
    let namespace = Namespace { name: name.to_owned() };
    let (began, passed) = (Instant::now(), Cell::new(false));
    let run = async {
        test(&namespace).await?;
        passed.set(true);
        Ok(())
    };
    let cleanup = async || {
        println!("seconds: {name} {:.1}", began.elapsed().as_secs_f64());
        if !passed.get() {
            namespace.print_evidence();
        }
        if passed.get() || std::env::var_os("CANOPY_KEEP").is_none() {
            kubectl(&["delete", "namespace", name, "--wait=false"])?;
        }
        Ok(())
    };
    let result = with_cleanup(run, cleanup).await.with_context(|| format!("in namespace {name}"));
    if let Err(error) = &result {
        // The evidence above is long, so the check repeats this line at its end.
        let line = format!("{error:#}").replace('\n', " | ");
        println!("failed: {}", line.chars().take(FAILURE_MAX).collect::<String>());
    }
    result
}

impl Namespace {
    /// The output of `kubectl` for this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Applies a manifest in it.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        apply(&self.name, manifest)
    }

    /// One object of it, by the plural of its kind.
    pub fn json(&self, kind: &str, name: &str) -> Result<Value> {
        api::get(kind, &self.name, name)
    }

    /// Its objects of a kind that a label selector matches; the empty selector matches all.
    pub fn list(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        api::list(kind, Some(&self.name), selector)
    }

    /// The names of its objects of a kind.
    pub fn names(&self, kind: &str) -> Result<Vec<String>> {
        Ok(api::names(&self.list(kind, "")?))
    }

    /// Changes an object by a JSON merge patch.
    pub fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<()> {
        api::patch(kind, &self.name, name, patch).map(drop)
    }

    /// Prints objects, Events and logs, which help to find out why a test failed.
    #[expect(clippy::print_stderr, reason = "people read it after a failed test")]
    fn print_evidence(&self) {
        let queries: [&[&str]; 5] = [
            &["get", "all,configmaps,networkpolicies,poddisruptionbudgets", "--output", "wide"],
            &["describe", "predictormodels"],
            &["get", "pods", "--output", "yaml"],
            &["get", "events", "--sort-by", ".metadata.creationTimestamp"],
            &[
                "logs",
                "--selector",
                "app.kubernetes.io/name=canopy-predictor",
                "--all-containers",
                "--prefix",
                "--tail",
                "30",
            ],
        ];
        for query in queries {
            let printed = self.kubectl(query).unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("── {}: kubectl {}\n{printed}", self.name, query.join(" "));
        }
        let operator =
            ["logs", "--namespace", "canopy-system", "--selector", "app.kubernetes.io/name=canopy-operator"];
        let lines = kubectl(&[&operator[..], &["--prefix", "--tail", "40"]].concat());
        eprintln!("── operator\n{}", lines.unwrap_or_else(|error| format!("{error:#}")));
    }
}
