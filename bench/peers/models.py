"""Makes model files of other libraries, and measures the libraries that made them.

Usage: models.py make FOLDER           writes models of about 1 MB and 10 MB in each format, and 100 rows for them
       models.py time FILE [ROWS]      prints one JSON object with the figures of the library for one model file
       models.py tract FILE            prints the same of tract for a neural network, or {"refused": "why"}

`time` and `tract` use one thread. Loading is from the file to the first answer, without the import of the library. Calls with one
row and with 100 rows are repeated for half a second each, and the median is printed, in microseconds per row. Without
ROWS, rows are zeros: that is for neural networks, whose time does not depend on the values.
"""

import json
import os
import pathlib
import statistics
import sys
import time

# Threads that wait for each other make a busy machine slow.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy

FEATURES = 20
TYPES = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32}
TRACT_TYPES = {"tensor(float)": "f32", "tensor(int64)": "i64", "tensor(int32)": "i32"}


def make(folder):
    import lightgbm
    import skl2onnx
    import skops.io
    import xgboost
    from sklearn.datasets import make_classification
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.neural_network import MLPClassifier

    folder = pathlib.Path(folder)
    x, y = make_classification(8100, FEATURES, n_informative=12, n_classes=2, flip_y=0.1, random_state=1)
    x, y, rows = x[:8000].astype(numpy.float32), y[:8000], x[8000:].astype(numpy.float32)
    (folder / "rows.json").write_text(json.dumps(rows.tolist()))

    for size, trees in [("1", 74), ("10", 740)]:
        parameters = {"objective": "binary", "num_leaves": 127, "learning_rate": 0.05, "verbose": -1, "num_threads": 1}
        booster = lightgbm.train(parameters, lightgbm.Dataset(x, y), trees)
        booster.save_model(folder / f"lightgbm-{size}.txt")
    for size, trees in [("1", 130), ("10", 1700)]:
        parameters = {"objective": "binary:logistic", "max_leaves": 127, "grow_policy": "lossguide", "eta": 0.02, "min_child_weight": 0, "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(x, y), trees)
        booster.save_model(folder / f"xgboost-{size}.json")
        booster.save_model(folder / f"xgboost-{size}.ubj")
    for size, trees in [("1", 8), ("10", 80)]:
        forest = RandomForestClassifier(trees, random_state=1, n_jobs=1).fit(x, y)
        skops.io.dump(forest, folder / f"forest-{size}.skops")
    for size, trees in [("1", 18), ("10", 180)]:
        forest = RandomForestClassifier(trees, random_state=1, n_jobs=1).fit(x, y)
        onnx = skl2onnx.to_onnx(forest, x[:1], options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3})
        (folder / f"forest-{size}.onnx").write_bytes(onnx.SerializeToString())
    for size, trees in [("1", 54), ("10", 540)]:
        boosting = HistGradientBoostingClassifier(
            max_iter=trees, max_leaf_nodes=127, learning_rate=0.05, early_stopping=False, random_state=1
        ).fit(x, y)
        skops.io.dump(boosting, folder / f"boosting-{size}.skops")
    for size, width in [("1", 490), ("10", 1560)]:
        network = MLPClassifier((width, width), max_iter=1, random_state=1).fit(x, y)
        onnx = skl2onnx.to_onnx(network, x[:1], options={"zipmap": False}, target_opset=18)
        (folder / f"network-{size}.onnx").write_bytes(onnx.SerializeToString())


def opened(file):
    """The library's name, its version, and a function that loads the file into a function of rows."""
    if file.suffix == ".txt":
        import lightgbm

        def load():
            booster = lightgbm.Booster(model_file=file)
            return lambda rows: booster.predict(rows, num_threads=1)

        return "lightgbm", lightgbm.__version__, load
    if file.suffix in (".json", ".ubj"):
        import xgboost

        def load():
            booster = xgboost.Booster({"nthread": 1}, model_file=file)
            return booster.inplace_predict

        return "xgboost", xgboost.__version__, load
    if file.suffix == ".skops":
        import skops.io
        import sklearn
        # Otherwise loading would have to import them.
        import sklearn.ensemble

        trusted = skops.io.get_untrusted_types(file=file)
        return "scikit-learn", sklearn.__version__, lambda: skops.io.load(file, trusted=trusted).predict_proba
    return opened_by_onnxruntime(file)


def opened_by_onnxruntime(file):
    import onnxruntime

    def load():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options)
        ports = session.get_inputs()

        def run(rows):
            return session.run(None, rows if isinstance(rows, dict) else {ports[0].name: rows})

        run.ports = ports
        return run

    return "onnxruntime", onnxruntime.__version__, load


def median_us(call):
    """The median of calls within half a second, at least 10."""
    times = []
    end = time.perf_counter() + 0.5
    while len(times) < 10 or time.perf_counter() < end:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1e3


def zeros(ports, count):
    """Rows for all inputs of a network."""
    return {port.name: numpy.zeros([count, *port.shape[1:]], TYPES[port.type]) for port in ports}


def measure(file, rows):
    library, version, load = opened(file)
    if rows:
        hundred = numpy.array(json.loads(rows.read_text()), numpy.float32)
        singles = [hundred[row : row + 1] for row in range(len(hundred))]
    else:
        ports = load().ports
        hundred, singles = zeros(ports, 100), [zeros(ports, 1)]

    start = time.perf_counter()
    predict = load()
    predict(singles[0])
    load_ms = (time.perf_counter() - start) * 1e3

    turn = 0

    def single():
        nonlocal turn
        turn += 1
        predict(singles[turn % len(singles)])

    figures = {"load_ms": load_ms, "single_us": median_us(single), "hundred_us": median_us(lambda: predict(hundred)) / 100}
    print(json.dumps({"library": library, "version": version, **figures}))


def measure_tract(file):
    import tract

    _, _, load_onnxruntime = opened_by_onnxruntime(file)
    ports = load_onnxruntime().ports
    one, hundred = (list(zeros(ports, count).values()) for count in (1, 100))

    def load(rows):
        """A function of rows. `rows` is their number, or None for any number, as the file declares it."""
        network = tract.onnx().load(file)
        if rows:
            for at, port in enumerate(ports):
                shape = [rows, *port.shape[1:]]
                network.set_input_fact(at, ",".join(map(str, [*shape, TRACT_TYPES[port.type]])))
            for at in range(network.output_count()):
                network.set_output_fact(at, None)
        runnable = network.into_model().into_runnable()
        return lambda inputs: [output.to_numpy() for output in runnable.run(inputs)]

    def loaded(rows):
        start = time.perf_counter()
        predict = load(rows)
        predict(one if rows in (None, 1) else hundred)
        return predict, (time.perf_counter() - start) * 1e3

    try:
        try:
            single, load_ms = loaded(None)
            single(hundred)
            many, any_rows = single, True
        except tract.TractError:
            single, load_ms = loaded(1)
            many, any_rows = loaded(100)[0], False
    except tract.TractError as error:
        # The text goes on with the causes and a stack.
        causes = str(error).split("Stack backtrace")[0]
        print(json.dumps({"refused": " ".join(causes.split())}))
        return
    figures = {"load_ms": load_ms, "single_us": median_us(lambda: single(one)), "hundred_us": median_us(lambda: many(hundred)) / 100}
    print(json.dumps({"any_rows": any_rows, **figures}))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    elif sys.argv[1] == "tract":
        measure_tract(pathlib.Path(sys.argv[2]))
    else:
        measure(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None)
