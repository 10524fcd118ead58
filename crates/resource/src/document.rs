//! Parses YAML (or JSON) documents into JSON values, with the line of each field.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use crate::field_error::{entry, member};

/// One document.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The value. A field that is null is treated as absent, as the API server does.
    pub(crate) value: Value,
    lines: BTreeMap<String, u64>,
}

impl Document {
    /// The line of `field`, or of its nearest parent in the file.
    pub(crate) fn line(&self, field: &str) -> u64 {
        let mut field = field;
        loop {
            match (self.lines.get(field), field.rfind(['.', '['])) {
                (Some(line), _) => return *line,
                (None, Some(end)) => field = &field[..end],
                (None, None) => return self.lines.get("").copied().unwrap_or(1),
            }
        }
    }
}

/// More values than this no manifest has; aliases of aliases would.
const VALUES_MAX: usize = 50_000;

/// Reads all documents but the empty ones.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, serde_saphyr::Error> {
    let budget = serde_saphyr::budget! { max_nodes: VALUES_MAX };
    let options = serde_saphyr::options! { budget: budget, with_snippet: false };
    let nodes: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options)?;
    let documents = nodes.into_iter().map(|node| {
        let mut lines = BTreeMap::new();
        let value = unfold(node, "", &mut lines);
        Document { value, lines }
    });
    Ok(documents.filter(|document| !document.value.is_null()).collect())
}

type Node = Spanned<Shape>;

enum Shape {
    Scalar(Value),
    List(Vec<Node>),
    Object(Vec<(Spanned<String>, Node)>),
}

fn unfold(node: Node, field: &str, lines: &mut BTreeMap<String, u64>) -> Value {
    lines.entry(field.to_owned()).or_insert(node.referenced.line());
    match node.value {
        Shape::Scalar(value) => value,
        Shape::List(nodes) => {
            let values = nodes.into_iter().enumerate();
            values.map(|(index, node)| unfold(node, &entry(field, index), lines)).collect()
        }
        Shape::Object(members) => {
            let mut object = Map::new();
            for (name, node) in members {
                let below = member(field, &name.value);
                lines.insert(below.clone(), name.referenced.line());
                let value = unfold(node, &below, lines);
                if !value.is_null() {
                    object.insert(name.value, value);
                }
            }
            Value::Object(object)
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Shape::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Shape::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TWO: &str = "\
# a comment first
---
---
kind: A
spec:
  list:
  - name: x
    min: \"0.5\"
  - {name: z, max: 3}
  empty:
  text: |
    1,2
    3,4
---
[1, -2.5, true]
";

    #[test]
    fn every_field_of_every_document_has_its_line() {
        let documents = read(TWO).unwrap();
        let values: Vec<_> = documents.iter().map(|document| &document.value).collect();
        let list = json!([{"name": "x", "min": "0.5"}, {"name": "z", "max": 3}]);
        let first = json!({"kind": "A", "spec": {"list": list, "text": "1,2\n3,4\n"}});
        assert_eq!(values, [&first, &json!([1, -2.5, true])]);
        let lines = ["", "spec", "spec.list[0].min", "spec.list[1].max", "spec.text", "spec.list[1].min.x"];
        assert_eq!(lines.map(|field| documents[0].line(field)), [4, 5, 8, 9, 11, 9]);
    }

    #[test]
    fn malformed_yaml_is_reported_with_its_line() {
        for (text, line) in
            [("a: 1\nb: [1\n", "line 2"), ("a: 1\na: 2\n", "line 2"), ("a:\n\t- b\n", "line 2")]
        {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(line), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            let list = alias.trim_end_matches(", ");
            text = format!("{text}a{level}: &a{level} [{list}]\n");
        }
        assert!(read(&text).is_err());
    }
}
