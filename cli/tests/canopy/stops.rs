//! `canopy up` that fails or is stopped: its output and its exit code.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::http::{client, send};
use canopy_tests::metrics::Scrape;
use canopy_tests::process::{Process, Signal, free_address};
use canopy_tests::wait::{SOON, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::program::{DEMO, Folder, IRIS, Up, run, start};

#[test]
fn a_taken_port_is_named_with_its_flag_before_anything_is_trained() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let folder = Folder::new()?;
    for flag in ["--gateway", "--predictor", "--admin"] {
        let address_of = |other: &str| if other == flag { address.clone() } else { "127.0.0.1:0".to_owned() };
        let [gateway, predictor, admin] = ["--gateway", "--predictor", "--admin"].map(address_of);
        let data = folder.argument("data");
        let ports = ["--gateway", &gateway, "--predictor", &predictor, "--admin", &admin];
        let ended = run(&[&["up", "--data", &data], &ports[..]].concat(), "")?;
        let expected = format!(
            "error: failed to listen on {address}: Address already in use (os error 98); \
             choose another address with {flag}\n"
        );
        assert_eq!((ended.errors, ended.output, ended.code), (expected, String::new(), Some(1)));
        assert!(!folder.path("data").exists(), "something was written");
    }
    Ok(())
}

/// Runs `canopy up` with these manifests; it must end by itself.
async fn refused(folder: &Folder, manifests: &[&str]) -> Result<(Option<i32>, Vec<String>)> {
    let flags: Vec<_> = manifests.iter().flat_map(|manifest| ["-f", manifest]).collect();
    let mut process = start(&folder.path("data"), &flags)?;
    let status = process.ended().await?;
    let lines = process.lines().into_iter().filter(|line| !line.starts_with("training ")).collect();
    Ok((status.code(), lines))
}

#[tokio::test]
async fn refused_models_are_named_and_none_is_served() -> Result<()> {
    let folder = Folder::new()?;
    let missed = folder.write("missed.yaml", &IRIS.replace("min: \"0.9\"", "min: 1"))?;
    let faulty = IRIS
        .replace("iris-data", "rose-data")
        .replace("name: iris\n", "name: rose\n")
        .replace("5.0,3.4,1.5,0.2", "5.0,big,1.5,0.2");
    let (faulty, demo) = (folder.write("faulty.yaml", &faulty)?, folder.write("demo.yaml", DEMO)?);
    let (code, lines) = refused(&folder, &[&missed, &demo, &faulty]).await?;
    assert_eq!(code, Some(3));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        lines[0],
        "error: model iris is refused: gate_missed: accuracy 0.9667 on 30 held-out rows is below the minimum 1"
    );
    assert!(
        lines[1].starts_with("model rose is refused: data_invalid: ") && lines[1].contains("big"),
        "{lines:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_model_without_its_data_is_refused() -> Result<()> {
    let folder = Folder::new()?;
    let (model, _) = IRIS.split_once("---").context("two documents")?;
    let (code, lines) = refused(&folder, &[&folder.write("model.yaml", model)?]).await?;
    let expected = "error: model iris is refused: spec.train.data.csv.source.configMap.name: there is no ConfigMap \
                    iris-data in namespace default; add it beside the model";
    assert_eq!((code, lines), (Some(3), vec![expected.to_owned()]));
    Ok(())
}

#[tokio::test]
async fn errors_in_manifests_are_reported_with_file_and_line() -> Result<()> {
    let folder = Folder::new()?;
    let demo = folder.write("demo.yaml", DEMO)?;
    let check = async |manifests: &[&str], expected: &[String]| -> Result<()> {
        assert_eq!(refused(&folder, manifests).await?, (Some(1), expected.to_vec()), "{manifests:?}");
        Ok(())
    };
    let typo = folder.write(
        "typo.yaml",
        &DEMO.replace("trees: 100", "tress: 100").replace("version: \"1.0\"", "version: 1.0"),
    )?;
    check(
        &[&typo],
        &[
            format!("error: {typo}: line 9: PredictorModel demo: spec.version: must be text, in quotes where it looks like something else, but is 1.0"),
            format!("{typo}: line 14: PredictorModel demo: spec.train.algorithm.randomForest.tress: unknown field; known fields are bootstrap, maxDepth, maxFeatures, minSamplesLeaf, seed, trees"),
        ],
    )
    .await?;
    check(
        &[&demo, &demo],
        &[format!("error: {demo}: metadata.name: PredictorModel demo in namespace default is given twice")],
    )
    .await?;
    let missing = folder.argument("missing.yaml");
    check(&[&missing], &[format!("error: failed to read {missing}: No such file or directory (os error 2)")])
        .await?;
    let empty = folder.write("empty.yaml", "# nothing\n")?;
    check(&[&empty], &[format!("error: there is no PredictorModel in {empty}; add one")]).await
}

