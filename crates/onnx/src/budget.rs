//! What the messages of one file may cost in all. Each costs more memory than it has bytes in the file.

use crate::error::{GraphError, Limits};

/// What is left of the limits.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    messages: usize,
    numbers: usize,
}

impl Budget {
    /// Everything that `limits` allow.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { limits: *limits, messages: 0, numbers: 0 }
    }

    /// Takes one message or name.
    pub(crate) fn message(&mut self) -> Result<(), GraphError> {
        self.messages += 1;
        GraphError::limit("nodes, attributes, tensors and names", self.messages, self.limits.messages)
    }

    /// Takes numbers of tensors or attributes.
    pub(crate) fn numbers(&mut self, count: usize) -> Result<(), GraphError> {
        self.numbers = self.numbers.saturating_add(count);
        GraphError::limit("numbers in tensors and attributes", self.numbers, self.limits.numbers)
    }

    /// Checks how many dimensions a shape has.
    pub(crate) fn dimensions(&self, count: usize) -> Result<(), GraphError> {
        GraphError::limit("dimensions of a tensor", count, self.limits.dimensions)
    }
}
