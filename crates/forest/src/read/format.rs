//! The formats of model files, and those that are recognised only to refuse them with the way to export the model.

use std::fmt;

/// A format of model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `Booster.save_model` of `LightGBM`.
    LightGbm,
    /// `save_model("….json")` of `XGBoost`.
    XgboostJson,
    /// `save_model("….ubj")` of `XGBoost`.
    XgboostUbj,
    /// `save_model(format="json")` of `CatBoost`.
    CatboostJson,
    /// ONNX, from any library.
    Onnx,
    /// `skops.io.dump`: scikit-learn without pickle.
    Skops,
    /// Pickle or joblib. It runs code when it is loaded, so it is never read.
    Pickle,
    /// A folder of `MLflow`.
    Mlflow,
    /// A format that is not read.
    Foreign(Foreign),
    /// Not known.
    Unknown,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LightGbm => "LightGBM text",
            Self::XgboostJson => "XGBoost JSON",
            Self::XgboostUbj => "XGBoost UBJ",
            Self::CatboostJson => "CatBoost JSON",
            Self::Onnx => "ONNX",
            Self::Skops => "skops",
            Self::Pickle => "pickle",
            Self::Mlflow => "MLflow",
            Self::Foreign(foreign) => return foreign.fmt(f),
            Self::Unknown => "unknown",
        })
    }
}

/// A format that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Foreign {
    /// `torch.save`: a zip archive with pickles.
    Torch,
    /// `model.save("….keras")`: a zip archive.
    Keras,
    /// HDF5, such as `model.save("….h5")` of Keras.
    Hdf5,
    /// Tensors without the model that they belong to.
    Safetensors,
    /// `save_model` of `CatBoost` without a format.
    Catboost,
    /// The binary format of `XGBoost` before 3.1.
    XgboostBinary,
    /// `TensorFlow`'s `saved_model.pb`.
    SavedModel,
    /// `TensorFlow` Lite.
    TensorflowLite,
    /// An array of `NumPy`.
    Numpy,
    /// A zip archive of arrays of `NumPy`.
    NumpyArchive,
    /// XML, such as PMML.
    Xml,
    /// A zip archive of an `MLflow` folder.
    MlflowArchive,
    /// Another zip archive.
    Zip,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torch => "PyTorch",
            Self::Keras => "Keras",
            Self::Hdf5 => "HDF5",
            Self::Safetensors => "safetensors",
            Self::Catboost => "CatBoost binary",
            Self::XgboostBinary => "XGBoost binary",
            Self::SavedModel => "TensorFlow SavedModel",
            Self::TensorflowLite => "TensorFlow Lite",
            Self::Numpy => "NumPy array",
            Self::NumpyArchive => "NumPy archive",
            Self::Xml => "XML",
            Self::MlflowArchive => "zipped MLflow folder",
            Self::Zip => "zip",
        })
    }
}

impl Foreign {
    /// What to do instead.
    pub(crate) fn instead(self) -> &'static str {
        match self {
            Self::Torch => "export the model with torch.onnx.export(model, example, \"model.onnx\")",
            Self::Keras | Self::Hdf5 => {
                "load the model in Keras and export it with model.export(\"model.onnx\", format=\"onnx\")"
            }
            Self::Safetensors => "it has tensors without a model; export the model with torch.onnx.export",
            Self::Catboost => "save the model with save_model(\"model.onnx\", format=\"onnx\")",
            Self::XgboostBinary => "load the model in XGBoost 3.0 or older and save it as \"model.json\"",
            Self::SavedModel | Self::TensorflowLite => {
                "convert the model with python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"
            }
            Self::Numpy | Self::NumpyArchive => "it has arrays without a model; save the model itself",
            Self::Xml => "convert the model to ONNX; docs/models.md has a list of formats",
            Self::MlflowArchive => "unpack it and give the folder",
            Self::Zip => "unpack it and give the model file",
        }
    }
}
