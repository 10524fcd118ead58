#!/usr/bin/env python3
"""Makes the answers that the forest is tested against. Pinned: scikit-learn 1.9.1, numpy 2.4.6.

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install scikit-learn==1.9.1 numpy==2.4.6
    /tmp/venv/bin/python make.py --out .

For each data set: <name>.csv, the rows; <name>.forest.json, the nodes of a forest that scikit-learn grew and what
it answers for rows it has not seen; and in cross_validation.json the accuracy of 5-fold cross-validation for each
seed, with the fold of each row, so that others are judged on the same folds. The same versions write the same
bytes.
"""

import argparse
import csv
import json
import pathlib
import re

import numpy
import sklearn
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold

SETS = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}
PINNED = {"scikit-learn": "1.9.1", "numpy": "2.4.6"}


def write_rows(path, data):
    """One line per row; the last column is the class: its name, or its number where the name is a number."""
    names = [re.sub(r"\W+", "_", name).strip("_") for name in data.feature_names]
    classes = [str(name) for name in data.target_names]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "class"])
        for row, target in zip(data.data, data.target):
            cells = [int(value) if value.is_integer() else value for value in row.tolist()]
            writer.writerow([*cells, classes[target]])


def cross_validation(data, seeds, jobs):
    """The mean accuracy over 5 folds for each seed, with default parameters, and the fold of each row as a digit."""
    accuracies, folds = [], []
    for seed in range(seeds):
        fold_of_row = numpy.zeros(len(data.target), dtype=int)
        accuracy = []
        splitter = StratifiedKFold(n_splits=5, shuffle=True, random_state=seed)
        for fold, (train, test) in enumerate(splitter.split(data.data, data.target)):
            fold_of_row[test] = fold
            forest = RandomForestClassifier(n_estimators=100, random_state=seed, n_jobs=jobs)
            forest.fit(data.data[train], data.target[train])
            accuracy.append(forest.score(data.data[test], data.target[test]))
        accuracies.append(float(numpy.mean(accuracy)))
        folds.append("".join(map(str, fold_of_row)))
    return {"accuracies": accuracies, "folds": folds}


def forest(data, trees):
    """A forest that learned from every other row, and its answers for the rest. Leaves of at least two rows, so
    that not every leaf has one class."""
    model = RandomForestClassifier(n_estimators=trees, min_samples_leaf=2, random_state=0, n_jobs=1)
    model.fit(data.data[::2], data.target[::2])
    probabilities = model.predict_proba(data.data[1::2])
    return {
        "features": data.data.shape[1],
        "classes": len(data.target_names),
        "trees": [nodes(estimator.tree_) for estimator in model.estimators_],
        "labels": model.predict(data.data[1::2]).tolist(),
        "probabilities": probabilities.tolist(),
    }


def nodes(tree):
    """Each split as [feature, threshold, left, right], each leaf as {"shares": the share of each class}."""
    return [
        {"shares": tree.value[node, 0].tolist()}
        if tree.children_left[node] < 0
        else [
            int(tree.feature[node]),
            float(tree.threshold[node]),
            int(tree.children_left[node]),
            int(tree.children_right[node]),
        ]
        for node in range(tree.node_count)
    ]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="the folder to write to")
    arguments.add_argument("--seeds", type=int, default=20, help="seeds of the cross-validation")
    arguments.add_argument("--trees", type=int, default=20, help="trees of the forests whose nodes are written")
    arguments.add_argument("--jobs", type=int, default=1, help="threads; they change nothing but the time")
    arguments = arguments.parse_args()
    found = {"scikit-learn": sklearn.__version__, "numpy": numpy.__version__}
    if found != PINNED:
        raise SystemExit(f"versions differ: found {found}, but {PINNED} made what is kept")
    validated = {}
    for name, load in SETS.items():
        data = load()
        write_rows(arguments.out / f"{name}.csv", data)
        with (arguments.out / f"{name}.forest.json").open("w") as file:
            json.dump(forest(data, arguments.trees), file, separators=(",", ":"))
            file.write("\n")
        validated[name] = cross_validation(data, arguments.seeds, arguments.jobs)
        print(name, numpy.mean(validated[name]["accuracies"]), flush=True)
    with (arguments.out / "cross_validation.json").open("w") as file:
        json.dump(validated, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
