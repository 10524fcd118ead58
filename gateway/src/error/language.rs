//! Which of the two languages of an error a client would rather read.
//!
//! Comes in: `Accept-Language`. Goes out: French where it is preferred to English, else English. Never: a third.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

/// A language that the word for people, `error`, exists in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    French,
}

impl Language {
    /// The language that `headers` prefer. At equal weight the one named first is preferred.
    pub(crate) fn preferred(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let (mut english, mut french, mut any) = (None, None, None);
        for (place, (range, weight)) in lines.flat_map(|line| line.split(',')).filter_map(weighed).enumerate()
        {
            let primary = range.split('-').next().unwrap_or_default();
            let slot = match primary {
                "*" => &mut any,
                _ if primary.eq_ignore_ascii_case("fr") => &mut french,
                _ if primary.eq_ignore_ascii_case("en") => &mut english,
                _ => continue,
            };
            // More weight wins, then the earlier place, which is why places count down.
            *slot = (*slot).max(Some((weight, usize::MAX - place)));
        }
        // '*' stands for each language that is not named, and asks for none in particular.
        if french > english.or(any).filter(|&(weight, _)| weight > 0)
            && french.is_some_and(|(weight, _)| weight > 0)
        {
            Self::French
        } else {
            Self::English
        }
    }
}

/// `fr-CH;q=0.9` is the range `fr-CH` with a weight of 900 of 1000; without a weight it is 1000.
fn weighed(item: &str) -> Option<(&str, u16)> {
    let mut parts = item.split(';').map(str::trim);
    let range = parts.next().filter(|range| !range.is_empty())?;
    let Some(parameter) = parts.next() else {
        return Some((range, 1000));
    };
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    let thousandths = if part.len() <= 3 { format!("{whole}{part:0<3}").parse().ok()? } else { return None };
    (thousandths <= 1000).then_some((range, thousandths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::{English, French};

    #[track_caller]
    fn check(lines: &[&'static str], expected: Language) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_LANGUAGE, line.parse().unwrap());
        }
        assert_eq!(Language::preferred(&headers), expected, "{lines:?}");
    }

    #[test]
    fn french_is_spoken_to_who_prefers_it() {
        check(&["fr"], French);
        check(&["FR-ca"], French);
        check(&["fr-FR,fr;q=0.9,en;q=0.8"], French);
        check(&["de, fr;q=0.5"], French);
        check(&["de;q=0.9", "fr;q=0.4"], French);
        check(&["en;q=0.3, fr;q=0.301"], French);
        check(&["fr, en"], French);
        check(&["en;q=0, fr;q=0.1"], French);
    }

    #[test]
    fn english_is_spoken_to_everybody_else() {
        check(&[], English);
        check(&[""], English);
        check(&["en"], English);
        check(&["de"], English);
        check(&["*"], English);
        check(&["en, fr"], English);
        check(&["fr;q=0.5, en;q=0.6"], English);
        check(&["fr;q=0.5, *;q=0.8"], English);
        check(&["fr;q=0"], English);
        check(&["fry"], English);
        check(&["fr;q=x"], English);
        check(&["fr;q=2"], English);
        check(&["fr;q=0.1234"], English);
        check(&["fr;q=-1"], English);
        check(&[";;,,;q=1,fr;"], English);
    }
}
