#!/usr/bin/env bash
# mpi_abort_test.sh MPI_TEST_SH MPIRUN BINARY: one of three ranks calls MpiAbort(7) while the others wait for it; all must end, with code 7.
set -uo pipefail
timeout 60 "$1" "$2" 3 "$3" --abort
code=$?
if [[ $code -ne 7 ]]; then
  echo "mpirun ended with $code instead of 7"
  exit 1
fi
