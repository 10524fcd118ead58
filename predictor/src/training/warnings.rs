//! Warnings about data that can be trained on, but look wrong.
//!
//! They are heuristics: an id among the features, a quantity as the target, a class without held-out rows, different values
//! that became equal floating-point numbers.

use canopy_contract::report::{WARNINGS_MAX, Warning, WarningKind};
use canopy_contract::schema::Class;
use canopy_forest::data::precision::Merged;
use canopy_forest::data::samples::Samples;

use crate::training::evaluation::{HoldOut, name};
use crate::training::schema_mapping::Arrangement;

/// With fewer rows than this a column may have a different whole number in each row by chance.
const ID_ROWS_MIN: usize = 10;
/// More different whole numbers than this are seldom meant as classes.
const WHOLE_NUMBERS_MAX: usize = 30;
/// The same for numbers with a fraction.
const FRACTIONS_MAX: usize = 10;
/// If the target is a quantity or an id, most classes have no held-out row.
const NOT_EVALUATED_MAX: usize = 4;
/// One row in this number may have a value that became equal to a different one: measurements with many digits can be
/// close by chance.
const MERGED_ROWS_PER: usize = 10;
/// The same for values that several rows have: such values are not close by chance.
const REPEATED_ROWS_PER: usize = 1000;

/// The inputs and results of a training.
pub(crate) struct Facts<'a> {
    /// All rows.
    pub(crate) samples: &'a Samples,
    /// Features and classes in the config's order.
    pub(crate) arrangement: &'a Arrangement,
    /// The evaluation on the held-out rows.
    pub(crate) hold_out: &'a HoldOut,
    /// The features in which values became equal as 32-bit numbers.
    pub(crate) merged: &'a [Merged],
    /// The target column, if the config does not list the classes.
    pub(crate) target: Option<&'a str>,
}

/// All warnings, the most severe first, up to the number that a report has room for.
pub(crate) fn warnings(facts: &Facts<'_>) -> Vec<Warning> {
    let mut found = Vec::from_iter(quantity(facts));
    found.extend(not_evaluated(facts));
    found.extend(ids(facts.samples));
    found.extend(made_equal(facts));
    found.truncate(WARNINGS_MAX);
    found
}

fn not_evaluated(Facts { samples, arrangement, hold_out, .. }: &Facts<'_>) -> Vec<Warning> {
    let rows =
        |class: usize| samples.targets().iter().filter(|&&label| arrangement.class(label) == class).count();
    let warning = |class: usize| {
        let name = name(&arrangement.classes()[class]);
        Warning::new(WarningKind::ClassNotJudged, &name, rows(class))
    };
    hold_out.not_evaluated().into_iter().take(NOT_EVALUATED_MAX).map(warning).collect()
}

fn quantity(Facts { arrangement, target, .. }: &Facts<'_>) -> Option<Warning> {
    let target = (*target)?;
    let number = |class: &Class| match class {
        Class::Index(index) => Some(f64::from(*index)),
        Class::Name(name) => name.parse::<f64>().ok(),
    };
    let numbers: Vec<f64> = arrangement.classes().iter().map(number).collect::<Option<_>>()?;
    let are_whole = numbers.iter().all(|number| is_whole(*number));
    let most = if are_whole { WHOLE_NUMBERS_MAX } else { FRACTIONS_MAX };
    (numbers.len() > most).then(|| Warning::new(WarningKind::LooksLikeAQuantity, target, numbers.len()))
}

fn ids(samples: &Samples) -> Vec<Warning> {
    let columns = samples.features().iter().enumerate();
    let ids = columns.filter(|(column, name)| is_id(name, samples, *column));
    ids.map(|(_, name)| Warning::new(WarningKind::LooksLikeAnId, name, samples.len())).collect()
}

/// Whether a column counts the rows, or is called an id and has a different whole number in each.
fn is_id(name: &str, samples: &Samples, column: usize) -> bool {
    let values = || samples.rows().map(|row| row[column]);
    if samples.len() < ID_ROWS_MIN || !values().all(is_whole) {
        return false;
    }
    let starts = values().next().is_some_and(|first| (-0.5..1.5).contains(&first));
    if starts && values().zip(values().skip(1)).all(|(one, next)| (next - one - 1.0).abs() < 0.5) {
        return true;
    }
    if !is_called_id(name) {
        return false;
    }
    let mut sorted: Vec<f64> = values().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.windows(2).all(|pair| pair[0] < pair[1])
}

fn is_called_id(name: &str) -> bool {
    let lower = name.to_lowercase();
    let is = ["id", "index", "idx", "uid", "rowid", "row", "key"].contains(&lower.as_str());
    let ends = ["_id", "-id", " id", ".id"].iter().any(|end| lower.ends_with(end));
    is || ends || name.ends_with("Id") || name.ends_with("ID") || lower.starts_with("unnamed:")
}

