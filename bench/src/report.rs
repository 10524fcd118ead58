//! Writes results into Markdown texts, between `<!-- NAME -->` and the next `<!-- end -->`.

use anyhow::{Context as _, Result};

use crate::floor::{Ratio, ratios};
use crate::latency::median;
use crate::results::{Cost, FloorResults, Load, Machine, Results, Shape, Subject, Training};

/// Writes the tables of `canopy-bench all`.
pub(crate) fn fill(text: &str, results: &Results) -> Result<String> {
    let tables = [
        ("machine", machine(&results.machine)),
        ("load", loads(results)),
        ("start", starts(results)),
        ("training", trainings(results)),
        ("size", sizes(results)),
    ];
    tables.iter().try_fold(text.to_owned(), |text, (name, table)| put(&text, name, table))
}

/// Writes the table of `canopy-bench floor`.
pub(crate) fn fill_floor(text: &str, results: &FloorResults) -> Result<String> {
    put(text, "floor", &format!("{}\n{}", floors(results), machine(&results.machine)))
}

/// Writes the ratios of Canopy's servers as a sentence.
pub(crate) fn fill_summary(text: &str, results: &FloorResults) -> Result<String> {
    put(text, "floor", &summary(&ratios(results))?)
}

/// Replaces the text between `<!-- NAME -->` and the next `<!-- end -->`.
pub(crate) fn put(text: &str, name: &str, table: &str) -> Result<String> {
    let mark = format!("<!-- {name} -->\n");
    let place = text.split_once(&mark).and_then(|(before, after)| {
        let (_, after) = after.split_once("<!-- end -->")?;
        Some((before, after))
    });
    let (before, after) =
        place.with_context(|| format!("the text has no place for the figures of {name:?}"))?;
    Ok(format!("{before}{mark}{table}<!-- end -->{after}"))
}

/// The machine and the versions, in two lines.
pub(crate) fn machine(machine: &Machine) -> String {
    let versions: Vec<_> = machine.versions.iter().map(|v| format!("{} {}", v.name, v.version)).collect();
    format!(
        "{} · commit {} · {} × {} · {} MiB · {}, Linux {} · load average before the run {:.2}  \n{}\n",
        machine.date,
        machine.commit,
        machine.processors,
        machine.processor,
        machine.memory_mib,
        machine.system,
        machine.kernel,
        machine.load_before,
        versions.join(" · ")
    )
}

fn floors(results: &FloorResults) -> String {
    let mut table = header(&["CPU per request of", "by that of", "median", "least", "most"], 2);
    for Ratio { of, floor, median, least, most } in ratios(results) {
        let figures = [median, least, most].map(|ratio| format!("{ratio:.2}"));
        table += &row(&[&[of.title().to_owned(), floor.title().to_owned()], &figures[..]].concat());
    }
    table
}

fn summary(ratios: &[Ratio]) -> Result<String> {
    let median = |subject: Subject| {
        let ratio = ratios.iter().find(|ratio| ratio.of == subject);
        ratio.map(|ratio| ratio.median).with_context(|| format!("the results have no ratio of {subject:?}"))
    };
    // Indented as a part of a list item.
    Ok(format!(
        "  A prediction takes {:.2} times the CPU of a request to a bare HTTP server without a model.\n  \
           Through the gateway it takes {:.2} times the CPU of a request through nginx to that server.\n  ",
        median(Subject::Predictor)?,
        median(Subject::Gateway)?
    ))
}

/// One table for each shape of load, in the order of measurement.
fn loads(results: &Results) -> String {
    let mut shapes: Vec<Shape> = Vec::new();
    for load in &results.load {
        if !shapes.contains(&load.shape) {
            shapes.push(load.shape);
        }
    }
    let tables = shapes.into_iter().map(|shape| {
        let of_shape = results.load.iter().filter(|load| load.shape == shape);
        format!("**{}**\n\n{}\n", words(shape), load_table(of_shape))
    });
    tables.collect()
}

fn words(shape: Shape) -> String {
    match shape {
        Shape::Closed { connections: 1 } => "Closed loop, 1 connection".to_owned(),
        Shape::Closed { connections } => format!("Closed loop, {connections} connections"),
        Shape::Open { per_second, connections } => {
            format!("Open loop, {per_second} requests/s over up to {connections} connections")
        }
    }
}

