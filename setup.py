"""Builds the packet loop.

All other metadata is in pyproject.toml, which cannot describe how to compile Cython.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup


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
