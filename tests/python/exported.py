"""What the export scripts share: windows of a soil to train on, and the two files of a model."""

import hashlib
from pathlib import Path

import numpy as np

STEPS = 24
CHANNELS = [
    "soil_moisture_10cm",
    "soil_moisture_20cm",
    "soil_moisture_40cm",
    "soil_temperature_10cm",
    "soil_temperature_30cm",
    "soil_ec_20cm",
]
SHAPE = (STEPS, len(CHANNELS))
GOLDEN = 3


def samples(count, seed=1):
    """Windows of a soil that dries and warms, each channel in shares of its usual range: [count, STEPS, channels]."""
    random = np.random.default_rng(seed)
    level = random.uniform(0.3, 0.7, (count, 1, len(CHANNELS)))
    slope = random.uniform(-0.2, 0.2, (count, 1, len(CHANNELS))) * np.linspace(0, 1, STEPS)[None, :, None]
    day = 0.1 * np.sin(np.linspace(0, np.pi, STEPS) + random.uniform(0, 6, (count, 1)))[:, :, None]
    noise = random.normal(0, 0.01, (count, *SHAPE))
    return (level + slope + day + noise).astype(np.float32)


def write(folder, name, framework, onnx, inputs, outputs):
    """Writes model.onnx and manifest.toml; the golden samples are what the framework itself answered."""
    folder = Path(folder) / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(onnx)
    quoted = lambda items: "[" + ", ".join(f'"{item}"' for item in items) + "]"
    numbers = lambda values: "[" + ", ".join(repr(float(value)) for value in np.asarray(values).reshape(-1)) + "]"
    lines = [
        f'name = "{name}"',
        'version = "1.0.0"',
        'task = "anomaly"',
        "threshold = 1.0",
        "tolerance = 0.0001",
        f'sha256 = "{hashlib.sha256(onnx).hexdigest()}"',
        f'trained_on = "made windows, with {framework}"',
        "[input]",
        f"features = {quoted(channel + '.mean' for channel in CHANNELS)}",
        f"steps = {STEPS}",
        "window_s = 900",
        "[output]",
        f"scores = {quoted(CHANNELS)}",
        "[limits]",
        "max_bytes = 4194304",
        "max_latency_ms = 500",
        "max_memory_bytes = 134217728",
    ]
    for values, scores in zip(inputs, outputs, strict=True):
        lines += ["[[golden]]", f"input = {numbers(values)}", f"output = {numbers(scores)}"]
    (folder / "manifest.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
