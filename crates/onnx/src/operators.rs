//! The operators that graphs may have. Those that run a graph of their own are not among them: nothing limits their time.

use std::collections::BTreeSet;

use rten::OpRegistry;

use crate::error::{GraphError, shown};
use crate::file::File;
use crate::node::{Node, Parameter};
use crate::tensor::{kind, kind_name, size_of_element};

macro_rules! operators {
    ($($name:ident)*) => {
        /// The names of the operators.
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// The code of the operators. What is not listed is not linked.
        pub(crate) fn registry() -> OpRegistry {
            rten::op_registry!($($name),*)
        }
    };
}

operators! {
    Abs Acos Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast CastLike Ceil Clip Concat ConstantOfShape
    Conv ConvTranspose Cos CumSum Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization IsInf
    IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mod
    Mul Neg NonZero Not OneHot Or PRelu Pad Pow Range Reciprocal ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Shape Sigmoid Sign Sin Size
    Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
}

/// The most operators that a refusal names.
const NAMED_MAX: usize = 8;

/// Operators of `ai.onnx.ml` that encode texts.
const ENCODERS: [&str; 3] = ["OneHotEncoder", "LabelEncoder", "CategoryMapper"];

/// Refuses a graph with other operators, and names them, and operators with attributes that the runtime ignores.
pub(crate) fn check(file: &File<'_>) -> Result<(), GraphError> {
    let mut missing = BTreeSet::new();
    for node in &file.nodes {
        if node.domain.is_empty() && NAMES.contains(&node.operator) {
            check_attributes(node)?;
        } else {
            let version = match node.domain {
                "" => format!("ai.onnx {}", file.opset),
                "ai.onnx.ml" => format!("ai.onnx.ml {}", file.opset_ml),
                domain => shown(domain),
            };
            missing.insert(format!("{} ({version})", shown(node.operator)));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let has = |operators: &[&str]| file.nodes.iter().any(|node| operators.contains(&node.operator));
    let instead = if has(&ENCODERS) {
        "export the network behind the encoding of texts"
    } else if has(&["RNN"]) {
        "use LSTM, or GRU with linear_before_reset=1"
    } else {
        "export the model with other operators, without loops and conditions"
    };
    let rest = missing.len().saturating_sub(NAMED_MAX);
    let names = missing.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    Err(GraphError::unsupported(format!("operator {names}{more}"), instead))
}

fn check_attributes(node: &Node<'_>) -> Result<(), GraphError> {
    if node.attributes.iter().any(|attribute| attribute.value == Parameter::Other) {
        return Err(GraphError::unsupported(
            format!("an attribute of {}", node.place()),
            "export it without graphs and types as attributes",
        ));
    }
    match node.operator {
        "GRU" if node.int("linear_before_reset").unwrap_or(0) == 0 => Err(GraphError::unsupported(
            format!("{} with linear_before_reset=0", node.place()),
            "export it with linear_before_reset=1, as PyTorch and Keras (reset_after=True) do",
        )),
        "Cast" => match node.int("to").unwrap_or(kind::FLOAT) {
            to if size_of_element(to).is_some() => Ok(()),
            to => Err(GraphError::unsupported(
                format!("{} to {}", node.place(), kind_name(to)),
                "use float32, float64, int32, int64, int8, uint8 or bool",
            )),
        },
        _ => Ok(()),
    }
}
