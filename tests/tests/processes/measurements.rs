//! Metrics and log lines of both processes: their counts agree with the requests that were sent, and clients cannot choose their
//! labels or fields.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use canopy_tests::metrics::Scrape;
use canopy_tests::test_server::{Model, Server, row};
use canopy_tests::wait::pass;
use futures_util::future::{try_join, try_join_all};
use serde_json::{Value, json};

/// The number of concurrent clients, which send the next request after the response, and of scrapes meanwhile.
const CLIENTS: usize = 32;
const SCRAPES: usize = 3;
const SECOND: Duration = Duration::from_secs(1);
const DEMO: [&str; 3] = ["model=\"demo\"", "model_namespace=\"default\"", "version=\"1.0\""];

async fn line() -> Result<(Model, Server, Server)> {
    let model = Model::demo().await?;
    let predictor = Server::predictor(&model, &[]).await?;
    let gateway = Server::gateway(predictor.address, &[]).await?;
    Ok((model, predictor, gateway))
}

async fn scrape(server: &Server) -> Result<Scrape> {
    Ok(Scrape(server.admin("/metrics").await?.text))
}

#[tokio::test]
async fn counts_agree_with_good_and_bad_requests() -> Result<()> {
    let (_model, predictor, gateway) = line().await?;
    let rows = json!({"instances": [[2.0, 2.0, 0.0, 0.0], [-2.0, -2.0, 0.0, 0.0], [3.0, 3.0, 0.0, 0.0]]});
    let short = json!({"features": [1.0]});
    let wide = json!({"features": [1.0, 2.0, 3.0, 11.0]});
    let asked = [
        (5, "/api/predict", row(), 200, "ok"),
        (2, "/api/models/demo/predict", rows, 200, "ok"),
        (3, "/api/predict", short, 422, "invalid_features"),
        (1, "/api/predict", wide, 422, "invalid_features"),
        (4, "/api/models/nosuch/predict", row(), 404, "unknown_model"),
        (2, "/api/nosuch", row(), 404, "unknown_path"),
    ];
    for (times, path, body, status, _) in &asked {
        for _ in 0..*times {
            let reply = gateway.post(path, body).await?;
            assert_eq!(reply.status, *status, "{path} {}", reply.text);
        }
    }

    let at_gateway = scrape(&gateway).await?;
    let total: u32 = asked.iter().map(|(times, ..)| times).sum();
    assert_eq!(at_gateway.count("canopy_gateway_requests_total", &[])?, u64::from(total));
    assert_eq!(at_gateway.count("canopy_gateway_request_duration_seconds_count", &[])?, u64::from(total));
    for reason in ["ok", "invalid_features", "unknown_model", "unknown_path"] {
        let ended_so = |(times, _, _, status, word): &(u32, &str, Value, u16, &str)| {
            (*word == reason).then_some((*times, *status))
        };
        let (times, statuses): (Vec<u32>, Vec<u16>) = asked.iter().filter_map(ended_so).unzip();
        let labels = [format!("reason=\"{reason}\""), format!("code=\"{}\"", statuses[0])];
        let counted =
            at_gateway.count("canopy_gateway_requests_total", &labels.each_ref().map(String::as_str))?;
        assert_eq!(counted, u64::from(times.iter().sum::<u32>()), "{reason}");
    }
    assert_eq!(at_gateway.count("canopy_gateway_requests_total", &DEMO)?, 11);
    assert_eq!(at_gateway.count("canopy_gateway_upstream_requests_total", &[])?, 7);
    assert_eq!(at_gateway.count("canopy_gateway_upstream_requests_total", &["outcome=\"ok\"", DEMO[0]])?, 7);
    assert_eq!(at_gateway.count("canopy_gateway_upstream_duration_seconds_count", &DEMO)?, 7);
    assert_eq!(at_gateway.count("canopy_gateway_requests_in_flight", &[])?, 0);
    assert!(!at_gateway.0.contains("nosuch"), "a client made up a label:\n{}", at_gateway.0);

    let at_predictor = scrape(&predictor).await?;
    assert_eq!(
        at_predictor.count("canopy_predictor_requests_total", &["reason=\"ok\"", DEMO[0]])?,
        8,
        "7 and the golden row"
    );
    assert_eq!(
        at_predictor.count("canopy_predictor_predictions_total", &DEMO)?,
        12,
        "5 single rows, 2 of 3 rows, the golden row"
    );
    assert_eq!(at_predictor.count("canopy_predictor_batch_rows_sum", &DEMO)?, 12);
    assert_eq!(at_predictor.count("canopy_predictor_prediction_duration_seconds_count", &DEMO)?, 8);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scrapes_fail_no_request_of_a_closed_loop() -> Result<()> {
    let (_model, predictor, gateway) = line().await?;
    let is_over = AtomicBool::new(false);
    let asking = try_join_all((0..CLIENTS).map(async |_| {
        let mut answered = 0;
        while !is_over.load(Ordering::Relaxed) {
            let reply = gateway.post("/api/predict", &row()).await?;
            ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
            answered += 1;
        }
        anyhow::Ok(answered)
    }));
    let scraping = async {
        let (mut before, mut slowest) = (0, Duration::ZERO);
        for _ in 0..SCRAPES {
            pass(SECOND).await;
            let began = Instant::now();
            scrape(&predictor).await?;
            let now = scrape(&gateway).await?.count("canopy_gateway_requests_total", &[])?;
            slowest = slowest.max(began.elapsed());
            ensure!(now > before, "expected more than {before} requests, got {now}");
            before = now;
        }
        is_over.store(true, Ordering::Relaxed);
        Ok(slowest)
    };
    let (answered, slowest) = try_join(asking, scraping).await?;
    assert!(slowest < SECOND, "two scrapes took {slowest:?}");
    let counted = scrape(&gateway).await?.count("canopy_gateway_requests_total", &[])?;
    assert_eq!(counted, answered.iter().sum::<u64>());
    Ok(())
}

#[tokio::test]
async fn a_scrape_has_metrics_of_the_process_and_of_its_model() -> Result<()> {
    let (_model, predictor, gateway) = line().await?;
    for (server, process) in [(&gateway, "canopy-gateway"), (&predictor, "canopy-predictor")] {
        let scrape = scrape(server).await?;
        assert_eq!(scrape.count("canopy_build_info", &[&format!("process=\"{process}\"")])?, 1);
        ensure!(
            scrape.sum("process_resident_memory_bytes", &[])? > 1e6,
            "{process}: expected more than 1 MB of resident memory"
        );
        ensure!(scrape.sum("process_open_fds", &[])? > 3.0, "{process}: expected more than 3 open files");
    }
    let at_predictor = scrape(&predictor).await?;
    ensure!(at_predictor.sum("canopy_model_accuracy_ratio", &DEMO)? > 0.8, "{}", at_predictor.0);
    ensure!(at_predictor.sum("canopy_model_bytes", &DEMO)? > 1000.0, "{}", at_predictor.0);
    ensure!(at_predictor.sum("canopy_model_load_duration_seconds", &DEMO)? > 0.0, "{}", at_predictor.0);
    Ok(())
}

#[tokio::test]
async fn log_lines_are_json_with_model_and_trace_and_without_values_of_features() -> Result<()> {
    let (_model, predictor, gateway) = line().await?;
    let value = 1.234_567_8;
    let good = json!({"features": [value, 2.0, 0.0, 0.0]});
    let bad = json!({"features": [value, 2.0, 0.0, 9.876_543]});
    assert_eq!(gateway.post("/api/predict", &good).await?.status, 200);
    assert_eq!(gateway.post("/api/predict", &json!({"features": [value]})).await?.status, 422);
    assert_eq!(gateway.post("/api/predict", &bad).await?.status, 200);
    let is_refused = |line: &Value| line["code"] == "invalid_features";
    gateway.process.log_of("the line of the refused request", 1, is_refused).await?;
    for (server, name) in [(&gateway, "gateway"), (&predictor, "predictor")] {
        let is_prediction = |line: &Value| line["prediction"].is_u64();
        let predictions = server.process.log_of("a line of each prediction", 2, is_prediction).await?;
        let log = server.process.log()?;
        for line in &log {
            for field in ["timestamp", "level", "message", "target"] {
                assert!(line[field].is_string(), "{name} left out {field}: {line}");
            }
            assert!(!line.to_string().contains("1.2345678"), "{name} tells a caller's value: {line}");
        }
        let one = &predictions[0];
        assert_eq!(one["features_count"], 4, "{one}");
        assert_eq!((&one["version"], &one["code"]), (&json!("1.0"), &json!("ok")), "{one}");
        ensure!(one["model"].as_str().is_some_and(|model| model.starts_with("demo")), "{one}");
        ensure!(one["trace_id"].as_str().is_some_and(|id| id.len() == 32), "{one}");
        ensure!(one["endpoint"].is_string(), "{one}");
        ensure!(one["confidence"].is_f64() && one["duration_ms"].is_f64(), "{one}");
    }
    Ok(())
}
