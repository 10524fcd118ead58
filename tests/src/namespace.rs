//! A namespace for one test, and the evidence where the test fails.
//!
//! Comes in: a name and a test. Goes out: the test's outcome; on failure what was in the namespace, in words. Never:
//! a namespace that outlives its test, unless `CANOPY_KEEP` is set so that somebody can look.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::kubernetes::{apply, kubectl};

/// A namespace of a test.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

/// Runs a test in a namespace of its own that admits only pods of the restricted level, and prints its seconds.
#[expect(clippy::print_stdout, reason = "the seconds are for people who look for slow tests")]
pub async fn in_namespace(name: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) -> Result<()> {
    // Left by a run that was interrupted.
    kubectl(&["delete", "namespace", name, "--ignore-not-found"])?;
    let labels = "pod-security.kubernetes.io/enforce: restricted";
    let manifest =
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}");
    apply(name, &manifest)?;
    let namespace = Namespace { name: name.to_owned() };
    let began = Instant::now();
    let outcome = test(&namespace).await;
    println!("seconds: {name} {:.1}", began.elapsed().as_secs_f64());
    if outcome.is_err() {
        namespace.tell();
    }
    if outcome.is_ok() || std::env::var_os("CANOPY_KEEP").is_none() {
        kubectl(&["delete", "namespace", name, "--wait=false"])?;
    }
    outcome.with_context(|| format!("in namespace {name}"))
}

impl Namespace {
    /// What `kubectl` prints about this namespace.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        kubectl(&[&["--namespace", &self.name], words].concat())
    }

    /// Applies a manifest in it.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        apply(&self.name, manifest)
    }

    /// Prints everything that may say why a test failed.
    #[expect(clippy::print_stderr, reason = "it is for whoever reads why a test failed")]
    fn tell(&self) {
        let questions: [&[&str]; 5] = [
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
        for question in questions {
            let said = self.kubectl(question).unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("── {}: kubectl {}\n{said}", self.name, question.join(" "));
        }
        let operator =
            ["logs", "--namespace", "canopy-system", "--selector", "app.kubernetes.io/name=canopy-operator"];
        let lines = kubectl(&[&operator[..], &["--prefix", "--tail", "40"]].concat());
        eprintln!("── operator\n{}", lines.unwrap_or_else(|error| format!("{error:#}")));
    }
}
