//! Rules for dashboards: each panel has a description, and queries metrics that exist. `cargo xtask check` compares dashboards
//! with Grafana's own types.

use std::collections::BTreeSet;

use serde_json::Value;

/// The data source of every panel.
const DATA_SOURCE: &str = "${datasource}";
/// Keywords and operators of queries.
const WORDS: [&str; 18] = [
    "and",
    "avg",
    "bool",
    "bottomk",
    "count",
    "count_values",
    "group",
    "inf",
    "max",
    "min",
    "nan",
    "offset",
    "or",
    "quantile",
    "sum",
    "topk",
    "unless",
    "stddev",
];
/// Keywords before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Returns all breaches in the dashboard `name`, which must have these variables and may query these metrics.
pub(crate) fn breaches(
    name: &str,
    dashboard: &Value,
    variables: &[&str],
    known: &BTreeSet<String>,
) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut breach = |is: bool, what: String| {
        if is {
            breaches.push(format!("{name}.json: {what}"));
        }
    };
    breach(dashboard["uid"] != format!("canopy-{name}"), format!("has the uid {}", dashboard["uid"]));
    let list = items(&dashboard["templating"]["list"]);
    let found: Vec<_> = list.iter().map(|variable| word(&variable["name"])).collect();
    breach(found != variables, format!("has the variables {found:?}, not {variables:?}"));
    for variable in list {
        let query = word(&variable["query"]["query"]);
        for metric in metrics(query).difference(known) {
            breach(true, format!("the variable {} is of {metric}, which nothing exports", variable["name"]));
        }
    }
    let mut ids = BTreeSet::new();
    for panel in panels(dashboard) {
        let title = word(&panel["title"]);
        breach(!ids.insert(panel["id"].to_string()), format!("has two panels with the id {}", panel["id"]));
        breach(title.is_empty(), format!("panel {} has no title", panel["id"]));
        if panel["type"] == "row" {
            continue;
        }
        for (what, said) in
            [("description", &panel["description"]), ("unit", &panel["fieldConfig"]["defaults"]["unit"])]
        {
            breach(word(said).is_empty(), format!("{title:?} has no {what}"));
        }
        breach(panel["datasource"]["uid"] != DATA_SOURCE, format!("{title:?} does not query {DATA_SOURCE}"));
        let queries = queries(panel);
        breach(queries.is_empty(), format!("{title:?} has no query"));
        for query in queries {
            let asked = metrics(query);
            breach(asked.is_empty(), format!("{title:?} queries no metric: {query}"));
            for metric in asked.difference(known) {
                breach(true, format!("{title:?} queries {metric}, which nothing exports"));
            }
        }
    }
    breaches
}

/// The metrics that a dashboard queries.
pub(crate) fn asked_for(dashboard: &Value) -> BTreeSet<String> {
    panels(dashboard).into_iter().flat_map(queries).flat_map(metrics).collect()
}

/// All panels, including those inside rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let outer = items(&dashboard["panels"]);
    outer.iter().flat_map(|panel| std::iter::once(panel).chain(items(&panel["panels"]))).collect()
}

fn queries(panel: &Value) -> Vec<&str> {
    items(&panel["targets"]).iter().map(|target| word(&target["expr"])).collect()
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The names of the metrics that a query selects: its words without functions, operators and labels.
fn metrics(query: &str) -> BTreeSet<String> {
    // The last argument of Grafana's function `label_values` is a label.
    let query = query
        .strip_prefix("label_values(")
        .and_then(|inner| inner.rsplit_once(','))
        .map_or(query, |(selector, _)| selector);
    let mut found = BTreeSet::new();
    let mut tokens = tokens(query).into_iter().peekable();
    while let Some(token) = tokens.next() {
        let opens = tokens.peek() == Some(&"(");
        if opens && BEFORE_LABELS.contains(&token) {
            tokens.find(|token| *token == ")");
        } else if !opens
            && token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && !WORDS.contains(&token)
            && !BEFORE_LABELS.contains(&token)
        {
            found.insert(token.to_owned());
        }
    }
    found
}

/// The words and punctuation of a query outside quotes, braces and brackets.
fn tokens(query: &str) -> Vec<&str> {
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || "_:$.".contains(c);
    let mut found = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c| !is_in_word(c)).unwrap_or(rest.len());
        let length = match first {
            '"' | '\'' | '`' => quoted(rest),
            '{' => closed(rest, '}'),
            '[' => closed(rest, ']'),
            _ if word > 0 => word,
            sign => sign.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        found.push(token);
        rest = after.trim_start();
    }
    found
}

