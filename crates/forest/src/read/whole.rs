//! Whole numbers that a file has as floats.

/// The number as an index or a count; `None` if it is negative, not whole, or beyond 64 bits.
#[expect(clippy::cast_sign_loss, reason = "negative numbers are excluded")]
pub(crate) fn whole(number: f64) -> Option<usize> {
    const MAX: f64 = 9e18;
    ((0.0..=MAX).contains(&number) && number.fract() <= 0.0).then_some(number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_from_zero_are_indices() {
        assert_eq!([0.0, -0.0, 7.0, 4e9].map(whole), [Some(0), Some(0), Some(7), Some(4_000_000_000)]);
        assert_eq!([-1.0, 0.5, f64::NAN, f64::INFINITY, 1e300].map(whole), [None; 5]);
    }
}
