"""Makes ONNX files of scikit-learn's models as those in neural/ and onnx/, and the answers of scikit-learn.

    pip install scikit-learn==1.9.1 skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 pandas
    python make_onnx.py FOLDER

The models have the kinds, sizes, labels and names of the files that are kept, but not the same bytes: those were trained on
other rows. A file is written only if onnxruntime computes the answers of scikit-learn from it.
"""
import pathlib
import sys
import warnings

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common import _container
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import ensemble, linear_model, neural_network, tree
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from vectors import ANSWERED, check, save, with_extremes

warnings.filterwarnings("ignore")
COLUMNS, TRAINED = 6, 400
OPSET = {"": 18, "ai.onnx.ml": 3}
random = np.random.default_rng(11)


def rows(count, gaps=0.0):
    values = random.normal(size=(count, COLUMNS)).round(2).astype(np.float32)
    values[random.random(values.shape) < gaps] = np.nan
    return values


trained, with_gaps = rows(TRAINED), rows(TRAINED, 0.1)
amount = 2 * trained[:, 0] - trained[:, 1] * trained[:, 2] + random.normal(scale=0.1, size=TRAINED)
three = np.digitize(amount, [-1.0, 1.0])
two = (three > 0).astype(int)
words = np.array(["low", "mid", "high"])[three]
forest, boosting = ensemble.RandomForestClassifier, ensemble.GradientBoostingClassifier
fixed = {"random_state": 3}

# The name, the model, the target, and whether the rows have missing values or only small ones, and the classifier's answer is a
# map. In 32 bits the probabilities of all classes are 0 for large values, where scikit-learn compares the margins.
MODELS = [
    ("skl_mlp_classifier", neural_network.MLPClassifier((12, 8), max_iter=60, **fixed), three),
    ("skl_mlp_binary", neural_network.MLPClassifier((10,), activation="tanh", max_iter=60, **fixed), two),
    ("skl_mlp_regressor", neural_network.MLPRegressor(hidden_layer_sizes=(12, 8), max_iter=60, **fixed), amount),
    ("skl_sgd_log_loss", linear_model.SGDClassifier(loss="log_loss", alpha=1.0, **fixed), three, "small"),
    ("skl_sgd_modified_huber", linear_model.SGDClassifier(loss="modified_huber", alpha=1.0, **fixed), three, "small"),
    ("skl_sgd_hinge", linear_model.SGDClassifier(**fixed), two),
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
    ("skl_histgb_classifier", ensemble.HistGradientBoostingClassifier(max_iter=6, max_leaf_nodes=10, **fixed), three, "gaps"),
    ("skl_histgb_regressor", ensemble.HistGradientBoostingRegressor(max_iter=6, max_leaf_nodes=10, **fixed), amount, "gaps"),
    ("skl_imputer_rf", make_pipeline(SimpleImputer(strategy="median"), forest(6, max_depth=4, **fixed)), three, "gaps"),
]


def make_node(*names, of_onnx=_container.make_node, **attributes):
    """As that of onnx, which refuses the integers of NumPy and the booleans that skl2onnx makes of HistGradientBoosting."""
    for name, values in attributes.items():
        if isinstance(values, list):
            attributes[name] = [int(value) if isinstance(value, (bool, np.bool_, np.integer)) else value for value in values]
    return of_onnx(*names, **attributes)


_container.make_node = make_node


def answers(model, asked):
    predicted = model.predict(asked)
    if not is_classifier(model):
        return {"variable": predicted.astype(np.float32).reshape(-1, 1)}
    if hasattr(model, "predict_proba"):
        scores = model.predict_proba(asked)
    else:
        margins = model.decision_function(asked)
        scores = np.column_stack([-margins, margins])
    return {"label": predicted, "probabilities": scores.astype(np.float32)}


def encoded_columns(folder):
    """A pipeline over a table of two numbers and a text, which is encoded. Texts that training did not have are zeros."""
    cities = np.array(["ams", "ber", "cph", "ä é"], object)

    def table(values):
        return pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "city": random.choice(cities, len(values))})

    encode = ColumnTransformer(
        [("numbers", StandardScaler(), ["a", "b"]), ("texts", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    )
    model = make_pipeline(encode, linear_model.LogisticRegression()).fit(table(trained), three)
    asked = table(with_extremes(rows(ANSWERED)))
    asked.loc[:2, "city"] = ["", "Ber", "东京"]
    numbers, texts = FloatTensorType([None, 1]), StringTensorType([None, 1])
    ports = [("a", numbers), ("b", numbers), ("city", texts)]
    onnx = to_onnx(model, initial_types=ports, options={id(model): {"zipmap": False}}, target_opset=OPSET)
    columns = {name: asked[[name]].to_numpy() for name in asked}
    name, expected = "skl_columns_onehot_logreg", answers(model, asked)
    check(name, onnx, columns, expected)
    save(folder, name, onnx, columns, expected)


def main(folder):
    for name, model, target, *special in MODELS:
        model.fit(with_gaps if "gaps" in special else trained, target)
        asked = rows(ANSWERED, 0.1 if "gaps" in special else 0.0)
        if "small" not in special:
            asked = with_extremes(asked)
        options = None
        if is_classifier(model):
            options = {id(model): {"zipmap": "map" in special}}
        onnx = to_onnx(model, trained[:1], options=options, target_opset=OPSET)
        expected = answers(model, asked)
        check(name, onnx, {"X": asked}, expected)
        save(folder, name, onnx, {"X": asked}, expected)
    encoded_columns(folder)


main(pathlib.Path(sys.argv[1]))
