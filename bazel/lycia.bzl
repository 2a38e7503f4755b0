"""The macros that BUILD files use: lycia_library, lycia_binary, lycia_test, mpi_library, mpi_test, cuda_library, cuda_test, kernel_library."""

load("@cuda//:config.bzl", "CUDA_ENABLED")
load("@mpi//:config.bzl", "MPIRUN", "MPI_ENABLED")
load("//bazel:link_only.bzl", "link_only")
load("//bazel:nvcc.bzl", "nvcc_objects")

_COPTS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror=return-type"]

_TEST_DATA = ["//bazel:sanitizer_suppressions"]

def lycia_library(name, copts = [], **kwargs):
    """cc_library with our warnings."""
    native.cc_library(name = name, copts = _COPTS + copts, **kwargs)

def lycia_binary(name, copts = [], **kwargs):
    """cc_binary with our warnings."""
    native.cc_binary(name = name, copts = _COPTS + copts, **kwargs)

def lycia_test(name, srcs = None, deps = [], copts = [], data = [], size = "small", main = True, **kwargs):
    """A GoogleTest; srcs defaults to [name.cc]; main = False where the source brings its own main()."""
    native.cc_test(
        name = name,
        srcs = srcs or [name + ".cc"],
        copts = _COPTS + copts,
        data = data + _TEST_DATA,
        size = size,
        deps = deps + ["@googletest//:gtest_main" if main else "@googletest//:gtest"],
        **kwargs
    )

def _skipped_test(name, reason, tags = []):
    native.sh_test(
        name = name,
        srcs = ["//bazel:skipped_test.sh"],
        args = ["'%s'" % reason],
        size = "small",
        tags = tags,
    )

def mpi_library(name, srcs = [], hdrs = [], deps = [], copts = [], **kwargs):
    """A library whose sources include <mpi.h>, where there is MPI; its users link it, but do not see MPI's headers."""
    native.cc_library(
        name = name + "_objects",
        srcs = srcs,
        hdrs = hdrs,
        copts = _COPTS + copts,
        deps = deps + ["@mpi//:mpi"],
    )
    link_only(
        name = name + "_linked",
        deps = [":" + name + "_objects"],
    )
    native.cc_library(
        name = name,
        hdrs = hdrs,
        deps = deps + [":" + name + "_linked"],
        **kwargs
    )

def mpi_test(name, ranks, srcs = None, binary = None, deps = [], copts = [], data = [], args = [], size = "medium", tags = [], **kwargs):
    """Runs a program under `mpirun -n R`, one test `<name>_<R>` for each R in ranks.

    Either srcs (default [name.cc]; with a main() that calls MPI_Init; linked with GoogleTest) or the label of a binary.
    """
    if not MPI_ENABLED:
        for count in ranks:
            _skipped_test("%s_%d" % (name, count), "built without MPI", tags = ["mpi"])
        return
    if not binary:
        binary = name + "_binary"
        native.cc_binary(
            name = binary,
            testonly = True,
            srcs = srcs or [name + ".cc"],
            copts = _COPTS + copts,
            deps = deps + ["@googletest//:gtest", "@mpi//:mpi"],
        )
        binary = ":" + binary
    for count in ranks:
        native.sh_test(
            name = "%s_%d" % (name, count),
            srcs = ["//bazel:mpi_test.sh"],
            args = [MPIRUN, str(count), "$(location %s)" % binary] + args,
            data = data + [binary] + _TEST_DATA,
            size = size,
            tags = tags + ["exclusive", "mpi"],
            **kwargs
        )

def cuda_library(name, srcs = [], hdrs = [], deps = [], copts = [], nvcc_copts = [], **kwargs):
    """A library of .cu sources (nvcc, sm_90a) and .cc sources that include CUDA; without the toolkit only its headers remain."""
    device = [source for source in srcs if source.endswith(".cu")]
    host = [source for source in srcs if not source.endswith(".cu")]
    objects = []
    if CUDA_ENABLED and device:
        nvcc_objects(
            name = name + "_nvcc",
            srcs = device,
            hdrs = hdrs,
            copts = nvcc_copts,
            deps = deps + ["@cuda//:cudart"],
        )
        objects = [":" + name + "_nvcc"]
    native.cc_library(
        name = name + "_objects",
        srcs = host + objects if CUDA_ENABLED else [],
        hdrs = hdrs,
        copts = _COPTS + copts,
        deps = deps + ["@cuda//:cudart"],
    )

    # Users link the objects, but neither see nor hash the toolkit's headers.
    link_only(
        name = name + "_linked",
        deps = [":" + name + "_objects"],
    )
    native.cc_library(
        name = name,
        hdrs = hdrs,
        deps = deps + [":" + name + "_linked"],
        **kwargs
    )

def cuda_test(name, srcs = None, tags = [], **kwargs):
    """A lycia_test that includes CUDA; it skips itself where no GPU is present, and says so in builds without the toolkit."""
    if CUDA_ENABLED:
        lycia_test(name, srcs = srcs, tags = tags + ["cuda"], **kwargs)
    else:
        _skipped_test(name, "built without CUDA", tags = ["cuda"])
