#!/usr/bin/env bash
# bench/ranks_vs_threads.sh [f32|bf16]: the same training step on one rank with two threads and on two MPI ranks of one thread each.
#
#   bench/ranks_vs_threads.sh f32          (after bazel build //bench:grid)
#
# GPT-2 124M, 16 x 256 tokens a step. Two ranks: 1F1B and Chimera with two stages and 16 micro-batches, and a tensor grid 1 x 2 x 1.
# Every layout runs once a round, in turn; time is the median step after the first. The bar is a speed of 85 % of the one rank's; two stages
# and 16 micro-batches of 1F1B reach 16/17 at best. Ends with one line of JSON for each layout; exit code 1 if one misses the bar.
#   ROUNDS=N STEPS=N   (default 1 and 1)    LAYOUTS="1f1b chimera grid"    MICRO_BATCH=N of the one rank and the grid (default 4)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

precision=${1:-f32}
[[ $precision == f32 || $precision == bf16 ]] || { echo "bench/ranks_vs_threads.sh: f32 or bf16, not '$precision'" >&2; exit 2; }
bench=${GRID_BENCH:-bazel-bin/bench/grid}
[[ -x $bench ]] || { echo "bench/ranks_vs_threads.sh: build first: bazel build //bench:grid" >&2; exit 2; }
rounds=${ROUNDS:-1} steps=${STEPS:-1} layouts=${LAYOUTS:-1f1b chimera grid} micro_batch=${MICRO_BATCH:-4}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

config() { # config NAME MICRO_BATCH THREADS PARALLEL...
  local name=$1 micro=$2 threads=$3
  shift 3
  cat >"$work/$name.toml" <<END
[model]
layers = 12
heads = 12
hidden = 768
context = 256
vocab = 50257
tied = true
[train]
batch = 16
micro_batch = $micro
precision = "$precision"
clip = 1.0
[parallel]
threads = $threads
$(printf '%s\n' "$@")
[output]
dir = "$work/run"
END
}
config threads "$micro_batch" 2 'schedule = "gpipe"' 'stages = 1'
config 1f1b 1 1 'schedule = "1f1b"' 'stages = 2'
config chimera 1 1 'schedule = "chimera"' 'stages = 2'
config grid "$micro_batch" 1 'schedule = "gpipe"' 'stages = 1' 'y = 2'

measure() { # measure NAME COMMAND...: adds a line "NAME ms"
  local name=$1 ms
  shift
  "$@" "$bench" --steps="$steps" --rounds=1 "${ranks[@]}" "$work/$name.toml" >"$work/out"
  ms=$(awk -v name="$name" '$1 == name { for (i = 1; i <= NF; ++i) if ($i ~ /^[0-9]+\.[0-9]$/) { print $i; exit } }' "$work/out")
  [[ -n $ms ]] || { cat "$work/out" >&2; exit 1; }
  echo "$name $ms" | tee -a "$work/times" >&2
}
for ((round = 0; round < rounds; ++round)); do
  ranks=(--ranks=1)
  measure threads env
  ranks=()
  for layout in $layouts; do measure "$layout" launch/mpirun.sh -n 2; done
done

python3 - "$work/times" "$precision" <<'END'
import json, os, statistics, sys
times = {}
for line in open(sys.argv[1]):
    name, ms = line.split()
    times.setdefault(name, []).append(float(ms))
one = statistics.median(times.pop("threads"))
missed = False
for name, values in times.items():
    speed = one / statistics.median(values)
    missed |= speed < 0.85
    print(json.dumps({"bench": "ranks_vs_threads", "precision": sys.argv[2], "layout": name, "one_rank_ms": one,
                      "two_ranks_ms": statistics.median(values), "speed": round(speed, 3), "load": os.getloadavg()[0]}))
sys.exit(1 if missed else 0)
END
