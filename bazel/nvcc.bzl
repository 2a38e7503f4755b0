"""nvcc_objects: one position-independent object file for each .cu source."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("@cuda//:config.bzl", "CUDA_HOME")

_FLAGS = [
    "-c",
    "-O3",
    "-std=c++20",
    "-gencode=arch=compute_90a,code=sm_90a",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC,-Wall",
    "-lineinfo",
]

def _nvcc_objects_impl(ctx):
    contexts = [dep[CcInfo].compilation_context for dep in ctx.attr.deps]
    host_compiler = find_cpp_toolchain(ctx).compiler_executable
    objects = []
    for source in ctx.files.srcs:
        output = ctx.actions.declare_file("_nvcc/%s/%s.o" % (ctx.label.name, source.basename))
        arguments = ctx.actions.args()
        arguments.add_all(_FLAGS)
        arguments.add(host_compiler, format = "-ccbin=%s")
        arguments.add("-I.")
        for context in contexts:
            arguments.add_all(context.quote_includes, before_each = "-I")
            arguments.add_all(context.includes, before_each = "-I")

            # nvcc must use the headers of its own folder, in its own order.
            arguments.add_all([d for d in context.system_includes.to_list() if "external/cuda" not in d], before_each = "-isystem")
            arguments.add_all(context.defines, before_each = "-D")
        arguments.add_all(ctx.attr.copts)
        arguments.add(source)
        arguments.add("-o", output)
        ctx.actions.run(
            executable = CUDA_HOME + "/bin/nvcc",
            arguments = [arguments],
            inputs = depset(ctx.files.srcs + ctx.files.hdrs, transitive = [context.headers for context in contexts]),
            outputs = [output],
            mnemonic = "NvccCompile",
            progress_message = "Compiling %s" % source.short_path,
            use_default_shell_env = True,
        )
        objects.append(output)
    return [DefaultInfo(files = depset(objects), runfiles = ctx.runfiles(files = objects))]

nvcc_objects = rule(
    implementation = _nvcc_objects_impl,
    attrs = {
        "copts": attr.string_list(),
        "deps": attr.label_list(providers = [CcInfo]),
        "hdrs": attr.label_list(allow_files = True),
        "srcs": attr.label_list(allow_files = [".cu"]),
        "_cc_toolchain": attr.label(default = Label("@bazel_tools//tools/cpp:current_cc_toolchain")),
    },
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
