//! CPU per request beside the bare server, as ratios within one run.
//!
//! The bare server is built with the profile `floor` and has one thread on one core. Absolute figures differ between machines
//! and hours; ratios of the same round differ little.

use anyhow::{Result, ensure};
use canopy_contract::serving::{Data, Synthetic};

use crate::latency::median;
use crate::load::{self, Times};
use crate::machine;
use crate::results::{FloorResults, RequestCost, Shape, Subject};
use crate::subjects::Workplace;

const LOAD: Shape = Shape::Closed { connections: 32 };
/// The pairs that are compared: each subject with its floor.
const COMPARED: [(Subject, Subject); 3] = [
    (Subject::Predictor, Subject::Baseline),
    (Subject::Nginx, Subject::Baseline),
    (Subject::Gateway, Subject::Nginx),
];
const SUBJECTS: [Subject; 4] = [Subject::Baseline, Subject::Predictor, Subject::Nginx, Subject::Gateway];

/// The ratio of the CPU per request of two subjects.
#[derive(Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) of: Subject,
    pub(crate) floor: Subject,
    /// Over all rounds.
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Measures all subjects in each round, one after the other.
pub(crate) async fn measure(workplace: &Workplace, times: Times, rounds: usize) -> Result<FloorResults> {
    let machine = machine::describe(None)?;
    workplace.prepare_canopy(Data::Synthetic(Synthetic { samples: 1000, features: 4, seed: 42 }))?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        let mut round = Vec::new();
        for subject in SUBJECTS {
            round.push(RequestCost { subject, cpu_us: cpu_us(workplace, subject, times).await? });
        }
        measured.push(round);
    }
    Ok(FloorResults { machine, rounds: measured })
}

/// The ratios of all pairs; each ratio divides two figures of the same round.
pub(crate) fn ratios(results: &FloorResults) -> Vec<Ratio> {
    let ratio = |&(of, floor): &(Subject, Subject)| {
        let in_round = |round: &Vec<RequestCost>| {
            let cost = |subject| round.iter().find(|cost| cost.subject == subject).map(|cost| cost.cpu_us);
            Some(cost(of)? / cost(floor)?)
        };
        let all: Vec<_> = results.rounds.iter().filter_map(in_round).collect();
        let least = all.iter().copied().reduce(f64::min)?;
        let most = all.iter().copied().reduce(f64::max)?;
        Some(Ratio { of, floor, median: median(all), least, most })
    };
    COMPARED.iter().filter_map(ratio).collect()
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

    use crate::results::Machine;

    #[test]
    fn a_ratio_divides_costs_of_the_same_round() {
        let round = |(predictor, baseline)| {
            let cost = |subject, cpu_us| RequestCost { subject, cpu_us };
            vec![cost(Subject::Predictor, predictor), cost(Subject::Baseline, baseline)]
        };
        let rounds = [(15.0, 10.0), (32.0, 20.0), (14.0, 10.0)].map(round).into();
        let expected =
            Ratio { of: Subject::Predictor, floor: Subject::Baseline, median: 1.5, least: 1.4, most: 1.6 };
        // nginx and the gateway were not measured.
        assert_eq!(ratios(&FloorResults { machine: Machine::default(), rounds }), [expected]);
    }
}
