//! Finds different decimal numbers that are parsed as the same 64-bit float, such as times in nanoseconds or ids of 17 digits
//! and more.

use std::borrow::Cow;
use std::collections::HashMap;

/// Distinct decimal numbers of at most 15 significant digits are distinct floats (`DBL_DIG`), unless they are subnormal.
/// A shorter cell has at most that many digits.
const LONG_CELL: usize = 16;

/// A feature in which different values become equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The index of the feature.
    pub feature: usize,
    /// The number of rows whose value became equal to a different value.
    pub rows: usize,
    /// The number of these rows whose value occurs in another row, too. Repeated values are not measurements that are
    /// close by chance.
    pub repeated: usize,
    /// Two different values that became equal.
    pub example: [String; 2],
}

/// The cells of one column that were rounded when they were read, in the order of the rows.
#[derive(Default)]
pub(crate) struct RoundedCells<'a>(Vec<(usize, Cow<'a, str>)>);

impl<'a> RoundedCells<'a> {
    /// Adds the cell of `row`, which was rounded. Rows are counted from 0 and come in order.
    pub(crate) fn push(&mut self, row: usize, cell: Cow<'a, str>) {
        self.0.push((row, cell));
    }

    /// The rows of `feature` whose value became equal to a different value; `None` if there are none. `values` are the
    /// parsed numbers of all rows.
    pub(crate) fn merged(&self, feature: usize, values: impl Iterator<Item = f64>) -> Option<Merged> {
        let mut groups = self.groups(values);
        for group in &mut groups {
            group.sort_by_cached_key(|cell| Decimal::of(cell));
        }
        groups.retain(|group| {
            group.first().map(|cell| Decimal::of(cell)) < group.last().map(|cell| Decimal::of(cell))
        });
        let [first, .., last] = &groups.first()?[..] else { return None };
        let example = [first, last].map(|cell| cell.clone().into_owned());
        let same = |one: &Cow<'_, str>, other: &Cow<'_, str>| Decimal::of(one) == Decimal::of(other);
        let runs = groups.iter().flat_map(|group| group.chunk_by(same));
        let repeated = runs.map(<[_]>::len).filter(|&rows| rows > 1).sum();
        Some(Merged { feature, rows: groups.iter().map(Vec::len).sum(), repeated, example })
    }

    /// The cells that were read as the same number, for each number that some cell was rounded to.
    fn groups(&self, values: impl Iterator<Item = f64>) -> Vec<Vec<Cow<'a, str>>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let values: Vec<f64> = values.collect();
        let bits = |row: usize| (values[row] + 0.0).to_bits();
        let mut places = HashMap::new();
        for (row, _) in &self.0 {
            let next = places.len();
            places.entry(bits(*row)).or_insert(next);
        }
        let mut groups = vec![Vec::new(); places.len()];
        let mut rounded = self.0.iter().peekable();
        for (row, value) in values.iter().enumerate() {
            let Some(&place) = places.get(&bits(row)) else { continue };
            let cell = match rounded.next_if(|(rounded, _)| *rounded == row) {
                Some((_, cell)) => cell.clone(),
                None => Cow::Owned(shown(*value)),
            };
            groups[place].push(cell);
        }
        groups
    }
}

/// A number as text, with an exponent only if it would otherwise have many zeros.
pub(crate) fn shown(value: f64) -> String {
    if (1e-5..1e21).contains(&value.abs()) { value.to_string() } else { format!("{value:?}") }
}

/// Whether `cell` is not the shortest text of the float that it was read as. Two cells that are the shortest text of the
/// same float are the same number.
pub(crate) fn is_rounded(cell: &str, number: f64) -> bool {
    let is_exact = cell.len() < LONG_CELL && number.abs() >= f64::MIN_POSITIVE;
    if is_exact || !cell.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        return false;
    }
    Decimal::of(cell) != Decimal::of(&format!("{number:e}"))
}

