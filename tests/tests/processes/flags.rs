//! Flags and environment variables of both processes: their effect, their `--help`, and the errors for invalid values.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::process::{Process, free_address};
use canopy_tests::programs::program;
use canopy_tests::test_server::{Model, Server};
use canopy_tests::wait::{SOON, until};

const PROGRAMS: [(&str, &[&str]); 2] = [("canopy-gateway", &[]), ("canopy-predictor", &["serve"])];

/// Runs a program that ends at once, and returns its output.
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

/// The number of worker threads of a process.
fn workers(id: u32) -> Result<usize> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task"))?;
    let name = |folder: PathBuf| std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let names: Vec<_> = threads.map(|thread| Ok(name(thread?.path()))).collect::<Result<_>>()?;
    Ok(names.iter().filter(|name| name.starts_with("worker-")).count())
}

#[tokio::test]
async fn workers_sets_the_number_of_worker_threads() -> Result<()> {
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
            ensure!(found == count, "expected {count} worker threads, got {found}");
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
        ensure!(help.contains("Example"), "{name} --help has no example:\n{help}");
        let flags: Vec<_> = help.split("\n      --").skip(1).collect();
        ensure!(flags.len() > 5, "expected more than 5 flags in {name} --help, got:\n{help}");
        for flag in flags {
            let word = flag.split([' ', '\n']).next().unwrap_or_default();
            // The paragraph of the flag may be wrapped anywhere.
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
async fn an_invalid_value_is_reported_with_its_flag() -> Result<()> {
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
async fn a_port_in_use_is_reported_with_the_flag_that_changes_it() -> Result<()> {
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
