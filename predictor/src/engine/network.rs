//! Neural networks as an engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use canopy_forest::read::model::Link;
use canopy_onnx::error::{GraphError, Limits};
use canopy_onnx::graph::{End, Graph};
use canopy_onnx::network::Network;
use canopy_onnx::port::Port;

use crate::engine::head::Head;
use crate::engine::interface::{Batch, Engine, EngineError, Scratch};

/// Why scores beside labels are refused.
const MARGINS: &str = "a classifier whose scores are not probabilities is not supported: train it with probabilities, as \
     SGDClassifier(loss=\"log_loss\") has, or end the network with a softmax, and export it without raw_scores";

/// A network that has computed its first rows.
#[derive(Clone)]
pub struct LoadedNetwork {
    graph: Graph,
    network: Arc<Network>,
}

/// Why a file is no network that can be served.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// The graph is refused.
    #[error("{0}")]
    Graph(#[from] GraphError),
    /// The scores are not those of the declared classes.
    #[error("{0}")]
    Classes(String),
}

/// What the scores of a network mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// How the scores become answers.
    pub head: Head,
    /// The labels of the classes in the file, or their indices; none for values.
    pub labels: Vec<String>,
    /// The names of the values; none for classes.
    pub values: Vec<String>,
}

/// Whether a file in the format ONNX is for this engine.
pub fn is_network(bytes: &[u8]) -> bool {
    canopy_onnx::graph::is_network(bytes, &Limits::default()).unwrap_or(false)
}

impl LoadedNetwork {
    /// Reads a file, and computes a few rows. After an error about time a thread is still busy, so the process should end.
    pub fn read(bytes: &[u8]) -> Result<Self, NetworkError> {
        let limits = Limits::default();
        let graph = Graph::read(bytes, &limits)?;
        let network = Arc::new(Network::load(&graph, &limits)?);
        Ok(Self { graph, network })
    }

    /// The checked graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many numbers a row has.
    pub fn inputs(&self) -> usize {
        self.network.inputs()
    }

    /// How many scores a row gets.
    pub fn outputs(&self) -> usize {
        self.network.outputs()
    }

    /// Whether the scores of a row are probabilities whose sum is 1: of classes, unless the network says otherwise.
    pub fn has_probabilities(&self) -> bool {
        let is_one = self.graph.outputs().len() == 1;
        is_one && (self.graph.end() == End::Softmax || self.network.is_distribution())
    }

    /// The name of each number of a row. One input of several columns has no names for them.
    pub fn input_names(&self) -> Vec<Option<String>> {
        match self.graph.inputs() {
            [input] if input.columns() > 1 => vec![None; input.columns()],
            inputs => inputs.iter().flat_map(Port::column_names).map(Some).collect(),
        }
    }

    /// The name of each output, and its dimensions for one row. Empty: one number.
    pub fn output_shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let names = self.graph.outputs().iter().map(String::as_str);
        names.zip(self.network.output_shapes().iter().map(Vec::as_slice))
    }

    /// What the network consists of, for people.
    pub fn size(&self) -> String {
        let operators = self.graph.operators().values().sum::<usize>();
        format!("neural network, {operators} operators, {} parameters", self.graph.numbers())
    }

    /// What the scores mean for a model with `classes` declared classes; 0 where none are declared.
    ///
    /// A file with labels is a classifier, and its scores must be probabilities: a support vector machine has labels, too.
    /// Without labels it is one if classes are declared: then its scores are probabilities, or logits of which the softmax
    /// is taken.
    pub fn meaning(&self, classes: usize) -> Result<Meaning, NetworkError> {
        let scores = self.outputs();
        let count = match self.graph.labels() {
            Some(labels) => labels.len(),
            None if self.graph.is_classifier() => scores,
            None => classes,
        };
        if count == 0 {
            let values = self.network.output_names().to_vec();
            return Ok(Meaning { head: Head::Regress { link: Link::Identity }, labels: Vec::new(), values });
        }
        let outputs = self.graph.outputs().len();
        let link = match (scores, count) {
            _ if outputs > 1 => {
                return Err(NetworkError::Classes(format!(
                    "{count} classes are declared, but the network has {outputs} outputs: export only the probabilities"
                )));
            }
            (1, 2) if self.graph.end() == End::Sigmoid => Link::Identity,
            (1, 2) => {
                return Err(NetworkError::Classes(
                    "2 classes are declared, but the network has one score that is not a probability: export it with a \
                     final sigmoid (torch.sigmoid), whose value is the probability of the second class"
                        .to_owned(),
                ));
            }
            _ if scores != count => {
                return Err(NetworkError::Classes(format!(
                    "{count} classes are declared, but the network has {scores} scores: declare one class per score"
                )));
            }
            _ if self.graph.end() == End::Sigmoid
                && !self.graph.is_classifier()
                && !self.network.is_distribution() =>
            {
                return Err(NetworkError::Classes(format!(
                    "{count} classes are declared, but the {scores} scores are probabilities that do not add up to 1: \
                     export the network with a softmax, or declare no classes"
                )));
            }
            _ if self.has_probabilities() => Link::Identity,
            _ if self.graph.is_classifier() => return Err(NetworkError::Classes(MARGINS.to_owned())),
            _ => Link::Softmax,
        };
        let indices = || (0..count).map(|index| index.to_string()).collect();
        let labels = self.graph.labels().map_or_else(indices, <[String]>::to_vec);
        Ok(Meaning { head: Head::Classify { link }, labels, values: Vec::new() })
    }
}

