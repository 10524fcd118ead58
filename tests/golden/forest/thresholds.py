#!/usr/bin/env python3
"""Makes thresholds.json: which way scikit-learn sends rows on and beside a threshold that no 32-bit float is equal to.

    /tmp/venv/bin/python thresholds.py > thresholds.json

The versions are those of make.py. Entry `width` - 2 is of a tree that learned two rows, 1.0 of class 0 and the float
`width` steps above of class 1; it has the class of each float from the first to the second.
"""

import json

import numpy
from sklearn.tree import DecisionTreeClassifier

ONE = numpy.float32(1).view(numpy.uint32)


def above(steps):
    return numpy.uint32(ONE + steps).view(numpy.float32)


def classes(width):
    tree = DecisionTreeClassifier(random_state=0).fit([[above(0)], [above(width)]], [0, 1])
    rows = numpy.array([[above(steps)] for steps in range(width + 1)], dtype=numpy.float32)
    return tree.predict(rows).tolist()


if __name__ == "__main__":
    print(json.dumps([classes(width) for width in range(2, 9)]))
