"""Libraries of the distribution as cc_library targets."""

def _die(repository_ctx, what):
    fail("\n\n%s is missing (Debian and Ubuntu: %s). Run ./launch/setup, or install it and try again.\n" %
         (what, repository_ctx.attr.remedy))

def run_pkg_config(repository_ctx, arguments):
    """Words that pkg-config prints, or None when a package is unknown."""
    tool = repository_ctx.which("pkg-config")
    if not tool:
        fail("\n\npkg-config is missing. Run ./launch/setup.\n")
    result = repository_ctx.execute([tool] + arguments)
    if result.return_code != 0:
        return None
    return [word for word in result.stdout.replace("\n", " ").split(" ") if word]

def static_flags(repository_ctx, words):
    """The words with libraries taken as archives (LYCIA_STATIC=1), else as they are."""
    if repository_ctx.os.environ.get("LYCIA_STATIC", "0") != "1":
        return words
    return ["-Wl,-Bstatic"] + words + ["-Wl,-Bdynamic"]

def include_flags(repository_ctx, directories):
    """Links each directory into the repository; returns the folder names for `includes`.

    Directories that the compiler searches anyway are left out.
    """
    names = []
    for directory in directories:
        if directory.startswith("/usr/include"):
            continue
        name = "include_%d" % len(names)
        repository_ctx.symlink(directory, name)
        names.append(name)
    return names

CC_LIBRARY = """
cc_library(
    name = "{name}",
    hdrs = glob({header_globs}, allow_empty = True),
    defines = {defines},
    includes = {includes},
    linkopts = {linkopts},
    visibility = ["//visibility:public"],
    deps = {deps},
)
"""

def cc_library_text(name, linkopts = [], includes = [], defines = [], deps = []):
    return CC_LIBRARY.format(
        name = name,
        defines = defines,
        deps = deps,
        header_globs = [i + "/**/*.h*" for i in includes],
        includes = includes,
        linkopts = linkopts,
    )

def _pkg_config_library_impl(repository_ctx):
    attr = repository_ctx.attr
    libraries = run_pkg_config(repository_ctx, ["--libs"] + attr.packages)
    if libraries == None:
        _die(repository_ctx, attr.name)
    flags = run_pkg_config(repository_ctx, ["--cflags-only-I"] + attr.packages)
    includes = include_flags(repository_ctx, [flag[2:] for flag in flags if flag.startswith("-I")])
    target = attr.target or attr.name
    text = cc_library_text(target, linkopts = static_flags(repository_ctx, libraries), includes = includes)
    if attr.main_package:
        main = run_pkg_config(repository_ctx, ["--libs", attr.main_package])
        if main == None:
            _die(repository_ctx, attr.name)
        text += cc_library_text(target + "_main", linkopts = static_flags(repository_ctx, main), deps = [":" + target])
    repository_ctx.file("BUILD", text)

pkg_config_library = repository_rule(
    implementation = _pkg_config_library_impl,
    doc = "@name//:target from pkg-config packages; with main_package also @name//:target_main.",
    local = True,
    environ = ["PKG_CONFIG_PATH", "LYCIA_STATIC"],
    attrs = {
        "main_package": attr.string(),
        "packages": attr.string_list(mandatory = True),
        "remedy": attr.string(mandatory = True),
        "target": attr.string(),
    },
)

def _header_library_impl(repository_ctx):
    attr = repository_ctx.attr
    if not repository_ctx.path("/usr/include/" + attr.header).exists:
        _die(repository_ctx, attr.header)
    repository_ctx.file("BUILD", cc_library_text(attr.target or attr.name))

header_library = repository_rule(
    implementation = _header_library_impl,
    doc = "@name//:target, a header-only library under /usr/include.",
    local = True,
    attrs = {
        "header": attr.string(mandatory = True),
        "remedy": attr.string(mandatory = True),
        "target": attr.string(),
    },
)
