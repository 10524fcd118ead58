"""Makes ONNX files of CatBoost's models as those in onnx/, and the answers of CatBoost.

    pip install catboost==1.2.10 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
    python make_catboost.py FOLDER

The models have the kinds, sizes and names of the files that are kept, but were trained on other rows. Some of the rows that are
answered have values at the borders of the trees and next to them, and missing values. A file is written only if onnxruntime
computes the answers of CatBoost from it.
"""
import pathlib
import sys
import tempfile

import catboost
import numpy as np
import onnx

from vectors import ANSWERED, check, save, with_extremes

COLUMNS, TRAINED = 6, 400
random = np.random.default_rng(8)


def rows(count, gaps=0.0):
    values = random.normal(size=(count, COLUMNS)).round(2).astype(np.float32)
    values[random.random(values.shape) < gaps] = np.nan
    return values


trained, with_gaps = rows(TRAINED), rows(TRAINED, 0.1)
amount = np.nan_to_num(2 * with_gaps[:, 0] - with_gaps[:, 1] * with_gaps[:, 2])
three = np.digitize(amount, [-1.0, 1.0])
classifier, regressor = catboost.CatBoostClassifier, catboost.CatBoostRegressor

# The name, the kind of model, the rows, the target, and further parameters.
MODELS = [
    ("cat_binary", classifier, with_gaps, three > 0, {}),
    ("cat_multiclass", classifier, with_gaps, three, {"loss_function": "MultiClass"}),
    ("cat_regression", regressor, trained, 2 * trained[:, 0] - trained[:, 1], {}),
    ("cat_regression_nan_max", regressor, with_gaps, amount, {"nan_mode": "Max"}),
]


def questions(model, has_gaps):
    """Random rows. In half of them, one value is at a border of its column, or next to one."""
    asked = with_extremes(rows(ANSWERED, 0.1 if has_gaps else 0.0))
    # The border of missing values is the least or the largest number.
    borders = {column: [border for border in found if abs(border) < 1e30] for column, found in model.get_borders().items()}
    borders = {column: found for column, found in borders.items() if found}
    for row in asked[ANSWERED // 2 :]:
        column = random.choice(list(borders))
        border, side = np.float32(random.choice(borders[column])), np.float32(random.choice([-np.inf, np.inf]))
        row[column] = random.choice([border, np.nextafter(border, side)])
    return asked


def main(folder):
    for name, kind, table, target, parameters in MODELS:
        fixed = {"iterations": 5, "depth": 3, "random_seed": 8, "thread_count": 1, "verbose": False}
        model = kind(allow_writing_files=False, **fixed, **parameters)
        model.fit(table, target.astype(int) if kind is classifier else target)
        with tempfile.TemporaryDirectory() as scratch:
            model.save_model(f"{scratch}/model.onnx", format="onnx")
            exported = onnx.load(f"{scratch}/model.onnx")
        asked = questions(model, np.isnan(table).any())
        expected = {"raw": model.predict(asked, prediction_type="RawFormulaVal")}
        if kind is classifier:
            classes = {"label": model.predict(asked).ravel(), "probabilities": model.predict_proba(asked)}
            check(name, exported, {"features": asked}, classes)
            expected |= classes
        else:
            check(name, exported, {"features": asked}, expected)
        save(folder, name, exported, {"X": asked}, expected)


main(pathlib.Path(sys.argv[1]))
