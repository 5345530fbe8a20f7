"""ONNX Runtime with its telemetry off: by default it sends events to its vendor over the network.

It decides when it is loaded, so the variable is set before. Whoever sets it otherwise is heeded.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
