"""Makes ONNX files of PyTorch's networks as those in neural/, by both of its exporters, and the answers of PyTorch.

    pip install torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
    python make_torch.py FOLDER

The networks have the layers, sizes and names of the files that are kept, but not the same weights. A file is written only if
onnxruntime computes the answers of PyTorch from it.
"""
import io
import pathlib
import sys
import warnings

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

from vectors import ANSWERED, check, save, with_extremes, without_places

warnings.filterwarnings("ignore")
torch.manual_seed(5)
torch.set_num_threads(1)
random = np.random.default_rng(5)
BATCH, STEPS = 64, 30


def perceptron(outputs, *last):
    hidden = [nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2)]
    hidden += [nn.Linear(24, 24), nn.BatchNorm1d(24), nn.GELU(), nn.Dropout(0.1)]
    return nn.Sequential(*hidden, nn.Linear(24, outputs), *last)


def convolution():
    first = [nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)]
    second = [nn.Conv1d(8, 12, 3, stride=2), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool1d(1)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(12, 2))


class LastStep(nn.Module):
    """A recurrent layer over 7 steps of 4 numbers, and a layer over its last state."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer(4, 10, batch_first=True)
        self.head = nn.Linear(10, 2)

    def forward(self, steps):
        states, _ = self.layer(steps)
        return self.head(states[:, -1])


class Embeddings(nn.Module):
    """Columns of numbers beside an embedding for each column of indices.

    The parameters have the names of the inputs: torch.export would give the name `cat` to the output of `torch.cat`, too.
    """

    def __init__(self):
        super().__init__()
        self.colour, self.shape = nn.Embedding(12, 4), nn.Embedding(7, 3)
        self.scale = nn.BatchNorm1d(5)
        self.score = nn.Sequential(nn.Linear(5 + 4 + 3, 16), nn.SiLU(), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, num, cat):
        words = self.colour(cat[:, 0]), self.shape(cat[:, 1])
        return self.score(torch.cat([self.scale(num), *words], dim=1)).squeeze(1)


class ColumnTransformer(nn.Module):
    """A transformer over the embeddings of columns, as TabTransformer, with the numbers beside it."""

    def __init__(self, sizes=(6, 5, 9), width=8):
        super().__init__()
        self.columns = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.encoder = nn.TransformerEncoderLayer(width, 2, 16, activation="gelu", batch_first=True)
        self.scale = nn.LayerNorm(4)
        self.head = nn.Sequential(nn.Linear(width * len(sizes) + 4, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, num, cat):
        columns = torch.stack([column(cat[:, at]) for at, column in enumerate(self.columns)], dim=1)
        return self.head(torch.cat([self.encoder(columns).flatten(1), self.scale(num)], dim=1))


class PlainAttention(nn.Module):
    """Attention between the numbers of a row, of single operations."""

    def __init__(self, width=8):
        super().__init__()
        self.root = width**0.5
        self.lift, self.parts, self.head = nn.Linear(1, width), nn.Linear(width, 3 * width), nn.Linear(width, 2)

    def forward(self, numbers):
        query, key, value = self.parts(self.lift(numbers[:, :, None])).chunk(3, dim=2)
        weights = (query @ key.transpose(1, 2) / self.root).softmax(2)
        return self.head((weights @ value).mean(1))


class MeanAndVariance(nn.Module):
    """Two outputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.ELU())
        self.mean, self.variance = nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, numbers):
        body = self.body(numbers)
        return self.mean(body), functional.softplus(self.variance(body))


def numbers(*shape):
    return lambda count: random.normal(size=(count, *shape)).round(3).astype(np.float32)


def indices(*sizes):
    return lambda count: random.integers(0, sizes, (count, len(sizes)))


# The name, the network, how many rows of its inputs are made, and the names of its outputs.
NETWORKS = [
    ("mlp_bn_logits", perceptron(3), {"x": numbers(8)}, ["logits"]),
    ("mlp_softmax", perceptron(4, nn.Softmax(1)), {"x": numbers(8)}, ["probabilities"]),
    ("conv1d", convolution(), {"x": numbers(3, 16)}, ["y"]),
    ("lstm", LastStep(nn.LSTM), {"x": numbers(7, 4)}, ["y"]),
    ("gru", LastStep(nn.GRU), {"x": numbers(7, 4)}, ["y"]),
    ("embed_two_inputs", Embeddings(), {"num": numbers(5), "cat": indices(12, 7)}, ["score"]),
    ("tabtransformer", ColumnTransformer(), {"num": numbers(4), "cat": indices(6, 5, 9)}, ["logits"]),
    ("attention_plain", PlainAttention(), {"x": numbers(6)}, ["y"]),
    ("multi_output", MeanAndVariance(), {"x": numbers(6)}, ["mean", "var"]),
]


def outputs(network, inputs):
    found = network(*map(torch.from_numpy, inputs))
    return found if isinstance(found, tuple) else (found,)


def train(network, makers):
    """Some steps towards a sum of the inputs, so that no weight and no mean is what it was at first."""
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    for _ in range(STEPS):
        inputs = [make(BATCH) for make in makers]
        wanted = torch.from_numpy(inputs[0].reshape(BATCH, -1).sum(1).clip(-1, 1))
        loss = sum(functional.mse_loss(found.reshape(BATCH, -1)[:, 0], wanted) for found in outputs(network, inputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


def exported(network, inputs, names, dynamo):
    """By torch.export, or by TorchScript. The number of rows is open."""
    file = io.BytesIO()
    rows = {0: torch.export.Dim("rows", min=1, max=4096)}
    options = {"dynamic_shapes": (rows,) * len(inputs), "verbose": False}
    if not dynamo:
        options = {"opset_version": 17, "dynamic_axes": {name: {0: "rows"} for name in [*inputs, *names]}}
    arguments = tuple(map(torch.from_numpy, inputs.values()))
    named = {"input_names": list(inputs), "output_names": names}
    torch.onnx.export(network, arguments, file, dynamo=dynamo, **named, **options)
    return without_places(onnx.load_from_string(file.getvalue()))


def main(folder):
    for name, network, makers, names in NETWORKS:
        train(network, makers.values())
        asked = {port: make(ANSWERED) for port, make in makers.items()}
        asked = {port: with_extremes(rows) if rows.dtype == np.float32 else rows for port, rows in asked.items()}
        with torch.no_grad():
            found = [output.numpy() for output in outputs(network, asked.values())]
        expected = dict(zip(names, found))
        for exporter in ("legacy", "dynamo"):
            model = exported(network, asked, names, exporter == "dynamo")
            check(name, model, asked, expected)
            save(folder, f"torch_{name}_{exporter}", model, asked, expected)


main(pathlib.Path(sys.argv[1]))
