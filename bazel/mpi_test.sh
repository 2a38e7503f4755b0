#!/usr/bin/env bash
# mpi_test.sh MPIRUN RANKS BINARY [ARGUMENT...]: runs a test program on RANKS processes of this machine. Rank 0 writes the test report.
set -euo pipefail

mpirun=$1 ranks=$2 binary=$3
shift 3

# Open MPI puts sockets below this folder, and Bazel's test folders are too deep for them.
session=$(mktemp -d /tmp/lycia_mpi.XXXXXX)
trap 'rm -rf "$session"' EXIT

options=(-n "$ranks")
if "$mpirun" --version 2>/dev/null | grep -q "Open MPI"; then
  options+=(--oversubscribe --bind-to none --mca orte_tmpdir_base "$session" --mca mpi_yield_when_idle 1
            --mca btl "self,vader" --mca pml ob1 --mca orte_abort_on_non_zero_status 1)
  if [[ $(id -u) -eq 0 ]]; then options+=(--allow-run-as-root); fi
fi

export OPENBLAS_NUM_THREADS=1
export HOME=${HOME:-$session}
# shellcheck disable=SC2016  # expanded by the rank's own shell
"$mpirun" "${options[@]}" bash -c '
  rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}
  if [[ $rank -ne 0 ]]; then unset XML_OUTPUT_FILE; fi
  exec "$0" "$@"' "$binary" "$@"
