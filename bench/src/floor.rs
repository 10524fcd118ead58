//! CPU of a request beside the bare server: ratios within one run.
//!
//! The bare server is built with the profile `floor` and has one thread on one core. Absolute figures differ between machines
//! and hours; ratios of the same round differ little.

use std::fmt;

use anyhow::{Result, ensure};
use canopy_contract::serving::{Data, Synthetic};

use crate::latency::median;
use crate::load::{self, Times};
use crate::results::{Shape, Subject};
use crate::subjects::Workplace;

const LOAD: Shape = Shape::Closed { connections: 32 };
/// What is compared: each subject with the one it is divided by.
const COMPARED: [(Subject, Subject); 3] = [
    (Subject::Predictor, Subject::Baseline),
    (Subject::Nginx, Subject::Baseline),
    (Subject::Gateway, Subject::Nginx),
];
const SUBJECTS: [Subject; 4] = [Subject::Baseline, Subject::Predictor, Subject::Nginx, Subject::Gateway];

/// A ratio of CPU per request, by round.
#[derive(Debug)]
pub(crate) struct Ratio {
    of: Subject,
    to: Subject,
    rounds: Vec<f64>,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rounds.iter().copied().fold(0.0, f64::max);
        let ratio = median(self.rounds.clone());
        write!(
            f,
            "{} : {} = {ratio:.2} ({least:.2} to {most:.2} in {} rounds)",
            self.of.title(),
            self.to.title(),
            self.rounds.len()
        )
    }
}

/// Measures all subjects in each round, one after the other.
pub(crate) async fn measure(workplace: &Workplace, times: Times, rounds: usize) -> Result<Vec<Ratio>> {
    workplace.prepare_canopy(Data::Synthetic(Synthetic { samples: 1000, features: 4, seed: 42 }))?;
    let mut ratios: Vec<_> = COMPARED.iter().map(|&(of, to)| Ratio { of, to, rounds: Vec::new() }).collect();
    for _ in 0..rounds {
        let mut costs = Vec::new();
        for subject in SUBJECTS {
            costs.push((subject, cpu_us(workplace, subject, times).await?));
        }
        add_round(&mut ratios, &costs);
    }
    Ok(ratios)
}

fn add_round(ratios: &mut [Ratio], costs: &[(Subject, f64)]) {
    let cost =
        |subject| costs.iter().find(|(other, _)| *other == subject).map_or(f64::NAN, |(_, cost)| *cost);
    for ratio in ratios {
        ratio.rounds.push(cost(ratio.of) / cost(ratio.to));
    }
}

/// Microseconds of CPU of a request, in all processes that serve it.
async fn cpu_us(workplace: &Workplace, subject: Subject, times: Times) -> Result<f64> {
    let (servers, call) = workplace.stand_up(subject).await?;
    let load = load::run(subject, &call, LOAD, times, &servers).await?;
    ensure!(
        load.failed == 0,
        "{}: {} requests failed: {:?}",
        subject.title(),
        load.failed,
        load.first_failure
    );
    for server in servers {
        server.end().await?;
    }
    Ok(load.cpu_us())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_divides_costs_of_the_same_round_and_shows_the_median() {
        let mut ratios = [Ratio { of: Subject::Predictor, to: Subject::Baseline, rounds: Vec::new() }];
        for (predictor, baseline) in [(15.0, 10.0), (32.0, 20.0), (14.0, 10.0)] {
            add_round(&mut ratios, &[(Subject::Baseline, baseline), (Subject::Predictor, predictor)]);
        }
        let text = ratios[0].to_string();
        assert!(text.ends_with("= 1.50 (1.40 to 1.60 in 3 rounds)"), "{text}");
    }
}
