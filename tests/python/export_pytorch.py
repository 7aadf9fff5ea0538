"""Trains small autoencoders with PyTorch and exports them as PyTorch does.

    export_pytorch.py FOLDER

Makes a folder with model.onnx and manifest.toml for each: dense, conv, gru and lstm; and exported without a free batch
size lstm-fixed, and dense-fixed, which has the 1 in its graph.
"""

import io
import sys

import torch
from torch import nn

from exported import GOLDEN, SHAPE, STEPS, samples, write

WIDTH = SHAPE[1]


class Dense(nn.Module):
    def __init__(self, batch=-1):
        super().__init__()
        self.batch, size = batch, STEPS * WIDTH
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, size))

    def forward(self, x):
        return self.layers(x).reshape(self.batch, STEPS, WIDTH)


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(WIDTH, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, WIDTH, 5, padding=2)
        )

    def forward(self, x):
        return self.layers(x.transpose(1, 2)).transpose(1, 2)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers = kind(WIDTH, 12, num_layers=2, batch_first=True)
        self.head = nn.Linear(12, WIDTH)

    def forward(self, x):
        return self.head(self.layers(x)[0])


class Scores(nn.Module):
    """The mean error of each channel: [N, channels]."""

    def __init__(self, autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x):
        return (x - self.autoencoder(x)).abs().mean(dim=1)


def export(folder, name, autoencoder, axes):
    model = Scores(autoencoder)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in torch.from_numpy(samples(30)).split(1 if axes is None else 10):
        optimizer.zero_grad()
        model(batch).mean().backward()
        optimizer.step()
    model.eval()
    golden = samples(GOLDEN, seed=2)
    with torch.no_grad():
        outputs = torch.cat([model(sample) for sample in torch.from_numpy(golden).split(1)]).numpy()
    file = io.BytesIO()
    torch.onnx.export(
        model, torch.from_numpy(golden[:1]), file, input_names=["input"], output_names=["scores"], dynamic_axes=axes, opset_version=17
    )
    write(folder, name, f"PyTorch {torch.__version__}", file.getvalue(), golden, outputs)


def main(folder):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    free = {"input": {0: "N"}, "scores": {0: "N"}}
    export(folder, "dense", Dense(), free)
    export(folder, "conv", Conv(), free)
    export(folder, "gru", Recurrent(nn.GRU), free)
    export(folder, "lstm", Recurrent(nn.LSTM), free)
    export(folder, "lstm-fixed", Recurrent(nn.LSTM), None)
    export(folder, "dense-fixed", Dense(batch=1), None)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
