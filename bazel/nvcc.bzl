"""nvcc_objects: one position-independent object file for each .cu source, and what ptxas said of its kernels.

Machine code is made for Hopper (sm_90a); with --define=gpus=all also for Ampere and Ada (sm_80), with code that the driver translates for
whatever comes later (compute_80). Sources in hopper_srcs use instructions of Hopper alone: they are made for it only, and a kernel of theirs
that spills registers to memory fails the build. The output group "oldest" has the other sources for sm_80, not optimised, which takes a quarter
of the time: a check that they can be compiled for it.
"""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("@cuda//:config.bzl", "CUDA_HOME")

_FLAGS = [
    "-c",
    "-O3",
    "-std=c++20",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC,-Wall",
    "-lineinfo",
    "-Xptxas=-v",
]
_HOPPER = "-gencode=arch=compute_90a,code=sm_90a"
_ALL = [_HOPPER, "-gencode=arch=compute_80,code=[sm_80,compute_80]"]

# Accumulators that leave the registers are a bug.
_NO_SPILLS = "-Xptxas=--warn-on-spills,--warning-as-error"

_OLDEST = ["-cubin", "-G", "-std=c++20", "-arch=sm_80", "--expt-relaxed-constexpr"]

# nvcc's own output, but for what `ptxas -v` tells of each kernel, which goes into a file that tests read.
_COMMAND = """
log=$1; shift
if "$@" 2>"$log"; then code=0; else code=$?; fi
sed -i "/Compile time/d" "$log"  # differs from run to run
grep -v -e '^ptxas info' -e 'bytes stack frame' "$log" >&2
exit $code
"""

def _compile(ctx, source, flags, suffix):
    """The output of nvcc for one source, and ptxas' words."""
    contexts = [dep[CcInfo].compilation_context for dep in ctx.attr.deps]
    output = ctx.actions.declare_file("_nvcc/%s/%s%s" % (ctx.label.name, source.basename, suffix))
    log = ctx.actions.declare_file("_nvcc/%s/%s%s.ptxas" % (ctx.label.name, source.basename, suffix))
    arguments = ctx.actions.args()
    arguments.add(log)
    arguments.add(CUDA_HOME + "/bin/nvcc")
    arguments.add_all(flags)
    arguments.add(find_cpp_toolchain(ctx).compiler_executable, format = "-ccbin=%s")
    arguments.add("-I.")
    for context in contexts:
        arguments.add_all(context.quote_includes, before_each = "-I")
        arguments.add_all(context.includes, before_each = "-I")

        # nvcc must use the headers of its own folder, in its own order.
        arguments.add_all([d for d in context.system_includes.to_list() if "external/cuda" not in d], before_each = "-isystem")
        arguments.add_all(context.defines, before_each = "-D")
    arguments.add(source)
    arguments.add("-o", output)
    ctx.actions.run_shell(
        command = _COMMAND,
        arguments = [arguments],
        inputs = depset(
            ctx.files.srcs + ctx.files.hopper_srcs + ctx.files.hdrs +
            # Precompiled headers are for g++.
            [header for context in contexts for header in context.headers.to_list() if "/bazel/precompiled/" not in header.path],
        ),
        outputs = [output, log],
        mnemonic = "NvccCompile",
        progress_message = "Compiling %s" % source.short_path,
        use_default_shell_env = True,
    )
    return output, log

def _nvcc_objects_impl(ctx):
    plain = _ALL if ctx.var.get("gpus", "hopper") == "all" else [_HOPPER]
    made = [_compile(ctx, source, _FLAGS + plain, ".o") for source in ctx.files.srcs]
    made += [_compile(ctx, source, _FLAGS + [_HOPPER, _NO_SPILLS], ".o") for source in ctx.files.hopper_srcs]
    oldest = [_compile(ctx, source, _OLDEST, ".sm_80.cubin") for source in ctx.files.srcs]
    objects = [output for output, _ in made]
    return [
        DefaultInfo(files = depset(objects), runfiles = ctx.runfiles(files = objects)),
        OutputGroupInfo(
            ptxas = depset([log for _, log in made]),
            oldest = depset([output for output, _ in oldest]),
        ),
    ]

nvcc_objects = rule(
    implementation = _nvcc_objects_impl,
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "hdrs": attr.label_list(allow_files = True),
        "hopper_srcs": attr.label_list(allow_files = [".cu"]),
        "srcs": attr.label_list(allow_files = [".cu"]),
        "_cc_toolchain": attr.label(default = Label("@bazel_tools//tools/cpp:current_cc_toolchain")),
    },
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
