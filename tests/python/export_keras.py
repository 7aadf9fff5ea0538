"""Trains small autoencoders with Keras and exports them as Keras does.

    export_keras.py FOLDER

Makes a folder with model.onnx and manifest.toml for each: dense, conv, gru, lstm, and gru-unrolled, which has a node for
each step instead of a loop.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
from keras import layers

from exported import GOLDEN, SHAPE, STEPS, samples, write

WIDTH = SHAPE[1]


def dense(x):
    hidden = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return layers.Reshape(SHAPE)(layers.Dense(STEPS * WIDTH)(hidden))


def conv(x):
    hidden = layers.Conv1D(8, 5, padding="same", activation="relu")(x)
    return layers.Conv1D(WIDTH, 5, padding="same")(layers.BatchNormalization()(hidden))


def recurrent(kind, unroll):
    def reconstruct(x):
        return layers.Dense(WIDTH)(kind(12, return_sequences=True, unroll=unroll)(x))

    return reconstruct


def export(folder, name, reconstruct):
    x = keras.Input(SHAPE, name="input")
    scores = keras.ops.mean(keras.ops.abs(x - reconstruct(x)), axis=1)
    model = keras.Model(x, layers.Identity(name="scores")(scores))
    model.compile("adam", loss="mae", jit_compile=False)
    train = samples(256)
    # The least score is no error at all.
    model.fit(train, keras.ops.zeros((len(train), WIDTH)), epochs=2, verbose=0)
    golden = samples(GOLDEN, seed=2)
    with tempfile.TemporaryDirectory() as exported:
        file = Path(exported) / "model.onnx"
        model.export(str(file), format="onnx", verbose=False)
        write(folder, name, f"Keras {keras.__version__}", file.read_bytes(), golden, model.predict(golden, verbose=0))


def main(folder):
    keras.utils.set_random_seed(1)
    export(folder, "dense", dense)
    export(folder, "conv", conv)
    export(folder, "gru", recurrent(layers.GRU, False))
    export(folder, "lstm", recurrent(layers.LSTM, False))
    export(folder, "gru-unrolled", recurrent(layers.GRU, True))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
