"""Makes the LightGBM and XGBoost models in boosted/ and the libraries' own answers.

    pip install lightgbm==4.7.0 xgboost==3.2.0 pandas
    python make_boosted.py

NAME.input.json and NAME.expected.json have {"inputs"|"outputs": [{"name", "dtype", "shape", "data"}]}. The data is flat,
row after row; null is NaN. Rows are random, at thresholds, next to thresholds, extreme and missing values.
"""
import json
import pathlib

import lightgbm as lgb
import numpy as np
import pandas as pd
import xgboost as xgb

HERE = pathlib.Path(__file__).parent / "boosted"
ROWS, COLUMNS, ANSWERED = 500, 5, 200
random = np.random.default_rng(20261130)

table = random.normal(size=(ROWS, COLUMNS)).round(3)
table[:, 3] = random.poisson(1.2, ROWS)
with_gaps = np.where(random.random(table.shape) < 0.1, np.nan, table)
score = table[:, 0] - 0.7 * table[:, 1] * table[:, 2] + 0.2 * table[:, 3]
counts = random.poisson(np.exp(np.clip(0.4 * score, -3, 3)))
shares = 1 / (1 + np.exp(-score))
classes = np.digitize(score, [-0.5, 0.8])
cities = np.array(["Łódź", "Oslo", "Bern", "New York"])[random.integers(0, 4, ROWS)]
sizes = random.integers(0, 3, ROWS) * 10


def write(path, key, tensors):
    def tensor(name, array):
        array = np.asarray(array)
        data = [None if isinstance(v, float) and np.isnan(v) else v for v in array.ravel().tolist()]
        if array.dtype == np.float32:
            data = [None if v is None else float(np.format_float_scientific(np.float32(v))) for v in data]
        return {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "data": data}

    path.write_text(json.dumps({key: [tensor(*item) for item in tensors.items()]}, separators=(",", ":")) + "\n")


def questions(thresholds, kind):
    """Rows whose values are random, special, at a threshold or next to one."""
    rows = random.normal(size=(ANSWERED, COLUMNS)).round(3).astype(kind)
    special = [0.0, -0.0, 1e-36, -1e-36, 1e-35, 1e-34, 1e30, -1e30, np.nan]
    for row, column in np.ndindex(rows.shape):
        near = thresholds.get(column, [])
        choice = random.random()
        if choice < 0.15:
            rows[row, column] = random.choice(special)
        elif choice < 0.65 and near:
            value = kind(near[random.integers(len(near))])
            step = random.integers(3)
            rows[row, column] = value if step == 0 else np.nextafter(value, kind(np.inf if step == 1 else -np.inf))
    return rows


def lightgbm(name, parameters, target, rounds=6, data=None, categories=()):
    data = with_gaps if data is None else data
    parameters = {"verbose": -1, "seed": 7, "num_leaves": 7, "min_data_in_leaf": 10, "num_threads": 1,
                  "deterministic": True, "force_row_wise": True} | parameters
    booster = lgb.train(parameters, lgb.Dataset(data, target), rounds)
    path = HERE / f"lightgbm_{name}.txt"
    booster.save_model(path)
    frame = booster.trees_to_dataframe()
    thresholds = {}
    if "threshold" in frame:
        for feature, value in zip(*[frame[frame.decision_type == "<="][c] for c in ("split_feature", "threshold")]):
            thresholds.setdefault(booster.feature_name().index(feature), []).append(float(value))
    rows = questions(thresholds, np.float64)
    for column, count in categories:
        rows[:, column] = random.integers(0, count, ANSWERED)
        rows[:4, column] = [np.nan, -1, count, 1e9]
    write(HERE / f"lightgbm_{name}.input.json", "inputs", {"X": rows})
    # Rows are category codes already, so the booster must not look for a data frame.
    booster.pandas_categorical = None
    write(HERE / f"lightgbm_{name}.expected.json", "outputs", {"prediction": booster.predict(rows, num_threads=1)})


def xgboost(name, parameters, target, rounds=5, data=None, categories=()):
    parameters = {"seed": 7, "max_depth": 3, "nthread": 1, "eta": 0.5, "tree_method": "hist"} | parameters
    data = with_gaps.astype(np.float32) if data is None else data
    booster = xgb.train(parameters, xgb.DMatrix(data, target, enable_categorical=True), rounds)
    for ending in ("json", "ubj"):
        booster.save_model(HERE / f"xgboost_{name}.{ending}")
    frame = booster.trees_to_dataframe()
    frame = frame[frame.Split.notna()]
    thresholds = {}
    names = booster.feature_names or [f"f{i}" for i in range(COLUMNS)]
    for feature, value in zip(frame.Feature, frame.Split):
        thresholds.setdefault(names.index(feature), []).append(np.float32(value))
    rows = questions(thresholds, np.float32)
    for column, count in categories:
        rows[:, column] = random.integers(0, count, ANSWERED)
        rows[:4, column] = np.nan
    asked = rows
    if categories:
        asked = pd.DataFrame(rows, columns=booster.feature_names)
        for column, _ in categories:
            dtype = data.dtypes.iloc[column]
            codes = np.nan_to_num(rows[:, column], nan=-1).astype(int)
            asked.isetitem(column, pd.Series(pd.Categorical.from_codes(codes, dtype=dtype)))
    matrix = xgb.DMatrix(asked, enable_categorical=True)
    outputs = {"prediction": booster.predict(matrix), "margin": booster.predict(matrix, output_margin=True)}
    write(HERE / f"xgboost_{name}.input.json", "inputs", {"X": rows})
    write(HERE / f"xgboost_{name}.expected.json", "outputs", outputs)


