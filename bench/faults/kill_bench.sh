#!/usr/bin/env bash
# bench/faults/kill_bench.sh [RUNS [SEED]]: kills random ranks of a small run under launch/mpirun.sh --restarts at random moments, saves
# included, RUNS times (default 50); each run must end with the weights of the run that was never killed. The last line sums up.
# The machine, the date and the command go before it. LYCIA: the program (default bazel-bin/launch/lycia).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
lycia=${LYCIA:-bazel-bin/launch/lycia}
[[ -x $lycia ]] || { echo "bench/faults/kill_bench.sh: there is no $lycia; build it: bazel build //launch:lycia" >&2; exit 2; }
echo "kill_bench $*: $(date -u +%Y-%m-%d), $(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
exec python3 -B tests/end_to_end/random_kills.py "$lycia" launch/mpirun.sh "$@"
