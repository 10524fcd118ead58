//! Programs from Go modules, built once for what their `go.mod` and `go.sum` say.
//!
//! Comes in: a module of ours that only names tools. Goes out: a folder with the programs. Never: a version that
//! is not in the clone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::place::{inputs, key};
use super::work::{Work, step};
use crate::shell::{capture, root, run_aside};

/// A module that names tools.
pub(crate) struct Module {
    name: &'static str,
    folder: &'static str,
    /// What of its packages is built, where that can be chosen.
    tags: &'static str,
}

/// What every cluster is handled with.
pub(crate) const TOOLS: Module = Module { name: "tools", folder: "deploy/kind/tools", tags: "" };
/// What a cluster consists of.
pub(crate) const KUBERNETES: Module =
    Module { name: "kubernetes", folder: "deploy/kind/offline/kubernetes", tags: "" };
/// What metrics and traces go to in tests. Of Prometheus' ways to find what to scrape only Kubernetes' is built.
pub(crate) const BACKENDS: [Module; 2] = [
    Module { name: "jaeger", folder: "tests/backends/jaeger", tags: "" },
    Module {
        name: "prometheus",
        folder: "tests/backends/prometheus",
        tags: "remove_all_sd,enable_kubernetes_sd",
    },
];
/// The package pattern that means all of a module's tools.
pub(crate) const ALL: &str = "tool";

/// Variables that hold a program's own version, and the module whose version it is.
const STAMPS: [(&str, &str); 3] = [
    ("k8s.io/component-base/version.gitVersion", "k8s.io/kubernetes"),
    ("sigs.k8s.io/cri-tools/pkg/version.Version", "sigs.k8s.io/cri-tools"),
    ("helm.sh/helm/v4/internal/version.version", "helm.sh/helm/v4"),
];

impl Module {
    /// The programs of some packages.
    pub(crate) fn programs(&self, work: &Work, packages: &[&str]) -> Result<PathBuf> {
        let go_mod = fs::read_to_string(root().join(self.folder).join("go.mod"))
            .with_context(|| format!("failed to read {}/go.mod", self.folder))?;
        let flags = format!("-s -w {}", stamps(&go_mod));
        let tags: &[_] = if self.tags.is_empty() { &[] } else { &["-tags", self.tags] };
        let said = [&[std::env::consts::ARCH, &flags], packages, tags].concat();
        let key = key(&said, &inputs(&[self.folder])?);
        work.place.built(self.name, &key, |built| {
            step(&format!("building {} from Go modules, which takes minutes", self.name), || {
                // What `-s -w` would drop is not made in the first place; and compilers that tidy up only when they
                // have grown large are quicker.
                let compiler = "-gcflags=all=-dwarf=false";
                let mut install = self.go(work, ["install", "-trimpath", compiler, "-ldflags", &flags]);
                run_aside(
                    install
                        .args(tags)
                        .args(packages)
                        .envs([("CGO_ENABLED", "0"), ("GOGC", "off"), ("GOMEMLIMIT", "3GiB")])
                        .env("GOBIN", built),
                )?;
                name_etcd(built)
            })
        })
    }

    /// The sources of a module that this one requires.
    pub(crate) fn sources(&self, work: &Work, path: &str) -> Result<PathBuf> {
        let said = capture(&mut self.go(work, ["mod", "download", "-json", path]))?;
        let said: Value = serde_json::from_slice(&said).context("failed to read what go says of a module")?;
        let folder = said["Dir"].as_str().with_context(|| format!("failed to find the sources of {path}"))?;
        Ok(folder.into())
    }

    fn go<const N: usize>(&self, work: &Work, arguments: [&str; N]) -> std::process::Command {
        let mut go = work.command("go", arguments);
        go.current_dir(root().join(self.folder));
        go
    }
}

/// Go names a program after its folder, which for etcd is `server`.
fn name_etcd(folder: &Path) -> Result<()> {
    let server = folder.join("server");
    if server.exists() {
        fs::rename(&server, folder.join("etcd")).context("failed to name etcd")?;
    }
    Ok(())
}

/// The linker's flags that tell programs their versions.
fn stamps(go_mod: &str) -> String {
    let mut flags = Vec::new();
    for (variable, module) in STAMPS {
        if let Some(version) = version(go_mod, module) {
            flags.push(format!("-X {variable}={version}"));
        }
    }
    // The API server tells these beside the whole.
    if let Some((major, rest)) =
        version(go_mod, "k8s.io/kubernetes").and_then(|version| version[1..].split_once('.'))
    {
        let minor = rest.split('.').next().unwrap_or_default();
        flags.push(format!("-X k8s.io/component-base/version.gitMajor={major}"));
        flags.push(format!("-X k8s.io/component-base/version.gitMinor={minor}"));
    }
    flags.join(" ")
}

/// The version that a `go.mod` requires of a module.
fn version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    let mut lines = go_mod.lines().map(|line| line.trim().trim_start_matches("require "));
    lines
        .find_map(|line| {
            line.strip_prefix(module)?.strip_prefix(" v").map(|_| line[module.len() + 1..].trim())
        })
        .and_then(|rest| rest.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_MOD: &str = "module a\n\nrequire (\n\tk8s.io/kubernetes v1.36.4 // indirect\n\tk8s.io/kubectl v0.36.4\n)\n\
                          replace k8s.io/kubelet => k8s.io/kubelet v0.36.4\nrequire helm.sh/helm/v4 v4.3.1\n";

    #[test]
    fn a_version_is_what_the_module_requires() {
        let check = |module, expected| assert_eq!(version(GO_MOD, module), expected, "{module}");
        check("k8s.io/kubernetes", Some("v1.36.4"));
        check("helm.sh/helm/v4", Some("v4.3.1"));
        check("k8s.io/kube", None);
        check("k8s.io/kubelet", None);
    }

    #[test]
    fn programs_are_told_the_versions_that_the_module_requires() {
        let stamps = stamps(GO_MOD);
        for stamp in [
            "-X k8s.io/component-base/version.gitVersion=v1.36.4",
            "-X k8s.io/component-base/version.gitMajor=1",
            "-X k8s.io/component-base/version.gitMinor=36",
            "-X helm.sh/helm/v4/internal/version.version=v4.3.1",
        ] {
            assert!(stamps.contains(stamp), "{stamps}");
        }
        assert!(!stamps.contains("cri-tools"), "{stamps}");
    }
}
