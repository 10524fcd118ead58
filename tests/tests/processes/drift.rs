//! Drift, as a predictor tells it: rows like those of training, rows that have moved, and too few of either.
//!
//! Comes in: rows of the distribution that the demo model was trained on, perhaps moved. Goes out: the index by feature
//! and of the classes. Never: a figure where chance alone could make one.

use anyhow::{Context as _, Result, ensure};
use canopy_forest::data::samples::Samples;
use canopy_tests::metrics::Scrape;
use canopy_tests::test_server::{Model, Server};
use serde_json::json;

const DEMO: [&str; 3] = ["model=\"demo\"", "model_namespace=\"default\"", "version=\"1.0\""];
const WINDOWS: [&str; 2] = ["window=\"1h\"", "window=\"24h\""];
const FEATURES: [&str; 4] = ["feature=\"x0\"", "feature=\"x1\"", "feature=\"x2\"", "feature=\"x3\""];

/// Sends so many rows of four standard normal features that the model has never seen, one of them moved.
async fn send(predictor: &Server, count: usize, moved: usize, by: f64) -> Result<()> {
    // A few rows may all be of one class, which makes no samples.
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

/// The index of each feature, and that of the classes, in one window.
fn shifts(scrape: &Scrape, window: &str) -> Result<([f64; FEATURES.len()], f64)> {
    let labels = |more: &'static str| [&DEMO[..], &[more, window]].concat();
    let of_feature = |feature| scrape.sum("canopy_predictor_feature_psi", &labels(feature));
    let features = FEATURES.into_iter().map(of_feature).collect::<Result<Vec<_>>>()?;
    let features = features.try_into().ok().context("there are four")?;
    Ok((features, scrape.sum("canopy_predictor_class_psi", &[&DEMO[..], &[window]].concat())?))
}

#[tokio::test]
async fn rows_like_those_of_training_are_no_drift_and_too_few_say_nothing() -> Result<()> {
    let model = Model::demo().await?;
    let predictor = Server::predictor(&model, &[]).await?;
    // The golden row, by which the model was proven, is the 499th.
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
async fn a_feature_that_has_moved_is_told_and_the_others_are_not() -> Result<()> {
    let model = Model::demo().await?;
    // The classes follow from the first two features.
    for (moved, by, classes_move) in [(0, 2.0, true), (2, 1.0, false), (3, -1.0, false)] {
        let predictor = Server::predictor(&model, &[]).await?;
        send(&predictor, 4000, moved, by).await?;
        let scrape = scrape(&predictor).await?;
        for window in WINDOWS {
            let (features, classes) = shifts(&scrape, window)?;
            for (feature, psi) in features.into_iter().enumerate() {
                let is_told = if feature == moved { psi > 0.25 } else { psi < 0.1 };
                ensure!(is_told, "{window}, x{moved} has moved: {features:?}");
            }
            let is_told = if classes_move { classes > 0.25 } else { classes < 0.1 };
            ensure!(is_told, "{window}, x{moved} has moved: classes {classes}");
        }
    }
    Ok(())
}
