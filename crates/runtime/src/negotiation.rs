//! Content negotiation: lists of choices with weights, as in `Accept` and `Accept-Language` (RFC 9110, 12.4.2).

use http::HeaderMap;
use http::header::{ACCEPT, AsHeaderName};

const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_VERSION: &str = "1.0.0";
/// The weight of a choice without a weight.
const WEIGHT_MAX: u16 = 1000;

/// One choice of such a list.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The choice as it was sent: `fr-CH`, `text/plain`.
    pub value: &'a str,
    /// The preference, from 0 (not acceptable) to 1000.
    pub weight: u16,
    parameters: &'a str,
}

/// The choices of all headers `name`, in their order. If its weight cannot be parsed, a choice has the weight 0.
pub fn choices(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = Choice<'_>> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(Choice::parse)
}

impl<'a> Choice<'a> {
    fn parse(item: &'a str) -> Option<Self> {
        let (value, parameters) = item.split_once(';').unwrap_or((item, ""));
        let value = Some(value.trim()).filter(|value| !value.is_empty())?;
        let choice = Self { value, weight: WEIGHT_MAX, parameters };
        let weight = choice.parameter("q").map_or(WEIGHT_MAX, |text| weight(text).unwrap_or(0));
        Some(Self { weight, ..choice })
    }

    /// The parameter `name`, without quotation marks.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut parameters = self.parameters.split(';').filter_map(|part| part.split_once('='));
        let (_, value) = parameters.find(|(of, _)| of.trim().eq_ignore_ascii_case(name))?;
        Some(value.trim().trim_matches('"'))
    }
}

/// Thousandths of a weight between 0 and 1 with at most three decimals.
fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = matches!(whole, "0" | "1") && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = (is_number && decimals.len() <= 3).then(|| format!("{whole}{decimals:0<3}"))?;
    thousandths.parse().ok().filter(|weight| *weight <= WEIGHT_MAX)
}

/// Whether a scrape names `OpenMetrics` 1.0 and prefers it, or weighs it like text. A client that does not name it, such
/// as a browser or curl, gets text.
pub(crate) fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let (mut openmetrics, mut text) = (0, None);
    for choice in choices(headers, ACCEPT) {
        let value = choice.value.to_ascii_lowercase();
        // A more specific range takes precedence.
        let specificity = match value.as_str() {
            OPENMETRICS if choice.parameter("version").is_none_or(|of| of == OPENMETRICS_VERSION) => {
                openmetrics = openmetrics.max(choice.weight);
                continue;
            }
            "text/plain" => 2,
            "text/*" => 1,
            "*/*" => 0,
            _ => continue,
        };
        text = text.max(Some((specificity, choice.weight)));
    }
    openmetrics > 0 && openmetrics >= text.map_or(0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[track_caller]
    fn check(accept: &[&'static str], expected: bool) {
        let pairs = accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value)));
        assert_eq!(prefers_openmetrics(&pairs.collect()), expected, "{accept:?}");
    }

    #[test]
    fn every_version_of_prometheus_gets_openmetrics() {
        // 2.42, and 3.x: with its defaults, where it prefers protobuf, and where it is configured to prefer text.
        check(
            &[
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
            true,
        );
        check(
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
            true,
        );
        check(
            &[
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ],
            true,
        );
        check(&["text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5"], false);
    }

    #[test]
    fn a_client_that_does_not_name_openmetrics_or_prefers_text_gets_text() {
        check(&[], false);
        check(&["*/*"], false);
        check(&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], false);
        check(&["application/openmetrics-text;version=0.0.1"], false);
        check(&["application/openmetrics-text;q=0"], false);
        check(&["application/openmetrics-text; q=much"], false);
        check(&["text/plain;q=0.9, application/openmetrics-text;q=0.1"], false);
        check(&["*/*, application/openmetrics-text;q=0.1, text/*;q=0.2"], false);
    }

    #[test]
    fn spaces_case_quotes_and_several_headers_are_read() {
        check(&["Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.5 , text/plain ; q=0.4"], true);
        check(&["text/plain;q=0.5", "application/openmetrics-text"], true);
        check(&["*/*, application/openmetrics-text;q=0.3, text/*;q=0.2"], true);
        check(&["application/openmetrics-text"], true);
    }

    #[test]
    fn choices_have_their_weights_and_a_malformed_weight_is_zero() {
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("a, b;q=0.5 ;x=1;;, ,;q=1, c; Q=1.000, d;q=2, e;q=-1, f;q=0.1234"),
        );
        headers.append(ACCEPT, HeaderValue::from_static("g;q=1.001,h;q=+1,i;q=\"0.3\",j;q=.5"));
        let all: Vec<_> = choices(&headers, ACCEPT).map(|choice| (choice.value, choice.weight)).collect();
        let first = [("a", 1000), ("b", 500), ("c", 1000), ("d", 0), ("e", 0), ("f", 0)];
        assert_eq!(all, [&first[..], &[("g", 0), ("h", 0), ("i", 300), ("j", 0)]].concat());
    }
}
