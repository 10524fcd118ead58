"""Measures scikit-learn's random forest: 100 trees, each seed once, with a number of threads.

Usage: train.py NAME TRAIN.csv TEST.csv THREADS SEEDS

Prints one JSON object: seconds to fit and accuracy on the test rows for each seed, and microseconds per row in calls
with one row and in calls with all test rows.
"""

import json
import statistics
import sys
import time

import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler


def read(path):
    table = numpy.loadtxt(path, delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1].astype(int)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    name, train_path, test_path, threads, seeds = sys.argv[1:]
    (x, y), (x_test, y_test) = read(train_path), read(test_path)
    fit_seconds, accuracy = [], []
    for seed in range(int(seeds)):
        forest = RandomForestClassifier(n_estimators=100, random_state=seed, n_jobs=int(threads))
        scaler = StandardScaler()
        fit_seconds.append(seconds(lambda: forest.fit(scaler.fit_transform(x), y)))
        accuracy.append(float((forest.predict(scaler.transform(x_test)) == y_test).mean()))

    answer = lambda rows: forest.predict_proba(scaler.transform(rows))
    singles = [seconds(lambda: answer(x_test[[row % len(x_test)]])) for row in range(200)]
    batches = [seconds(lambda: answer(x_test)) for _ in range(9)]
    result = {
        "trainer": "scikit-learn",
        "data": name,
        "rows": len(x),
        "features": x.shape[1],
        "threads": int(threads),
        "fit_seconds": fit_seconds,
        "accuracy": accuracy,
        "single_us": statistics.median(singles) * 1e6,
        "batch_us": statistics.median(batches) / len(x_test) * 1e6,
    }
    print(json.dumps(result))


main()
