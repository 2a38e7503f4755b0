#!/usr/bin/env python3
"""A whole training step of GPT-2 on the CPU: `lycia bench step` beside PyTorch and llm.c, in alternation, on the same weights and tokens.

bench/peers/step.py LYCIA [--torch PYTHON]... [--llmc FOLDER] [--precision f32|bf16] [--sequence 256] [--batch 4] ...

LYCIA is the program (bazel-bin/launch/lycia). --torch names a Python that has PyTorch (1.13 or later; several may be given): apt-get install
python3-torch for /usr/bin/python3, pip install torch in an environment for the newest. --llmc names a folder with llm.c's sources; its trainer
is built into a temporary folder with gcc and the flags of its Makefile (f32 only). NumPy is needed here (python3-numpy).

A rival runs with its best settings: each choice below is tried for --tries steps, one after the other, the fastest kept, and the winner printed.
  memory      glibc keeps what it is given (MALLOC_*), which spares page faults in every step; huge pages besides
  products    OPENBLAS_CORETYPE, waiting OpenMP threads, DNNL_MAX_CPU_ISA; mkl_any_vendor.c for MKL on processors that are not Intel's
  program     attention of its own or scaled_dot_product_attention, the loss fused with the head, AdamW plain, foreach or fused, torch.compile
In bf16, PyTorch is measured twice: "autocast" is the like of ours (f32 weights and moments, bf16 products); "pure" has weights and moments in bf16,
which is faster, takes less memory and learns less, as the losses show.
--shim preloads a library into PyTorch: on virtual machines that hide CPUID leaf 0x1D, oneDNN's AMX kernels need one to run at all.

A round runs every contestant once, from the same weights; the first --warmup steps of each run are not counted. Times are medians of all rounds;
memory is the most resident at any time. --wrap CMD is put before every measured run, e.g. a lock that keeps others off the machine.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile

import step_contestants as contestants_of
from gpt2_inputs import initial_weights, write_llmc, write_safetensors, write_tokens


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lycia")
    parser.add_argument("--torch", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--llmc", default="", metavar="FOLDER")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    for name, value in (("layers", 12), ("heads", 12), ("hidden", 768), ("vocabulary", 50257), ("batch", 4), ("sequence", 256), ("threads", 2),
                        ("steps", 8), ("warmup", 2), ("rounds", 3), ("tries", 3), ("llmc-steps", 0), ("seed", 1)):
        parser.add_argument("--" + name, type=int, default=value)
    for name, value in (("lr", 1e-4), ("beta1", 0.9), ("beta2", 0.999), ("weight-decay", 0.0), ("clip", 0.0)):
        parser.add_argument("--" + name, type=float, default=value, help="for everyone (llm.c cannot clip)" if name == "clip" else None)
    parser.add_argument("--no-compile", action="store_true", help="does not try torch.compile, which takes minutes")
    parser.add_argument("--settings", default="", metavar="FILE", help="the winners: read if the file is there, else chosen and written to it")
    parser.add_argument("--shim", default="", metavar="FILE.so")
    parser.add_argument("--wrap", default="", metavar="CMD")
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("--json", default="", metavar="FILE", help="writes everything measured")
    options = parser.parse_args()
    options.wrap = shlex.split(options.wrap)
    if options.llmc_steps == 0:
        options.llmc_steps = options.steps + options.warmup
    if not options.torch and not options.llmc:
        parser.error("nobody to compare with: give --torch PYTHON or --llmc FOLDER")
    if options.hidden % options.heads or min(options.steps, options.rounds, options.tries) < 1 or options.warmup < 0:
        parser.error("--heads must divide --hidden; --steps, --rounds and --tries are at least 1")
    if not 256 <= options.vocabulary <= 65536:
        parser.error("--vocabulary must be from 256 to 65536")
    if options.llmc and options.clip > 0:
        parser.error("llm.c does not clip; leave --clip or --llmc out")
    return options


def write_inputs(options, folder):
    inputs = argparse.Namespace(weights=os.path.join(folder, "gpt2.safetensors"), llmc=os.path.join(folder, "llmc.bin"),
                                tokens=os.path.join(folder, "tokens.u16"))
    weights = initial_weights(options.layers, options.hidden, options.vocabulary, options.sequence, options.seed)
    write_safetensors(inputs.weights, weights)
    if options.llmc:
        write_llmc(inputs.llmc, weights, options.layers, options.heads, options.hidden, options.vocabulary, options.sequence)
    steps = max(options.steps + options.warmup, options.tries + options.warmup, options.llmc_steps)
    write_tokens(inputs.tokens, options.vocabulary, steps * options.batch * (options.sequence + 1), options.seed + 1)
    return inputs


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        words = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in cpuinfo.read().split("\n\n")[0].splitlines() if ":" in line}
    return "%s, family %s, model %s" % (words.get("model name"), words.get("cpu family"), words.get("model"))


def measure(everyone, options):
    """{name: [run of every round]}"""
    runs = {one.name: [] for one in everyone}
    for round_index in range(options.rounds):
        for one in everyone:
            if one.rounds is not None and round_index >= one.rounds:
                continue
            result = one.run(options.wrap)
            if result is None:
                sys.exit("step.py: %s died with the settings that it was chosen for:\n%s" % (one.name, one.error))
            runs[one.name].append(result)
    return runs


def row_of(one, runs, options):
    times = [ms for run in runs for ms in run["step_ms"][run["uncounted"]:]]
    median = statistics.median(times)
    return {"name": one.name, "median_ms": median, "best_ms": min(times), "tokens_per_second": 1e3 * options.batch * options.sequence / median,
            "peak_rss_bytes": max(run["peak_rss_bytes"] for run in runs), "loss": runs[0]["loss"], "isa": runs[0]["isa"],
            "version": runs[0].get("version", ""), "settings": one.settings_text(), "steps": len(times)}


def print_table(rows, options):
    ours = rows[0]
    print("%-28s %10s %10s %9s %7s %9s %7s" % ("", "median ms", "best ms", "tokens/s", "ratio", "peak GB", "ratio"))
    for row in rows:
        print("%-28s %10.1f %10.1f %9.1f %7.3f %9.2f %7.3f" %
              (row["name"], row["median_ms"], row["best_ms"], row["tokens_per_second"], row["median_ms"] / ours["median_ms"],
               row["peak_rss_bytes"] / 1e9, ours["peak_rss_bytes"] / row["peak_rss_bytes"]))
    print("ratio: how many times as fast ours is; ours over theirs for memory")
    shared = min(len(row["loss"]) for row in rows)
    for at in sorted({1, shared, min(10, shared)}):
        first = ours["loss"][at - 1]
        print("loss of step %d: " % at + ", ".join("%s %.5f (%+.5f)" % (row["name"], row["loss"][at - 1], row["loss"][at - 1] - first) for row in rows))
    if options.clip > 0:
        print("gradients are clipped to a norm of %g by all" % options.clip)


def main():
    options = parse()
    print("%s; %d threads; load average %.1f at the start" % (machine(), options.threads, os.getloadavg()[0]))
    print("GPT-2 of %d layers, hidden %d, vocabulary %d; %d sequences of %d tokens; %s" %
          (options.layers, options.hidden, options.vocabulary, options.batch, options.sequence, options.precision), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(options, folder)
        everyone = contestants_of.all_of(options, inputs, folder)
        known = {}
        if options.settings and os.path.exists(options.settings):
            with open(options.settings, encoding="utf-8") as file:
                known = json.load(file)
        for one in everyone:
            one.choose(options, known.get(one.key))
            print("  %s: %s" % (one.name, one.settings_text()), flush=True)
        if options.settings:
            known.update({one.key: one.settings for one in everyone if one.settings})
            with open(options.settings, "w", encoding="utf-8") as file:
                json.dump(known, file, indent=1)
        runs = measure(everyone, options)
    rows = [row_of(one, runs[one.name], options) for one in everyone]
    for row in rows:
        print("  %s: %s" % (row["name"], row["isa"]))
    print_table(rows, options)
    print("load average %.1f at the end" % os.getloadavg()[0])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "batch": options.batch, "sequence": options.sequence, "precision": options.precision, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
