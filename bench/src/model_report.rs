//! Writes the tables of `canopy-bench models`.

use anyhow::Result;

use crate::latency::median;
use crate::report::{header, machine, put, row, significant};
use crate::results::{ModelCost, ModelResults, ModelRound, ModelRounds, Tract, TractCost};

/// Writes the tables into a text: models that were made for it, and the networks of the tests.
pub(crate) fn fill(text: &str, results: &ModelResults) -> Result<String> {
    let is_made = |model: &&ModelRounds| model.rounds.iter().any(|round| round.loaded.is_some());
    let made = made_models(results.models.iter().filter(is_made)) + "\n" + &machine(&results.machine);
    let networks = results.models.iter().filter(|model| !is_made(model));
    let text = put(&put(text, "models", &made)?, "networks", &beside_onnxruntime(networks.clone()))?;
    put(&text, "tract", &beside_tract(networks))
}

fn made_models<'a>(models: impl Iterator<Item = &'a ModelRounds>) -> String {
    let columns = [
        "file",
        "library",
        "MB",
        "load file ms",
        "load artifact ms",
        "memory MiB",
        "µs/row, one row",
        "µs/row, 100 rows",
        "load ÷ library",
        "one row ÷ library",
        "100 rows ÷ library",
    ];
    let mut table = header(&columns, 2);
    for model in models {
        let of = |of: fn(&ModelRound) -> Option<f64>| {
            significant(median(model.rounds.iter().filter_map(of).collect()))
        };
        table += &row(&[
            format!("`{}`", model.name),
            model.rounds.first().map(|round| round.library.library.clone()).unwrap_or_default(),
            format!("{:.2}", model.bytes as f64 / 1e6),
            of(|round| Some(round.imported.load_ms)),
            of(|round| Some(round.loaded?.load_ms)),
            of(|round| Some(round.loaded?.resident_kib as f64 / 1024.0)),
            of(|round| Some(round.loaded?.single_us)),
            of(|round| Some(round.loaded?.hundred_us)),
            of(|round| Some(round.imported.load_ms / round.library.load_ms)),
            of(|round| Some(round.loaded?.single_us / round.library.single_us)),
            of(|round| Some(round.loaded?.hundred_us / round.library.hundred_us)),
        ]);
    }
    table
}

fn beside_onnxruntime<'a>(models: impl Iterator<Item = &'a ModelRounds>) -> String {
    let columns =
        ["network", "load ms", "memory MiB", "µs, one row", "load ÷ onnxruntime", "one row ÷", "100 rows ÷"];
    let mut table = header(&columns, 1);
    for model in models {
        let of = |of: fn(&ModelRound) -> f64| significant(median(model.rounds.iter().map(of).collect()));
        table += &row(&[
            model.name.trim_end_matches(".onnx").to_owned(),
            of(|round| round.imported.load_ms),
            of(|round| round.imported.resident_kib as f64 / 1024.0),
            of(|round| round.imported.single_us),
            of(|round| round.imported.load_ms / round.library.load_ms),
            of(|round| round.imported.single_us / round.library.single_us),
            of(|round| round.imported.hundred_us / round.library.hundred_us),
        ]);
    }
    table
}

fn beside_tract<'a>(models: impl Iterator<Item = &'a ModelRounds>) -> String {
    let columns = ["network", "µs, one row, tract", "load ÷ tract", "one row ÷", "100 rows ÷"];
    let rows: String = models.filter_map(tract_row).collect();
    if rows.is_empty() { "Not measured yet.\n".to_owned() } else { header(&columns, 1) + &rows }
}

