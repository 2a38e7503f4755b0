#!/usr/bin/env bash
# bench/bf16_curve.sh TEXT [OUTPUT_DIR]: the same 1,000 steps on a text such as tinyshakespeare in f32 and in bf16, one rank with all cores.
# The bar: held-out losses within 1 %. Prints the losses on the way and ends with one line of JSON; exit code 1 if the bar is missed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

text=${1:-} output=${2:-runs/bf16_curve}
[[ -f $text ]] || { echo "bench/bf16_curve.sh: name a text file, e.g. tinyshakespeare.txt" >&2; exit 2; }
lycia=${LYCIA:-bazel-bin/launch/lycia}
[[ -x $lycia ]] || { echo "bench/bf16_curve.sh: build first: bazel build //launch:lycia" >&2; exit 2; }

mkdir -p "$output"
for precision in f32 bf16; do
  "$lycia" train --config=launch/configs/quickstart.toml --set "data.files=[\"$(realpath "$text")\"]" --set "train.precision=\"$precision\"" \
    --set "output.dir=$output/$precision" --set parallel.stages=1 --set 'parallel.schedule="1f1b"' --set train.steps=1000 \
    --set train.micro_batch=8 --set train.eval_every=250 >"$output/$precision.out" 2>"$output/$precision.err" ||
    { cat "$output/$precision.err" >&2; exit 1; }
done

python3 - "$output" <<'END'
import json, os, sys
held_out, seconds = {}, {}
for precision in ("f32", "bf16"):
    lines = [json.loads(line) for line in open(f"{sys.argv[1]}/{precision}/metrics.jsonl")]
    held_out[precision] = {line["step"]: line["held_out_loss"] for line in lines if "held_out_loss" in line}
    seconds[precision] = sum(line.get("step_seconds", 0) for line in lines)
for step in held_out["f32"]:
    print(f"step {step:5d}  held-out nats/byte: f32 {held_out['f32'][step]:.4f}  bf16 {held_out['bf16'][step]:.4f}")
last = max(held_out["f32"])
difference = held_out["bf16"][last] / held_out["f32"][last] - 1
print(json.dumps({"bench": "bf16_curve", "step": last, "f32": held_out["f32"][last], "bf16": held_out["bf16"][last],
                  "difference": difference, "seconds": seconds, "load": os.getloadavg()[0], "ok": abs(difference) < 0.01}))
sys.exit(0 if abs(difference) < 0.01 else 1)
END
