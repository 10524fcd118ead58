"""How long onnxruntime takes for each network, in microseconds: load, 1 row and 100 rows.

Usage: onnxruntime_networks.py FOLDER. The columns are those of `cargo bench -p canopy-onnx`. The time of the call from
Python, about 4 microseconds, is part of it.
"""

import pathlib
import statistics
import sys
import time

import numpy
import onnxruntime

TYPES = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32}


def median(count, call):
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def main(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    print(f"{'network':<32}{'load':>10}{'1 row':>10}{'100 rows':>10}")
    for file in sorted(pathlib.Path(folder).glob("*.onnx")):
        load = median(21, lambda: onnxruntime.InferenceSession(str(file), options))
        session = onnxruntime.InferenceSession(str(file), options)
        times = []
        for rows in (1, 100):
            inputs = {
                port.name: numpy.zeros([rows, *port.shape[1:]], TYPES[port.type]) for port in session.get_inputs()
            }
            times.append(median(2001, lambda: session.run(None, inputs)))
        print(f"{file.stem:<32}{load:>10.1f}{times[0]:>10.1f}{times[1]:>10.1f}")


main(sys.argv[1])
