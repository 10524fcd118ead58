//! The drift metrics of a predictor: for rows like those of training, for shifted rows, and for too few rows.

use anyhow::{Context as _, Result, ensure};
use canopy_forest::data::samples::Samples;
use canopy_tests::metrics::Scrape;
use canopy_tests::test_server::{Model, Server};
use serde_json::json;

const DEMO: [&str; 3] = ["model=\"demo\"", "model_namespace=\"default\"", "version=\"1.0\""];
const WINDOWS: [&str; 2] = ["window=\"1h\"", "window=\"24h\""];
const FEATURES: [&str; 4] = ["feature=\"x0\"", "feature=\"x1\"", "feature=\"x2\"", "feature=\"x3\""];

/// Sends `count` new rows of four standard normal features, with feature `moved` shifted.
async fn send(predictor: &Server, count: usize, moved: usize, by: f64) -> Result<()> {
    // Few rows may all have one class, of which no samples can be made.
    let samples = Samples::synthetic(count.max(100), FEATURES.len(), 7)?;
    let rows: Vec<_> = samples.rows().take(count).map(<[f64]>::to_vec).collect();
    for some in rows.chunks(100) {
        let mut some = some.to_vec();
        for row in &mut some {
            row[moved] += by;
        }
        let reply = predictor.post("/predict", &json!({ "instances": some })).await?;
        ensure!(reply.status == 200, "{}", reply.text);
    }
    Ok(())
}

async fn scrape(predictor: &Server) -> Result<Scrape> {
    Ok(Scrape(predictor.admin("/metrics").await?.text))
}

/// The PSI of each feature and of the classes in one window.
fn shifts(scrape: &Scrape, window: &str) -> Result<([f64; FEATURES.len()], f64)> {
    let labels = |more: &'static str| [&DEMO[..], &[more, window]].concat();
    let of_feature = |feature| scrape.sum("canopy_predictor_feature_psi", &labels(feature));
    let features = FEATURES.into_iter().map(of_feature).collect::<Result<Vec<_>>>()?;
    let features = features.try_into().ok().context("there are four")?;
    Ok((features, scrape.sum("canopy_predictor_class_psi", &[&DEMO[..], &[window]].concat())?))
}

#[tokio::test]
async fn rows_like_those_of_training_have_no_drift_and_too_few_rows_have_no_series() -> Result<()> {
    let model = Model::demo().await?;
    let predictor = Server::predictor(&model, &[]).await?;
    // With the row of the self-test these are 499 rows.
    send(&predictor, 498, 0, 0.0).await?;
    let few = scrape(&predictor).await?;
    ensure!(!few.0.contains("psi"), "{}", few.0);
    send(&predictor, 2, 0, 0.0).await?;
    shifts(&scrape(&predictor).await?, WINDOWS[0]).context("500 rows are enough")?;

    send(&predictor, 4000, 0, 0.0).await?;
    let many = scrape(&predictor).await?;
    for window in WINDOWS {
        let (features, classes) = shifts(&many, window)?;
        ensure!(features.iter().all(|psi| (0.0..0.1).contains(psi)), "{window}: {features:?}");
        ensure!((0.0..0.1).contains(&classes), "{window}: {classes}");
    }
    Ok(())
}

#[tokio::test]
async fn only_a_shifted_feature_has_drift() -> Result<()> {
    let model = Model::demo().await?;
    // The class depends on the first two features.
    for (moved, by, classes_move) in [(0, 2.0, true), (2, 1.0, false), (3, -1.0, false)] {
        let predictor = Server::predictor(&model, &[]).await?;
        send(&predictor, 4000, moved, by).await?;
        let scrape = scrape(&predictor).await?;
        for window in WINDOWS {
            let (features, classes) = shifts(&scrape, window)?;
            for (feature, psi) in features.into_iter().enumerate() {
                let is_right = if feature == moved { psi > 0.25 } else { psi < 0.1 };
                ensure!(is_right, "{window}, x{moved} was shifted: {features:?}");
            }
            let is_right = if classes_move { classes > 0.25 } else { classes < 0.1 };
            ensure!(is_right, "{window}, x{moved} was shifted: classes {classes}");
        }
    }
    Ok(())
}
