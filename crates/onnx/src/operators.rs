//! The operators that graphs may have. Those that run a graph of their own are not among them: nothing limits their time.

use std::collections::BTreeSet;

use rten::OpRegistry;

use crate::error::{GraphError, shown};
use crate::file::File;
use crate::node::Parameter;

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

/// Refuses a graph with other operators, and names them.
pub(crate) fn check(file: &File<'_>) -> Result<(), GraphError> {
    let mut missing = BTreeSet::new();
    for node in &file.nodes {
        if node.domain.is_empty() && NAMES.contains(&node.operator) {
            if node.attributes.iter().any(|attribute| attribute.value == Parameter::Other) {
                return Err(GraphError::unsupported(
                    format!("an attribute of {}", node.place()),
                    "export it without graphs and types as attributes",
                ));
            }
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
    let rest = missing.len().saturating_sub(NAMED_MAX);
    let names = missing.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    Err(GraphError::unsupported(
        format!("operator {names}{more}"),
        "export the model with other operators, without loops and conditions",
    ))
}
