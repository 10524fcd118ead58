//! The cost of counting rows for drift: the same requests with and without counting, in turn.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use canopy_contract::rows::Rows;
use canopy_forest::data::samples::Samples;
use canopy_forest::ensemble::form::Ensemble;
use canopy_forest::scale::Scaler;
use canopy_forest::train::parameters::RandomForest;
use canopy_predictor::baseline::drift::Drift;
use canopy_predictor::baseline::reference::Reference;

use canopy_predictor::engine::head::{Answer, Head};
use canopy_predictor::engine::loaded::LoadedModel;
use canopy_predictor::engine::trees::TreeEngine;
use rustix::time::{ClockId, clock_gettime};

use crate::latency::median;

/// Numbers of features of the models.
const FEATURES: [usize; 2] = [4, 30];
/// Numbers of rows of a request.
const ROWS: [usize; 2] = [1, 100];
/// Number of training rows, as for the model `demo`.
const TRAINED: usize = 800;
/// Number of rows in a round, all different.
const ROUND: usize = 4000;

/// The cost for one model and one size of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    features: usize,
    rows: usize,
    /// Nanoseconds per row.
    without: f64,
    with: f64,
    counting: f64,
    /// Nanoseconds per scrape.
    scrape: f64,
}

/// Measures every model with every size of a request; the figures are medians of the rounds.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Cost>> {
    FEATURES.into_iter().flat_map(|features| ROWS.map(|rows| one(features, rows, rounds))).collect()
}

fn one(features: usize, rows: usize, rounds: usize) -> Result<Cost> {
    let train = Samples::synthetic(TRAINED, features, 42)?;
    let scaler = Scaler::fit(&train)?;
    let forest = RandomForest::params().train(&scaler.transform(&train), &|_, _| ())?;
    let model = LoadedModel::new(
        &scaler,
        None,
        Box::new(TreeEngine::new(&Ensemble::try_from(forest)?)),
        Head::default(),
    );
    let columns: Vec<_> = (0..features).collect();
    let drift = Drift::new(Reference::learn(&train, &columns, vec![100, 100]), Instant::now());

    let live = Samples::synthetic(ROUND, features, 43)?;
    let live: Vec<_> = live.rows().collect();
    let requests: Vec<_> = live.chunks(rows).map(|rows| Rows::instances(rows.iter())).collect();
    let answer = |request: &Rows| model.predict(request).context("the model refused its own rows");
    let answers: Vec<_> = requests.iter().map(answer).collect::<Result<_>>()?;

    let mut found = [(); 4].map(|()| Vec::new());
    for _ in 0..rounds {
        // Both read the clock, because every response is timed anyway.
        let without = time(|| {
            requests.iter().try_for_each(|request| {
                black_box((answer(request)?, Instant::now()));
                anyhow::Ok(())
            })
        });
        let with = time(|| {
            requests.iter().try_for_each(|request| {
                let answers = answer(request)?;
                drift.count(request, answers.iter().filter_map(Answer::class), Instant::now());
                black_box(answers);
                anyhow::Ok(())
            })
        });
        let counting = time(|| {
            let now = Instant::now();
            for (request, answers) in requests.iter().zip(&answers) {
                drift.count(request, answers.iter().filter_map(Answer::class), now);
            }
            Ok(())
        });
        let scrape = time(|| {
            black_box(drift.shifts(Instant::now()));
            Ok(())
        });
        let nanoseconds = |took: Duration, of: usize| took.as_secs_f64() * 1e9 / of as f64;
        let round = [(without?, ROUND), (with?, ROUND), (counting?, ROUND), (scrape?, 1)];
        for (kept, (took, of)) in found.iter_mut().zip(round) {
            kept.push(nanoseconds(took, of));
        }
    }
    let [without, with, counting, scrape] = found.map(median);
    Ok(Cost { features, rows, without, with, counting, scrape })
}

/// The CPU time of this thread, which does not depend on other load.
fn time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = worked()?;
    work()?;
    Ok(worked()?.saturating_sub(start))
}

fn worked() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

impl fmt::Display for Cost {
    /// A row of the table in `README.md`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { features, rows, without, with, counting, scrape } = *self;
        let scrape = scrape / 1e3;
        write!(
            f,
            "| {features} | {rows} | {without:.0} ns | {with:.0} ns | {counting:.1} ns | {scrape:.1} µs |"
        )
    }
}
