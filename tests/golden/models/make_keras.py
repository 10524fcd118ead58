"""Makes ONNX files of Keras networks as those in neural/, and the answers of Keras.

    pip install keras==3.15.1 torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
    python make_keras.py FOLDER

Keras computes and exports with PyTorch. The networks have the layers, sizes and names of the files that are kept, but not the
same weights. A file is written only if onnxruntime computes the answers of Keras from it.
"""
import os
import pathlib
import sys
import tempfile
import warnings

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import onnx
from keras import layers

from vectors import ANSWERED, check, save, with_extremes, without_places

warnings.filterwarnings("ignore")
keras.utils.set_random_seed(6)
random = np.random.default_rng(6)
TRAINED, INDICES = 256, 10


def sequence(shape, *parts):
    return keras.Sequential([layers.Input(shape, name="x"), *parts])


def two_inputs():
    numbers, indices = layers.Input((5,), name="num"), layers.Input((2,), name="cat", dtype="int32")
    columns = layers.Flatten()(layers.Embedding(INDICES, 4)(indices))
    joined = layers.Concatenate()([layers.BatchNormalization()(numbers), columns])
    score = layers.Dense(1, activation="sigmoid")(layers.Dense(12, activation="silu")(joined))
    return keras.Model([numbers, indices], score)


NETWORKS = {
    "mlp": sequence(
        (8,), layers.Dense(16), layers.BatchNormalization(), layers.Activation("relu"), layers.Dropout(0.2),
        layers.Dense(16, "gelu"), layers.Dense(3, "softmax"),
    ),
    "conv1d": sequence(
        (16, 3), layers.Conv1D(8, 3, padding="same", activation="relu"), layers.MaxPooling1D(2),
        layers.Conv1D(8, 3, strides=2), layers.GlobalAveragePooling1D(), layers.Dense(2),
    ),
    "lstm": sequence((7, 4), layers.LSTM(8), layers.Dense(2)),
    "multi_input": two_inputs(),
}


def rows(port, count):
    if "int" in port.dtype:
        return random.integers(0, INDICES, (count, *port.shape[1:]), dtype=np.int32)
    return random.normal(size=(count, *port.shape[1:])).round(3).astype(np.float32)


def exported(network):
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "model.onnx")
        network.export(file, format="onnx", verbose=False)
        return without_places(onnx.load(file))


def main(folder):
    for name, network in NETWORKS.items():
        wanted = random.random((TRAINED, network.output_shape[-1])).astype(np.float32)
        network.compile("sgd", "mse")
        network.fit([rows(port, TRAINED) for port in network.inputs], wanted, epochs=2, verbose=0)
        asked = {port.name: rows(port, ANSWERED) for port in network.inputs}
        asked = {port: with_extremes(rows) if rows.dtype == np.float32 else rows for port, rows in asked.items()}
        found = keras.ops.convert_to_numpy(network(list(asked.values()), training=False))
        model = exported(network)
        expected = {model.graph.output[0].name: found}
        check(name, model, asked, expected)
        save(folder, f"keras_{name}", model, asked, expected)


main(pathlib.Path(sys.argv[1]))
