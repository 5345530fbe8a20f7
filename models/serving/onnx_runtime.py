"""Import ONNX Runtime with its telemetry off; by default it sends events to its vendor.

The variable is read when the library is loaded, so it is set before; a value set by the user stays.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
