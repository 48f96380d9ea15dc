"""Name the two cffi modules; all else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["native/build.py:native", "native/build.py:codec"])