fn is_whole(number: f64) -> bool {
    number.fract().abs() < f64::MIN_POSITIVE
}

/// Values became equal either when the table was read or when they were made 32-bit numbers. If both happened to a
/// feature, the first is reported.
fn made_equal(Facts { samples, merged, .. }: &Facts<'_>) -> Vec<Warning> {
    let rows = samples.len();
    let is_many =
        |merged: &&Merged| merged.rows * MERGED_ROWS_PER > rows || merged.repeated * REPEATED_ROWS_PER > rows;
    let mut many: Vec<&Merged> = samples.merged().iter().chain(*merged).filter(is_many).collect();
    many.sort_by_key(|merged| merged.feature);
    many.dedup_by_key(|merged| merged.feature);
    let warning = |Merged { feature, rows, example: [one, other], .. }: &Merged| {
        let warning = Warning::new(WarningKind::ValuesMadeEqual, &samples.features()[*feature], *rows);
        warning.with_example(&format!("{one} and {other}"))
    };
    many.into_iter().map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The warnings about 40 rows of one feature, whose values and classes are these; every third row is held out.
    fn of(name: &str, value: impl Fn(usize) -> String, class: impl Fn(usize) -> String) -> Vec<Warning> {
        let rows: Vec<String> = (0..40).map(|row| format!("{},{}\n", value(row), class(row))).collect();
        let samples = Samples::from_csv(format!("{name},y\n{}", rows.concat()).as_bytes(), "y").unwrap();
        let arrangement = Arrangement::new(&[], &[], &samples).unwrap();
        let pairs = samples.targets().iter().step_by(3).map(|&class| (class, class));
        let hold_out = HoldOut::compare(arrangement.classes(), pairs);
        let merged_rows = match name {
            "merged" => vec![(5, 0)],
            "repeated" => vec![(2, 2)],
            "by chance" => vec![(4, 0)],
            _ => vec![],
        };
        let example = ["1", "2"].map(str::to_owned);
        let merged = |(rows, repeated)| Merged { feature: 0, rows, repeated, example: example.clone() };
        let merged = &merged_rows.into_iter().map(merged).collect::<Vec<_>>();
        let target = Some("y");
        warnings(&Facts { samples: &samples, arrangement: &arrangement, hold_out: &hold_out, merged, target })
    }

    fn two(row: usize) -> String {
        (row % 2).to_string()
    }

    #[track_caller]
    fn check(found: &[Warning], kind: WarningKind, name: &str, count: usize) {
        assert_eq!(found, [Warning::new(kind, name, count)]);
    }

    #[test]
    fn columns_that_look_like_ids_are_reported() {
        let scattered = |row: usize| ((row * 7919) % 1000).to_string();
        for name in ["id", "Unnamed: 0", "PassengerId", "customer_id", "ID", "x"] {
            let counted = of(name, |row| row.to_string(), two);
            check(&counted, WarningKind::LooksLikeAnId, name, 40);
        }
        check(&of("user_id", scattered, two), WarningKind::LooksLikeAnId, "user_id", 40);
        assert_eq!(of("x", scattered, two), []);
        assert_eq!(of("paid", scattered, two), []);
        assert_eq!(of("id", |row| (row / 2).to_string(), two), []);
        assert_eq!(of("id", |row| format!("{row}.5"), two), []);
    }

    #[test]
    fn a_target_of_many_numbers_looks_like_a_quantity() {
        let value = |row: usize| format!("{}", row % 7);
        let found = of("x", value, |row| (row + 100).to_string());
        assert!(found.contains(&Warning::new(WarningKind::LooksLikeAQuantity, "y", 40)), "{found:?}");
        let found = of("x", value, |row| format!("{}.5", row % 11));
        check(&found, WarningKind::LooksLikeAQuantity, "y", 11);
        assert_eq!(of("x", value, |row| format!("{}.5", row % 10)), []);
        assert_eq!(of("x", value, |row| (row % 13).to_string()), []);
        assert_eq!(of("x", value, |row| format!("a{}", row % 13)), []);
    }

    #[test]
    fn a_class_without_a_held_out_row_is_reported() {
        let fraud = |row: usize| if row == 1 { "fraud".to_owned() } else { format!("ok{}", row % 2) };
        check(&of("x", |row| (row % 5).to_string(), fraud), WarningKind::ClassNotJudged, "fraud", 1);
    }

    #[test]
    fn values_that_became_equal_are_reported() {
        let value = |row: usize| (row % 5).to_string();
        let warning =
            |name, rows| Warning::new(WarningKind::ValuesMadeEqual, name, rows).with_example("1 and 2");
        assert_eq!(of("merged", value, two), [warning("merged", 5)]);
        assert_eq!(of("repeated", value, two), [warning("repeated", 2)]);
        assert_eq!(of("by chance", value, two), []);
    }
}
