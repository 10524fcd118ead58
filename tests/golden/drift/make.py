#!/usr/bin/env python3
"""Makes the figures that drift is tested against. Pinned: numpy 2.4.6, scipy 1.17.1.

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install numpy==2.4.6 scipy==1.17.1
    /tmp/venv/bin/python make.py --out .

psi.json has a list of cases: the values of a feature in training and live, the edges of its bins, the rows in each
bin, and the population stability index, from numpy's quantiles and searches and from scipy's relative entropy. The
same versions write the same bytes.
"""

import argparse
import json
import pathlib

import numpy
import scipy
from scipy.special import rel_entr

PINNED = {"numpy": "2.4.6", "scipy": "1.17.1"}
BINS_MAX = 10
ROWS_PER_BIN = 20


def edges_of(trained):
    """Quantiles; a value that several of them have is a bin of its own; the largest value is no edge."""
    bins = min(max(len(trained) // ROWS_PER_BIN, 2), BINS_MAX)
    # Numbers of rows are chosen so that no quantile falls on a row exactly, where rounding would decide.
    cuts = numpy.quantile(trained, numpy.arange(1, bins) / bins, method="inverted_cdf")
    values, times = numpy.unique(cuts, return_counts=True)
    alone = (times > 1) | (trained.min() == trained.max())
    below = numpy.nextafter(values[alone], -numpy.inf)
    plain = values[~alone & (values < trained.max())]
    return numpy.unique(numpy.concatenate([below, values[alone], plain]))


def counts_of(values, edges):
    """A value is in the bin whose number is how many edges it exceeds."""
    return numpy.bincount(numpy.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)


def psi(trained, live):
    """The relative entropies both ways, after half a row of training was added to every share of both."""
    more = 0.5 / trained.sum()
    p, q = trained / trained.sum() + more, live / live.sum() + more
    p, q = p / p.sum(), q / q.sum()
    return float(rel_entr(q, p).sum() + rel_entr(p, q).sum())


def cases(random):
    """Names and values; each value has few digits, so that ties occur."""
    normal = lambda rows, mean=0.0, deviation=1.0: random.normal(mean, deviation, rows).round(2)
    trained = normal(397)
    yield "the same distribution", trained, normal(521)
    yield "the same rows", trained, trained
    yield "moved by half a deviation", trained, normal(521, mean=0.5)
    yield "moved by three deviations", trained, normal(521, mean=3.0)
    yield "twice as wide", trained, normal(521, deviation=2.0)
    yield "few rows", normal(97), normal(521)
    yield "very few rows", normal(31), normal(521)
    yield "constant, and still so", numpy.full(397, 0.1), numpy.full(521, 0.1)
    yield "constant, and then larger at times", numpy.full(397, 0.1), random.choice([0.1, 0.2], 521, p=[0.9, 0.1])
    yield "constant, and then smaller at times", numpy.full(31, 0.1), random.choice([0.1, 0.0], 521, p=[0.9, 0.1])
    coin = lambda rows, one: random.choice([0.0, 1.0], rows, p=[1 - one, one])
    yield "two values", coin(397, 0.5), coin(521, 0.5)
    yield "two values in other shares", coin(397, 0.5), coin(521, 0.8)
    yield "two values, one of them rare", coin(397, 0.03), coin(521, 0.2)
    yield "two values, and then a third between them", coin(397, 0.5), numpy.append(coin(400, 0.5), [0.5] * 121)
    yield "ten values", random.integers(0, 10, 397) * 1.0, random.integers(0, 10, 521) * 1.0
    yield "ten values, the smallest gone", random.integers(0, 10, 397) * 1.0, random.integers(3, 10, 521) * 1.0
    money = lambda rows, none: numpy.where(random.random(rows) < none, 0.0, random.lognormal(5, 2, rows).round(1))
    yield "mostly nothing", money(397, 0.6), money(521, 0.6)
    yield "mostly nothing, and then less so", money(397, 0.6), money(521, 0.3)
    yield "values next to each other", numpy.append(numpy.full(200, 1.0), numpy.full(197, numpy.nextafter(1, 0))), coin(521, 0.5)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="the folder to write to")
    arguments = arguments.parse_args()
    found = {"numpy": numpy.__version__, "scipy": scipy.__version__}
    if found != PINNED:
        raise SystemExit(f"versions differ: found {found}, but {PINNED} made what is kept")
    made = []
    for name, trained, live in cases(numpy.random.default_rng(20261126)):
        edges = edges_of(trained)
        counts = [counts_of(values, edges) for values in (trained, live)]
        made.append({
            "name": name,
            "trained": trained.tolist(),
            "live": live.tolist(),
            "edges": edges.tolist(),
            "trained_counts": counts[0].tolist(),
            "live_counts": counts[1].tolist(),
            "psi": psi(*counts),
        })
        print(f"{made[-1]['psi']:8.4f} over {len(edges) + 1:2} bins: {name}", flush=True)
    with (arguments.out / "psi.json").open("w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in made) + "\n]\n")


if __name__ == "__main__":
    main()
