"""@compiler//:config.bzl: COMPILER names the build of GCC: another one refuses its precompiled headers."""

def _compiler_repository_impl(repository_ctx):
    compiler = repository_ctx.os.environ.get("CC", "gcc")
    program = repository_ctx.execute([compiler, "-print-prog-name=cc1plus"]).stdout.strip()
    checksum = repository_ctx.execute(["sha256sum", program]).stdout.split(" ")[0]
    repository_ctx.file("BUILD")
    repository_ctx.file("config.bzl", 'COMPILER = "%s, cc1plus %s"\n' % (compiler, checksum))

compiler_repository = repository_rule(
    implementation = _compiler_repository_impl,
    local = True,
    environ = ["CC", "PATH"],
)
