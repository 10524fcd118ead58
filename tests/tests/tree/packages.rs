//! The dependencies of packages, by cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::sources::root;

/// The metadata of the workspace and of all its dependencies.
pub(crate) fn metadata() -> Metadata {
    let host = ["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned);
    let mut command = MetadataCommand::new();
    command.current_dir(root()).other_options(host).exec().expect("cargo metadata to succeed")
}

/// For each package of the workspace, the packages of the workspace that it depends on, without tests.
pub(crate) fn edges(metadata: &Metadata) -> BTreeMap<&str, BTreeSet<&str>> {
    let members = metadata.workspace_packages();
    let ours: BTreeSet<_> = members.iter().map(|package| package.name.as_str()).collect();
    let of = |package: &cargo_metadata::Package| {
        let used = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
        used.filter_map(|d| ours.get(d.name.as_str()).copied()).collect()
    };
    members.iter().map(|package| (package.name.as_str(), of(package))).collect()
}

/// The names of all packages that are compiled into `package`.
pub(crate) fn compiled_into(package: &str) -> BTreeSet<String> {
    let arguments =
        ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{lib}", "--package"];
    let output = Command::new(env!("CARGO")).args(arguments).arg(package).current_dir(root()).output();
    let output = output.expect("cargo starts");
    assert!(
        output.status.success(),
        "cargo tree {package} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).expect("cargo prints text");
    lines.split_whitespace().map(|name| name.replace('_', "-")).collect()
}
