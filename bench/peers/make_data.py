"""Creates the CSV files on which Canopy and scikit-learn train.

Usage: make_data.py FOLDER

demo.csv, demo-test.csv    1000 rows of 4 standard normal features, class 1 where the first two add up to more than 0
large.csv, large-test.csv  20000 rows of 20 features, 3 classes, by scikit-learn's make_classification

Seeds are fixed. *-test.csv has hold-out rows, a quarter of the number of training rows.
"""

import sys
from pathlib import Path

import numpy
from sklearn.datasets import make_classification


def demo(rows):
    features = numpy.random.default_rng(42).standard_normal((rows, 4))
    return features, (features[:, 0] + features[:, 1] > 0).astype(int)


def large(rows):
    return make_classification(
        n_samples=rows, n_features=20, n_informative=10, n_redundant=4, n_classes=3, random_state=42
    )


def write(path, features, classes):
    names = [f"x{column}" for column in range(features.shape[1])]
    with path.open("w") as file:
        print(*names, "class", sep=",", file=file)
        for row, label in zip(features, classes):
            # repr is the shortest text that parses to the same number.
            print(*(repr(float(value)) for value in row), label, sep=",", file=file)


def main():
    folder = Path(sys.argv[1])
    for name, make, rows in [("demo", demo, 1000), ("large", large, 20000)]:
        features, classes = make(rows + rows // 4)
        write(folder / f"{name}.csv", features[:rows], classes[:rows])
        write(folder / f"{name}-test.csv", features[rows:], classes[rows:])


main()
