"""precompiled_headers: headers of the system, parsed once for all sources that are compiled with the same flags.

Half of the time of a small source goes to headers of std, Abseil and GoogleTest. The macros of lycia.bzl put what this rule makes before every source
that it fits (`precompiled` there). Headers of ours are never among them, so that a source that lacks one of ours does not compile.
"""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("@compiler//:config.bzl", "COMPILER")

def _precompiled_headers_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    source = ctx.actions.declare_file("precompiled/" + ctx.attr.source)
    ctx.actions.write(source, "\n".join(
        ["// Made by " + COMPILER] + ["#include " + header for header in ctx.attr.headers] + [""],
    ))

    # An ordinary compile action: every flag is the one that sources get, those for file names like this one's too.
    _, outputs = cc_common.compile(
        actions = ctx.actions,
        name = ctx.label.name,
        cc_toolchain = toolchain,
        feature_configuration = cc_common.configure_features(
            ctx = ctx,
            cc_toolchain = toolchain,
            requested_features = ctx.features,
            unsupported_features = ctx.disabled_features,
        ),
        srcs = [source],
        user_compile_flags = ["-xc++-header"],
        compilation_contexts = [dep[CcInfo].compilation_context for dep in ctx.attr.deps],
    )

    # Without a NAME.h beside it, a NAME.h.gch that does not fit is an error.
    header = ctx.actions.declare_file("precompiled/%s.h.gch" % ctx.label.name)
    ctx.actions.symlink(output = header, target_file = (outputs.objects or outputs.pic_objects)[0])
    return [
        DefaultInfo(files = depset([header])),
        CcInfo(compilation_context = cc_common.create_compilation_context(headers = depset([header, source]))),
    ]

precompiled_headers = rule(
    implementation = _precompiled_headers_impl,
    doc = "`-include bazel/precompiled/NAME.h`, if this is bazel:NAME. source: a file name with which --per_file_copt does what it does for the users.",
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "headers": attr.string_list(mandatory = True),
        "source": attr.string(mandatory = True),
        "_cc_toolchain": attr.label(default = Label("@bazel_tools//tools/cpp:current_cc_toolchain")),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)

# -fpch-deps: Bazel learns from the compiler's list of headers what a source depends on. The warnings are those that std's char_traits.h silences
# for itself by pragmas, which GCC 12 forgets in a precompiled header; --config=nopch has them elsewhere.
_COPTS = [
    "-Wno-array-bounds",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
    "-Winvalid-pch",
    "-fpch-deps",
    "-include",
]

def _kind(srcs, copts):
    """The target of //bazel whose flags are those of all srcs, or None."""
    sources = [source for source in srcs if source.endswith(".cc")]
    tests = [source for source in sources if source.endswith("_test.cc")]
    if not sources or [flag for flag in copts if flag[:2] in ["-m", "-f"]]:
        return None
    if len(tests) == len(sources):
        return "test_headers"
    if tests or native.package_name().startswith("tests/"):
        return None
    return "library_headers"

def precompiled(srcs, copts, deps):
    """copts and deps for these sources, with precompiled headers where some fit and --config=nopch is not given."""
    kind = _kind(srcs, copts)
    if not kind:
        return {"copts": copts, "deps": deps}
    return {
        "copts": copts + select({
            "//bazel:nopch": [],
            "//conditions:default": _COPTS + ["bazel/precompiled/%s.h" % kind],
        }),
        "deps": deps + select({
            "//bazel:nopch": [],
            "//conditions:default": ["//bazel:" + kind],
        }),
    }
