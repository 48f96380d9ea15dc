"""Name the two cffi modules and the lab's witness; all else is in pyproject.toml.

The witness is a plain library for LD_PRELOAD. It is built as an extension only
to be found beside the Python that loads it.
"""

from setuptools import Extension, setup

setup(
    cffi_modules=["native/build.py:native", "native/build.py:codec"],
    ext_modules=[
        Extension(
            "king.lab._witness",
            ["native/witness.c"],
            extra_compile_args=["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden"],
        )
    ],
)
