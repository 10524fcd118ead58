"""Makes the scikit-learn models in skops/ and the answers of scikit-learn.

    pip install scikit-learn==1.9.1 skops==0.16.0 lightgbm==4.7.0 pandas
    python make_skops.py
    pip install scikit-learn==1.3.2 skops==0.9.0 "numpy<2" pandas==2.1.4
    python make_skops.py v13

NAME.input.json and NAME.expected.json have {"inputs"|"outputs": [{"name", "dtype", "shape", "data"}]}. The data is flat,
row after row; null is NaN or a missing text. Rows are random, at thresholds, next to thresholds, extreme and missing values.
"""
import json
import pathlib
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import skops.io
from sklearn import ensemble, linear_model, tree
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (FunctionTransformer, MaxAbsScaler, MinMaxScaler, Normalizer, OneHotEncoder,
                                   OrdinalEncoder, PolynomialFeatures, RobustScaler, StandardScaler)

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent / "skops"
ROWS, COLUMNS, ANSWERED = 500, 5, 200
OLD = sys.argv[1:] == ["v13"]
random = np.random.default_rng(20261201)

table = random.normal(size=(ROWS, COLUMNS)).round(3)
with_gaps = np.where(random.random(table.shape) < 0.1, np.nan, table)
score = table[:, 0] - 0.7 * table[:, 1] * table[:, 2] + 0.2 * table[:, 3]
counts = random.poisson(np.exp(np.clip(0.4 * score, -3, 3)))
classes = np.digitize(score, [-0.5, 0.8])
words = np.array(["low", "mid", "high"])[classes]
frame = pd.DataFrame(with_gaps[:, :3], columns=["age", "income", "visits"])
frame.insert(1, "city", np.array(["Łódź", "Oslo", "Bern", "New York"], dtype=object)[random.integers(0, 4, ROWS)])
frame["size"] = random.integers(0, 3, ROWS) * 10.0
frame["paid"] = np.array(["no", "yes"], dtype=object)[random.integers(0, 2, ROWS)]
frame_score = score + 2 * (frame.city == "Bern") - (frame["size"] == 10) + (frame.paid == "yes")
frame_classes = np.digitize(frame_score, [0.0, 1.5])
complete = frame.fillna(0.25)
lossy = frame.copy()
lossy.loc[random.random(ROWS) < 0.1, "city"] = np.nan


def write(path, key, tensors):
    def plain(value):
        return None if value is None or (isinstance(value, float) and np.isnan(value)) else value

    def tensor(name, array):
        array = np.asarray(array)
        data = [plain(value) for value in array.ravel().tolist()]
        return {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "data": data}

    path.write_text(json.dumps({key: [tensor(*item) for item in tensors.items()]}, separators=(",", ":"),
                               ensure_ascii=False) + "\n")


def thresholds(model):
    """The thresholds of all trees, by column."""
    found = {}
    if hasattr(model, "_predictors"):
        for nodes in [predictor.nodes for row in model._predictors for predictor in row]:
            nodes = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
            for column, value in zip(nodes["feature_idx"], nodes["num_threshold"]):
                if abs(value) < 1e30:
                    found.setdefault(int(column), []).append(float(value))
        return found
    trees = np.ravel(model.estimators_) if hasattr(model, "estimators_") else [model]
    for one in trees:
        if hasattr(one, "tree_"):
            for column, value in zip(one.tree_.feature, one.tree_.threshold):
                # A split on missing values only has an infinite threshold.
                if column >= 0 and abs(value) < 1e30:
                    found.setdefault(int(column), []).append(float(value))
    return found


def questions(near, gaps, columns=COLUMNS):
    """Rows whose values are random, special, at a threshold or next to one."""
    rows = random.normal(size=(ANSWERED, columns)).round(3)
    special = [0.0, -0.0, 1e-36, -1e-36, 1e30, -1e30] + gaps * 2 * [np.nan]
    for row, column in np.ndindex(rows.shape):
        choice = random.random()
        if choice < 0.15:
            rows[row, column] = random.choice(special)
        elif choice < 0.65 and column in near:
            value = near[column][random.integers(len(near[column]))]
            step = random.integers(5)
            single = np.float32(value)
            rows[row, column] = [value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf),
                                 np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))][step]
    return rows


