//! The file `MLmodel`: the flavour that is read, its file, and the signature as JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::data::seen::Seen;
use crate::read::error::Problem;
use crate::read::format::Format;

/// A flavour that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    Onnx,
    Xgboost,
    Lightgbm,
    Sklearn,
}

/// The flavours in the order in which they are preferred, their names, and where they have the name of their file.
const FLAVORS: [(Flavor, &str, &str); 4] = [
    (Flavor::Onnx, "onnx", "data"),
    (Flavor::Xgboost, "xgboost", "data"),
    (Flavor::Lightgbm, "lightgbm", "data"),
    (Flavor::Sklearn, "sklearn", "pickled_model"),
];

const SAVE_SKLEARN: &str =
    "save it with mlflow.sklearn.save_model(model, \"folder\", serialization_format=\"skops\")";
const SAVE_LIGHTGBM: &str = "save it with mlflow.lightgbm.save_model(model.booster_, \"folder\")";
const SAVE_ONNX: &str =
    "export it to ONNX, and save that with mlflow.onnx.save_model(onnx.load(\"model.onnx\"), \"folder\")";

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    flavors: BTreeMap<String, Value>,
    #[serde(default)]
    signature: Option<Inputs>,
}

#[derive(Deserialize)]
struct Inputs {
    #[serde(default)]
    inputs: Option<String>,
}

/// The flavour, its file, and the JSON text of the inputs.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Flavor, String, Option<String>), Problem> {
    let text = str::from_utf8(bytes).map_err(|_| Problem::malformed("it is not UTF-8"))?;
    let document: Document = serde_saphyr::from_str(text).map_err(|error| {
        // The error shows lines of the file below its first line.
        let error = error.to_string();
        Problem::malformed(error.lines().next().unwrap_or_default().to_owned())
    })?;
    let known = FLAVORS.iter().find_map(|flavor| Some((flavor, document.flavors.get(flavor.1)?)));
    let Some(((flavor, name, key), entry)) = known else {
        return Err(unknown(&document.flavors));
    };
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    if *flavor == Flavor::Sklearn && text("serialization_format").is_some_and(|format| format != "skops") {
        return Err(Problem::unsupported("the flavor sklearn with a pickle", SAVE_SKLEARN));
    }
    let file = text(key).ok_or_else(|| Problem::malformed(format!("flavor {name} has no `{key}`")))?;
    let is_inside = !file.starts_with('/')
        && !file.contains(['\\', '\0', ':'])
        && file.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !is_inside {
        return Err(Problem::malformed(format!("`{key}` is {}, which leaves the folder", Seen::new(file))));
    }
    Ok((*flavor, file.to_owned(), document.signature.and_then(|signature| signature.inputs)))
}

fn unknown(flavors: &BTreeMap<String, Value>) -> Problem {
    let name = flavors.keys().find(|name| *name != "python_function").or_else(|| flavors.keys().next());
    let Some(name) = name else {
        return Problem::malformed("it has no flavors");
    };
    let instead = match &name[..] {
        "catboost" => "save the model with save_model(\"model.onnx\", format=\"onnx\"), and use that file",
        "keras" | "tensorflow" => {
            "export the model with model.export(\"model.onnx\", format=\"onnx\"), and use that file"
        }
        "pytorch" => {
            "export the model with torch.onnx.export(model, example, \"model.onnx\"), and use that file"
        }
        _ => SAVE_ONNX,
    };
    Problem::unsupported(format!("the flavor {}", Seen::new(name)), instead)
}

impl Flavor {
    /// Refuses a file of another format than those of the flavour.
    pub(crate) fn check(self, format: Format) -> Result<(), Problem> {
        let is_known = match self {
            Self::Onnx => format == Format::Onnx,
            Self::Xgboost => matches!(format, Format::XgboostJson | Format::XgboostUbj),
            Self::Lightgbm => matches!(format, Format::LightGbm | Format::Skops),
            Self::Sklearn => format == Format::Skops,
        };
        if is_known {
            return Ok(());
        }
        let instead = match self {
            Self::Onnx => SAVE_ONNX,
            Self::Xgboost => {
                "save it with mlflow.xgboost.save_model(model, \"folder\", model_format=\"ubj\")"
            }
            Self::Lightgbm => SAVE_LIGHTGBM,
            Self::Sklearn => SAVE_SKLEARN,
        };
        Err(Problem::unsupported(format!("a file of the format {format} in this flavor"), instead))
    }
}
