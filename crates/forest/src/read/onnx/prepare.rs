//! The operators in front of a model: scaling, imputing, encoding and choosing of columns.

use std::sync::Arc;

use crate::ensemble::precision::Precision;
use crate::read::columns::{Change, Norm, Table};
use crate::read::error::Problem;
use crate::read::onnx::messages::{Node, kind, utf8};
use crate::read::onnx::table::{Columns, Element, Preparation};
use crate::read::whole::whole;

const SINGLE: Element = Element::Number(Precision::Single);
const DOUBLE: Element = Element::Number(Precision::Double);

/// `(value - offset) * scale`, with one offset and scale for all columns or for each.
pub(crate) fn scaler(node: &Node<'_>, from: &Columns, to: &mut Preparation) -> Result<Columns, Problem> {
    let (offsets, scales) = (node.floats("offset")?, node.floats("scale")?);
    let width = from.columns.len();
    let offsets = per_column("offset", &offsets, width)?;
    let scales = per_column("scale", &scales, width)?;
    let precision = Precision::Single;
    to.changed(from, SINGLE, |index, column| {
        let (offset, scale) = (offsets(index), scales(index));
        column.then(Change::Round).then(Change::Scale { offset, scale, precision })
    })
}

/// Arithmetic with a constant: one number for all columns or for each.
pub(crate) fn arithmetic(
    operator: &str,
    constant: &[f64],
    from: &Columns,
    to: &mut Preparation,
) -> Result<Columns, Problem> {
    let constant = per_column("constant", constant, from.columns.len())?;
    let Element::Number(precision) = from.element else {
        return Err(Problem::malformed("it is applied to texts"));
    };
    to.changed(from, from.element, |index, column| {
        let number = constant(index);
        column.then(match operator {
            "Add" => Change::Scale { offset: -number, scale: 1.0, precision },
            "Sub" => Change::Scale { offset: number, scale: 1.0, precision },
            "Mul" => Change::Scale { offset: 0.0, scale: number, precision },
            _ => Change::Divide { divisor: number, precision },
        })
    })
}

/// Replaces one value, which may be NaN, by a number for all columns or for each.
pub(crate) fn imputer(node: &Node<'_>, from: &Columns, to: &mut Preparation) -> Result<Columns, Problem> {
    let floats = node.floats("imputed_value_floats")?;
    let (with, replaced) = if floats.is_empty() {
        let ints = node.ints("imputed_value_int64s").iter().map(|value| *value as f64).collect();
        (ints, node.int("replaced_value_int64").unwrap_or(0) as f64)
    } else {
        let replaced = node.attribute("replaced_value_float").and_then(|attribute| attribute.float);
        (floats, f64::from(replaced.unwrap_or(0.0)))
    };
    let with = per_column("imputed_value", &with, from.columns.len())?;
    to.changed(from, from.element, |index, column| {
        column.then(Change::Replace { value: replaced, with: with(index) })
    })
}

/// Divides rows by their norm.
pub(crate) fn normalizer(node: &Node<'_>, from: &Columns, to: &mut Preparation) -> Result<Columns, Problem> {
    to.normalized(from, norm(node)?)
}

/// The norm of a node.
pub(crate) fn norm(node: &Node<'_>) -> Result<Norm, Problem> {
    match node.text("norm")?.unwrap_or("MAX") {
        "MAX" => Ok(Norm::Max),
        "L1" => Ok(Norm::L1),
        "L2" => Ok(Norm::L2),
        _ => Err(Problem::malformed("the norm is not MAX, L1 or L2")),
    }
}

/// One column per category, which is 1 for values of the category.
pub(crate) fn one_hot(node: &Node<'_>, from: &Columns, to: &mut Preparation) -> Result<Columns, Problem> {
    let (texts, ints) = (node.texts("cats_strings"), node.ints("cats_int64s"));
    let categories = if from.element == Element::Text { texts.len() } else { ints.len() };
    for column in &from.columns {
        to.spend((column.cost() + 2).saturating_mul(categories))?;
    }
    let mut columns = Vec::new();
    for column in &from.columns {
        if from.element == Element::Text {
            for text in texts {
                let category = to.category(column, utf8(text)?);
                columns.push(column.clone().then(Change::Is(category)));
            }
        } else {
            let column = column.clone().then(Change::Truncate);
            columns.extend(ints.iter().map(|category| column.clone().then(Change::Is(*category as f64))));
        }
    }
    if columns.is_empty() {
        return Err(Problem::malformed("there are no categories of the type of its input"));
    }
    to.derived(from, columns, SINGLE)
}