/// The length of the string literal at the start of `text`.
fn quoted(text: &str) -> usize {
    let mark = text.chars().next();
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if Some(c) == mark {
            return at + c.len_utf8();
        } else {
            is_escaped = c == '\\' && mark != Some('`');
        }
    }
    text.len()
}

/// The length of `text` up to and including the first `end` outside string literals.
fn closed(text: &str, end: char) -> usize {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        at += if "\"'`".contains(c) { quoted(&text[at..]) } else { c.len_utf8() };
        if c == end {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_metrics_of_a_query_are_found() {
        let check = |query: &str, expected: &[&str]| {
            assert_eq!(metrics(query).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{query}");
        };
        check("a_total", &["a_total"]);
        check(
            "topk(20, sum by (b, c) (rate(a_total{x=\"}d\", y=~'e[1]'}[$__rate_interval])) / 0.001)",
            &["a_total"],
        );
        check("rate(a:b:rate5m[5m]) and on (job) c{d=\"e\"} or vector(0) > bool 1e3", &["a:b:rate5m", "c"]);
        check("a * on (job, instance) group_left (process) b offset 5m", &["a", "b"]);
        check("a * on (job) group_left b", &["a", "b"]);
        check("label_values(a{b=\"c,d\"}, model)", &["a"]);
        check("a{b=\"\\\"c\"} unless d{e=`\\`}", &["a", "d"]);
        check("vector(1)", &[]);
    }

    fn dashboard() -> Value {
        json!({
            "uid": "canopy-a",
            "templating": {"list": [
                {"name": "datasource", "query": "prometheus"},
                {"name": "model", "query": {"query": "label_values(up, model)"}},
            ]},
            "panels": [
                {"id": 1, "type": "row", "title": "Row", "panels": [panel(2)]},
                panel(3),
            ],
        })
    }

    fn panel(id: u32) -> Value {
        json!({
            "id": id, "type": "stat", "title": "Title", "description": "Description.",
            "datasource": {"uid": DATA_SOURCE},
            "fieldConfig": {"defaults": {"unit": "s"}},
            "targets": [{"expr": "sum(up)"}],
        })
    }

    #[test]
    fn each_breach_is_reported() {
        let check = |change: fn(&mut Value), expected: &[&str]| {
            let mut dashboard = dashboard();
            change(&mut dashboard);
            let found = breaches("a", &dashboard, &["datasource", "model"], &["up".to_owned()].into());
            assert_eq!(found, expected);
        };
        check(|_| (), &[]);
        check(|d| d["uid"] = "b".into(), &["a.json: has the uid \"b\""]);
        check(
            |d| d["templating"]["list"][0]["name"] = "ds".into(),
            &["a.json: has the variables [\"ds\", \"model\"], not [\"datasource\", \"model\"]"],
        );
        check(
            |d| d["templating"]["list"][1]["query"]["query"] = "label_values(down, model)".into(),
            &["a.json: the variable \"model\" is of down, which nothing exports"],
        );
        check(|d| d["panels"][1]["id"] = 1.into(), &["a.json: has two panels with the id 1"]);
        check(|d| d["panels"][0]["title"] = Value::Null, &["a.json: panel 1 has no title"]);
        check(|d| d["panels"][1]["title"] = "".into(), &["a.json: panel 3 has no title"]);
        check(|d| d["panels"][1]["description"] = Value::Null, &["a.json: \"Title\" has no description"]);
        check(
            |d| d["panels"][0]["panels"][0]["fieldConfig"]["defaults"]["unit"] = Value::Null,
            &["a.json: \"Title\" has no unit"],
        );
        check(
            |d| d["panels"][1]["datasource"]["uid"] = "prom".into(),
            &["a.json: \"Title\" does not query ${datasource}"],
        );
        check(|d| d["panels"][1]["targets"] = json!([]), &["a.json: \"Title\" has no query"]);
        check(
            |d| d["panels"][1]["targets"][0]["expr"] = "vector(1)".into(),
            &["a.json: \"Title\" queries no metric: vector(1)"],
        );
        check(
            |d| d["panels"][0]["panels"][0]["targets"][0]["expr"] = "up + down".into(),
            &["a.json: \"Title\" queries down, which nothing exports"],
        );
    }
}
