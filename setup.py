"""Builds the packet loop; all other metadata is in pyproject.toml, which cannot describe how to compile Cython."""

from Cython.Build import cythonize
from setuptools import Extension, setup


def native(name: str, libraries: list[str]) -> Extension:
    return Extension(
        f"pcapdaemon.capture.{name}",
        [f"src/pcapdaemon/capture/{name}.pyx"],
        libraries=libraries,
        extra_compile_args=["-O2", "-D_GNU_SOURCE"],
    )


NAMES = ("_blocks", "_filter", "_handle", "_loop", "_merge", "_native", "_reader", "_recorded", "_recorder", "_ring")
extensions = [native(name, ["pcap"]) for name in NAMES]
setup(ext_modules=cythonize(extensions, build_dir="build", include_path=["src"]))