/// A number for each category.
pub(crate) fn label_encoder(
    node: &Node<'_>,
    from: &Columns,
    to: &mut Preparation,
) -> Result<Columns, Problem> {
    let texts = node.texts("keys_strings");
    let numbers = if node.ints("keys_int64s").is_empty() {
        node.floats("keys_floats")?
    } else {
        node.ints("keys_int64s").iter().map(|key| *key as f64).collect()
    };
    let ints = node.ints("values_int64s");
    let (values, default) = if ints.is_empty() {
        let default = node.attribute("default_float").and_then(|attribute| attribute.float);
        (node.floats("values_floats")?, f64::from(default.unwrap_or(-0.0)))
    } else {
        let default = node.int("default_int64").unwrap_or(-1);
        (ints.iter().map(|value| *value as f64).collect(), default as f64)
    };
    let keys = if from.element == Element::Text { texts.len() } else { numbers.len() };
    if keys == 0 || keys != values.len() {
        return Err(Problem::unsupported(
            format!("an encoder of {keys} keys and {} numbers", values.len()),
            "encode texts or numbers as numbers",
        ));
    }
    let element = if ints.is_empty() { SINGLE } else { DOUBLE };
    encoded(from, to, (texts, &numbers, &values, default), element)
}

/// The index of each category of texts.
pub(crate) fn category_mapper(
    node: &Node<'_>,
    from: &Columns,
    to: &mut Preparation,
) -> Result<Columns, Problem> {
    let (texts, ints) = (node.texts("cats_strings"), node.ints("cats_int64s"));
    if from.element != Element::Text || texts.len() != ints.len() {
        return Err(Problem::unsupported("a CategoryMapper of numbers", "encode texts as numbers"));
    }
    let values: Vec<_> = ints.iter().map(|value| *value as f64).collect();
    let default = node.int("default_int64").unwrap_or(-1) as f64;
    encoded(from, to, (texts, &[], &values, default), DOUBLE)
}

fn encoded(
    from: &Columns,
    to: &mut Preparation,
    (texts, numbers, values, default): (&[&[u8]], &[f64], &[f64], f64),
    element: Element,
) -> Result<Columns, Problem> {
    let mut columns = Vec::new();
    for column in &from.columns {
        to.spend(column.cost() + 1 + values.len())?;
        let keys = if from.element == Element::Text {
            let keys = texts.iter().map(|text| Ok(to.category(column, utf8(text)?)));
            keys.collect::<Result<_, Problem>>()?
        } else {
            numbers.to_vec()
        };
        let table = Table::new(keys.into_iter().zip(values.iter().copied()), default);
        columns.push(column.clone().then(Change::Map(Arc::new(table))));
    }
    to.derived(from, columns, element)
}

/// 1 for values above a threshold, otherwise 0.
pub(crate) fn binarizer(node: &Node<'_>, from: &Columns, to: &mut Preparation) -> Result<Columns, Problem> {
    let threshold = node.attribute("threshold").and_then(|attribute| attribute.float).unwrap_or(0.0);
    to.changed(from, from.element, |_, column| column.then(Change::Above(f64::from(threshold))))
}

/// Numbers as another type.
pub(crate) fn cast(node: &Node<'_>, from: &Columns, to: &mut Preparation) -> Result<Columns, Problem> {
    let target = node.int("to").unwrap_or_default();
    match (from.element, target) {
        (Element::Text, kind::TEXT) => Ok(from.clone()),
        (Element::Number(_), kind::FLOAT) => to.changed(from, SINGLE, |_, column| column.then(Change::Round)),
        (Element::Number(_), kind::DOUBLE) => to.changed(from, DOUBLE, |_, column| column),
        (Element::Number(_), kind::INT64 | kind::INT32) => {
            to.changed(from, DOUBLE, |_, column| column.then(Change::Truncate))
        }
        _ => Err(Problem::unsupported(
            format!("a cast to element type {target}"),
            "cast numbers to float, double, int32 or int64",
        )),
    }
}

/// The columns with these indices.
pub(crate) fn chosen(indices: &[f64], from: &Columns, to: &mut Preparation) -> Result<Columns, Problem> {
    let width = from.columns.len() as f64;
    let column = |index: &f64| {
        let index = if *index < 0.0 { index + width } else { *index };
        whole(index)
            .and_then(|index| from.columns.get(index))
            .ok_or_else(|| Problem::malformed(format!("column {index} is chosen of {width} columns")))
    };
    let columns = indices.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    to.spend(columns.iter().map(|column| column.cost()).fold(0, usize::saturating_add))?;
    let columns = columns.into_iter().cloned().collect();
    to.derived(from, columns, from.element)
}

/// The number for a column: the only one, or that at its index.
fn per_column<'a>(
    name: &str,
    numbers: &'a [f64],
    width: usize,
) -> Result<impl Fn(usize) -> f64 + use<'a>, Problem> {
    if numbers.len() != 1 && numbers.len() != width {
        let found = numbers.len();
        return Err(Problem::malformed(format!("{name} has {found} numbers for {width} columns")));
    }
    Ok(move |index: usize| numbers[if numbers.len() == 1 { 0 } else { index }])
}
