//! The header of a `LightGBM` file: inputs, outputs and the objective.

use serde::Deserialize;

use crate::ensemble::form::{INPUTS_MAX, OUTPUTS_MAX};
use crate::read::error::{Limits, Problem};
use crate::read::lightgbm::objective;
use crate::read::lightgbm::sections::{Section, start};
use crate::read::model::{Input, InputKind, Link, Output};

/// What the header of a file has.
pub(super) struct Header {
    pub(super) inputs: Vec<Input>,
    /// The number of scores, which is the number of trees in a round of boosting.
    pub(super) outputs: usize,
    /// Whether scores are the average over the rounds: random forests.
    pub(super) is_average: bool,
    pub(super) link: Link,
    pub(super) output: Output,
    /// The number of trees that the header lists.
    trees: Option<usize>,
}

/// A category of a pandas column.
#[derive(Deserialize)]
#[serde(untagged)]
enum Category {
    Text(String),
    Number(serde_json::Number),
    Truth(bool),
}

impl Header {
    pub(super) fn read(section: &Section<'_>, pandas: &str) -> Result<Self, Problem> {
        let version = section.text("version")?;
        if !["v3", "v4"].contains(&version) {
            let what = format!("version `{}` of the format", start(version));
            return Err(Problem::unsupported(what, "save the model with LightGBM 3.3 or 4"));
        }
        let outputs = section.number("num_tree_per_iteration")?;
        if outputs == 0 {
            return Err(Problem::malformed("`num_tree_per_iteration` must be at least 1, got 0"));
        }
        Limits::check("outputs", outputs, OUTPUTS_MAX)?;
        let (link, output) = objective::link(section.optional("objective"), outputs)?;
        let trees = section.optional("tree_sizes").map(|sizes| sizes.split_ascii_whitespace().count());
        let is_average = section.has("average_output");
        Ok(Self { inputs: inputs(section, pandas)?, outputs, is_average, link, output, trees })
    }

    /// Refuses a number of trees that the header does not have.
    pub(super) fn check_trees(&self, found: usize) -> Result<(), Problem> {
        match self.trees {
            Some(listed) if listed != found => {
                Err(Problem::malformed(format!("it lists {listed} trees, but the file has {found}")))
            }
            _ if !found.is_multiple_of(self.outputs) => Err(Problem::malformed(format!(
                "{found} trees are not whole rounds of {} trees each",
                self.outputs
            ))),
            _ => Ok(()),
        }
    }
}

fn inputs(section: &Section<'_>, pandas: &str) -> Result<Vec<Input>, Problem> {
    let last: usize = section.number("max_feature_idx")?;
    let count = last.saturating_add(1);
    Limits::check("inputs", count, INPUTS_MAX)?;
    let names: Vec<_> = section.text("feature_names")?.split_ascii_whitespace().collect();
    let infos: Vec<_> = section.text("feature_infos")?.split_ascii_whitespace().collect();
    for (what, found) in [("feature_names", names.len()), ("feature_infos", infos.len())] {
        if found != count {
            return Err(Problem::malformed(format!("`{what}` must have {count} entries, got {found}")));
        }
    }
    // LightGBM makes these names itself where it has none.
    let is_named = names.iter().enumerate().any(|(index, name)| *name != format!("Column_{index}"));
    // A range is `[0:1]`, categories are `1:2:3`, and a feature with one value is `none`.
    let is_category = |info: &str| !info.starts_with('[') && info != "none";
    let mut categories =
        categories(pandas, infos.iter().filter(|info| is_category(info)).count())?.into_iter();
    let input = |(name, info): (&str, &str)| Input {
        name: is_named.then(|| name.to_owned()),
        kind: if is_category(info) {
            InputKind::Categorical { categories: categories.next().unwrap_or_default() }
        } else {
            InputKind::Numeric
        },
    };
    Ok(names.into_iter().zip(infos).map(input).collect())
}

/// The categories of each categorical feature, in order. The file has them if the model was trained on a pandas table.
fn categories(pandas: &str, features: usize) -> Result<Vec<Vec<String>>, Problem> {
    if pandas.is_empty() {
        return Ok(Vec::new());
    }
    let columns: Option<Vec<Vec<Category>>> = serde_json::from_str(pandas)
        .map_err(|error| Problem::malformed(format!("`pandas_categorical` cannot be read: {error}")))?;
    let columns = columns.unwrap_or_default();
    if !columns.is_empty() && columns.len() != features {
        let what =
            format!("a table with {} category columns of which {features} are used as such", columns.len());
        return Err(Problem::unsupported(
            what,
            "train with all of them in categorical_feature, or on numbers",
        ));
    }
    let name = |category| match category {
        Category::Text(text) => text,
        Category::Number(number) => number.to_string(),
        Category::Truth(truth) => truth.to_string(),
    };
    Ok(columns.into_iter().map(|column| column.into_iter().map(name).collect()).collect())
}
