//! The inputs of a graph: how the numbers of a row become tensors.

use crate::error::{GraphError, Limits, shown};
use crate::file::File;
use crate::tensor::{Declared, kind, kind_name};

/// An input of a graph. It takes some of the numbers of a row, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the file.
    pub name: String,
    /// Whether its numbers must be integers.
    pub is_integer: bool,
    /// The dimensions of what it takes of one row. Empty: one number.
    pub shape: Vec<usize>,
    /// The first dimension is 1 in the file, so it takes one row at a time.
    pub(crate) takes_one_row: bool,
}

impl Port {
    /// How many numbers of a row it takes.
    pub fn columns(&self) -> usize {
        self.shape.iter().product()
    }

    /// The names of its columns: its own name where it has one column, with an index behind it where it has several.
    pub fn column_names(&self) -> Vec<String> {
        match self.columns() {
            1 => vec![self.name.clone()],
            columns => (0..columns).map(|index| format!("{}_{index}", self.name)).collect(),
        }
    }
}

/// The inputs of a pruned file.
pub(crate) fn ports(file: &File<'_>, limits: &Limits) -> Result<Vec<Port>, GraphError> {
    let ports = file.inputs.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    let columns = ports.iter().fold(0_usize, |sum, port| {
        sum.saturating_add(port.shape.iter().fold(1, |product, size| product.saturating_mul(*size)))
    });
    GraphError::limit("columns of the inputs", columns, limits.columns)?;
    if columns == 0 {
        return Err(GraphError::malformed("the graph has no inputs"));
    }
    Ok(ports)
}

fn port(input: &Declared<'_>) -> Result<Port, GraphError> {
    let place = format!("input {:?}", shown(input.name));
    let is_integer = match input.kind {
        kind::FLOAT | kind::DOUBLE => false,
        kind::INT64 | kind::INT32 | kind::BOOL => true,
        kind::TEXT => {
            return Err(GraphError::unsupported(
                format!("{place} of text"),
                "export the network behind the encoding of texts",
            ));
        }
        other => {
            return Err(GraphError::unsupported(
                format!("{place} of {}", if other == 0 { "no tensor".to_owned() } else { kind_name(other) }),
                "use inputs of float32, float64, int32, int64 or bool",
            ));
        }
    };
    let Some((batch, shape)) = input.shape.split_first() else {
        return Err(GraphError::unsupported(
            format!("{place} without dimensions"),
            "its first dimension must be the rows",
        ));
    };
    if let Some(rows) = batch.filter(|rows| *rows != 1) {
        return Err(GraphError::unsupported(
            format!("{place}, which takes exactly {rows} rows at once,"),
            "export it with a dynamic first dimension (torch.onnx.export(…, dynamic_axes={\"x\": {0: \"batch\"}}))",
        ));
    }
    let shape = shape.iter().copied().collect::<Option<Vec<_>>>().ok_or_else(|| {
        GraphError::unsupported(
            format!("{place} with an unknown number of columns"),
            "export it with only its first dimension dynamic",
        )
    })?;
    Ok(Port { name: input.name.to_owned(), is_integer, shape, takes_one_row: batch.is_some() })
}
