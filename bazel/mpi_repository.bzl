"""@mpi//:mpi: the MPI of MPI_HOME or of the machine, or an empty stand-in.

@mpi//:config.bzl tells the macros what was found. `--config=nompi` (LYCIA_MPI=0) asks for the stand-in.
"""

load("//bazel:system_library.bzl", "cc_library_text", "include_flags", "run_pkg_config")

_DEFINES = ["OMPI_SKIP_MPICXX", "MPICH_SKIP_MPICXX"]  # the C++ bindings died with MPI 3

def _words(text):
    return [word for word in text.replace("\n", " ").split(" ") if word]

def _find(repository_ctx):
    """(mpirun, include directories, link words), or None."""
    home = repository_ctx.os.environ.get("MPI_HOME", "")
    if home:
        compiler = repository_ctx.path(home + "/bin/mpicc")
        launcher = repository_ctx.path(home + "/bin/mpirun")
        if not compiler.exists or not launcher.exists:
            fail("\n\nMPI_HOME is %s, but bin/mpicc or bin/mpirun is not there. Correct it, or build with --config=nompi.\n" % home)
    else:
        compiler = repository_ctx.which("mpicc")
        launcher = repository_ctx.which("mpirun")
        if not compiler or not launcher:
            return None
    compile = repository_ctx.execute([compiler, "--showme:compile"])
    link = repository_ctx.execute([compiler, "--showme:link"])
    if compile.return_code == 0 and link.return_code == 0:  # Open MPI
        flags, libraries = _words(compile.stdout), _words(link.stdout)
    else:  # MPICH and its family
        show = repository_ctx.execute([compiler, "-show"])
        flags = _words(show.stdout)
        libraries = [w for w in flags if w.startswith("-l") or w.startswith("-L") or w.startswith("-Wl,")]
    includes = [flag[2:] for flag in flags if flag.startswith("-I")]
    return (str(launcher), includes, [word for word in libraries if word != "-pthread"] + ["-pthread"])

def _mpi_repository_impl(repository_ctx):
    found = None
    if repository_ctx.os.environ.get("LYCIA_MPI", "1") != "0":
        found = _find(repository_ctx)
    if found:
        launcher, directories, libraries = found
        includes = include_flags(repository_ctx, directories)
        text = cc_library_text("mpi", defines = _DEFINES, includes = includes, linkopts = libraries)
    else:
        launcher = ""
        text = cc_library_text("mpi")
    repository_ctx.file("BUILD", 'exports_files(["config.bzl"])\n' + text)
    repository_ctx.file("config.bzl", 'MPI_ENABLED = %s\n\nMPIRUN = "%s"\n' % (bool(found), launcher))

mpi_repository = repository_rule(
    implementation = _mpi_repository_impl,
    local = True,
    environ = ["LYCIA_MPI", "MPI_HOME", "PATH"],
)
