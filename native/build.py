"""Build the two extension modules: `serf._native` and `proto._codec`.

Named by setup.py as `native/build.py:native` and `native/build.py:codec`;
cffi runs this file from the project's root. The declarations that Python
sees are those of api.h and codec.h themselves.

Switches, from the environment:
    CI=true             warnings are errors
    NK_SANITIZE=LIST    for example address,undefined; unoptimised
    NK_TINY=1           tiny arenas and tables: rare paths run often
    NK_PARANOID=1       costly checks
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

HERE = Path("native")
CODEC_UNITS = ["noun", "nursery", "mug", "jam", "status", "glance", "codec"]
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wtype-limits",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
]
# What cffi generates around our declarations is not up to those.
GENERATED = "\n".join(
    f'#pragma GCC diagnostic ignored "{warning}"'
    for warning in ("-Wconversion", "-Wmissing-prototypes", "-Wshadow")
)


def _on(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0", "false")


def _flags() -> tuple[list[str], list[str]]:
    """(compiler's, linker's)."""
    compile_args = ["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", *WARNINGS]
    link_args: list[str] = []
    if _on("CI"):
        compile_args.append("-Werror")
    for switch in ("NK_TINY", "NK_PARANOID"):
        if _on(switch):
            compile_args.append(f"-D{switch}")
    sanitize = os.environ.get("NK_SANITIZE", "")
    if sanitize:
        flags = [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"]
        return [*compile_args, *flags, "-O1", "-g"], flags
    # No strict-aliasing exception is needed: boxes are read by their own
    # types, and bytes by memcpy.
    return [*compile_args, "-O3", "-fno-plt"], link_args


def _builder(
    module: str,
    header: str,
    units: list[Path],
    libraries: list[str],
    callbacks: str = "",
) -> FFI:
    compile_args, link_args = _flags()
    declarations = (HERE / header).read_text()
    ffi = FFI()
    ffi.cdef(declarations + callbacks)
    ffi.set_source(
        module,
        f'{GENERATED}\n#include <stdint.h>\n#include "{header}"\n',
        sources=[str(unit) for unit in units],
        depends=[str(path) for path in sorted(HERE.rglob("*.h"))],
        include_dirs=[str(HERE)],
        libraries=libraries,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    return ffi


def native() -> FFI:
    """Build the whole core, for the serf."""
    units = sorted(HERE.glob("*.c")) + sorted(HERE.glob("jets/*.c"))
    units = [unit for unit in units if unit.stem not in ("codec", "glance", "witness")]
    libraries = ["mpfr", "gmp", "nettle", "pthread", "m"]
    callback = 'extern "Python" void tell_early(void *context);'
    return _builder("serf._native", "api.h", units, libraries, callback)


def codec() -> FFI:
    """Build the king's small part: jam surgery without a machine."""
    units = [HERE / f"{unit}.c" for unit in CODEC_UNITS]
    return _builder("proto._codec", "codec.h", units, [])