async fn ends_well(process: &mut Process) -> Result<()> {
    let status = process.ended().await?;
    assert_eq!(status.code(), Some(0), "{}", process.lines().join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_signal_ends_it_with_exit_code_0() -> Result<()> {
    let folder = Folder::new()?;
    for signal in [Signal::TERM, Signal::INT] {
        let mut up = Up::start(&folder.path("data"), &[]).await?;
        up.process.signal(signal)?;
        ends_well(&mut up.process).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_process_ends() -> Result<()> {
    let folder = Folder::new()?;
    let mut up = Up::start(&folder.path("data"), &[]).await?;
    let address = up.gateway("").replace("http://", "");
    let mut stream = TcpStream::connect(&address).await?;
    let (head, body) = (
        "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 22\r\n\r\n",
        "{\"features\":[2,2,0,0]}",
    );
    stream.write_all(format!("{head}{}", &body[..10]).as_bytes()).await?;
    let metrics = up.summary["metrics"].as_str().context("the summary names the metrics")?.to_owned();
    until("the gateway to have the request", SOON, async || {
        let in_flight =
            Scrape(up.get(&metrics).await?.text).count("canopy_gateway_requests_in_flight", &[])?;
        ensure!(in_flight == 1, "{in_flight} requests are in flight, expected 1");
        Ok(())
    })
    .await?;
    up.process.signal(Signal::TERM)?;
    until("the order to stop to be heard", SOON, async || {
        ensure!(up.process.lines().iter().any(|line| line.contains("shutting down")), "not yet");
        Ok(())
    })
    .await?;
    up.process.still_runs()?;
    stream.write_all(&body.as_bytes()[10..]).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"class\":1"), "{answer}");
    ends_well(&mut up.process).await
}

#[tokio::test]
async fn a_second_interrupt_ends_it_at_once() -> Result<()> {
    let folder = Folder::new()?;
    let mut up = Up::start(&folder.path("data"), &[]).await?;
    let mut stream = TcpStream::connect(up.gateway("").replace("http://", "")).await?;
    // A request that does not end keeps the process from ending by itself.
    stream.write_all(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 22\r\n\r\n{").await?;
    let metrics = up.summary["metrics"].as_str().context("the summary names the metrics")?.to_owned();
    until("the gateway to have the request", SOON, async || {
        let in_flight =
            Scrape(up.get(&metrics).await?.text).count("canopy_gateway_requests_in_flight", &[])?;
        ensure!(in_flight == 1, "{in_flight} requests are in flight, expected 1");
        Ok(())
    })
    .await?;
    up.process.signal(Signal::INT)?;
    until("the first interrupt to be handled", SOON, async || {
        ensure!(up.process.lines().iter().any(|line| line.contains("shutting down")), "not yet");
        Ok(())
    })
    .await?;
    up.process.still_runs()?;
    up.process.signal(Signal::INT)?;
    assert_eq!(up.process.ended().await?.code(), Some(130));
    Ok(())
}

#[tokio::test]
async fn a_data_folder_is_used_by_one_process_at_a_time() -> Result<()> {
    let folder = Folder::new()?;
    let data = folder.path("data");
    let mut first = Up::start(&data, &[]).await?;
    let mut second = start(&data, &[])?;
    assert_eq!(second.ended().await?.code(), Some(1));
    let expected = format!(
        "error: {} is in use by another canopy up; end that one, or choose another folder with --data",
        data.display()
    );
    assert_eq!(second.lines(), [expected]);
    first.process.signal(Signal::TERM)?;
    ends_well(&mut first.process).await?;
    Up::start(&data, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn while_it_trains_it_is_alive_not_ready_and_can_be_stopped() -> Result<()> {
    let folder = Folder::new()?;
    let long = DEMO
        .replace("samples: 1000, features: 4", "samples: 100000, features: 100")
        .replace("trees: 100", "trees: 1000");
    let (long, _) = long.split_once("  features:\n").context("features")?;
    let manifest = folder.write("long.yaml", long)?;
    let admin = free_address()?.to_string();
    let mut process = start_with_admin(&folder, &manifest, &admin)?;
    let client = client()?;
    let ready = until("the admin port", SOON, async || {
        process.still_runs()?;
        send(client.get(format!("http://{admin}/ready"))).await
    })
    .await?;
    assert_eq!((ready.status, ready.text.as_str()), (503, r#"{"ready":false,"reason":"models: training"}"#));
    assert_eq!(send(client.get(format!("http://{admin}/live"))).await?.status, 200);
    process.signal(Signal::TERM)?;
    ends_well(&mut process).await
}

fn start_with_admin(folder: &Folder, manifest: &str, admin: &str) -> Result<Process> {
    let data = folder.argument("data");
    let ports = ["--gateway", "127.0.0.1:0", "--predictor", "127.0.0.1:0", "--admin", admin];
    let arguments = [&["up", "-f", manifest, "--data", &data], &ports[..]].concat();
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    Process::start(std::path::Path::new(env!("CARGO_BIN_EXE_canopy")), &arguments, &[])
}