def frame_questions(gaps=True, lossy_city=False):
    numbers = questions({}, gaps, 3)
    rows = pd.DataFrame(numbers, columns=["age", "income", "visits"])
    rows.insert(1, "city", np.array(["Łódź", "Oslo", "Bern", "New York"], dtype=object)[random.integers(0, 4, ANSWERED)])
    rows["size"] = random.integers(0, 3, ANSWERED) * 10.0
    rows["paid"] = np.array(["no", "yes"], dtype=object)[random.integers(0, 2, ANSWERED)]
    if lossy_city:
        rows.loc[random.random(ANSWERED) < 0.2, "city"] = np.nan
    return rows


def dump(name, model, compression=zipfile.ZIP_DEFLATED):
    path = HERE / f"{'v13_' if OLD else ''}{name}.skops"
    skops.io.dump(model, path, compression=compression)
    return path


def save(name, model, rows, **options):
    path = dump(name, model, **options)
    outputs = {"prediction": model.predict(rows)}
    if hasattr(model, "predict_proba"):
        outputs["probabilities"] = model.predict_proba(rows)
    asked = rows.to_numpy(dtype=object) if isinstance(rows, pd.DataFrame) else rows
    write(path.with_suffix(".input.json"), "inputs", {"X": asked})
    write(path.with_suffix(".expected.json"), "outputs", outputs)


def trees(name, model, target, data=table, gaps=False, **options):
    model.fit(data, target)
    near = {} if hasattr(data, "columns") else thresholds(model)
    save(name, model, questions(near, gaps), **options)


def linear(name, model, target, data=table, most=1e4):
    rows = np.clip(questions({}, False), -most, most)
    save(name, model.fit(data, target), rows)


def columns(name, model, target, data, rows):
    save(name, model.fit(data, target), rows)


HERE.mkdir(exist_ok=True)
small = {"max_depth": 4, "random_state": 7}
hist = {"max_iter": 4, "max_leaf_nodes": 8, "random_state": 7}
encoder = dict(sparse_output=False)
city_first = make_column_transformer((OneHotEncoder(**encoder), ["city", "paid"]), (StandardScaler(), ["visits", "age"]),
                                     ("passthrough", ["size"]))

trees("rf_classifier", ensemble.RandomForestClassifier(5, **small), words)
trees("gb_classifier", ensemble.GradientBoostingClassifier(n_estimators=3, random_state=7), words)
trees("hist_binary", ensemble.HistGradientBoostingClassifier(**hist), classes > 0, with_gaps, True)
trees("hist_multiclass", ensemble.HistGradientBoostingClassifier(**hist), words, with_gaps, True)
trees("decision_tree_gaps", tree.DecisionTreeClassifier(**small), classes, with_gaps, True)
linear("logistic_multinomial", linear_model.LogisticRegression(), words)
columns("columns", make_pipeline(city_first, linear_model.LogisticRegression()), frame_classes, complete, frame_questions(False))
if OLD:
    linear("logistic_binary_multinomial", linear_model.LogisticRegression(multi_class="multinomial"), classes > 0)
    linear("logistic_ovr", linear_model.LogisticRegression(multi_class="ovr"), words)
    sys.exit()

