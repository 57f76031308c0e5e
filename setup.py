"""Builds the packet loop.

All other metadata is in pyproject.toml, which cannot describe how to compile Cython.
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


def native(name: str, libraries: list[str]) -> Extension:
    return Extension(
        f"pcapdaemon.native.{name}",
        [f"src/pcapdaemon/native/{name}.pyx"],
        libraries=libraries,
        extra_compile_args=["-O2", "-D_GNU_SOURCE"],
    )


NAMES = (
    "blocks",
    "capture",
    "compiling",
    "device",
    "filter",
    "handle",
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
)
extensions = [native(name, ["pcap"]) for name in NAMES]
setup(ext_modules=cythonize(extensions, build_dir="build", include_path=["src"]))
