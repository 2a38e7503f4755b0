#!/usr/bin/env bash
# bench/emulated.sh [logical] [wall] [order]: schedules on emulated devices, ranks as processes of this machine under mpirun (default: all).
#   logical  every schedule on 4, 8, 16, 32 and 64 ranks, without and with latency, link time, sums and update: the makespan of the
#            executor's messages must be the simulator's to the nanosecond
#   wall     units of 10 ms on 8, 16 and 32 ranks, median of 5 steps: at most 2, 3 and 4 % over the simulator
#   order    8 ranks, 16 micro-batches, measured: 1f1b > chimera > chimera-continuous > chimera-zb
# Prints tables in Markdown; the last line is JSON; exit code 1 if a bar is missed. wall and order want a quiet machine and take two minutes on two
# cores; logical took eight beside other work.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

parts=("$@")
if [[ ${#parts[@]} -eq 0 ]]; then parts=(logical wall order); fi
lycia=${LYCIA:-bazel-bin/launch/lycia}
[[ -x $lycia ]] || { echo "bench/emulated.sh: build first: bazel build //launch:lycia" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# emulate PART RANKS FLAG...: one line of JSON into $work/PART; a schedule that does not take these sizes is left out.
emulate() {
  local part=$1 ranks=$2 code=0
  shift 2
  ./launch/mpirun.sh -n "$ranks" "$lycia" emulate --format=json "$@" >"$work/line" 2>"$work/errors" || code=$?
  if [[ $code -eq 2 ]]; then return; fi
  if [[ $code -ne 0 ]]; then cat "$work/errors" >&2; exit 1; fi
  cat "$work/line" >>"$work/$part"
}

for part in "${parts[@]}"; do
  case $part in
    logical)
      names=$("$lycia" schedule --help | sed -n '/^Schedules:/,$ s/^  \([a-z0-9-]*\) .*/\1/p')
      for ranks in 4 8 16 32 64; do
        for name in $names; do
          size=(--name="$name" --stages="$ranks" --micro-batches=$((2 * ranks)) --clock=logical --repeat=1 --message-bytes=4096)
          emulate logical "$ranks" "${size[@]}"
          emulate logical "$ranks" "${size[@]}" --latency=0.31 --transmit=1.3 --sync=4 --update=0.6
        done
      done
      ;;
    wall)
      for ranks in 8 16 32; do
        for name in 1f1b chimera chimera-continuous chimera-zb; do
          emulate wall "$ranks" --name="$name" --stages="$ranks" --micro-batches="$ranks" --clock=wall --unit=10ms --repeat=5
        done
      done
      ;;
    order)
      for name in 1f1b chimera chimera-continuous chimera-zb; do
        emulate order 8 --name="$name" --stages=8 --micro-batches=16 --clock=wall --unit=10ms --repeat=5
      done
      ;;
    *) echo "bench/emulated.sh: '$part' is none of logical, wall, order" >&2; exit 2 ;;
  esac
done

python3 - "$work" "${parts[@]}" <<'END_OF_REPORT'
import json, os, sys

work, parts = sys.argv[1], sys.argv[2:]
bars = {8: 0.02, 16: 0.03, 32: 0.04}


def lines(part):
    path = os.path.join(work, part)
    return [json.loads(line) for line in open(path)] if os.path.exists(path) else []


def table(rows):
    print("| schedule | ranks | N | simulated ms | bubble | measured ms (min to max) | excess | bubble | processor time of a step |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        all_ms = [ns / 1e6 for ns in r["measured_ns"]]
        print("| %s | %d | %d | %.1f | %.1f %% | %.1f (%.1f to %.1f) | %+.2f %% | %.1f %% | %.0f ms |" % (
            r["schedule"], r["workers"], r["micro_batches"], r["simulated_ns"] / 1e6, 100 * r["simulated_bubble"],
            r["median_ns"] / 1e6, min(all_ms), max(all_ms), 100 * r["excess"], 100 * r["bubble"], 1e3 * r["host_cpu_seconds"]))
    print()


result = {"bench": "emulated", "cores": os.cpu_count(), "load": os.getloadavg()[0]}
ok = True
if "logical" in parts:
    rows = lines("logical")
    wrong = [r for r in rows if any(ns != r["simulated_ns"] for ns in r["measured_ns"])]
    ranks = sorted({r["workers"] for r in rows})
    print("logical clock: %d runs of %d schedules on %s ranks, %d differ from the simulator" % (
        len(rows), len({r["schedule"] for r in rows}), ", ".join(map(str, ranks)), len(wrong)))
    for r in wrong:
        print("  %s, %d ranks: %d ns, simulated %d ns" % (r["schedule"], r["workers"], r["median_ns"], r["simulated_ns"]))
    print()
    ok &= bool(rows) and not wrong
    result["logical_runs"], result["logical_wrong"] = len(rows), len(wrong)
if "wall" in parts:
    rows = lines("wall")
    table(rows)
    for ranks, bar in bars.items():
        worst = max((r["excess"] for r in rows if r["workers"] == ranks), default=1)
        ok &= worst <= bar
        result["excess_%d" % ranks] = worst
if "order" in parts:
    rows = lines("order")
    table(rows)
    times = [r["median_ns"] for r in rows]
    result["order"] = len(times) == 4 and times == sorted(times, reverse=True)
    ok &= result["order"]
result["ok"] = ok
print(json.dumps(result))
sys.exit(0 if ok else 1)
END_OF_REPORT
