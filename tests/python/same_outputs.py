"""Compares what one runtime made of a model with what onnxruntime makes of it.

    same_outputs.py MODEL.onnx EXCHANGE.json

EXCHANGE.json is an object with a list for each batch: "shapes" are [n, steps, features], "inputs" the n * steps * features
values, row-major, with null for NaN, and "outputs" what the other runtime gave; and "tolerance". The model is checked with
onnx.checker first. Prints the greatest difference; exits with 1 and says where it is when it exceeds the tolerance, or
when either side gives anything but numbers.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime


def main(model_path, exchange_path):
    model = onnx.load(model_path)
    onnx.checker.check_model(model, full_check=True)
    with open(exchange_path, encoding="utf-8") as file:
        exchange = json.load(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
    (declared,) = session.get_inputs()
    worst = 0.0
    for batch, (values, outputs) in enumerate(zip(exchange["inputs"], exchange["outputs"], strict=True)):
        values = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
        (scores,) = session.run(["scores"], {declared.name: values.reshape(exchange["shapes"][batch])})
        other = np.array(outputs, dtype=np.float32).reshape(scores.shape)
        if not (np.isfinite(scores).all() and np.isfinite(other).all()):
            print(f"batch {batch}: not a number: onnxruntime {scores.tolist()}, the other {other.tolist()}")
            return 1
        # Of scores far above the threshold the relative difference counts.
        difference = np.abs(scores - other) / np.maximum(1.0, np.abs(scores))
        worst = max(worst, float(difference.max()))
        if worst > exchange["tolerance"]:
            at = np.unravel_index(difference.argmax(), difference.shape)
            print(f"batch {batch}, sample {at[0]}, score {at[1]}: onnxruntime {scores[at]}, the other {other[at]}")
            return 1
    print(f"greatest difference {worst:.3g}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
