#!/usr/bin/env python3
"""Who may include whom (docs/architecture.md): checks every #include "..." and the headers of MPI, CUDA, NCCL and TOML.

include_check.py [ROOT]: prints `file:line: what and why` for each violation and ends with exit code 1 if there was one.
"""

import os
import re
import sys

FOLDERS = ("runtime", "kernels", "parallel", "models", "launch", "tests", "bench")

# What a unit may include besides itself. A unit is a folder of runtime/ or parallel/, else a top folder.
MAY_INCLUDE = {
    "runtime/core": (),
    "runtime/device": ("runtime/core",),
    "runtime/comm": ("runtime/core", "runtime/device"),
    "runtime/io": ("runtime/core", "runtime/device"),
    "runtime/trace": ("runtime/core", "runtime/device"),
    "kernels": ("runtime/core", "runtime/device"),
    "parallel/mesh": ("runtime",),
    "parallel/schedule": ("runtime/core", "parallel/mesh"),
    "parallel/layer": ("runtime", "kernels", "parallel/mesh"),
    "parallel/grid": ("runtime", "kernels", "parallel/mesh", "parallel/layer"),
    "parallel/optimizer": ("runtime", "kernels", "parallel/mesh", "parallel/layer"),
    "parallel/reuse": ("runtime/core",),
    "parallel/pipeline": ("runtime", "kernels", "parallel/mesh", "parallel/layer", "parallel/schedule", "parallel/optimizer"),
    "parallel/plan": ("runtime", "kernels", "parallel/mesh", "parallel/layer", "parallel/grid", "parallel/schedule"),
    "models": ("runtime", "kernels", "parallel"),
    "launch": ("runtime", "kernels", "parallel", "models"),
}
ANYTHING = ("tests", "bench")  # may include every unit
EVERYONE = ("bazel",)  # may be included by every unit: the generated bazel/build_config.h

# (header, file names that may include it, or None for "by folder", words for the message)
OUTSIDE = (
    (r"mpi\.h$", r"^mpi_.*\.cc$|_mpi_test\.cc$", "only mpi_*.cc includes MPI"),
    (r"nccl.*\.h$", r"nccl", "only *nccl* includes NCCL"),
    (r"(cuda|cublas|cudnn|curand|nvtx|cooperative_groups|mma\.h$|driver_types\.h$)", r"(^|_)cuda([_.]|$)|\.cuh?$|nccl",
     "only *cuda* includes CUDA"),
)
ENVIRONMENT = re.compile(r"\b(secure_getenv|getenv)\s*\(")
ENVIRONMENT_ALLOWED = re.compile(r"^mpi_.*\.cc: |TEST_TMPDIR")  # what mpirun tells its ranks; where tests may write
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def unit_of(path):
    """The unit that a path belongs to, or None for files outside the layers."""
    parts = path.split("/")
    if parts[0] in ("runtime", "parallel") and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0] if len(parts) > 1 else None


def allowed(unit, target, is_test):
    if target in EVERYONE or unit == target or unit in ANYTHING:
        return True
    if target == "launch":
        return False
    if is_test:
        return True
    may = MAY_INCLUDE.get(unit, ())
    return target in may or target.split("/")[0] in may


def check_line(path, line):
    """What is wrong with one line of a file, or None."""
    name, unit = os.path.basename(path), unit_of(path)
    is_test = bool(re.search(r"(_test|_conformance)\.(cc|cu|h)$", name)) or "/testing/" in path
    reads = ENVIRONMENT.search(line.split("//")[0]) and not ENVIRONMENT_ALLOWED.search(name + ": " + line)
    if reads and unit not in ("launch", *ANYTHING) and not is_test:
        return "only launch reads the environment"
    match = INCLUDE.match(line)
    if not match:
        return None
    quote, header = match.groups()
    for pattern, files, words in OUTSIDE:
        if header.split("/")[0] not in FOLDERS and re.search("^" + pattern, header) and not re.search(files, name):
            return "includes %s, but %s" % (header, words)
    if re.search(r"^toml(\+\+|plusplus)", header) and unit not in ("launch", *ANYTHING):
        return "includes %s, but only launch reads configurations" % header
    if quote == '"' and "/" in header and (header.split("/")[0] in FOLDERS + EVERYONE):
        target = unit_of(header)
        if not allowed(unit, target, is_test):
            may = ", ".join(MAY_INCLUDE.get(unit, ())) or "nothing outside itself"
            return "includes %s, but %s may include only: %s" % (header, unit, may)
    return None


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.realpath("WORKSPACE"))
    files, wrong = 0, 0
    for folder in FOLDERS:
        for directory, _, names in os.walk(os.path.join(root, folder)):
            for name in sorted(names):
                if not re.search(r"\.(h|cc|cu|cuh)$", name):
                    continue
                files += 1
                path = os.path.relpath(os.path.join(directory, name), root)
                with open(os.path.join(root, path), encoding="utf-8") as source:
                    for number, line in enumerate(source, 1):
                        problem = check_line(path, line)
                        if problem:
                            wrong += 1
                            print("%s:%d: %s" % (path, number, problem))
    print("include_check: %d files, %d violations" % (files, wrong))
    if files == 0:
        print("include_check: no sources found under %s" % root)
    return 1 if wrong or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