frame = pd.DataFrame(with_gaps[:, :3], columns=["a", "b", "c"])
frame.insert(1, "city", pd.Categorical(cities))
frame["size"] = pd.Categorical(sizes)
# XGBoost 3.2 cuts category names that are not ASCII: it takes their number of characters for that of their bytes.
ascii_frame = frame.assign(city=frame.city.cat.rename_categories({"Łódź": "Lodz"}))

HERE.mkdir(exist_ok=True)
lightgbm("sigmoid_2", {"objective": "binary", "sigmoid": 2.0}, classes > 0)
lightgbm("sqrt", {"objective": "regression", "reg_sqrt": True}, score * 3)
lightgbm("l1", {"objective": "regression_l1"}, score)
lightgbm("huber", {"objective": "huber"}, score)
lightgbm("fair", {"objective": "fair"}, score)
lightgbm("mape", {"objective": "mape"}, counts + 1)
lightgbm("gamma", {"objective": "gamma"}, counts + 0.5)
lightgbm("tweedie", {"objective": "tweedie"}, counts)
lightgbm("cross_entropy", {"objective": "cross_entropy"}, shares)
lightgbm("cross_entropy_lambda", {"objective": "cross_entropy_lambda"}, shares)
lightgbm("rf_multiclass", {"objective": "multiclass", "num_class": 3, "boosting": "rf", "bagging_freq": 1,
                           "bagging_fraction": 0.6}, classes)
lightgbm("rf_regression", {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}, score)
lightgbm("dart", {"objective": "regression", "boosting": "dart"}, score)
lightgbm("zero_as_missing", {"objective": "regression", "zero_as_missing": True}, score)
lightgbm("one_leaf", {"objective": "regression"}, np.full(ROWS, 2.5))
lightgbm("pandas", {"objective": "binary", "min_data_per_group": 5, "cat_smooth": 1},
         (score + 2 * (cities == "Bern") - (sizes == 10)) > 0.5, data=frame, categories=((1, 4), (4, 3)))
# The objective of a caller's own function is not in the file.
lightgbm("own_objective", {"objective": lambda predictions, data: (predictions - data.get_label(), np.ones(ROWS))}, score)

xgboost("logitraw", {"objective": "binary:logitraw", "base_score": 0.3}, classes > 0)
xgboost("reg_logistic", {"objective": "reg:logistic"}, shares)
xgboost("gamma", {"objective": "reg:gamma"}, counts + 0.5)
xgboost("tweedie", {"objective": "reg:tweedie", "base_score": 2.0}, counts)
xgboost("quantile", {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}, score)
xgboost("absolute", {"objective": "reg:absoluteerror"}, score)
xgboost("labels", {"objective": "binary:logistic"}, np.stack([classes > 0, classes > 1], 1))
xgboost("lossguide", {"objective": "multi:softprob", "num_class": 3, "grow_policy": "lossguide", "max_leaves": 6,
                      "num_parallel_tree": 2, "subsample": 0.7}, classes)
xgboost("pruned", {"objective": "reg:squarederror", "tree_method": "exact", "gamma": 20, "max_depth": 5}, score)
xgboost("pandas", {"objective": "binary:logistic"}, (score + 2 * (cities == "Bern") - (sizes == 10)) > 0.5,
        data=ascii_frame, categories=((1, 4), (4, 3)))

# Objectives whose training needs more than a table and a target.
groups = np.full(ROWS // 20, 20)


def ranked(parameters):
    data = lgb.Dataset(with_gaps, classes, group=groups)
    booster = lgb.train({"verbose": -1, "seed": 7, "num_leaves": 7, "min_data_in_leaf": 10, "num_threads": 1,
                         "deterministic": True, "force_row_wise": True} | parameters, data, 6)
    name = f"lightgbm_{parameters['objective']}"
    booster.save_model(HERE / f"{name}.txt")
    frame = booster.trees_to_dataframe()
    thresholds = {}
    for feature, value in zip(*[frame[frame.decision_type == "<="][c] for c in ("split_feature", "threshold")]):
        thresholds.setdefault(booster.feature_name().index(feature), []).append(float(value))
    rows = questions(thresholds, np.float64)
    write(HERE / f"{name}.input.json", "inputs", {"X": rows})
    write(HERE / f"{name}.expected.json", "outputs", {"prediction": booster.predict(rows, num_threads=1)})


ranked({"objective": "lambdarank"})
ranked({"objective": "rank_xendcg"})
lightgbm("poisson_dart", {"objective": "poisson", "boosting": "dart"}, counts)
xgboost("squared_log", {"objective": "reg:squaredlogerror"}, counts + 0.5)
xgboost("pseudo_huber", {"objective": "reg:pseudohubererror"}, score)
# Negative times are censored.
xgboost("cox", {"objective": "survival:cox"}, np.where(classes == 1, -1.0, 1.0) * (counts + 0.5))


class Bounded(xgb.DMatrix):
    def __init__(self, data, label=None, **options):
        super().__init__(data, **options)
        if label is not None:
            self.set_float_info("label_lower_bound", counts + 0.5)
            self.set_float_info("label_upper_bound", np.where(classes == 1, np.inf, counts + 0.5))


xgb.DMatrix = Bounded
xgboost("aft", {"objective": "survival:aft", "aft_loss_distribution": "normal"}, counts)
