"""Makes the MLflow folders in mlflow/ and the answers of the libraries.

    pip install mlflow-skinny==3.17.2 scikit-learn==1.9.1 skops==0.16.0 xgboost==3.2.0 lightgbm==4.7.0 skl2onnx==1.20.0 onnxruntime pandas
    python make_mlflow.py
"""
import json
import logging
import pathlib
import shutil
import warnings

import lightgbm as lgb
import mlflow.lightgbm
import mlflow.onnx
import mlflow.sklearn
import mlflow.xgboost
import numpy as np
import pandas as pd
import xgboost as xgb
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
HERE = pathlib.Path(__file__).parent / "mlflow"
ROWS, ANSWERED = 300, 100
random = np.random.default_rng(20261201)
frame = pd.DataFrame(random.normal(size=(ROWS, 3)).round(2), columns=["age", "income", "visits per day"])
target = (frame.age + frame.income > 0).astype(int)
texts = frame.assign(city=np.array(["Oslo", "Bern"], dtype=object)[random.integers(0, 2, ROWS)])
gaps = frame.iloc[:ANSWERED].where(random.random((ANSWERED, 3)) > 0.2)


def tensors(path, key, name, array):
    data = [None if isinstance(value, float) and np.isnan(value) else value for value in np.asarray(array).ravel().tolist()]
    tensor = {"name": name, "dtype": str(np.asarray(array).dtype), "shape": list(np.shape(array)), "data": data}
    path.write_text(json.dumps({key: [tensor]}, separators=(",", ":")) + "\n")


def save(name, save_model, model, asked, outputs, example=None, **options):
    """`outputs` are the probabilities of the classes."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    signature = infer_signature(asked if example is None else example, np.asarray(outputs))
    save_model(model, path=str(folder), signature=signature, pip_requirements=["numpy"], **options)
    for other in ["conda.yaml", "python_env.yaml", "requirements.txt"]:
        (folder / other).unlink()
    tensors(HERE / f"{name}.input.json", "inputs", "X", asked)
    tensors(HERE / f"{name}.expected.json", "outputs", "probabilities", outputs)


HERE.mkdir(exist_ok=True)
second = lambda probabilities: np.stack([1 - probabilities, probabilities], axis=1)
booster = xgb.train({"objective": "binary:logistic", "max_depth": 3, "seed": 7}, xgb.DMatrix(frame, target), 4)
answers = second(booster.predict(xgb.DMatrix(gaps)).astype(np.float64))
save("xgboost", mlflow.xgboost.save_model, booster, gaps, answers)
save("xgboost_json", mlflow.xgboost.save_model, booster, gaps, answers, model_format="json")
model = xgb.XGBClassifier(n_estimators=4, max_depth=3, random_state=7).fit(frame, target)
save("xgboost_classifier", mlflow.xgboost.save_model, model, gaps, model.predict_proba(gaps).astype(np.float64))
booster = lgb.train({"objective": "binary", "num_leaves": 6, "verbose": -1, "num_threads": 1, "seed": 7}, lgb.Dataset(frame, target), 4)
save("lightgbm", mlflow.lightgbm.save_model, booster, gaps, second(booster.predict(gaps)))
model = lgb.LGBMClassifier(n_estimators=4, num_leaves=6, verbose=-1, n_jobs=1, random_state=7).fit(frame, target)
save("lightgbm_classifier", mlflow.lightgbm.save_model, model, gaps, model.predict_proba(gaps))
model = RandomForestClassifier(3, max_depth=3, random_state=7).fit(frame.where(random.random(frame.shape) > 0.1), target)
trusted = ["sklearn.tree._tree.Tree"]
save("sklearn", mlflow.sklearn.save_model, model, gaps, model.predict_proba(gaps), skops_trusted_types=trusted)
save("sklearn_REFUSE_pickle", mlflow.sklearn.save_model, model, gaps, model.predict_proba(gaps), serialization_format="cloudpickle")
model = make_pipeline(make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"), LogisticRegression()).fit(texts, target)
asked = texts.iloc[:ANSWERED]
save("sklearn_texts", mlflow.sklearn.save_model, model, asked, model.predict_proba(asked))
numbers = frame.to_numpy(np.float32)
model = LogisticRegression().fit(numbers, target)
graph = to_onnx(model, numbers[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
# Some versions write the name of the user and paths into the file; nothing here needs them.
graph.doc_string = ""
save("onnx", mlflow.onnx.save_model, graph, numbers[:ANSWERED], model.predict_proba(numbers[:ANSWERED]).astype(np.float64))
