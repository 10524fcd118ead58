//! Synthetic samples for a first model without data. They are the same on every machine.

use crate::data::error::DataError;
use crate::data::samples::{ClassNames, ROWS_MAX, Samples};
use crate::data::seen::Seen;
use crate::rng::{Purpose, SeededRng};

impl Samples {
    /// `rows` rows of `features` standard normal values, named `x0` on, with class 1 where `x0 + x1 > 0`
    /// and class 0 elsewhere.
    pub fn synthetic(rows: usize, features: usize, seed: u64) -> Result<Self, DataError> {
        match rows {
            0 => return Err(DataError::NoRows),
            1..=ROWS_MAX => {}
            _ => return Err(DataError::TooManyRows),
        }
        if features < 2 {
            return Err(DataError::TooFewFeatures { found: features });
        }
        let mut random = SeededRng::new(seed, Purpose::Synthetic);
        let mut values = Vec::new();
        let mut targets = Vec::with_capacity(rows);
        for _ in 0..rows {
            let start = values.len();
            values.extend((0..features).map(|_| random.normal()));
            targets.push(usize::from(values[start] + values[start + 1] > 0.0));
        }
        if targets.iter().all(|&class| class == targets[0]) {
            return Err(DataError::OneClass { class: Seen::new(&targets[0].to_string()) });
        }
        let names = (0..features).map(|feature| format!("x{feature}")).collect();
        Ok(Self { features: names, values, targets, classes: ClassNames::Unnamed(2), merged: vec![] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_class_1_where_its_first_two_values_sum_to_more_than_0() {
        let samples = Samples::synthetic(1000, 4, 42).unwrap();
        assert_eq!(samples.features(), ["x0", "x1", "x2", "x3"]);
        assert_eq!((samples.len(), samples.classes()), (1000, &ClassNames::Unnamed(2)));
        for (row, &class) in samples.rows().zip(samples.targets()) {
            assert_eq!(class == 1, row[0] + row[1] > 0.0, "{row:?}");
        }
        let ones = samples.targets().iter().sum::<usize>();
        assert!((400..600).contains(&ones), "{ones} of 1000 rows have class 1");
    }

    #[test]
    fn a_seed_decides_every_value() {
        let samples = Samples::synthetic(50, 3, 7).unwrap();
        assert_eq!(samples, Samples::synthetic(50, 3, 7).unwrap());
        assert_ne!(samples, Samples::synthetic(50, 3, 8).unwrap());
    }

    #[test]
    fn impossible_numbers_of_rows_and_features_are_refused() {
        let error = |rows, features| Samples::synthetic(rows, features, 1).unwrap_err();
        assert_eq!(error(0, 4), DataError::NoRows);
        assert_eq!(error(10, 1), DataError::TooFewFeatures { found: 1 });
        assert_eq!(error(usize::MAX, 4), DataError::TooManyRows);
        assert!(matches!(error(1, 4), DataError::OneClass { .. }));
    }
}
