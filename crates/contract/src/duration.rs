//! Parses durations in flags and environment variables, the same way in every process.
//!
//! Libraries for durations require a unit; Canopy's flags also take plain seconds such as `30` and `0.5`.

use std::time::Duration;

/// The default drain of a predictor in seconds: how long it accepts connections after SIGTERM. The operator derives the
/// grace period of pods from it.
pub const PREDICTOR_DRAIN_SECONDS: u32 = 15;
/// How many seconds requests in flight of a predictor may take after the drain.
pub const PREDICTOR_GRACE_SECONDS: u32 = 30;

/// Parses `30`, `0.5`, `500ms`, `30s` or `2m`, in seconds without a unit; from a millisecond to a day.
pub fn parse(text: &str) -> Result<Duration, String> {
    let found = read(text)?;
    let is_long = Duration::from_millis(1) <= found;
    is_long.then_some(found).ok_or_else(|| "must be from 1ms to 24 hours".to_owned())
}

/// Like [`parse`], or 0.
pub fn parse_from_zero(text: &str) -> Result<Duration, String> {
    let found = read(text)?;
    if found.is_zero() { Ok(found) } else { parse(text) }
}

fn read(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_per_unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err("must be a number of seconds, or one with the unit ms, s or m, as in 30s".to_owned()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| "must begin with a number, as in 30s".to_owned())?;
    Duration::try_from_secs_f64(number * seconds_per_unit)
        .ok()
        .filter(|found| *found <= Duration::from_hours(24))
        .ok_or_else(|| "must be from 1ms to 24 hours".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_without_a_unit_is_in_seconds() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("0.5", 500),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1440m", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse_from_zero("1.5s"), parse("1.5s"));
        for text in ["0", "0s", "0ms"] {
            assert_eq!(parse_from_zero(text), Ok(Duration::ZERO), "{text}");
        }
        assert!(["0.1ms", "-1", "s"].iter().all(|text| parse_from_zero(text).is_err()));
        for text in ["", "s", "-1", "0", "30x", "inf", "NaN", "1e99", "2d", "1441m", "0.1ms"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
