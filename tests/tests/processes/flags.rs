//! Flags and environment variables of both processes: each does what it says, and a wrong one is named.
//!
//! Comes in: command lines and environments. Goes out: what the process does, or its last words. Never: a flag
//! that is only parsed.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::process::{Process, free_address};
use canopy_tests::programs::program;
use canopy_tests::test_server::{Model, Server};
use canopy_tests::wait::{SOON, until};

const PROGRAMS: [(&str, &[&str]); 2] = [("canopy-gateway", &[]), ("canopy-predictor", &["serve"])];

/// Runs a program that is expected to end at once.
async fn said(
    name: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
) -> Result<(Option<i32>, String)> {
    let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
    let mut process = Process::start(program(name)?, &arguments, environment)?;
    let status = process.ended().await?;
    Ok((status.code(), process.lines().join("\n")))
}

/// The threads of a process that answer requests.
fn workers(id: u32) -> Result<usize> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task"))?;
    let name = |folder: PathBuf| std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let names: Vec<_> = threads.map(|thread| Ok(name(thread?.path()))).collect::<Result<_>>()?;
    Ok(names.iter().filter(|name| name.starts_with("worker-")).count())
}

#[tokio::test]
async fn as_many_workers_serve_as_were_asked_for() -> Result<()> {
    let model = Model::demo().await?;
    tokio::try_join!(serve_with(&model, 1), serve_with(&model, 3))?;
    Ok(())
}

async fn serve_with(model: &Model, count: usize) -> Result<()> {
    let environment = [("CANOPY_WORKERS", count.to_string())];
    let predictor = Server::predictor(model, &environment).await?;
    let gateway = Server::gateway(predictor.address, &environment).await?;
    for server in [gateway, predictor] {
        until("idle threads to go", SOON, async || {
            let found = workers(server.process.id())?;
            ensure!(found == count, "{found} threads instead of {count}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn help_names_the_variable_of_every_flag_and_shows_an_example() -> Result<()> {
    for (name, command) in PROGRAMS {
        let (code, help) = said(name, &[command, &["--help"]].concat(), &[]).await?;
        assert_eq!(code, Some(0), "{help}");
        ensure!(help.contains("Example"), "{name} shows no example:\n{help}");
        let flags: Vec<_> = help.split("\n      --").skip(1).collect();
        ensure!(flags.len() > 5, "{name} has hardly any flag:\n{help}");
        for flag in flags {
            let word = flag.split([' ', '\n']).next().unwrap_or_default();
            // Short for the whole paragraph of the flag, which may be wrapped anywhere.
            let variable = flag.replace(['\n', ' '], "");
            ensure!(
                variable.contains("[env:CANOPY_") || ["help", "version"].contains(&word),
                "{name} --{flag}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_value_is_named_with_its_flag() -> Result<()> {
    for (name, command) in PROGRAMS {
        for (flag, variable, value) in [
            ("--workers", "CANOPY_WORKERS", "many"),
            ("--listen", "CANOPY_LISTEN", "8000"),
            ("--admin", "CANOPY_ADMIN", "x:y"),
            ("--body-timeout", "CANOPY_BODY_TIMEOUT", "2d"),
        ] {
            let (code, said) = said(name, command, &[(variable, value.to_owned())]).await?;
            assert_eq!(code, Some(2), "{name} {said}");
            ensure!(
                said.contains(flag) && said.contains(value),
                "{name} does not name {flag} {value}: {said}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_flag_that_changes_it() -> Result<()> {
    let model = Model::demo().await?;
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let predictor = model.command_line();
    let serve: Vec<_> = predictor.iter().map(String::as_str).collect();
    for (name, command) in [("canopy-gateway", &[][..]), ("canopy-predictor", &serve)] {
        for (flag, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
            let (busy, free) = (holder.local_addr()?.to_string(), free_address()?.to_string());
            let (code, said) = said(name, &[command, &[flag, &busy, other, &free]].concat(), &[]).await?;
            assert_eq!(code, Some(1), "{name}: {said}");
            let error = said.lines().last().context("it says nothing")?;
            ensure!(
                error.contains(&busy) && error.contains(flag),
                "{name} does not name {busy} and {flag}: {error}"
            );
        }
    }
    Ok(())
}
