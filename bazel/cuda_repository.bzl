"""@cuda: the CUDA toolkit of CUDA_HOME or /usr/local/cuda, or empty stand-ins.

Targets: @cuda//:cudart (headers and the static runtime), @cuda//:cublas (cuBLAS and cuBLASLt, shared). @cuda//:config.bzl tells the macros what was
found: CUDA_ENABLED, CUDA_HOME, CUOBJDUMP (empty: none). `--config=nocuda` (LYCIA_CUDA=0) asks for the stand-ins.
"""

load("//bazel:system_library.bzl", "cc_library_text")

def find_cuda_home(repository_ctx):
    """The folder of the toolkit, or None."""
    if repository_ctx.os.environ.get("LYCIA_CUDA", "1") == "0":
        return None
    home = repository_ctx.os.environ.get("CUDA_HOME", "")
    explicit = bool(home)
    home = home or "/usr/local/cuda"
    if repository_ctx.path(home + "/bin/nvcc").exists and repository_ctx.path(home + "/include/cuda_runtime.h").exists:
        return home
    if explicit:
        fail("\n\nCUDA_HOME is %s, but there is no bin/nvcc there. Correct it, or build with --config=nocuda.\n" % home)
    return None

def _find_cuobjdump(repository_ctx, home):
    """Of the toolkit, on the path, or where ./launch/setup put it; "" where there is none."""
    environ = repository_ctx.os.environ
    caches = environ.get("XDG_CACHE_HOME", environ.get("HOME", "") + "/.cache")
    brought = environ.get("LYCIA_CACHE", caches + "/lycia") + "/cuda_tools/bin/cuobjdump"
    for path in [home + "/bin/cuobjdump", repository_ctx.which("cuobjdump"), brought]:
        if path and repository_ctx.path(path).exists:
            return str(path)
    return ""

def library_directory(repository_ctx, home, library):
    for directory in ["/lib64", "/lib", "/targets/x86_64-linux/lib", "/lib/x86_64-linux-gnu"]:
        if repository_ctx.path(home + directory + "/" + library).exists:
            return home + directory
    return None

_HEADERS = """
filegroup(
    name = "headers",
    srcs = glob(["include/*.h", "include/*.hpp", "include/crt/**", "include/nvtx3/**"], allow_empty = True),
    visibility = ["//visibility:public"],
)

cc_library(
    name = "include",
    hdrs = [":headers"],
    includes = ["include"],
)
"""

def _cuda_repository_impl(repository_ctx):
    home = find_cuda_home(repository_ctx)
    runtime = library_directory(repository_ctx, home, "libcudart_static.a") if home else None
    if home and not runtime:
        fail("\n\n%s has nvcc but no libcudart_static.a. Install the CUDA runtime, or build with --config=nocuda.\n" % home)
    text = 'exports_files(["config.bzl"])\n'
    if home:
        repository_ctx.symlink(home + "/include", "include")
        blas = library_directory(repository_ctx, home, "libcublasLt.so")
        text += _HEADERS
        text += cc_library_text(
            "cudart",
            deps = [":include"],
            linkopts = [runtime + "/libcudart_static.a", "-ldl", "-lrt", "-lpthread"],
        )
        text += cc_library_text(
            "cublas",
            deps = [":cudart"],
            linkopts = ["-L" + blas, "-Wl,-rpath," + blas, "-lcublas", "-lcublasLt"] if blas else [],
        )
    else:
        text += cc_library_text("cudart") + cc_library_text("cublas")
    repository_ctx.file("BUILD", text)
    repository_ctx.file("config.bzl", 'CUDA_ENABLED = %s\n\nCUDA_HOME = "%s"\n\nCUOBJDUMP = "%s"\n' % (
        bool(home),
        home or "",
        _find_cuobjdump(repository_ctx, home) if home else "",
    ))

cuda_repository = repository_rule(
    implementation = _cuda_repository_impl,
    local = True,
    environ = ["LYCIA_CUDA", "CUDA_HOME", "LYCIA_CACHE"],
)