trees("rf_classifier_stored", ensemble.RandomForestClassifier(3, **small), classes, compression=zipfile.ZIP_STORED)
trees("rf_classifier_gaps", ensemble.RandomForestClassifier(5, **small), classes > 0, with_gaps, True)
trees("rf_regressor", ensemble.RandomForestRegressor(5, **small), score, with_gaps, True)
trees("rf_regressor_several", ensemble.RandomForestRegressor(4, **small), np.stack([score, counts], axis=1))
trees("extra_trees_classifier", ensemble.ExtraTreesClassifier(5, **small), words)
trees("extra_trees_regressor", ensemble.ExtraTreesRegressor(5, **small), score)
trees("decision_tree_regressor", tree.DecisionTreeRegressor(**small), score)
trees("decision_tree_one_leaf", tree.DecisionTreeRegressor(**small), np.full(ROWS, 2.5))
trees("extra_tree", tree.ExtraTreeClassifier(**small), classes)
trees("gb_binary", ensemble.GradientBoostingClassifier(n_estimators=4, random_state=7), classes > 0)
trees("gb_exponential", ensemble.GradientBoostingClassifier(n_estimators=4, random_state=7, loss="exponential"), classes > 0)
trees("gb_zero", ensemble.GradientBoostingClassifier(n_estimators=4, random_state=7, init="zero"), classes)
trees("gb_regressor", ensemble.GradientBoostingRegressor(n_estimators=4, random_state=7), score)
trees("gb_huber", ensemble.GradientBoostingRegressor(n_estimators=4, random_state=7, loss="huber", subsample=0.7), score)
trees("gb_quantile", ensemble.GradientBoostingRegressor(n_estimators=4, random_state=7, loss="quantile"), score)
trees("hist_regressor", ensemble.HistGradientBoostingRegressor(**hist), score, with_gaps, True)
trees("hist_poisson", ensemble.HistGradientBoostingRegressor(loss="poisson", **hist), counts, with_gaps, True)
trees("hist_gamma", ensemble.HistGradientBoostingRegressor(loss="gamma", **hist), counts + 0.5)
trees("hist_absolute", ensemble.HistGradientBoostingRegressor(loss="absolute_error", **hist), score)
trees("hist_quantile", ensemble.HistGradientBoostingRegressor(loss="quantile", quantile=0.8, **hist), score)
with_codes = with_gaps.copy()
with_codes[:, 3] = random.integers(0, 6, ROWS)
codes = ensemble.HistGradientBoostingRegressor(categorical_features=[3], **hist).fit(
    with_codes, score + 3 * np.isin(with_codes[:, 3], [1, 4]))
asked = questions(thresholds(codes), True)
asked[:, 3] = random.integers(-1, 8, ANSWERED)
asked[:8, 3] = np.nan
save("hist_codes", codes, asked)
typed = frame.astype({"city": "category", "paid": "category"})
hist_columns = ensemble.HistGradientBoostingClassifier(categorical_features="from_dtype", **hist)
asked = frame_questions(lossy_city=True)
save("hist_categories", hist_columns.fit(typed, frame_classes),
     asked.astype({"city": typed.city.dtype, "paid": typed.paid.dtype}))

linear("logistic_binary", linear_model.LogisticRegression(C=0.5), classes > 0)
linear("logistic_labels", linear_model.LogisticRegression(), np.where(score > 0, 7, -3))
linear("linear", linear_model.LinearRegression(), score)
linear("linear_several", linear_model.LinearRegression(), np.stack([score, counts], axis=1))
linear("linear_no_intercept", linear_model.LinearRegression(fit_intercept=False), score)
linear("ridge", linear_model.Ridge(), np.stack([score, counts, score * 2], axis=1))
linear("lasso", linear_model.LassoCV(), score)
linear("elastic_net", linear_model.ElasticNet(alpha=0.1), score)
linear("poisson", linear_model.PoissonRegressor(), counts, most=50)
linear("gamma", linear_model.GammaRegressor(), counts + 0.5, most=50)
linear("tweedie", linear_model.TweedieRegressor(power=1.5), counts, most=50)
linear("tweedie_normal", linear_model.TweedieRegressor(power=0), score)
linear("sgd_log", linear_model.SGDClassifier(loss="log_loss", random_state=7), words)
linear("sgd_regressor", linear_model.SGDRegressor(random_state=7), score)

linear("scaler_logistic", make_pipeline(StandardScaler(), linear_model.LogisticRegression()), words)
linear("scaler_without_mean", make_pipeline(StandardScaler(with_mean=False), linear_model.Ridge()), score)
linear("min_max", make_pipeline(MinMaxScaler(feature_range=(-1, 2)), linear_model.LinearRegression()), score)
linear("min_max_clip", make_pipeline(MinMaxScaler(clip=True), linear_model.LinearRegression()), score)
linear("robust_max_abs", make_pipeline(RobustScaler(), MaxAbsScaler(), linear_model.Ridge()), score)
for norm in ["l1", "l2", "max"]:
    linear(f"normalizer_{norm}", make_pipeline(StandardScaler(), Normalizer(norm), "passthrough",
                                               linear_model.LogisticRegression()), words)
