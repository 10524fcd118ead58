//! Training and inference with Canopy's library, on the same rows and with the same parameters as `peers/train.py`.
//!
//! All times include scaling.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use canopy_forest::compiled::layout::CompiledForest;
use canopy_forest::data::samples::Samples;
use canopy_forest::scale::Scaler;
use canopy_forest::train::parameters::RandomForest;

use crate::latency::median;
use crate::results::{Trainer, Training};

/// Number of calls with one row, and with all rows, as in `peers/train.py`.
const SINGLES: usize = 200;
const BATCHES: usize = 9;

/// Trains a forest of 100 trees with each seed, and measures inference of the last one on the hold-out rows.
pub(crate) fn measure(
    data: &str,
    [rows, held_out]: [&Path; 2],
    threads: usize,
    seeds: u64,
) -> Result<Training> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| {
        let (samples, held_out) = (read(rows)?, read(held_out)?);
        let mut fit_seconds = Vec::new();
        let mut accuracy = Vec::new();
        let mut last = None;
        for seed in 0..seeds {
            let start = Instant::now();
            let scaler = Scaler::fit(&samples)?;
            let forest = RandomForest::params().seed(seed).train(&scaler.transform(&samples), &|_, _| ())?;
            fit_seconds.push(start.elapsed().as_secs_f64());
            let packed = CompiledForest::new(&forest);
            accuracy.push(packed.accuracy(&scaler, &held_out)?);
            last = Some((scaler, packed));
        }
        let (scaler, packed) = last.context("the number of seeds must be at least 1, got 0")?;
        Ok(Training {
            trainer: Trainer::Canopy,
            data: data.to_owned(),
            rows: samples.len(),
            features: samples.features().len(),
            threads,
            fit_seconds,
            accuracy,
            single_us: single(&scaler, &packed, &held_out)?,
            batch_us: batch(&scaler, &packed, &held_out)?,
        })
    })
}

fn read(path: &Path) -> Result<Samples> {
    let bytes = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    Samples::from_csv(&bytes, "class").with_context(|| format!("failed to parse {}", path.display()))
}

fn single(scaler: &Scaler, packed: &CompiledForest, samples: &Samples) -> Result<f64> {
    let mut probabilities = vec![0.0; packed.classes()];
    let mut inputs = Vec::new();
    let rows: Vec<_> = samples.rows().collect();
    let times = rows.iter().cycle().take(SINGLES).map(|row| {
        let start = Instant::now();
        scaler.apply(row, &mut inputs);
        packed.predict_row(&inputs, &mut probabilities)?;
        Ok(microseconds(start.elapsed()))
    });
    Ok(median(times.collect::<Result<_>>()?))
}

fn batch(scaler: &Scaler, packed: &CompiledForest, samples: &Samples) -> Result<f64> {
    let mut probabilities = vec![0.0; packed.classes() * samples.len()];
    let mut inputs = Vec::new();
    let times = (0..BATCHES).map(|_| {
        let start = Instant::now();
        scaler.apply(samples.values(), &mut inputs);
        packed.predict_rows(&inputs, &mut probabilities)?;
        Ok(microseconds(start.elapsed()) / samples.len() as f64)
    });
    Ok(median(times.collect::<Result<_>>()?))
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
