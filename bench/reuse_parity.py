#!/usr/bin/env python3
"""What computation reuse costs in quality: the same runs with and without it, over seeds and folds.

  bench/reuse_parity.py --task=mnist --data=FOLDER [--modes=exact,quantized,lsh] [--seeds=3] [--folds=5] [--steps=600] [--work=FOLDER]
  bench/reuse_parity.py --task=text --data=FILE ...
  bench/reuse_parity.py --time --task=... --data=...    # alternated runs of --steps steps, dense and controlled; medians and their ratio

mnist: launch/configs/mnist.toml on the t10k files of FOLDER (every fold holds a tenth out); text: a byte-level GPT with rotary positions.
Each run with a mode is paired with the dense run of its seed and fold. Reuse is forced wherever rows repeat (reuse.dispatch = always), so
that quality is tested where it is in danger; whether it saves time is the controller's business: --time compares steps instead.
Bars, per mode: the paired difference of held-out accuracy within 0.3 points or 2 standard errors of 0, and the mean held-out loss within
0.3 % or 2 standard errors. Exit code 1 where one is missed. A finished run is not run again: its folder says what it gave.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def settings(arguments):
    if arguments.task == "mnist":
        files = [os.path.join(arguments.data, name) for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")]
        return "launch/configs/mnist.toml", {"data.files": json.dumps(files), "data.shift": 0}
    return "launch/configs/quickstart.toml", {
        "data.files": json.dumps([arguments.data]), "model.position": "rotary", "model.layers": 2, "model.context": 64,
        "train.micro_batch": 16, "train.warmup_steps": 20, "train.hash_every": 0, "parallel.schedule": "1f1b", "parallel.stages": 1,
        "output.trace_step": 0, "generate.tokens": 0}


def run(arguments, mode, seed, fold):
    """The last evaluation and the reuse rows of one run."""
    out = os.path.join(arguments.work, f"{arguments.task}-{arguments.steps}-{mode}-{seed}-{fold}")
    metrics = os.path.join(out, "metrics.jsonl")
    lines = [json.loads(line) for line in open(metrics)] if os.path.exists(metrics) else []
    if not any("held_out_loss" in line for line in lines):
        subprocess.run(["rm", "-rf", out], check=True)
        config, values = settings(arguments)
        values |= {"train.steps": arguments.steps, "train.seed": seed, "data.seed": seed, "data.fold": fold, "data.held_out": 0.1,
                   "reuse.mode": mode, "reuse.dispatch": "always", "reuse.hash_every": 10, "checkpoint.every": 0,
                   "checkpoint.keep": 1, "output.dir": out, "parallel.threads": arguments.threads}
        command = [arguments.lycia, "train", "--config=" + os.path.join(ROOT, config)]
        for key, value in values.items():
            command += ["--set", f"{key}={value}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        lines = [json.loads(line) for line in open(metrics)]
        subprocess.run(["rm", "-rf", os.path.join(out, "checkpoints"), os.path.join(out, "model.safetensors")], check=True)
    evaluation = [line for line in lines if "held_out_loss" in line][-1]
    reuse = [layer for line in lines if "reuse" in line for layer in line["reuse"] if layer["use"] == "reuse"]
    return evaluation, reuse


def error_of(values):
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def step_seconds(arguments, mode, dispatch, repetition):
    out = os.path.join(arguments.work, f"time-{arguments.task}-{mode}-{dispatch}")
    subprocess.run(["rm", "-rf", out], check=True)
    config, values = settings(arguments)
    values |= {"train.steps": arguments.steps, "train.warmup_steps": 10, "reuse.mode": mode, "reuse.dispatch": dispatch, "reuse.hash_every": 10,
               "reuse.final_fraction": 0, "checkpoint.every": 0, "output.dir": out, "parallel.threads": arguments.threads}
    command = [arguments.lycia, "train", "--config=" + os.path.join(ROOT, config)]
    for key, value in values.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    lines = [json.loads(line) for line in open(os.path.join(out, "metrics.jsonl"))]
    seconds = [line["step_seconds"] for line in lines if "step_seconds" in line]
    reuse = [line["reuse"] for line in lines if "reuse" in line]
    return statistics.median(seconds[len(seconds) // 4:]), reuse[-1] if reuse else []


def compare_times(arguments):
    print("mode        dispatch   ms a step, dense     with reuse     ratio     layers that reuse at the end (distinct rows)")
    for mode in arguments.modes.split(","):
        for dispatch in ("cost", "always"):
            dense, reused = [], []
            for repetition in range(5):
                dense.append(step_seconds(arguments, "off", "cost", repetition)[0])
                seconds, layers = step_seconds(arguments, mode, dispatch, repetition)
                reused.append(seconds)
            ratio = statistics.median(d / r for d, r in zip(dense, reused))
            used = ", ".join(f"{layer['layer']} {layer['unique_ratio']:.2f}" for layer in layers if layer["use"] == "reuse") or "none"
            print(f"{mode:11} {dispatch:10} {1e3 * statistics.median(dense):12.2f} {1e3 * statistics.median(reused):14.2f} {ratio:12.3f}     {used}",
                  flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("mnist", "text"), required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--modes", default="exact,quantized,lsh")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", default="/tmp/reuse_parity")
    parser.add_argument("--lycia", default=os.path.join(ROOT, "bazel-bin/launch/lycia"))
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    os.makedirs(arguments.work, exist_ok=True)
    if arguments.time:
        return compare_times(arguments)
    pairs = [(seed, fold) for seed in range(1, arguments.seeds + 1) for fold in range(arguments.folds)]
    dense = {pair: run(arguments, "off", *pair)[0] for pair in pairs}
    print(f"{arguments.task}, {arguments.steps} steps, {len(pairs)} pairs; dense: accuracy "
          f"{100 * statistics.mean(d['held_out_accuracy'] for d in dense.values()):.2f} %, loss "
          f"{statistics.mean(d['held_out_loss'] for d in dense.values()):.4f}")
    print("mode        accuracy difference, points   loss difference, %        distinct rows    largest relative error   bar")
    missed = False
    for mode in arguments.modes.split(","):
        runs = {pair: run(arguments, mode, *pair) for pair in pairs}
        accuracy = [100 * (runs[p][0]["held_out_accuracy"] - dense[p]["held_out_accuracy"]) for p in pairs]
        loss = [100 * (runs[p][0]["held_out_loss"] / dense[p]["held_out_loss"] - 1) for p in pairs]
        rows = [layer for p in pairs for layer in runs[p][1]]
        of_layer = {}
        for layer in rows:
            if layer["unique_ratio"] is not None:  # looked at in the last step
                of_layer.setdefault(layer["layer"], []).append(layer["unique_ratio"])
        mean_accuracy, mean_loss = statistics.mean(accuracy), statistics.mean(loss)
        met = (abs(mean_accuracy) <= max(0.3, 2 * error_of(accuracy))) and (abs(mean_loss) <= max(0.3, 2 * error_of(loss)))
        missed |= not met
        ratios = ", ".join(f"{name} {statistics.mean(values):.2f}" for name, values in sorted(of_layer.items()))
        print(f"{mode:10} {mean_accuracy:+8.3f} +- {error_of(accuracy):.3f} {mean_loss:+18.3f} +- {error_of(loss):.3f}     "
              f"{max((layer['relative_error'] or 0 for layer in rows), default=0):.3g}   {'met' if met else 'MISSED'}   distinct rows: {ratios}",
              flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
