//! Programs from Go modules, built once for each content of `go.mod`, `go.sum` and the sources beside them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::paths::{inputs, key};
use super::session::{Session, timed};
use crate::shell::{capture, root, run_aside};

/// A module that names tools.
pub(crate) struct Module {
    name: &'static str,
    /// From the root of the clone.
    pub(crate) folder: &'static str,
    /// Build tags.
    tags: &'static str,
}

/// Kubernetes, what its nodes run beside it, and what clusters are used with.
pub(crate) const TOOLS: Module = Module { name: "programs", folder: "deploy/kind/tools", tags: "" };
/// The oldest Kubernetes that Canopy supports, with its etcd.
pub(crate) const OLDEST: Module = Module { name: "oldest", folder: "deploy/kind/oldest", tags: "" };
/// A version of Kubernetes for nodes that are built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kubernetes {
    /// The newest that the clone pins.
    Newest,
    /// The oldest that Canopy supports.
    Oldest,
}

impl Kubernetes {
    /// The module with its programs.
    pub(crate) const fn module(self) -> &'static Module {
        match self {
            Self::Newest => &TOOLS,
            Self::Oldest => &OLDEST,
        }
    }
}

/// Jaeger and Prometheus. Of Prometheus' kinds of service discovery only Kubernetes' is built.
pub(crate) const BACKENDS: [Module; 2] = [
    Module { name: "jaeger", folder: "tests/backends/jaeger", tags: "" },
    Module {
        name: "prometheus",
        folder: "tests/backends/prometheus",
        tags: "remove_all_sd,enable_kubernetes_sd",
    },
];
/// The package pattern for all tools of a module.
pub(crate) const ALL: &str = "tool";

/// Variables that hold a program's version, and the module whose version that is.
const STAMPS: [(&str, &str); 3] = [
    ("k8s.io/component-base/version.gitVersion", "k8s.io/kubernetes"),
    ("sigs.k8s.io/cri-tools/pkg/version.Version", "sigs.k8s.io/cri-tools"),
    ("helm.sh/helm/v4/internal/version.version", "helm.sh/helm/v4"),
];

impl Module {
    /// The folder with the programs of some packages, built if need be.
    pub(crate) fn programs(&self, session: &Session, packages: &[&str]) -> Result<PathBuf> {
        let go_mod = fs::read_to_string(root().join(self.folder).join("go.mod"))
            .with_context(|| format!("failed to read {}/go.mod", self.folder))?;
        let flags = format!("-s -w {}", stamps(&go_mod));
        let tags: &[_] = if self.tags.is_empty() { &[] } else { &["-tags", self.tags] };
        let words = [&[std::env::consts::ARCH, &flags], packages, tags].concat();
        let key = key(&words, &inputs(&[self.folder])?);
        session.paths.built(self.name, &key, |built| {
            timed(&format!("building {} from Go modules, which takes minutes", self.name), || {
                // `-s -w` drops debug information: compiling without it is quicker, as is a compiler that collects
                // garbage only when it has grown large.
                let compiler = "-gcflags=all=-dwarf=false";
                let mut install = self.go(session, ["install", "-trimpath", compiler, "-ldflags", &flags]);
                run_aside(
                    install
                        .args(tags)
                        .args(packages)
                        .envs([("CGO_ENABLED", "0"), ("GOGC", "off"), ("GOMEMLIMIT", "3GiB")])
                        .env("GOBIN", built),
                )?;
                name_programs(built)
            })
        })
    }

    /// The sources of a module that this one requires.
    pub(crate) fn sources(&self, session: &Session, path: &str) -> Result<PathBuf> {
        let output = capture(&mut self.go(session, ["mod", "download", "-json", path]))?;
        let module: Value =
            serde_json::from_slice(&output).context("the output of `go mod download -json` is not JSON")?;
        let folder =
            module["Dir"].as_str().with_context(|| format!("failed to find the sources of {path}"))?;
        Ok(folder.into())
    }

    fn go<const N: usize>(&self, session: &Session, arguments: [&str; N]) -> std::process::Command {
        let mut go = session.command("go", arguments);
        go.current_dir(root().join(self.folder));
        go
    }
}

/// The names by which the program `kubernetes` is called.
const OF_A_NODE: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubeadm", "kubelet"];

/// Go names a program after its folder: etcd's is `server`. The program `kubernetes` gets a link for each name.
fn name_programs(folder: &Path) -> Result<()> {
    let server = folder.join("server");
    if server.exists() {
        fs::rename(&server, folder.join("etcd")).context("failed to name etcd")?;
    }
    if folder.join("kubernetes").exists() {
        for name in OF_A_NODE {
            symlink("kubernetes", folder.join(name)).with_context(|| format!("failed to link {name}"))?;
        }
    }
    Ok(())
}

/// The linker's flags that set the versions of programs.
fn stamps(go_mod: &str) -> String {
    let mut flags = Vec::new();
    for (variable, module) in STAMPS {
        if let Some(version) = version(go_mod, module) {
            flags.push(format!("-X {variable}={version}"));
        }
    }
    // The API server reports these beside the whole version.
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

    const GO_MOD: &str = "module a\n\nrequire (\n\tk8s.io/kubernetes v1.37.2 // indirect\n\tk8s.io/kubectl v0.37.2\n)\n\
                          replace k8s.io/kubelet => k8s.io/kubelet v0.37.2\nrequire helm.sh/helm/v4 v4.3.1\n";

    #[test]
    fn the_version_of_a_module_is_the_one_required() {
        let check = |module, expected| assert_eq!(version(GO_MOD, module), expected, "{module}");
        check("k8s.io/kubernetes", Some("v1.37.2"));
        check("helm.sh/helm/v4", Some("v4.3.1"));
        check("k8s.io/kube", None);
        check("k8s.io/kubelet", None);
    }

    #[test]
    fn each_name_of_kubernetes_is_a_link_to_the_one_program() {
        let folder = tempfile::tempdir().unwrap();
        for program in ["kubernetes", "server"] {
            fs::write(folder.path().join(program), program).unwrap();
        }
        name_programs(folder.path()).unwrap();
        let content = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(content("kubelet"), "kubernetes");
        assert_eq!(content("etcd"), "server");
    }

    #[test]
    fn programs_get_the_versions_that_the_module_requires() {
        let stamps = stamps(GO_MOD);
        for stamp in [
            "-X k8s.io/component-base/version.gitVersion=v1.37.2",
            "-X k8s.io/component-base/version.gitMajor=1",
            "-X k8s.io/component-base/version.gitMinor=37",
            "-X helm.sh/helm/v4/internal/version.version=v4.3.1",
        ] {
            assert!(stamps.contains(stamp), "{stamps}");
        }
        assert!(!stamps.contains("cri-tools"), "{stamps}");
    }
}
