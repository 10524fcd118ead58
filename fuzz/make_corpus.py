"""Makes the first files of corpus/ from small golden models: python make_corpus.py"""
import pathlib
import struct
import zipfile

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent / "tests/golden/models"


def keep(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def entries(path):
    """The entries of an archive as the target skops takes them."""
    content = b"ENTRIES"
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            content += struct.pack("<HI", len(name), len(data)) + name.encode() + data
    return content


for name in ["boosted/lightgbm_one_leaf.txt", "boosted/lightgbm_pandas.txt", "library/lgb_v33_binary.txt"]:
    keep("lightgbm", pathlib.Path(name).name, (MODELS / name).read_bytes())
for name in ["boosted/xgboost_pandas", "library/xgb_v17_binary", "library/xgb_gblinear_REFUSE"]:
    for ending in ["json", "ubj"]:
        keep(f"xgboost_{ending}", f"{pathlib.Path(name).name}.{ending}", (MODELS / f"{name}.{ending}").read_bytes())
for name in ["skl_columns_onehot_logreg.onnx", "cat_regression.onnx"]:
    keep("onnx", name, (MODELS / "onnx" / name).read_bytes())
for name in ["logistic_binary", "columns_missing_category", "decision_tree_one_leaf", "hist_absolute"]:
    keep("skops", name, entries(MODELS / f"skops/{name}.skops"))
keep("skops", "linear.skops", (MODELS / "skops/linear.skops").read_bytes())
for name in ["onnx", "sklearn_texts", "xgboost_json"]:
    manifest, model = sorted((MODELS / "mlflow" / name).iterdir())
    keep("mlflow", name, manifest.read_bytes() + b"\0" + model.read_bytes())
for name in ["mlflow/sklearn_REFUSE_pickle/model.pkl", "skops/linear.skops", "library/lgb_v33_binary.txt"]:
    keep("detect", pathlib.Path(name).name, (MODELS / name).read_bytes()[:20000])
