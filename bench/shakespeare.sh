#!/usr/bin/env bash
# bench/shakespeare.sh TEXT [OUTPUT_DIR]: a byte-level GPT on a text such as tinyshakespeare, 4 ranks, Chimera with 4 stages, on the CPU.
# The bar: held-out loss below 2.0 nats/byte within 10 minutes on 2 cores. Ends with one line of JSON; exit code 1 if the bar is missed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

text=${1:-} output=${2:-$(mktemp -d)/run}
[[ -f $text ]] || { echo "bench/shakespeare.sh: name a text file, e.g. tinyshakespeare.txt" >&2; exit 2; }
lycia=${LYCIA:-bazel-bin/launch/lycia}
[[ -x $lycia ]] || { echo "bench/shakespeare.sh: build first: bazel build //launch:lycia" >&2; exit 2; }

started=$SECONDS
./launch/mpirun.sh -n 4 "$lycia" train --config=launch/configs/quickstart.toml --set "data.files=[\"$(realpath "$text")\"]" \
  --set "output.dir=$output" --set train.steps=2000 --set train.warmup_steps=60 --set checkpoint.every=1000
seconds=$((SECONDS - started))

python3 - "$output/metrics.jsonl" "$seconds" <<'END'
import json, os, sys
loss = [json.loads(line) for line in open(sys.argv[1])][-1]["held_out_loss"]
ok = loss < 2.0 and int(sys.argv[2]) < 600
print(json.dumps({"bench": "shakespeare", "held_out_loss": loss, "seconds": int(sys.argv[2]), "cores": os.cpu_count(), "load": os.getloadavg()[0], "ok": ok}))
sys.exit(0 if ok else 1)
END
