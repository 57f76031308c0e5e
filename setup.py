"""Builds the packet loop.

All other metadata is in pyproject.toml, which cannot describe how to compile Cython.

With PCAPDAEMON_ABI3=1, one build serves all versions of Python from 3.11 on. It takes some 15 ms
longer to import, so only wheels for others are built so.
"""

import os
import shutil
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

NEEDED = "a C compiler and the headers of libpcap and Python"
if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
    sys.exit(
        f"error: no C compiler was found; this needs {NEEDED}\n"
        "hint: on Debian: apt-get install gcc libc6-dev libpcap-dev python3-dev"
    )


ABI3 = os.environ.get("PCAPDAEMON_ABI3") == "1"


def native(name: str, libraries: list[str]) -> Extension:
    return Extension(
        f"pcapdaemon.native.{name}",
        [f"src/pcapdaemon/native/{name}.pyx"],
        libraries=libraries,
        extra_compile_args=["-O2", "-D_GNU_SOURCE"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if ABI3 else [],
        py_limited_api=ABI3,
    )


NAMES = (
    "blocks",
    "capture",
    "compiling",
    "device",
    "filter",
    "handle",
    "headers",
    "limits",
    "live",
    "loop",
    "merge",
    "reader",
    "recorded",
    "recording",
    "replayed",
    "ring",
    "samples",
    "stream",
)
extensions = [native(name, ["pcap"]) for name in NAMES]
setup(
    ext_modules=cythonize(extensions, build_dir="build", include_path=["src"]),
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)