/// A decimal number in normal form: all spellings of a number are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Decimal {
    is_negative: bool,
    /// The power of ten of the last digit.
    exponent: i64,
    /// The digits without zeros at the end, modulo 2^128, which matters beyond 38 digits only.
    digits: u128,
}

impl Decimal {
    /// The number that `text` stands for; it must be one that `f64` reads.
    fn of(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let mut exponent = exponent.parse::<i64>().unwrap_or(i64::MIN / 2);
        let (mut digits, mut zeros, mut is_fraction) = (0_u128, 0, false);
        for byte in mantissa.bytes() {
            if byte == b'.' {
                is_fraction = true;
            }
            if byte.is_ascii_digit() {
                exponent -= i64::from(is_fraction);
                zeros += 1;
            }
            if (b'1'..=b'9').contains(&byte) {
                (0..zeros).for_each(|_| digits = digits.wrapping_mul(10));
                digits = digits.wrapping_add(u128::from(byte - b'0'));
                zeros = 0;
            }
        }
        let exponent = if digits == 0 { 0 } else { exponent + zeros };
        Self { is_negative: mantissa.starts_with('-'), exponent, digits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::Samples;

    fn read(cells: &[String]) -> Vec<Merged> {
        let rows: Vec<String> =
            cells.iter().enumerate().map(|(row, cell)| format!("{row},{cell},c{}\n", row % 2)).collect();
        let table = format!("row,a,y\n{}", rows.concat());
        Samples::from_csv(table.as_bytes(), "y").unwrap().merged().to_vec()
    }

    #[test]
    fn times_in_nanoseconds_that_become_equal_are_found() {
        let cells: Vec<String> =
            (0..1000_u64).map(|row| (1_700_000_000_000_000_000 + 3 * row).to_string()).collect();
        let [Merged { feature: 1, rows: 1000, repeated: 0, example: [one, other] }] = &read(&cells)[..]
        else {
            panic!("{:?}", read(&cells))
        };
        assert_ne!(one, other);
        assert!(
            one.starts_with("17000000000000000") && other.starts_with("17000000000000000"),
            "{one} {other}"
        );
    }

    #[test]
    fn ids_of_17_to_19_digits_that_become_equal_are_found() {
        for digits in 17..20 {
            let first = 9 * 10_u64.pow(digits - 1);
            let cells: Vec<String> = (0..100).map(|row| (first + row).to_string()).collect();
            assert_eq!(read(&cells).first().map(|merged| merged.rows), Some(100), "{digits} digits");
        }
    }

    #[test]
    fn rows_with_the_same_text_are_repeated_and_other_rows_are_not_counted() {
        let cells =
            ["9007199254740992", "9007199254740993", "9007199254740993.0", "9007199254740994", "7", "7"];
        let example = ["9007199254740992", "9007199254740993.0"].map(str::to_owned);
        let expected = Merged { feature: 1, rows: 3, repeated: 2, example };
        assert_eq!(read(&cells.map(str::to_owned)), [expected]);
    }

    #[test]
    fn fractions_and_numbers_that_become_zero_are_found() {
        for cells in [["1700000000.1234567", "1700000000.1234568"], ["1e-400", "0"], ["5e-324", "4e-324"]] {
            assert_eq!(read(&cells.map(str::to_owned)).len(), 1, "{cells:?}");
        }
    }

    #[test]
    fn spellings_of_one_number_and_numbers_that_stay_apart_are_not_reported() {
        for cells in [
            ["0.1000000000000000000", "1e-1"],
            ["1700000000000000000", "1.7e18"],
            ["+100000000000000000000", "1.0000000000000000E20"],
            ["1.000000000000000056e-01", "1.000000000000000056e-01"],
            ["0.0000000000000000000", "-0.0000000000000000000"],
            ["9007199254740993", "9007199254740995"],
        ] {
            assert_eq!(read(&cells.map(str::to_owned)), [], "{cells:?}");
        }
    }
}
