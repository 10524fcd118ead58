//! Which outputs of a graph are scores, and which are only the labels of the classes.

use crate::error::{GraphError, shown};
use crate::file::File;
use crate::links::{Links, Source};
use crate::node::{Node, Parameter};
use crate::tensor::{Tensor, kind, kind_name};

/// The outputs of a graph, as far as they are needed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heads {
    /// The scores: the name of the value and the name for people.
    pub(crate) scores: Vec<(String, String)>,
    /// The label of each class, where the graph has them.
    pub(crate) labels: Option<Vec<String>>,
    /// Whether there are labels, be they only indices.
    pub(crate) is_classifier: bool,
}

/// What one output is.
enum Head {
    Scores(String),
    Labels { of: String, labels: Option<Vec<String>> },
    Map { of: String, labels: Vec<String> },
}

/// Operators that pass on the same numbers.
const SAME: [&str; 6] = ["Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"];

/// Tells scores from labels.
pub(crate) fn heads(file: &File<'_>) -> Result<Heads, GraphError> {
    let graph = Graph { file, links: Links::new(file)? };
    let mut heads = Heads::default();
    let mut label_of = None;
    for output in &file.outputs {
        match graph.head(output.name, output.kind)? {
            Head::Scores(value) => heads.scores.push((value, output.name.to_owned())),
            Head::Map { of, labels } => {
                heads.scores.push((of, output.name.to_owned()));
                heads.labels = Some(labels);
            }
            Head::Labels { of, labels } => {
                label_of = Some(of);
                heads.labels = heads.labels.or(labels);
            }
        }
    }
    heads.is_classifier = heads.labels.is_some() || label_of.is_some();
    match (&heads.scores[..], label_of) {
        ([], Some(_)) => Err(GraphError::unsupported(
            "a graph whose only outputs are labels",
            "export the probabilities, too, so that an answer has a confidence",
        )),
        ([], None) => Err(GraphError::malformed("the graph has no outputs")),
        ([(score, name)], Some(of)) if graph.root(score)? != graph.root(&of)? => {
            Err(GraphError::unsupported(
                format!("a graph whose labels do not come from output {:?}", shown(name)),
                "export labels that are the largest of the probabilities, or no labels",
            ))
        }
        ([_], _) | (_, None) => Ok(heads),
        (_, Some(_)) => Err(GraphError::unsupported(
            "a graph with labels and several other outputs",
            "export one output of probabilities beside the labels",
        )),
    }
}

struct Graph<'f, 'a> {
    file: &'f File<'a>,
    links: Links,
}

impl<'f, 'a> Graph<'f, 'a> {
    fn node(&self, value: &str) -> Option<&'f Node<'a>> {
        match self.links.source(value)? {
            Source::Node(index) => Some(&self.file.nodes[index]),
            Source::Input(_) | Source::Constant(_) => None,
        }
    }

    fn constant(&self, value: &str) -> Option<&'f Tensor<'a>> {
        match self.links.source(value)? {
            Source::Constant(index) => Some(&self.file.constants[index]),
            Source::Input(_) | Source::Node(_) => None,
        }
    }

    /// The value that this one is the same numbers as.
    fn root(&self, value: &str) -> Result<String, GraphError> {
        let mut value = value.to_owned();
        for _ in 0..=self.file.nodes.len() {
            match self.node(&value) {
                Some(node) if node.domain.is_empty() && SAME.contains(&node.operator) => {
                    node.input(0).clone_into(&mut value);
                }
                _ => return Ok(value),
            }
        }
        Err(GraphError::malformed(format!("value {:?} needs itself", shown(&value))))
    }

    fn head(&self, output: &str, declared: i64) -> Result<Head, GraphError> {
        if let Some(node) = self.node(output).filter(|node| node.is_ml("ZipMap")) {
            let of = node.input(0).to_owned();
            let labels = attribute_labels(node, ["classlabels_int64s", "classlabels_strings"])?;
            return Ok(Head::Map { of, labels });
        }
        let root = self.root(output)?;
        let Some(node) = self.node(&root) else { return Ok(Head::Scores(output.to_owned())) };
        if node.is("ArgMax") {
            return Ok(Head::Labels { of: node.input(0).to_owned(), labels: None });
        }
        let of_largest = |index: usize| -> Result<Option<String>, GraphError> {
            let root = self.root(node.input(index))?;
            Ok(self.node(&root).filter(|node| node.is("ArgMax")).map(|node| node.input(0).to_owned()))
        };
        if node.is_ml("ArrayFeatureExtractor") {
            if let (Some(tensor), Some(of)) = (self.constant(node.input(0)), of_largest(1)?) {
                return Ok(Head::Labels { of, labels: Some(tensor_labels(tensor)?) });
            }
        } else if node.is_ml("LabelEncoder")
            && let Some(of) = of_largest(0)?
        {
            let labels = attribute_labels(node, ["values_int64s", "values_strings"])?;
            return Ok(Head::Labels { of, labels: Some(labels) });
        }
        match declared {
            kind::FLOAT | kind::DOUBLE => Ok(Head::Scores(output.to_owned())),
            other => Err(GraphError::unsupported(
                format!("output {:?} of {} from {}", shown(output), kind_name(other), shown(node.operator)),
                "export outputs of float32, and labels only as the largest of the probabilities",
            )),
        }
    }
}

fn attribute_labels(node: &Node<'_>, names: [&str; 2]) -> Result<Vec<String>, GraphError> {
    let values = names.iter().filter_map(|name| node.attribute(name)).find_map(|value| match value {
        Parameter::Ints(ints) => Some(Ok(ints.iter().map(ToString::to_string).collect())),
        Parameter::Texts(texts) => Some(texts.iter().map(|text| utf8(text)).collect()),
        Parameter::Float(_)
        | Parameter::Int(_)
        | Parameter::Text(_)
        | Parameter::Tensor(_)
        | Parameter::Floats(_)
        | Parameter::Other => None,
    });
    values.unwrap_or_else(|| Err(GraphError::malformed(format!("{} has no labels", node.place()))))
}

fn tensor_labels(tensor: &Tensor<'_>) -> Result<Vec<String>, GraphError> {
    if tensor.kind == kind::TEXT {
        return tensor.texts.iter().map(|text| utf8(text)).collect();
    }
    tensor.check()?;
    let ints = tensor.as_ints().ok_or_else(|| {
        GraphError::unsupported(format!("labels of {}", kind_name(tensor.kind)), "use integers or texts")
    })?;
    Ok(ints.iter().map(ToString::to_string).collect())
}

fn utf8(text: &[u8]) -> Result<String, GraphError> {
    String::from_utf8(text.to_vec()).map_err(|_| GraphError::malformed("a label is not UTF-8"))
}
