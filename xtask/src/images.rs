//! The images: one per process, from one Containerfile. An image has its program and the certificates of public authorities.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::binaries::{Build, Static, statically};
use crate::debian;
use crate::shell::{root, run, run_with_input};

/// The tag: the version of the workspace, which the chart has too.
const TAG: &str = env!("CARGO_PKG_VERSION");
const CONTAINERFILE: &str = "deploy/images/Containerfile";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Builds the images with a program such as `docker` or `buildah`, for which `builder` makes commands; returns their names.
pub(crate) fn build(how: Build, builder: impl Fn(&[&str]) -> Command) -> Result<Vec<String>> {
    // Before the programs are compiled, which takes long.
    run_with_input(&mut builder(&["version"]), "")
        .context("no images can be built: start the program that builds them, or name another with --with")?;
    debian::need_file(CERTIFICATES, "ca-certificates")?;
    let Static { canopy: _, operator, gateway, predictor } = statically(how)?;
    let context = root().join("target/images");
    fs::create_dir_all(&context).with_context(|| format!("failed to make {}", context.display()))?;
    fs::copy(CERTIFICATES, context.join("ca-certificates.crt")).context("failed to copy the certificates")?;
    let mut images = Vec::new();
    for program in [operator, gateway, predictor] {
        let name = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
        fs::copy(&program, context.join(&name)).with_context(|| format!("failed to copy {name}"))?;
        let (image, binary) = (format!("{name}:{TAG}"), format!("BINARY={name}"));
        let build = ["build", "--file", CONTAINERFILE, "--build-arg", &binary, "--tag", &image];
        run(builder(&build).arg(&context))?;
        images.push(image);
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::command;

    #[test]
    fn without_a_builder_nothing_is_compiled() {
        let error = build(Build::Quick, |arguments| command("false", arguments)).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "no images can be built: start the program that builds them, or name another with --with: \
             false version ended with exit status: 1: "
        );
    }
}
