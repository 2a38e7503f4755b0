"""link_only: what links its deps, without what they export to compilers.

Include paths and headers of a toolkit would otherwise be part of every compile action above it, so that a build without the toolkit would
compile everything anew.
"""

def _link_only_impl(ctx):
    merged = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps])
    return [CcInfo(linking_context = merged.linking_context)]

link_only = rule(
    implementation = _link_only_impl,
    attrs = {"deps": attr.label_list(providers = [CcInfo])},
)
