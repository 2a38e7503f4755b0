#!/usr/bin/env python3
"""Our matrix products beside OpenBLAS, BLIS and oneDNN on the shapes of GPT-2 124M, in alternation: prints GFLOP/s and ratios.

bench/peers/gemm.py LYCIA [--dtype=f32|bf16] [--threads=2] [--rounds=5] [--milliseconds=60] [--realtime] [--shim=FILE.so] [--cc=gcc]

LYCIA is the program (bazel-bin/launch/lycia). The rivals come from Debian's libopenblas-dev, libblis-dev and libdnnl-dev; what is missing is named
and left out. Each rival runs with its best setting: every core type that it may be told to use is tried on one shape first, and the winner
is printed. A round runs every program once on a shape, one after the other; a figure is the median of the rounds, each the median of many
calls. --realtime runs all of them, ours too, with real-time priority (root only), so that other users of the machine disturb less.
--shim preloads a library into oneDNN alone: on virtual machines that hide CPUID leaf 0x1D, its AMX kernels need one to run at all.
The weights are how often a forward pass uses a shape: 12 blocks, one head.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from rival_programs import build

LAYERS = [("attention out", 768, 768, 12), ("qkv", 2304, 768, 12), ("mlp in", 3072, 768, 12), ("mlp out", 768, 3072, 12), ("head", 50257, 768, 1)]
SHAPES = [(name, m, n, k, uses) for m in (256, 1024) for name, n, k, uses in LAYERS]
TRIED_ON = (1024, 768, 768)


class Contestant:
    def __init__(self, name, command, settings):
        self.name = name
        self.command = command  # function of m, n, k
        self.settings = settings  # environments to try
        self.environment = settings[0]
        self.detail = ""

    def run(self, shape, options):
        """(GFLOP/s, detail) or None where it dies."""
        command = self.command(*shape)
        if options.realtime:
            command = ["chrt", "-f", "10"] + command
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPENBLAS_", "BLIS_", "OMP_", "ONEDNN_", "DNNL_"))}
        environment.update(self.environment)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            return None
        if self.name == "lycia":
            row = json.loads(done.stdout)[0]
            return row["gflops"], row["isa"], row["peak_gflops"]
        detail, gflops = done.stdout.split()
        return float(gflops), detail, 0.0

    def choose(self, options):
        best = None
        for setting in self.settings:
            self.environment = setting
            results = [self.run(TRIED_ON, options) for _ in range(2)]
            if None in results:
                print("  %s dies with %s" % (self.name, describe(setting)))
                continue
            speed = max(result[0] for result in results)
            if best is None or speed > best[0]:
                best = (speed, setting, results[0][1])
        if best is None:
            return False
        self.environment = best[1]
        self.detail = best[2]
        print("  %-9s %s, %s" % (self.name, self.detail, describe(self.environment)))
        return True


def describe(setting):
    return " ".join("%s=%s" % item for item in sorted(setting.items())) or "as found"


def contestants(options, folder):
    threads = str(options.threads)
    milliseconds = str(options.milliseconds)

    def ours(m, n, k):
        return [options.lycia, "bench", "kernels", "--format=json", "--name=gemm_forward_packed", "--dtype=" + options.dtype,
                "--shape=%d,%d,%d" % (m, n, k), "--threads=" + threads, "--milliseconds=" + milliseconds]

    found = [Contestant("lycia", ours, [{}])]

    def rival(name, source, flags, package, before, settings):
        program = build(options.cc, folder, name, source, flags, package)
        if program:
            found.append(Contestant(name, lambda m, n, k: [program] + before + [str(m), str(n), str(k), milliseconds], settings))

    if options.dtype == "f32":
        rival("openblas", "cblas_gemm.c", ["-DPEER_OPENBLAS", "-lopenblas"], "libopenblas-dev", [],
              [dict({"OPENBLAS_NUM_THREADS": threads}, **({"OPENBLAS_CORETYPE": core} if core else {})) for core in ("", "SkylakeX", "Haswell", "Zen")])
        rival("blis", "cblas_gemm.c", ["-lblis"], "libblis-dev", [],
              [dict({"BLIS_NUM_THREADS": threads}, **({"BLIS_ARCH_TYPE": core} if core else {})) for core in ("", "skx", "haswell", "zen3")])
    omp = {"OMP_NUM_THREADS": threads, "OMP_PROC_BIND": "true"}
    settings = [omp, dict(omp, OMP_WAIT_POLICY="active")]
    settings += [dict(omp, ONEDNN_MAX_CPU_ISA=isa) for isa in (("AVX512_CORE", "AVX2") if options.dtype == "f32" else ("AVX512_CORE_BF16",))]
    if options.shim:
        settings = [dict(setting, LD_PRELOAD=os.path.abspath(options.shim)) for setting in settings]
    rival("onednn", "dnnl_gemm.cc", ["-ldnnl"], "libdnnl-dev", [options.dtype], settings)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lycia")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--milliseconds", type=int, default=60)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--shim", default="")
    parser.add_argument("--cc", default="gcc")
    options = parser.parse_args()
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        words = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in cpuinfo.read().split("\n\n")[0].splitlines() if ":" in line}
    print("%s, family %s, model %s; %d threads; load average %.1f at the start; %s" %
          (words.get("model name"), words.get("cpu family"), words.get("model"), options.threads, os.getloadavg()[0], options.dtype))
    with tempfile.TemporaryDirectory() as folder:
        everyone = [one for one in contestants(options, folder) if one.choose(options)]
        if everyone[0].name != "lycia" or len(everyone) < 2:
            sys.exit("gemm.py: nothing to compare: %s" % ", ".join(one.name for one in everyone))
        rivals = everyone[1:]
        print("%-14s %5s %6s %5s " % ("layer", "m", "n", "k") + " ".join("%9s" % one.name for one in everyone) + "   share  ratio to the best rival")
        seconds = {one.name: 0.0 for one in everyone}
        worst, best_seconds = None, 0.0
        for name, m, n, k, uses in SHAPES:
            runs = {one.name: [] for one in everyone}
            peaks = []
            for _ in range(options.rounds):
                for one in everyone:
                    result = one.run((m, n, k), options)
                    if result is None:
                        sys.exit("gemm.py: %s died on %d, %d, %d" % (one.name, m, n, k))
                    runs[one.name].append(result[0])
                    peaks.append(result[2])
            speed = {key: statistics.median(values) for key, values in runs.items()}
            best = max(speed[one.name] for one in rivals)
            ratio = speed["lycia"] / best
            worst = ratio if worst is None else min(worst, ratio)
            work = uses * 2e-9 * m * n * k
            for key, value in speed.items():
                seconds[key] += work / value
            best_seconds += work / best
            print("%-14s %5d %6d %5d " % (name, m, n, k) + " ".join("%9.1f" % speed[one.name] for one in everyone) +
                  "  %5.1f%%  %.3f" % (100 * speed["lycia"] / max(peaks), ratio), flush=True)
        total = sum(uses * 2e-9 * m * n * k for _, m, n, k, uses in SHAPES)
        print("%-32s " % "weighted by use" + " ".join("%9.1f" % (total / seconds[one.name]) for one in everyone))
        for one in rivals:
            print("lycia is %.3f times as fast as %s, weighted by use" % (seconds[one.name] / seconds["lycia"], one.name))
        print("lycia is %.3f times as fast as the best rival of each shape, weighted by use; least ratio of a shape %.3f; load average %.1f at the end" %
              (best_seconds / seconds["lycia"], worst, os.getloadavg()[0]))


if __name__ == "__main__":
    main()
