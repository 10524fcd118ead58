//! What is read of an `XGBoost` file. Everything else in it is skipped without being stored.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::read::error::Problem;
use crate::read::whole::whole;

#[derive(Deserialize)]
pub(super) struct Document {
    pub(super) learner: Learner,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the file")]
pub(super) struct Learner {
    #[serde(default)]
    pub(super) feature_names: Vec<String>,
    #[serde(default)]
    pub(super) feature_types: Vec<String>,
    pub(super) gradient_booster: Booster,
    pub(super) learner_model_param: LearnerParam,
    pub(super) objective: Objective,
}

/// A booster of any kind: `dart` has its trees inside `gbtree`, `gblinear` has none.
#[derive(Deserialize)]
pub(super) struct Booster {
    name: String,
    model: Option<Trees>,
    gbtree: Option<Inner>,
    weight_drop: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct Inner {
    model: Trees,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the file")]
pub(super) struct Trees {
    #[serde(default)]
    pub(super) trees: Vec<Tree>,
    /// The output that each tree is for.
    #[serde(default)]
    pub(super) tree_info: Vec<usize>,
    #[serde(default)]
    pub(super) cats: Categories,
}

/// The categories of the training table.
#[derive(Default, Deserialize)]
pub(super) struct Categories {
    /// One per input, or none at all.
    #[serde(default)]
    pub(super) enc: Vec<Encoding>,
}

/// The categories of an input: texts are bytes, cut at the offsets.
#[derive(Deserialize)]
pub(super) struct Encoding {
    pub(super) offsets: Option<Vec<usize>>,
    #[serde(default)]
    pub(super) values: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct LearnerParam {
    pub(super) base_score: BaseScore,
    #[serde(default, deserialize_with = "count")]
    pub(super) num_class: usize,
    #[serde(deserialize_with = "count")]
    pub(super) num_feature: usize,
    #[serde(default, deserialize_with = "count")]
    pub(super) num_target: usize,
}

#[derive(Deserialize)]
pub(super) struct Objective {
    pub(super) name: String,
}

/// The lists of a tree, each with one entry per node.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the file")]
pub(super) struct Tree {
    pub(super) tree_param: TreeParam,
    pub(super) left_children: Vec<i32>,
    pub(super) right_children: Vec<i32>,
    pub(super) split_indices: Vec<u32>,
    /// Thresholds, and the values of leaves.
    pub(super) split_conditions: Vec<f32>,
    pub(super) default_left: Vec<Flag>,
    /// 1 for a split by categories.
    #[serde(default)]
    pub(super) split_type: Vec<u8>,
    /// The categories of all sets.
    #[serde(default)]
    pub(super) categories: Vec<u32>,
    /// The nodes that have sets, ascending.
    #[serde(default)]
    pub(super) categories_nodes: Vec<u32>,
    /// Where each set starts in `categories`.
    #[serde(default)]
    pub(super) categories_segments: Vec<usize>,
    /// How many categories each set has.
    #[serde(default)]
    pub(super) categories_sizes: Vec<usize>,
}

#[derive(Deserialize)]
pub(super) struct TreeParam {
    #[serde(default, deserialize_with = "count")]
    pub(super) size_leaf_vector: usize,
}

impl Booster {
    /// The trees, and for `dart` the weight of each.
    pub(super) fn trees(&self) -> Result<(&Trees, Option<&[f64]>), Problem> {
        let missing = |what: &str| Problem::malformed(format!("`{what}` is missing"));
        match &self.name[..] {
            "gbtree" => Ok((self.model.as_ref().ok_or_else(|| missing("model"))?, None)),
            "dart" => {
                let trees = &self.gbtree.as_ref().ok_or_else(|| missing("gbtree"))?.model;
                Ok((trees, Some(self.weight_drop.as_ref().ok_or_else(|| missing("weight_drop"))?)))
            }
            name => {
                let name: String = name.chars().take(40).collect();
                Err(Problem::unsupported(format!("booster `{name}`"), "train with booster gbtree or dart"))
            }
        }
    }
}

/// True or false, which some versions write as a number.
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false, as a word or a number")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

/// The scores from which sums start: a number, a text with one, a text with a list, or a list.
pub(super) struct BaseScore(pub(super) Vec<f64>);

impl<'de> Deserialize<'de> for BaseScore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersVisitor).map(Self)
    }
}

/// A whole number, which `XGBoost` writes as a text.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let numbers = deserializer.deserialize_any(NumbersVisitor)?;
    match numbers[..] {
        [number] => {
            whole(number).ok_or_else(|| D::Error::custom(format!("expected a whole number, got {number}")))
        }
        _ => Err(D::Error::custom(format!("expected a whole number, got {} numbers", numbers.len()))),
    }
}

struct NumbersVisitor;

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text with numbers or a list of numbers")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Vec<f64>, E> {
        Ok(vec![value])
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Vec<f64>, E> {
        Ok(vec![value as f64])
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Vec<f64>, E> {
        Ok(vec![value as f64])
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<f64>, E> {
        let list = text.trim().trim_start_matches('[').trim_end_matches(']');
        list.split(',').map(|word| word.trim().parse().map_err(E::custom)).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<f64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = seq.next_element()? {
            numbers.push(number);
        }
        Ok(numbers)
    }
}
