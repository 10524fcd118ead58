"""Makes ONNX files of scikit-learn's models as those in neural/ and onnx/, and the answers of scikit-learn.

    pip install scikit-learn==1.9.1 skl2onnx==1.20.0 onnxruntime==1.32.0
    python make_onnx.py FOLDER

The models have the same kinds, sizes and names as the files that are kept, but not the same bytes: those were trained on other
rows. A file is written only if onnxruntime computes the answers of scikit-learn from it. The models of PyTorch, Keras and
CatBoost, HistGradientBoosting (which skl2onnx 1.20 cannot convert from scikit-learn 1.9) and encoded columns are not made here.
"""
import json
import pathlib
import sys
import warnings

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn import ensemble, linear_model, neural_network, tree
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore")
COLUMNS, TRAINED, ANSWERED = 6, 400, 60
EXTREMES = (0.0, 1.0, -1.0, 1e3, -1e3, 1e-30, -0.0)
random = np.random.default_rng(11)


def rows(count, gaps=0.0):
    values = random.normal(size=(count, COLUMNS)).round(2).astype(np.float32)
    values[random.random(values.shape) < gaps] = np.nan
    return values


def questions(gaps):
    """Rows of one extreme value each, and random ones."""
    extreme = np.repeat(np.array(EXTREMES, np.float32), COLUMNS).reshape(-1, COLUMNS)
    return np.concatenate([extreme, rows(ANSWERED - len(extreme), gaps)])


trained, with_gaps = rows(TRAINED), rows(TRAINED, 0.1)
amount = 2 * trained[:, 0] - trained[:, 1] * trained[:, 2] + random.normal(scale=0.1, size=TRAINED)
three = np.digitize(amount, [-1.0, 1.0])
two = (three > 0).astype(int)
words = np.array(["low", "middle", "high"])[three]
forest, boosting = ensemble.RandomForestClassifier, ensemble.GradientBoostingClassifier
fixed = {"random_state": 3}

# The name, the model, the target, and whether the rows have missing values and the classifier's answer is a map.
MODELS = [
    ("skl_mlp_classifier", neural_network.MLPClassifier((12, 8), max_iter=60, **fixed), three),
    ("skl_mlp_binary", neural_network.MLPClassifier((10,), activation="tanh", max_iter=60, **fixed), two),
    ("skl_mlp_regressor", neural_network.MLPRegressor(hidden_layer_sizes=(12, 8), max_iter=60, **fixed), amount),
    ("skl_rf_classifier", forest(8, max_depth=5, **fixed), three),
    ("skl_rf_classifier_strings", forest(8, max_depth=5, **fixed), words),
    ("skl_rf_classifier_zipmap", forest(8, max_depth=5, **fixed), three, "map"),
    ("skl_rf_regressor", ensemble.RandomForestRegressor(8, max_depth=5, **fixed), amount),
    ("skl_extra_trees", ensemble.ExtraTreesClassifier(8, max_depth=5, **fixed), three),
    ("skl_decision_tree", tree.DecisionTreeClassifier(max_depth=6, **fixed), three),
    ("skl_decision_tree_regressor", tree.DecisionTreeRegressor(max_depth=6, **fixed), amount),
    ("skl_gb_classifier", boosting(n_estimators=6, **fixed), three),
    ("skl_gb_binary", boosting(n_estimators=6, **fixed), two),
    ("skl_gb_regressor", ensemble.GradientBoostingRegressor(n_estimators=6, **fixed), amount),
    ("skl_linear_regression", linear_model.LinearRegression(), amount),
    ("skl_ridge", linear_model.Ridge(0.5), amount),
    ("skl_scaler_logreg", make_pipeline(StandardScaler(), linear_model.LogisticRegression()), three),
    ("skl_scaler_logreg_zipmap_strings", make_pipeline(StandardScaler(), linear_model.LogisticRegression()), words, "map"),
    ("skl_imputer_rf", make_pipeline(SimpleImputer(strategy="median"), forest(6, max_depth=4, **fixed)), three, "gaps"),
]


def write(path, key, tensors):
    def tensor(name, array):
        data = [None if isinstance(value, float) and np.isnan(value) else value for value in array.ravel().tolist()]
        kind = "string" if array.dtype.kind in "UO" else str(array.dtype)
        return {"name": name, "dtype": kind, "shape": list(array.shape), "data": data}

    path.write_text(json.dumps({key: [tensor(*item) for item in tensors.items()]}, separators=(",", ":")) + "\n")


def answers(model, asked):
    predicted = model.predict(asked)
    if not hasattr(model, "predict_proba"):
        return {"variable": predicted.astype(np.float32).reshape(-1, 1)}
    return {"label": predicted, "probabilities": model.predict_proba(asked).astype(np.float32)}


def check(name, onnx, asked, expected):
    """onnxruntime has the answers of scikit-learn."""
    found = onnxruntime.InferenceSession(onnx).run(None, {"X": asked})
    for found, (output, expected) in zip(found, expected.items()):
        if isinstance(found, list):
            found = np.array([list(row.values()) for row in found])
        if expected.dtype.kind == "f":
            assert np.allclose(found, expected, rtol=1e-4, atol=1e-5), (name, output, abs(found - expected).max())
        else:
            assert (found == expected).all(), (name, output)


def main(folder):
    for name, model, target, *special in MODELS:
        model.fit(with_gaps if "gaps" in special else trained, target)
        asked = questions(0.1 if "gaps" in special else 0.0)
        options = None
        if hasattr(model, "predict_proba"):
            options = {id(model): {"zipmap": "map" in special}}
        onnx = to_onnx(model, trained[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})
        expected = answers(model, asked)
        check(name, onnx.SerializeToString(), asked, expected)
        (folder / f"{name}.onnx").write_bytes(onnx.SerializeToString())
        write(folder / f"{name}.input.json", "inputs", {"X": asked})
        write(folder / f"{name}.expected.json", "outputs", expected)


main(pathlib.Path(sys.argv[1]))
