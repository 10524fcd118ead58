//! Bins and the population stability index, compared with numpy and scipy.

use canopy_forest::data::samples::Samples;
use canopy_predictor::baseline::reference::{BINS_MAX, Bins, Reference, psi};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

/// One case of `tests/golden/drift/psi.json`, which `make.py` beside it writes.
#[derive(Deserialize)]
struct Case {
    name: String,
    trained: Vec<f64>,
    live: Vec<f64>,
    edges: Vec<f64>,
    trained_counts: Vec<u64>,
    live_counts: Vec<u64>,
    psi: f64,
}

/// How many of `values` are in each bin, as live rows are counted.
fn counted(bins: &Bins, values: &[f64]) -> Vec<u64> {
    let reference: Reference =
        serde_json::from_value(json!({ "features": [bins], "classes": [1, 1] })).unwrap();
    let bin_edges = reference.bin_edges();
    let mut counts = bin_edges.no_counts();
    for &value in values {
        bin_edges.count(&[value], 0, &mut counts);
    }
    assert_eq!(counts.rows(), values.len() as u64);
    let (there, beyond) = counts.bins()[0].split_at(bins.counts().len());
    assert!(beyond.iter().all(|&count| count == 0), "{beyond:?}");
    there.to_vec()
}

#[test]
fn bins_and_the_index_are_those_of_numpy_and_scipy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/drift/psi.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() > 15, "{} cases", cases.len());
    for Case { name, trained, live, edges, trained_counts, live_counts, psi: expected } in cases {
        let bins = Bins::learn(trained.clone());
        assert_eq!((bins.edges(), bins.counts()), (&edges[..], &trained_counts[..]), "{name}");
        assert_eq!(counted(&bins, &trained), trained_counts, "{name}");
        assert_eq!(counted(&bins, &live), live_counts, "{name}");
        let found = psi(bins.counts(), &live_counts);
        assert!((found - expected).abs() < 1e-12, "{name}: {found} where scipy finds {expected}");
    }
}

#[test]
fn a_model_learns_the_columns_of_its_features_and_only_the_first_fifty() {
    let header: Vec<_> = (0..60).map(|i| format!("f{i}")).collect();
    let row = |row: usize| {
        let cells: Vec<_> = (0..60).map(|column| (column * 1000 + row).to_string()).collect();
        format!("{},{}\n", cells.join(","), row % 2)
    };
    let csv = format!("{},class\n{}", header.join(","), (0..100).map(row).collect::<String>());
    let train = Samples::from_csv(csv.as_bytes(), "class").unwrap();
    let backwards: Vec<_> = (0..60).rev().collect();
    let reference = Reference::learn(&train, &backwards, vec![30, 20]);
    assert!(reference.is_of(60, 2) && !reference.is_of(49, 2) && !reference.is_of(60, 3));
    assert_eq!(reference.features().len(), 50);
    assert_eq!(reference.features()[0].edges(), [59_019.0, 59_039.0, 59_059.0, 59_079.0]);
    assert_eq!(reference.features()[49].edges()[..1], [10_019.0]);
    assert_eq!(reference.classes(), Some(&[30, 20][..]));
}

#[test]
fn bins_that_no_rows_could_have_are_refused() {
    let bins = |edges: &[f64], counts: &[u64]| {
        serde_json::from_value::<Bins>(json!({ "edges": edges, "counts": counts })).map_err(|e| e.to_string())
    };
    assert!(bins(&[1.0, 2.0], &[1, 0, 5]).is_ok());
    let many: Vec<_> = (0..10).map(f64::from).collect();
    for edges in [&[1.0, 1.0][..], &[2.0, 1.0], &many] {
        let error = bins(edges, &vec![1; edges.len() + 1]).unwrap_err();
        assert_eq!(error, "edges of bins must ascend and be fewer than 10");
    }
    for counts in [&[1, 2][..], &[0, 0, 0], &[u64::MAX, 1, 0], &[1 << 60, 1, 1]] {
        let error = bins(&[1.0, 2.0], counts).unwrap_err();
        assert_eq!(error, "bins must have a count each, of some rows");
    }
}

proptest! {
    #[test]
    fn every_row_is_in_one_bin_and_the_same_rows_are_no_drift(
        values in prop::collection::vec(prop_oneof![any::<f64>().prop_filter("is finite", |x| x.is_finite()), (-3..3_i8).prop_map(f64::from)], 1..300),
        times in 1..5_usize,
    ) {
        let bins = Bins::learn(values.clone());
        prop_assert!(bins.edges().len() < BINS_MAX);
        prop_assert!(bins.edges().is_sorted_by(|a, b| a < b));
        prop_assert_eq!(bins.counts().iter().sum::<u64>(), values.len() as u64);
        prop_assert_eq!(counted(&bins, &values), bins.counts());
        let again: Vec<_> = bins.counts().iter().map(|count| count * times as u64).collect();
        prop_assert!(psi(bins.counts(), &again).abs() < 1e-12);
        // What is read again is the same.
        let text = serde_json::to_string(&bins).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bins>(&text).unwrap(), bins);
    }

    #[test]
    fn the_index_is_never_negative_and_large_where_values_have_left(
        values in prop::collection::vec(-1e6..1e6_f64, 60..300), live in prop::collection::vec(0..1000_u64, 10),
    ) {
        let bins = Bins::learn(values);
        let live = &live[..bins.counts().len()];
        prop_assert!(psi(bins.counts(), live) >= 0.0);
        let gone = counted(&bins, &[2e6; 500]);
        prop_assert!(psi(bins.counts(), &gone) > 0.25);
        let gone = counted(&bins, &[-2e6; 500]);
        prop_assert!(psi(bins.counts(), &gone) > 0.25);
    }
}