fn load_table<'a>(loads: impl Iterator<Item = &'a Load>) -> String {
    let mut table = header(
        &[
            "",
            "requests/s",
            "CPU µs/request",
            "of it kernel %",
            "p50 ms",
            "p90",
            "p99",
            "p99.9",
            "max",
            "memory MiB (peak)",
            "failed",
            "unanswered",
        ],
        1,
    );
    for load in loads {
        let latency = load.latency_us;
        let milliseconds = |us: f64| significant(us / 1e3);
        let cells = [
            load.subject.title().to_owned(),
            format!("{:.0}", load.per_second()),
            sum(load, |server| load.cpu_us_of(server)),
            kernel(load),
            milliseconds(latency.p50),
            milliseconds(latency.p90),
            milliseconds(latency.p99),
            milliseconds(latency.p999),
            milliseconds(latency.max),
            format!(
                "{} ({:.0})",
                sum(load, |server| server.resident_kib as f64 / 1024.0),
                load.servers.iter().map(|server| server.peak_kib).sum::<u64>() as f64 / 1024.0
            ),
            load.failed.to_string(),
            load.unanswered.to_string(),
        ];
        table += &row(&cells);
    }
    table
}

/// `3.1`, or `1.1 + 2.0 = 3.1` for several servers, the first in the chain first.
fn sum(load: &Load, of: impl Fn(&Cost) -> f64) -> String {
    let parts: Vec<_> = load.servers.iter().map(of).collect();
    let total = format!("{:.1}", parts.iter().sum::<f64>());
    if parts.len() == 1 {
        return total;
    }
    let parts: Vec<_> = parts.iter().map(|part| format!("{part:.1}")).collect();
    format!("{} = {total}", parts.join(" + "))
}

/// `60`, or `60, 62` for several servers, the first in the chain first.
fn kernel(load: &Load) -> String {
    let parts = load.servers.iter().map(|server| format!("{:.0}", Load::kernel_percent_of(server)));
    parts.collect::<Vec<_>>().join(", ")
}

fn starts(results: &Results) -> String {
    let mut table = header(&["", "request", "median ms", "fastest", "slowest", "starts"], 2);
    for start in &results.start {
        let of = |value: f64| significant(value);
        let ends = |pick: fn(f64, f64) -> f64| start.milliseconds.iter().copied().reduce(pick);
        let cells = [
            start.subject.title().to_owned(),
            format!("`{}`", start.route),
            of(median(start.milliseconds.clone())),
            of(ends(f64::min).unwrap_or(0.0)),
            of(ends(f64::max).unwrap_or(0.0)),
            start.milliseconds.len().to_string(),
        ];
        table += &row(&cells);
    }
    table
}

fn trainings(results: &Results) -> String {
    let columns = [
        "rows × features",
        "",
        "threads",
        "fit s",
        "hold-out accuracy",
        "µs/row, one row",
        "µs/row, all rows",
    ];
    let mut table = header(&columns, 2);
    for training in &results.training {
        let Training { trainer, data, rows, features, threads, .. } = training;
        let mean = training.accuracy.iter().sum::<f64>() / training.accuracy.len() as f64;
        let cells = [
            format!("{data}, {rows} × {features}"),
            trainer.title().to_owned(),
            threads.to_string(),
            significant(median(training.fit_seconds.clone())),
            format!("{mean:.4}"),
            significant(training.single_us),
            significant(training.batch_us),
        ];
        table += &row(&cells);
    }
    table
}

fn sizes(results: &Results) -> String {
    let mut table = header(&["program", "MB"], 1);
    for size in &results.size {
        table += &row(&[format!("`{}`", size.program), format!("{:.1}", size.bytes as f64 / 1e6)]);
    }
    table
}

