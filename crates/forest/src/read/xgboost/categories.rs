//! The categories of the training table, which `XGBoost` keeps from version 3.1 on.

use crate::read::error::Problem;
use crate::read::xgboost::document::{Categories, Encoding};

/// The categories of each input in the order of their codes; nothing for a file without categories.
pub(super) fn all(categories: &Categories, inputs: usize) -> Result<Vec<Vec<String>>, Problem> {
    let found = categories.enc.len();
    if found != 0 && found != inputs {
        return Err(Problem::malformed(format!("`cats` must have {inputs} entries, got {found}")));
    }
    categories.enc.iter().map(names).collect()
}

/// The names of one input's categories. Names that are not ASCII give none: `XGBoost` 3.2 writes as many of their bytes as
/// they have characters, so they are cut.
fn names(encoding: &Encoding) -> Result<Vec<String>, Problem> {
    let Some(offsets) = &encoding.offsets else {
        return Ok(encoding.values.iter().map(f64::to_string).collect());
    };
    // Bytes are signed in JSON, so those of other characters are negative or above 127.
    let mut text = String::new();
    for byte in &encoding.values {
        let byte = u8::try_from(*byte as i64).ok().filter(u8::is_ascii);
        let Some(byte) = byte else { return Ok(Vec::new()) };
        text.push(char::from(byte));
    }
    let name = |bounds: &[usize]| {
        let name = text.get(bounds[0]..bounds[1]);
        name.map(str::to_owned)
            .ok_or_else(|| Problem::malformed("`cats` has offsets that are not the bounds of its texts"))
    };
    // Texts that overlap would need more memory than the file.
    if !offsets.is_sorted() {
        return Err(Problem::malformed("`cats` has offsets that decrease"));
    }
    offsets.windows(2).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(offsets: &[usize], values: &[f64]) -> Result<Vec<Vec<String>>, Problem> {
        let encoding = Encoding { offsets: Some(offsets.to_vec()), values: values.to_vec() };
        all(&Categories { enc: vec![encoding] }, 1)
    }

    #[test]
    fn names_are_cut_at_the_offsets() {
        assert_eq!(read(&[0, 2, 3], &[97.0, 98.0, 99.0]).unwrap(), [["ab", "c"]]);
        assert_eq!(read(&[], &[]).unwrap(), [[""; 0]]);
        for offsets in [[0, 4], [2, 1]] {
            assert!(matches!(read(&offsets, &[97.0, 98.0, 99.0]), Err(Problem::Malformed(_))), "{offsets:?}");
        }
    }

    #[test]
    fn names_that_the_library_cut_are_not_used() {
        assert_eq!(read(&[0, 2, 4], &[97.0, 98.0, -59.0, -127.0]).unwrap(), [[""; 0]]);
    }
}
