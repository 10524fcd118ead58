//! Which of its two formats a scrape is answered in.
//!
//! Comes in: the headers of a request. Goes out: a choice. Never: `OpenMetrics` for somebody who did not name it, such
//! as a person with a browser or curl.

use http::HeaderMap;
use http::header::ACCEPT;

const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_VERSION: &str = "1.0.0";

/// Whether `OpenMetrics` is named, and is wanted at least as much as text.
pub(crate) fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let (mut openmetrics, mut text) = (0.0_f32, None);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let Range { kind, version, quality } = Range::read(range);
        // The more exactly a range names what it is about, the more it counts.
        let exactness = match kind.as_str() {
            OPENMETRICS if version.is_none_or(|version| version == OPENMETRICS_VERSION) => {
                openmetrics = openmetrics.max(quality);
                continue;
            }
            "text/plain" => 2,
            "text/*" => 1,
            "*/*" => 0,
            _ => continue,
        };
        if text.is_none_or(|(than, wanted)| exactness > than || (exactness == than && quality > wanted)) {
            text = Some((exactness, quality));
        }
    }
    openmetrics > 0.0 && openmetrics >= text.map_or(0.0, |(_, wanted)| wanted)
}

/// One entry of the header.
struct Range<'a> {
    kind: String,
    version: Option<&'a str>,
    quality: f32,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut range = Self { kind, version: None, quality: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            } else if name.eq_ignore_ascii_case("q") {
                // What is no such number is not wanted: the other format is always right.
                range.quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0);
            }
        }
        range
    }
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
    fn every_prometheus_gets_openmetrics() {
        // 2.42, and 3.x: with its defaults, where it would rather have protobuf, and where it is told to want text.
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
    fn who_does_not_name_it_or_wants_it_less_gets_text() {
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
}
