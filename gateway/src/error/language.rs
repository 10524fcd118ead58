//! The language of an error's text, by `Accept-Language`: French where it is preferred to English, else English.

use canopy_runtime::negotiation::choices;
use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

/// A language of the member `error` of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    French,
}

impl Language {
    /// The language that `headers` prefer. At equal weight the one named first is preferred.
    pub(crate) fn preferred(headers: &HeaderMap) -> Self {
        let (mut english, mut french, mut any) = (None, None, None);
        for (place, choice) in choices(headers, ACCEPT_LANGUAGE).enumerate() {
            let primary = choice.value.split('-').next().unwrap_or_default();
            let slot = match primary {
                "*" => &mut any,
                _ if primary.eq_ignore_ascii_case("fr") => &mut french,
                _ if primary.eq_ignore_ascii_case("en") => &mut english,
                _ => continue,
            };
            // The higher weight wins, then the earlier place, so places count down.
            *slot = (*slot).max(Some((choice.weight, usize::MAX - place)));
        }
        // '*' stands for every language that is not named, English included; it is no preference for French.
        if french > english.or(any).filter(|&(weight, _)| weight > 0)
            && french.is_some_and(|(weight, _)| weight > 0)
        {
            Self::French
        } else {
            Self::English
        }
    }
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
    fn clients_that_prefer_french_get_french() {
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
    fn other_clients_get_english() {
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
        check(&[";;,,;q=1"], English);
    }
}