for strategy in ["mean", "median", "constant"]:
    trees(f"imputer_{strategy}", make_pipeline(SimpleImputer(strategy=strategy, fill_value=None if strategy != "constant" else -2.0),
                                               ensemble.RandomForestClassifier(4, **small)), words, with_gaps, True)
trees("imputer_zero", make_pipeline(SimpleImputer(missing_values=0, strategy="mean"), ensemble.ExtraTreesRegressor(4, **small)),
      score, np.where(random.random(table.shape) < 0.2, 0.0, table))

rows = frame_questions()
columns("columns_trees", make_pipeline(
    make_column_transformer((OrdinalEncoder(), [1, 5]), (SimpleImputer(), [0]), remainder="passthrough"),
    ensemble.HistGradientBoostingClassifier(**hist)), frame_classes, frame, rows)
columns("columns_nested", make_pipeline(
    ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), slice("income", "visits")),
        ("texts", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["city"]),
        ("size", OneHotEncoder(drop="first"), ["size"]),
        ("none", "drop", ["age"]),
    ]), linear_model.LogisticRegression()), frame_classes, lossy, frame_questions(lossy_city=True))
columns("columns_missing_category", make_pipeline(
    make_column_transformer((OneHotEncoder(drop="if_binary"), ["city", "paid"]),
                            (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2), ["city", "size"]),
                            (SimpleImputer(strategy="constant", fill_value="Oslo"), [])),
    linear_model.LogisticRegression()), frame_classes, lossy, frame_questions(lossy_city=True))
columns("columns_normalizer", make_pipeline(city_first, Normalizer(), MinMaxScaler(), ensemble.RandomForestRegressor(4, **small)),
        frame_score, complete, frame_questions(False))
columns("encoder_only", make_pipeline(OneHotEncoder(handle_unknown="ignore"), linear_model.Ridge()), frame_score,
        frame[["city", "paid"]], frame_questions()[["city", "paid"]])

import lightgbm as lgb

booster = lgb.LGBMClassifier(n_estimators=4, num_leaves=7, verbose=-1, n_jobs=1, random_state=7).fit(with_gaps, words)
save("lightgbm_classifier", booster, questions({}, True))
regressor = lgb.LGBMRegressor(n_estimators=4, num_leaves=7, verbose=-1, n_jobs=1, random_state=7).fit(with_gaps, score)
save("lightgbm_regressor", make_pipeline(StandardScaler(), regressor).fit(with_gaps, score), questions({}, True))

from sklearn import neighbors, neural_network, svm

for name, model in {
    "svc": svm.SVC(), "neighbors": neighbors.KNeighborsClassifier(), "linear_svc": svm.LinearSVC(),
    "mlp": neural_network.MLPClassifier((2,), max_iter=2),
    "polynomial": make_pipeline(PolynomialFeatures(), linear_model.LogisticRegression()),
    "function": make_pipeline(FunctionTransformer(np.log1p), linear_model.LogisticRegression()),
    "indicator": make_pipeline(SimpleImputer(add_indicator=True), tree.DecisionTreeClassifier(**small)),
    "infrequent": make_pipeline(OneHotEncoder(min_frequency=200, handle_unknown="infrequent_if_exist"), linear_model.LogisticRegression()),
    "perceptron": linear_model.Perceptron(),
    "voting": ensemble.VotingClassifier([("a", tree.DecisionTreeClassifier(**small))]),
    "part_normalizer": make_pipeline(make_column_transformer((Normalizer(), [0, 1]), remainder="passthrough"), tree.DecisionTreeClassifier(**small)),
    "init": ensemble.GradientBoostingClassifier(n_estimators=1, init=linear_model.LogisticRegression()),
}.items():
    data = frame[["city"]] if name == "infrequent" else with_gaps if name == "indicator" else np.abs(table)
    dump(f"REFUSE_{name}", model.fit(data, classes))
several = ensemble.RandomForestClassifier(2, **small).fit(table, np.stack([classes, classes > 0], axis=1))
dump("REFUSE_several_targets", several)
dump("REFUSE_scaler", StandardScaler().fit(table))
