"""@nccl//:nccl (and @nccl//:include, its header alone): NCCL of NCCL_HOME, of the CUDA toolkit's folder or of the machine, or an empty stand-in (always one without CUDA)."""

load("//bazel:cuda_repository.bzl", "find_cuda_home", "library_directory")
load("//bazel:system_library.bzl", "cc_library_text")

def _nccl_repository_impl(repository_ctx):
    cuda = find_cuda_home(repository_ctx)
    homes = [h for h in [repository_ctx.os.environ.get("NCCL_HOME", ""), cuda, "/usr"] if h]
    header, libraries = None, None
    for home in homes if cuda else []:
        candidate = home + "/include/nccl.h"
        directory = library_directory(repository_ctx, home, "libnccl.so")
        if repository_ctx.path(candidate).exists and directory:
            header, libraries = candidate, directory
            break
    if header:
        repository_ctx.symlink(header, "include/nccl.h")
        text = cc_library_text(
            "include",
            deps = ["@cuda//:cudart"],
            includes = ["include"],
        ) + cc_library_text(
            "nccl",
            deps = [":include"],
            linkopts = ["-L" + libraries, "-Wl,-rpath," + libraries, "-lnccl"],
        )
    else:
        text = cc_library_text("include") + cc_library_text("nccl")
    repository_ctx.file("BUILD", 'exports_files(["config.bzl"])\n' + text)
    repository_ctx.file("config.bzl", "NCCL_ENABLED = %s\n" % bool(header))

nccl_repository = repository_rule(
    implementation = _nccl_repository_impl,
    local = True,
    environ = ["LYCIA_CUDA", "CUDA_HOME", "NCCL_HOME"],
)