impl PartialEq for LoadedNetwork {
    fn eq(&self, other: &Self) -> bool {
        self.graph.bytes() == other.graph.bytes()
    }
}

impl fmt::Debug for LoadedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedNetwork").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// A network as an engine. The scores are its outputs, one behind the other.
pub struct NetworkEngine(Arc<Network>);

impl NetworkEngine {
    /// The engine of a network.
    pub fn new(network: &LoadedNetwork) -> Self {
        Self(Arc::clone(&network.network))
    }
}

impl Engine for NetworkEngine {
    fn inputs(&self) -> usize {
        self.0.inputs()
    }

    fn outputs(&self) -> usize {
        self.0.outputs()
    }

    fn cost(&self, rows: usize) -> Duration {
        self.0.cost(rows)
    }

    fn run(&self, batch: Batch<'_>, _: &mut Scratch, scores: &mut [f64]) -> Result<(), EngineError> {
        self.0.run(batch.values(), scores).map_err(|error| match error {
            GraphError::Value { row, column, must, value } => EngineError::Input { row, column, must, value },
            GraphError::Malformed(_)
            | GraphError::Unsupported { .. }
            | GraphError::Limit { .. }
            | GraphError::TooLarge { .. }
            | GraphError::Failed(_)
            | GraphError::TooSlow(_) => EngineError::Failed(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn network(name: &str) -> LoadedNetwork {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/neural");
        LoadedNetwork::read(&fs::read(format!("{folder}/{name}.onnx")).unwrap()).unwrap()
    }

    #[test]
    fn scores_are_classes_where_they_are_declared_or_the_file_has_labels() {
        let classify = |link| Head::Classify { link };
        let regress = Head::Regress { link: Link::Identity };
        for (name, classes, head, labels, values) in [
            ("torch_mlp_softmax_legacy", 4, classify(Link::Identity), 4, 0),
            ("torch_mlp_softmax_legacy", 0, regress, 0, 4),
            ("torch_mlp_bn_logits_dynamo", 3, classify(Link::Softmax), 3, 0),
            ("torch_embed_two_inputs_dynamo", 2, classify(Link::Identity), 2, 0),
            ("skl_mlp_binary", 0, classify(Link::Identity), 2, 0),
            ("skl_mlp_classifier", 3, classify(Link::Identity), 3, 0),
            ("skl_sgd_log_loss", 0, classify(Link::Identity), 3, 0),
            ("skl_sgd_modified_huber", 3, classify(Link::Identity), 3, 0),
            ("skl_mlp_regressor", 0, regress, 0, 1),
            ("torch_multi_output_legacy", 0, regress, 0, 4),
        ] {
            let found = network(name).meaning(classes).unwrap();
            assert_eq!(
                (found.head, found.labels.len(), found.values.len()),
                (head, labels, values),
                "{name}"
            );
        }
    }

    #[test]
    fn scores_that_do_not_fit_the_classes_are_refused_with_what_to_do() {
        for (name, classes, expected) in [
            ("skl_mlp_regressor", 2, "export it with a final sigmoid"),
            ("torch_mlp_softmax_legacy", 3, "3 classes are declared, but the network has 4 scores"),
            (
                "skl_sgd_hinge",
                0,
                "a classifier whose scores are not probabilities is not supported: train it",
            ),
            ("torch_multi_output_legacy", 4, "the network has 2 outputs: export only the probabilities"),
        ] {
            let error = network(name).meaning(classes).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn columns_have_names_where_inputs_have_one_column_or_are_several() {
        assert_eq!(network("skl_mlp_binary").input_names(), vec![None; 6]);
        let names: Vec<_> =
            network("torch_embed_two_inputs_dynamo").input_names().into_iter().flatten().collect();
        assert_eq!(names, ["num_0", "num_1", "num_2", "num_3", "num_4", "cat_0", "cat_1"]);
    }
}
