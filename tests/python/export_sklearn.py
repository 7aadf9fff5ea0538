"""Trains small regressors with scikit-learn and exports them with skl2onnx.

    export_sklearn.py FOLDER

Makes a folder with model.onnx and manifest.toml for each. A regressor takes a flat window, as flat does, and an MLP gives one
long column, as column does; dense is the same with a Reshape before and behind it. scaled has a StandardScaler, forest is of
trees, and double was exported with doubles.
"""

import sys
import warnings

import numpy as np
import onnx
import sklearn
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from exported import GOLDEN, SHAPE, samples, write

OPSET = 17


def flat(windows):
    return windows.reshape(len(windows), -1)


def scores(windows):
    """What is learned: how far each channel moves within the window."""
    return np.abs(windows - windows.mean(axis=1, keepdims=True)).mean(axis=1)


def for_windows(model):
    """The same model for windows: [N, steps, features] instead of flat."""
    (declared,) = model.graph.input
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, SHAPE[0] * SHAPE[1]]), "flat_shape"))
    to_flat = helper.make_node("Reshape", ["input", "flat_shape"], [declared.name], name="to_flat")
    model.graph.node.insert(0, to_flat)
    model.graph.input.remove(declared)
    model.graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *SHAPE]))
    onnx.checker.check_model(model, full_check=True)
    return model


def with_rows(model):
    """The same model with a row of scores for each window: skl2onnx lets an MLP give one long column."""
    (declared,) = model.graph.output
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, SHAPE[1]]), "row_shape"))
    model.graph.node.append(helper.make_node("Reshape", [declared.name, "row_shape"], ["scores"], name="to_rows"))
    model.graph.output.remove(declared)
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", SHAPE[1]]))
    onnx.checker.check_model(model, full_check=True)
    return model


def main(folder):
    train = samples(256)
    golden = samples(GOLDEN, seed=2)
    dense = MLPRegressor(hidden_layer_sizes=(16,), max_iter=50, random_state=1)
    scaled = make_pipeline(StandardScaler(), clone(dense))
    forest = RandomForestRegressor(n_estimators=5, max_depth=4, random_state=1)

    def export(name, regressor, values, finish):
        exported = to_onnx(regressor, flat(train[:1]).astype(values), target_opset=OPSET)
        answers = regressor.predict(flat(golden))
        framework = f"scikit-learn {sklearn.__version__}"
        write(folder, name, framework, finish(exported).SerializeToString(), golden, answers)

    for regressor in [dense, scaled, forest]:
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            regressor.fit(flat(train), scores(train))
    export("flat", dense, np.float32, lambda exported: exported)
    export("double", dense, np.float64, lambda exported: exported)
    export("column", dense, np.float32, for_windows)
    export("dense", dense, np.float32, lambda exported: with_rows(for_windows(exported)))
    export("scaled", scaled, np.float32, for_windows)
    export("forest", forest, np.float32, for_windows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
