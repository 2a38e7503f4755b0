"""The macros that BUILD files use: lycia_library, lycia_binary, lycia_test, mpi_library, mpi_test, cuda_library, cuda_test,
and for tests of CUDA without a GPU fake_cuda_library, emulated_cuda_library, cuda_objects_test."""

load("@cuda//:config.bzl", "CUDA_ENABLED")
load("@mpi//:config.bzl", "MPIRUN", "MPI_ENABLED")
load("//bazel:link_only.bzl", "link_only")
load("//bazel:nvcc.bzl", "nvcc_objects")
load("//bazel:precompiled.bzl", "precompiled")

_COPTS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror=return-type"]

_TEST_DATA = ["//bazel:sanitizer_suppressions"]

def _cc_library(srcs = [], copts = [], deps = [], **kwargs):
    """Never shared: nothing links a shared library of ours, and building `//...` would compile every source a second time for it."""
    kwargs.update(precompiled(srcs, copts, deps))
    native.cc_library(srcs = srcs, linkstatic = True, **kwargs)

def lycia_library(name, copts = [], **kwargs):
    """cc_library with our warnings."""
    _cc_library(name = name, copts = _COPTS + copts, **kwargs)

def lycia_binary(name, srcs = [], copts = [], deps = [], **kwargs):
    """cc_binary with our warnings."""
    kwargs.update(precompiled(srcs, _COPTS + copts, deps))
    native.cc_binary(name = name, srcs = srcs, **kwargs)

def lycia_test(name, srcs = None, deps = [], copts = [], data = [], size = "small", main = True, **kwargs):
    """A GoogleTest; srcs defaults to [name.cc], [] where all cases are in deps; main = False where the source brings its own main()."""
    if srcs == None:
        srcs = [name + ".cc"]
    kwargs.update(precompiled(srcs, _COPTS + copts, deps + ["@googletest//:gtest_main" if main else "@googletest//:gtest"]))
    native.cc_test(
        name = name,
        srcs = srcs,
        data = data + _TEST_DATA,
        size = size,
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
    _cc_library(
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
    _cc_library(
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
        lycia_binary(
            name = binary,
            testonly = True,
            srcs = srcs or [name + ".cc"],
            copts = copts,
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

def cuda_library(name, srcs = [], hdrs = [], deps = [], private_deps = [], copts = [], hopper_srcs = [], **kwargs):
    """A library of .cu sources (nvcc.bzl says for which GPUs) and .cc sources that include CUDA; without the toolkit only its headers remain.

    hopper_srcs: .cu sources for compute capability 9.0 alone, whose kernels must not spill registers.
    private_deps: libraries from outside that only the sources see.
    """
    device = [source for source in srcs if source.endswith(".cu")]
    host = [source for source in srcs if not source.endswith(".cu")]
    objects = []
    if CUDA_ENABLED and (device or hopper_srcs):
        nvcc_objects(
            name = name + "_nvcc",
            srcs = device,
            hopper_srcs = hopper_srcs,
            hdrs = hdrs,
            deps = deps + ["@cuda//:cudart"],
        )
        objects = [":" + name + "_nvcc"]
    _cc_library(
        name = name + "_objects",
        srcs = host + objects if CUDA_ENABLED else [],
        hdrs = hdrs,
        copts = _COPTS + copts,
        deps = deps + private_deps + ["@cuda//:cudart"],
    )

    # Users link the objects, but neither see nor hash the toolkit's headers.
    link_only(
        name = name + "_linked",
        deps = [":" + name + "_objects"],
    )
    _cc_library(
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

def emulated_cuda_library(name, srcs, deps = [], cc_srcs = [], textual_hdrs = []):
    """Kernels of .cu files, run on the CPU in tests (kernels/cuda/testing), beside cc_srcs as they are; empty in builds without CUDA."""
    if not CUDA_ENABLED:
        _cc_library(name = name, testonly = True)
        return
    wrappers = []
    for source in srcs:
        wrapper = "%s_%s.cc" % (name, source[:-len(".cu")])
        native.genrule(
            name = wrapper[:-len(".cc")],
            testonly = True,
            outs = [wrapper],
            cmd = "printf '#include \"kernels/cuda/testing/emulated_cuda.h\"\\n#include \"%s/%s\"\\n' > $@" %
                  (native.package_name(), source),
        )
        wrappers.append(wrapper)
    _cc_library(
        name = name,
        testonly = True,
        srcs = wrappers + cc_srcs,
        textual_hdrs = srcs + textual_hdrs,
        copts = _COPTS + ["-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-psabi"],
        deps = deps + ["//kernels/cuda:emulator", "//runtime/device:fake_cuda_device", "@cuda//:cudart"],
        alwayslink = True,
        visibility = ["//visibility:public"],
    )

def fake_cuda_library(name, srcs, hdrs, deps):
    """What stands in for CUDA's libraries in tests, ahead of them in the linker's order; empty in builds without CUDA."""
    _cc_library(
        name = name,
        testonly = True,
        srcs = srcs if CUDA_ENABLED else [],
        hdrs = hdrs if CUDA_ENABLED else [],
        copts = _COPTS,
        deps = deps + ["@cuda//:cudart"] if CUDA_ENABLED else [],
        alwayslink = True,
        visibility = ["//visibility:public"],
    )

def cuda_objects_test(name, srcs, libraries, oldest, cuobjdump):
    """A script that looks at what nvcc made for cuda_libraries, objects and what ptxas said: script CUOBJDUMP FILE...

    oldest: libraries of these that must compile for the oldest GPU too; the script is given that code as well.
    """
    if not CUDA_ENABLED:
        _skipped_test(name, "built without CUDA", tags = ["cuda"])
        return
    data = [library + "_nvcc" for library in libraries]
    for group, of in [("ptxas", libraries), ("oldest", oldest)]:
        native.filegroup(
            name = "%s_%s" % (name, group),
            srcs = [library + "_nvcc" for library in of],
            output_group = group,
        )
        data = data + [":%s_%s" % (name, group)]
    native.sh_test(
        name = name,
        size = "medium",
        srcs = srcs,
        args = ["'%s'" % cuobjdump] + ["$(locations %s)" % target for target in data],
        data = data,
        tags = ["cuda"],
    )
