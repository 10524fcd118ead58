//! Where each value of a graph comes from, and the nodes that its outputs need, in an order in which they can run.

use std::collections::HashMap;

use crate::error::{GraphError, Limits, shown};
use crate::file::File;

/// What a value comes from, by its index in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Input(usize),
    Constant(usize),
    Node(usize),
}

/// The source of each value, by name.
#[derive(Debug, Default)]
pub(crate) struct Links {
    sources: HashMap<String, Source>,
}

impl Links {
    /// The sources of all values of a file. An input that has a constant of its own name as its default is that constant.
    pub(crate) fn new(file: &File<'_>) -> Result<Self, GraphError> {
        let mut links = Self::default();
        for (index, tensor) in file.constants.iter().enumerate() {
            links.insert(&tensor.name, Source::Constant(index))?;
        }
        for (index, input) in file.inputs.iter().enumerate() {
            if !matches!(links.sources.get(input.name), Some(Source::Constant(_))) {
                links.insert(input.name, Source::Input(index))?;
            }
        }
        for (index, node) in file.nodes.iter().enumerate() {
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                links.insert(output, Source::Node(index))?;
            }
        }
        Ok(links)
    }

    fn insert(&mut self, name: &str, source: Source) -> Result<(), GraphError> {
        if name.is_empty() {
            return Err(GraphError::malformed("a value has no name"));
        }
        if self.sources.insert(name.to_owned(), source).is_some() {
            return Err(GraphError::malformed(format!("value {:?} is made twice", shown(name))));
        }
        Ok(())
    }

    /// The source of a value.
    pub(crate) fn source(&self, name: &str) -> Option<Source> {
        self.sources.get(name).copied()
    }
}

/// The file with only what the values `wanted` need, its nodes in an order in which each comes behind those that it needs.
pub(crate) fn prune<'a>(
    mut file: File<'a>,
    wanted: &[String],
    limits: &Limits,
) -> Result<File<'a>, GraphError> {
    let links = Links::new(&file)?;
    let mut walk = Walk { file: &file, links, states: vec![State::New; file.nodes.len()], order: Vec::new() };
    for name in wanted {
        walk.visit(name)?;
    }
    let Walk { links, order, .. } = walk;
    GraphError::limit("operators", order.len(), limits.nodes)?;
    let mut used = vec![false; file.constants.len()];
    let inputs = order.iter().flat_map(|index| &file.nodes[*index].inputs);
    for name in inputs.map(|name| &**name).chain(wanted.iter().map(String::as_str)) {
        if let Some(Source::Constant(index)) = links.source(name) {
            used[index] = true;
        }
    }
    let mut nodes: Vec<_> = file.nodes.into_iter().map(Some).collect();
    file.nodes = order.iter().filter_map(|index| nodes[*index].take()).collect();
    file.inputs.retain(|input| matches!(links.source(input.name), Some(Source::Input(_))));
    let mut used = used.into_iter();
    file.constants.retain(|_| used.next().unwrap_or(false));
    Ok(file)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Done,
}

struct Walk<'f, 'a> {
    file: &'f File<'a>,
    links: Links,
    states: Vec<State>,
    order: Vec<usize>,
}

impl Walk<'_, '_> {
    /// Adds the nodes that a value needs. It does not recurse, since a graph may be one long chain.
    fn visit(&mut self, name: &str) -> Result<(), GraphError> {
        let mut stack = Vec::new();
        self.enter(name, "an output", &mut stack)?;
        while let Some((node, next)) = stack.last_mut() {
            let (index, at) = (*node, *next);
            *next += 1;
            let node = &self.file.nodes[index];
            match node.inputs.get(at) {
                Some(input) if input.is_empty() => {}
                Some(input) => self.enter(input, node.operator, &mut stack)?,
                None => {
                    self.states[index] = State::Done;
                    self.order.push(index);
                    stack.pop();
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &str, user: &str, stack: &mut Vec<(usize, usize)>) -> Result<(), GraphError> {
        match self.links.source(name) {
            None => Err(GraphError::malformed(format!(
                "{} needs value {:?}, which nothing makes",
                shown(user),
                shown(name)
            ))),
            Some(Source::Input(_) | Source::Constant(_)) => Ok(()),
            Some(Source::Node(index)) => {
                match self.states[index] {
                    State::Done => {}
                    State::Open => {
                        return Err(GraphError::malformed(format!("value {:?} needs itself", shown(name))));
                    }
                    State::New => {
                        self.states[index] = State::Open;
                        stack.push((index, 0));
                    }
                }
                Ok(())
            }
        }
    }
}
