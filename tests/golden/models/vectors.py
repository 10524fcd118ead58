"""What the scripts that make ONNX files share: rows of extreme values, comparison with onnxruntime, and the JSON files."""
import json

import numpy as np
import onnx
import onnxruntime

ANSWERED = 60
EXTREMES = (0.0, 1.0, -1.0, 1e3, -1e3, 1e-30, -0.0)


def with_extremes(rows):
    """Rows of one extreme value each, and then the given rows, as many as fit."""
    extreme = [np.full(rows.shape[1:], value, np.float32) for value in EXTREMES]
    return np.concatenate([extreme, rows])[:ANSWERED].astype(np.float32)


def without_places(message):
    """Removes the texts in which PyTorch notes files and lines of the sources, which have paths of the machine."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type:
            for part in [value] if hasattr(value, "ListFields") else value:
                without_places(part)
    return message


def check(name, model, asked, expected):
    """onnxruntime computes the answers of the library."""
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, asked)
    assert len(found) == len(expected), (name, len(found), list(expected))
    for found, (output, wanted) in zip(found, expected.items()):
        if isinstance(found, list):
            found = np.array([list(row.values()) for row in found])
        if wanted.dtype.kind == "f":
            found = found.reshape(wanted.shape)
            assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5), (name, output, abs(found - wanted).max())
        else:
            assert (found == wanted).all(), (name, output)


def save(folder, name, model, asked, expected):
    """Writes a model, its rows and the answers."""
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    write(folder / f"{name}.input.json", "inputs", asked)
    write(folder / f"{name}.expected.json", "outputs", expected)


def write(path, key, tensors):
    def tensor(name, array):
        data = [None if isinstance(value, float) and np.isnan(value) else value for value in array.ravel().tolist()]
        kind = "string" if array.dtype.kind in "UO" else str(array.dtype)
        return {"name": name, "dtype": kind, "shape": list(array.shape), "data": data}

    path.write_text(json.dumps({key: [tensor(*item) for item in tensors.items()]}, separators=(",", ":")) + "\n")
