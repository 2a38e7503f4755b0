#!/usr/bin/env python3
"""Our convolutions beside PyTorch's and oneDNN's own on the layers of ResNet-50, in alternation: prints GFLOP/s and ratios.

bench/peers/conv.py LYCIA [--python=python3] [--cc=gcc] [--shim=FILE.so] [--dtype=f32|bf16] [--use=all] [--images=8] [--threads=2] [--rounds=3] [--milliseconds=60] [--layer=TEXT]

LYCIA is the program (bazel-bin/launch/lycia); PYTHON an interpreter that imports torch. PyTorch gets what it is fastest with: channels last,
its own threads bound to cores, memory that malloc keeps (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), gradients one at a time. It packs weights in
each call, as a training step does; ours come packed, as in our training step, which packs them once. oneDNN (libdnnl-dev, left out where it is
missing) gets packed weights too, and images channels last or in blocks of its own, whichever is faster for the layer. --shim preloads a
library into both: on virtual machines that hide CPUID leaf 0x1D, their AMX kernels need one to run at all. A round runs everyone once on a
layer, one after the other; a figure is the median of the rounds, each the median of many calls. Rows are weighted by how often ResNet-50 has a
layer. Ratios are to PyTorch; the last columns are oneDNN, the plain product of the same sizes, and the peak of a loop on registers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from rival_programs import build

USES = ("forward", "input_gradient", "weight_gradient")


def worker():
    """Reads one JSON line a measurement, writes GFLOP/s."""
    import torch
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(1)
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        n, c, h, w, k, r, s = (job[name] for name in "nchwkrs")
        dtype = torch.bfloat16 if job["dtype"] == "bf16" else torch.float32
        last = torch.channels_last
        x = torch.rand(n, c, h, w).sub(0.5).to(dtype).contiguous(memory_format=last)
        weight = torch.rand(k, c, r, s).sub(0.5).to(dtype).contiguous(memory_format=last)
        stride, pad = (job["stride"],) * 2, (job["pad"],) * 2
        with torch.no_grad():
            dout = torch.rand_like(torch.conv2d(x, weight, None, stride, pad)).sub(0.5).contiguous(memory_format=last)

            def call():
                if job["use"] == "forward":
                    return torch.conv2d(x, weight, None, stride, pad)
                mask = [job["use"] == "input_gradient", job["use"] == "weight_gradient", False]
                return torch.ops.aten.convolution_backward(dout, x, weight, None, stride, pad, (1, 1), False, (0, 0), 1, mask)

            call()
            times, start = [], time.perf_counter()
            while len(times) < 3 or time.perf_counter() - start < job["seconds"]:
                begin = time.perf_counter()
                call()
                times.append(time.perf_counter() - begin)
        print(job["gflop"] / statistics.median(times), flush=True)


def layer_of(shape):
    """Sizes from "8x56x56x64 3x3x64 stride 1,1 pad 1,1 1,1 dilation 1,1 groups 1"."""
    words = shape.split()
    n, h, w, c = map(int, words[0].split("x"))
    r, s, k = map(int, words[1].split("x"))
    stride, pad = int(words[3].split(",")[0]), int(words[5].split(",")[0])
    p, q = (h + 2 * pad - r) // stride + 1, (w + 2 * pad - s) // stride + 1
    return {"n": n, "h": h, "w": w, "c": c, "r": r, "s": s, "k": k, "stride": stride, "pad": pad, "gflop": 2e-9 * n * p * q * k * r * s * c}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lycia", nargs="?")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--use", choices=USES + ("all",), default="all")
    parser.add_argument("--layer", default="")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--milliseconds", type=int, default=60)
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("--shim", default="", metavar="FILE.so")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker()
    if not options.lycia:
        parser.error("LYCIA, the program, is missing")
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), OMP_PROC_BIND="true", OMP_WAIT_POLICY="passive",
                       MALLOC_MMAP_THRESHOLD_=str(1 << 30), MALLOC_TRIM_THRESHOLD_=str(1 << 30), MALLOC_TOP_PAD_=str(1 << 26))
    if options.shim:
        environment["LD_PRELOAD"] = os.path.abspath(options.shim)
    folder = tempfile.TemporaryDirectory()
    onednn = build(options.cc, folder.name, "oneDNN", "dnnl_conv.cc", ["-ldnnl"], "libdnnl-dev")
    rival = subprocess.Popen([options.python, os.path.abspath(__file__), "--worker"], env=environment, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    version = rival.stdout.readline().strip()
    if not version:
        sys.exit("conv.py: %s cannot import torch; name an interpreter that can with --python" % options.python)

    def ours(layer, use):
        command = [options.lycia, "bench", "conv", "--format=json", "--layer=" + layer, "--use=" + use, "--dtype=" + options.dtype,
                   "--images=%d" % options.images, "--threads=%d" % options.threads, "--milliseconds=%d" % (3 * options.milliseconds)]
        return json.loads(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)

    def theirs(row):
        job = dict(layer_of(row["shape"]), use=row["use"], dtype=options.dtype, seconds=options.milliseconds / 1000)
        rival.stdin.write(json.dumps(job) + "\n")
        rival.stdin.flush()
        return float(rival.stdout.readline())

    def onednns(row):
        layer = layer_of(row["shape"])
        sizes = [str(layer[name]) for name in ("n", "h", "w", "c", "r", "s", "k", "stride", "pad")]
        done = subprocess.run([onednn, options.dtype, row["use"]] + sizes + [str(2 * options.milliseconds)], env=environment, check=True, text=True,
                              stdout=subprocess.PIPE)
        return float(done.stdout.split()[1])

    listed = subprocess.run([options.lycia, "bench", "conv", "--format=json", "--layer=" + options.layer, "--use=forward", "--dtype=f32",
                             "--images=1", "--milliseconds=1"], check=True, text=True, stdout=subprocess.PIPE).stdout
    layers = [row["layer"] for row in json.loads(listed)]
    print("PyTorch %s; %d threads; %d images; %s; load average %.1f at the start" %
          (version, options.threads, options.images, options.dtype, os.getloadavg()[0]))
    print("%-18s %-15s %4s %9s %9s %7s %9s %9s %9s" % ("layer", "use", "uses", "lycia", "torch", "ratio", "onednn", "product", "peak"))
    all_ratios, all_shares = [], []
    for use in USES if options.use == "all" else (options.use,):
        ratios, shares, seconds = [], [], [0.0, 0.0]
        for layer in layers:
            mine, other, product, library = [], [], [], []
            for _ in range(options.rounds):
                row = next(one for one in ours(layer, use) if one["layer"] == layer)
                mine.append(row["gflops"])
                product.append(row["product_gflops"])
                other.append(theirs(row))
                if onednn:
                    library.append(onednns(row))
            fast, slow = statistics.median(mine), statistics.median(other)
            ratios.append(fast / slow)
            shares.append(slow / row["peak_gflops"])
            work = row["uses"] * layer_of(row["shape"])["gflop"]
            seconds[0] += work / fast
            seconds[1] += work / slow
            by_library = "%.1f" % statistics.median(library) if library else "-"
            print("%-18s %-15s %4d %9.1f %9.1f %7.2f %9s %9.1f %9.1f" % (layer, use, row["uses"], fast, slow, fast / slow, by_library,
                                                                         statistics.median(product), row["peak_gflops"]), flush=True)
        print("%s: median ratio %.2f, least %.2f, of all layers weighted by use %.2f; PyTorch's median share of the peak %.0f %%" %
              (use, statistics.median(ratios), min(ratios), seconds[1] / seconds[0], 100 * statistics.median(shares)))
        all_ratios += ratios
        all_shares += shares
    print("all: median ratio %.2f; PyTorch's median share of the peak %.0f %%; load average %.1f at the end" %
          (statistics.median(all_ratios), 100 * statistics.median(all_shares), os.getloadavg()[0]))
    rival.stdin.close()
    rival.wait()


if __name__ == "__main__":
    main()
