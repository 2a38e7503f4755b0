#!/usr/bin/env bash
# bench/mnist.sh IMAGES LABELS [OUTPUT_DIR]: the small convolutional network of launch/configs/mnist.toml on MNIST's IDX files, one rank of two
# threads, with three seeds. IMAGES and LABELS are e.g. t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz; a tenth is held out.
# The bar: a mean held-out accuracy of 97.8 % or more, and less than 180 s for each seed on 2 cores. Prints a table and one line of JSON; exit
# code 1 if the bar is missed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

images=${1:-} labels=${2:-} output=${3:-$(mktemp -d)}
[[ -f $images && -f $labels ]] || { echo "bench/mnist.sh: name the files of images and of labels, e.g. t10k-{images-idx3,labels-idx1}-ubyte.gz" >&2; exit 2; }
lycia=${LYCIA:-bazel-bin/launch/lycia}
[[ -x $lycia ]] || { echo "bench/mnist.sh: build first: bazel build //launch:lycia" >&2; exit 2; }

seconds=()
for seed in 1 2 3; do
  started=$SECONDS
  "$lycia" train --config=launch/configs/mnist.toml --set "data.files=[\"$(realpath "$images")\", \"$(realpath "$labels")\"]" \
    --set "output.dir=$output/seed$seed" --set "train.seed=$seed" --set "data.seed=$seed" --set parallel.threads=2 --set log.every=600
  seconds+=($((SECONDS - started)))
done

python3 - "$output" "${seconds[@]}" <<'END'
import json, os, sys
output, seconds = sys.argv[1], [int(word) for word in sys.argv[2:]]
rows = []
for seed in range(1, len(seconds) + 1):
    with open(os.path.join(output, "seed%d" % seed, "metrics.jsonl"), encoding="utf-8") as file:
        rows.append([json.loads(line) for line in file][-1])
print("\nseed  held-out accuracy %  held-out loss  seconds")
for seed, (row, spent) in enumerate(zip(rows, seconds), 1):
    print("%4d  %19.2f  %13.4f  %7d" % (seed, 100 * row["held_out_accuracy"], row["held_out_loss"], spent))
mean = sum(row["held_out_accuracy"] for row in rows) / len(rows)
ok = mean >= 0.978 and max(seconds) < 180
print(json.dumps({"bench": "mnist", "mean_accuracy": mean, "held_out_images": rows[0]["held_out_images"], "seconds": seconds,
                  "cores": os.cpu_count(), "load": os.getloadavg()[0], "ok": ok}))
sys.exit(0 if ok else 1)
END
