"""Writes build_config.h: what this build was made with, as constants."""

load("@cuda//:config.bzl", "CUDA_ENABLED")
load("@nccl//:config.bzl", "NCCL_ENABLED")

_TEXT = """#ifndef BAZEL_BUILD_CONFIG_H_
#define BAZEL_BUILD_CONFIG_H_

// What this build was made with. Written by bazel/build_config.bzl.

namespace lycia {{

inline constexpr bool kCudaEnabled = {cuda};
inline constexpr bool kNcclEnabled = {nccl};

}}  // namespace lycia

#endif  // BAZEL_BUILD_CONFIG_H_
"""

def _cpp(value):
    return "true" if value else "false"

def _build_config_header_impl(ctx):
    ctx.actions.write(ctx.outputs.out, _TEXT.format(
        cuda = _cpp(CUDA_ENABLED),
        nccl = _cpp(NCCL_ENABLED),
    ))

build_config_header = rule(
    implementation = _build_config_header_impl,
    attrs = {"out": attr.output(mandatory = True)},
)
