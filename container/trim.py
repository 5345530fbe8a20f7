"""Delete from an installation what no process of Nextwatch loads: a quarter of its size.

A second copy of ONNX Runtime for programs in C, its tools for training and quantization, tests
and headers of numpy, clients of schema registries, lexers of languages that nobody prints; and of
shared libraries what is there for debuggers, as `strip` of binutils would delete it.
"""

import shutil
import struct
import sys
from pathlib import Path

UNUSED = (
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/transformers",
    "onnxruntime/tools",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
    "numpy/**/tests",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/_core/_simd*.so",
    "numpy/_core/_*_tests*.so",
    "numpy/**/*.a",
    "confluent_kafka/schema_registry",
    "fsspec/tests",
    "grpc/_cython/_credentials",
    "pygments/formatters",
    "pygments/lexers/[a-oq-z]*.py",
    "pygments/lexers/__pycache__/[a-oq-z]*",
    "pygments/lexers/p[!y]*.py",
    "pygments/lexers/__pycache__/p[!y]*",
    "pygments/lexers/_*_builtins.py",
    "pygments/lexers/__pycache__/_*_builtins*",
    "qdrant_client/serverless",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pyi",
    "**/*.h",
)
ELF_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
LOADED = 1


def main(root: Path) -> None:
    """Trim every site-packages below *root*."""
    for site_packages in root.glob("lib/python*/site-packages"):
        for pattern in UNUSED:
            found = list(site_packages.glob(pattern))
            if not found:
                sys.exit(f"nothing is {pattern} in {site_packages}: take the pattern out")
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for library in site_packages.glob("**/*.so*"):
            strip(library)


def strip(library: Path) -> None:
    """Cut off what follows the last loaded segment: symbols and debug information."""
    data = bytearray(library.read_bytes())
    if not data.startswith(ELF_64_LITTLE_ENDIAN):
        return
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, table + n * size) for n in range(count)]
    end = max(at + length for kind, _, at, _, _, length in segments if kind == LOADED)
    struct.pack_into("<Q", data, 40, 0)  # no section headers: the loader reads none
    struct.pack_into("<HHH", data, 58, 0, 0, 0)
    library.write_bytes(data[:end])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