/// The row of a network with which tract was measured.
fn tract_row(model: &ModelRounds) -> Option<String> {
    let mut name = model.name.trim_end_matches(".onnx").to_owned();
    let mut measured = Vec::new();
    for round in &model.rounds {
        match round.tract.as_ref()? {
            Tract::Measured(cost) => measured.push((round, cost)),
            Tract::Refused { refused } => {
                let reason = format!("refused: {}", refused.replace('|', "\\|"));
                return Some(row(&[name, reason, String::new(), String::new(), String::new()]));
            }
        }
    }
    if !measured.iter().all(|(_, tract)| tract.any_rows) {
        name += " (fixed rows)";
    }
    let of = |of: fn(&ModelCost, &TractCost) -> f64| {
        significant(median(measured.iter().map(|(round, tract)| of(&round.imported, tract)).collect()))
    };
    Some(row(&[
        name,
        of(|_, tract| tract.single_us),
        of(|ours, tract| ours.load_ms / tract.load_ms),
        of(|ours, tract| ours.single_us / tract.single_us),
        of(|ours, tract| ours.hundred_us / tract.hundred_us),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{LibraryCost, Machine};

    const PLACES: &str =
        "<!-- models -->\n<!-- end -->\n<!-- networks -->\nold\n<!-- end -->\n<!-- tract -->\n<!-- end -->\n";

    #[test]
    fn ratios_of_models_divide_figures_of_the_same_round() {
        let cost = |times| ModelCost {
            load_ms: 2.0 * times,
            resident_kib: 2048,
            single_us: 4.0 * times,
            hundred_us: 0.5 * times,
        };
        let round = |times, loaded| ModelRound {
            imported: cost(times),
            loaded,
            library: LibraryCost {
                library: "xgboost".into(),
                version: "3".into(),
                load_ms: 4.0 * times,
                single_us: 16.0 * times,
                hundred_us: times,
            },
            tract: None,
        };
        let rounds =
            |is_made: bool| [1.0, 2.0, 3.0].map(|times| round(times, is_made.then(|| cost(times)))).into();
        let model = |name: &str, is_made| ModelRounds {
            name: name.into(),
            bytes: 1_234_567,
            rounds: rounds(is_made),
        };
        let models = vec![model("a.ubj", true), model("b.onnx", false)];
        let text = fill(PLACES, &ModelResults { machine: Machine::default(), models }).unwrap();
        let made =
            "| `a.ubj` | xgboost | 1.23 | 4.00 | 4.00 | 2.00 | 8.00 | 1.00 | 0.500 | 0.250 | 0.500 |\n";
        assert!(text.contains(made), "{text}");
        assert!(text.contains("| b | 4.00 | 2.00 | 8.00 | 0.500 | 0.250 | 0.500 |\n<!-- end -->"), "{text}");
        assert!(text.ends_with("<!-- tract -->\nNot measured yet.\n<!-- end -->\n"), "{text}");
    }

    #[test]
    fn a_network_that_tract_refuses_has_the_reason_in_place_of_figures() {
        let rounds = r#"{"imported": {"load_ms": 2, "resident_kib": 1, "single_us": 6, "hundred_us": 1}, "library":
            {"library": "onnxruntime", "version": "1", "load_ms": 1, "single_us": 1, "hundred_us": 1}, "tract": "#;
        let model = |name: &str, tract: &str| {
            let text = format!(r#"{{"name": "{name}.onnx", "bytes": 1, "rounds": [{rounds}{tract}}}]}}"#);
            serde_json::from_str::<ModelRounds>(&text).unwrap()
        };
        let measured = r#"{"any_rows": true, "load_ms": 8, "single_us": 3, "hundred_us": 4}"#;
        let models = vec![
            model("any", measured),
            model("fixed", &measured.replace("true", "false")),
            model("none", r#"{"refused": "no operator a|b"}"#),
        ];
        let text = fill(PLACES, &ModelResults { machine: Machine::default(), models }).unwrap();
        let (_, table) = text.split_once("<!-- tract -->\n").unwrap();
        let rows: Vec<_> = table.lines().skip(2).collect();
        let expected = [
            "| any | 3.00 | 0.250 | 2.00 | 0.250 |",
            "| fixed (fixed rows) | 3.00 | 0.250 | 2.00 | 0.250 |",
            "| none | refused: no operator a\\|b |  |  |  |",
            "<!-- end -->",
        ];
        assert_eq!(rows, expected);
    }
}