/// At least three digits.
pub(crate) fn significant(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        large if large >= 10.0 => 1,
        large if large >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The first two lines of a table; the first `texts` columns are text, the others figures.
pub(crate) fn header(columns: &[&str], texts: usize) -> String {
    let rules = (0..columns.len()).map(|column| if column < texts { "---" } else { "---:" });
    row(columns) + &row(&rules.collect::<Vec<_>>())
}

/// A line of a table.
pub(crate) fn row<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Percentiles;
    use crate::results::{RequestCost, Size, Start, Trainer};

    const PLACES: &str = "# Title\n<!-- machine -->\n<!-- end -->\n<!-- load -->\noutdated\n<!-- end -->\
        <!-- start -->\n<!-- end --><!-- training -->\n<!-- end --><!-- size -->\n<!-- end -->\nlast words\n";

    fn load(subject: Subject, shape: Shape, cpu_seconds: &[f64]) -> Load {
        let cost = |&cpu_seconds| Cost {
            name: "x".into(),
            cpu_seconds,
            kernel_seconds: cpu_seconds * 0.625,
            resident_kib: 2048,
            peak_kib: 4096,
        };
        Load {
            subject,
            shape,
            seconds: 2.0,
            answered: 100_000,
            failed: 0,
            first_failure: None,
            unanswered: 3,
            latency_us: Percentiles { p50: 50.0, p90: 90.0, p99: 1500.0, p999: 12_340.0, max: 123_400.0 },
            servers: cpu_seconds.iter().map(cost).collect(),
            generator_cpu_seconds: 1.0,
        }
    }

    fn machine() -> Machine {
        Machine {
            date: "2026-01-02 03:04 UTC".into(),
            commit: "abc".into(),
            processor: "Abacus".into(),
            processors: 2,
            memory_mib: 64,
            system: "Debian".into(),
            kernel: "6".into(),
            load_before: 0.1,
            versions: Vec::new(),
        }
    }

    fn results() -> Results {
        let many = Shape::Closed { connections: 32 };
        let fixed = Shape::Open { per_second: 1000, connections: 64 };
        let training = Training {
            trainer: Trainer::Canopy,
            data: "demo".into(),
            rows: 1000,
            features: 4,
            threads: 1,
            fit_seconds: vec![0.3, 0.1, 0.2],
            accuracy: vec![0.9, 0.95],
            single_us: 1.25,
            batch_us: 0.5,
        };
        Results {
            machine: machine(),
            load: vec![
                load(Subject::Baseline, many, &[0.6]),
                load(Subject::Predictor, many, &[1.2]),
                load(Subject::Predictor, fixed, &[9.0]),
                load(Subject::Gateway, many, &[2.0, 1.01]),
            ],
            start: vec![Start {
                subject: Subject::Predictor,
                route: "POST /predict".into(),
                milliseconds: vec![9.0, 30.0, 10.0],
            }],
            training: vec![training],
            size: vec![Size { program: "canopy".into(), bytes: 25_100_000 }],
        }
    }

    #[track_caller]
    fn check(expected: &str) {
        let filled = fill(PLACES, &results()).unwrap();
        assert!(filled.contains(expected), "{expected}\nis not in\n{filled}");
    }

    #[test]
    fn ratios_become_a_table_and_a_summary() {
        let round = [
            (Subject::Baseline, 10.0),
            (Subject::Predictor, 15.0),
            (Subject::Nginx, 25.0),
            (Subject::Gateway, 45.0),
        ];
        let round = round.map(|(subject, cpu_us)| RequestCost { subject, cpu_us });
        let results = FloorResults { machine: machine(), rounds: vec![round.into()] };
        let places = "# Title\n<!-- floor -->\noutdated\n<!-- end -->\n";
        let table = fill_floor(places, &results).unwrap();
        assert!(table.contains("| Canopy's predictor | bare axum server | 1.50 | 1.50 | 1.50 |\n"));
        assert!(table.contains(" | nginx in front of the bare axum server | 1.80 | 1.80 | 1.80 |\n"));
        assert!(table.contains("\n\n2026-01-02 03:04 UTC · commit abc"), "{table}");
        let expected = "# Title\n<!-- floor -->\n  \
            A prediction takes 1.50 times the CPU of a request to a bare HTTP server without a model.\n  \
            Through the gateway it takes 1.80 times the CPU of a request through nginx to that server.\n  \
            <!-- end -->\n";
        assert_eq!(fill_summary(places, &results).unwrap(), expected);
    }

    #[test]
    fn tables_have_the_figures_of_the_results() {
        check("2026-01-02 03:04 UTC · commit abc · 2 × Abacus");
        check(
            "| Canopy's predictor | 50000 | 12.0 | 62 | 0.050 | 0.090 | 1.50 | 12.3 | 123 | 2.0 (4) | 0 | 3 |\n",
        );
        check("| Canopy's gateway in front of the predictor | 50000 | 20.0 + 10.1 = 30.1 | 62, 62 | ");
        check("**Open loop, 1000 requests/s over up to 64 connections**");
        check("| Canopy's predictor | `POST /predict` | 10.0 | 9.00 | 30.0 | 3 |\n");
        check("| demo, 1000 × 4 | Canopy | 1 | 0.200 | 0.9250 | 1.25 | 0.500 |\n");
    }

    #[test]
    fn only_earlier_figures_are_replaced() {
        let filled = fill(PLACES, &results()).unwrap();
        assert!(filled.starts_with("# Title\n<!-- machine -->\n") && filled.ends_with("\nlast words\n"));
        assert!(!filled.contains("outdated"));
        assert_eq!(fill(&filled, &results()).unwrap(), filled);
        let error = fill(&PLACES.replace("<!-- size -->", ""), &results()).unwrap_err();
        assert_eq!(error.to_string(), r#"the text has no place for the figures of "size""#);
    }
}
