#!/usr/bin/env bash
# Starts a program on several ranks with mpirun, and starts it again when it dies.
#
#   launch/mpirun.sh -n 4 bazel-bin/launch/lycia train --config=launch/configs/quickstart.toml
#   launch/mpirun.sh -n 16 --hostfile=hosts --restarts=5 /shared/lycia train --config=run.toml
#
#   -n RANKS               number of ranks
#   --hosts=A:4,B:4        hosts with their slots, or
#   --hostfile=FILE        a file with lines "HOST slots=N"; the program and its files have the same paths on all hosts
#   --cores-per-rank=N     binds each rank to N cores of its own (default: no binding; a rank computes and communicates in two threads)
#   --oversubscribe        several hosts: allows more ranks than slots (on one host this is always allowed)
#   --restarts=K           starts a run that died again, at most K times, with --resume added to `train` (default 0)
#   --grace=SECONDS        what ranks get between SIGTERM and SIGKILL when mpirun ends them (default 10). Open MPI takes twice this
#                          time for every abort, also when a rank crashed.
#   --mpirun=PATH          default: the first on the path
#   -x NAME[=VALUE]        passes an environment variable to all ranks; LYCIA_*, OPENBLAS_* and OMP_* are passed always
#   --mca NAME VALUE       passed on to Open MPI, e.g. --mca btl_tcp_if_include eth0
#   --dry-run              prints the command instead of running it
#
# SIGTERM and SIGUSR1 to this script reach the ranks as SIGUSR1: write a checkpoint and end. A second SIGTERM ends the run at once.
# Exit codes are the program's: 0 done, 2 bad input (never started again), 85 checkpoint written on a signal, start me again with --resume.
set -euo pipefail

say() { echo "launch/mpirun.sh: $*" >&2; }
bad_input() { say "$*"; exit 2; }
is_count() { [[ $1 =~ ^[0-9]+$ ]]; }

ranks='' hosts='' hostfile='' cores_per_rank='' oversubscribe='' restarts=0 grace=10 mpirun=mpirun dry_run=''
pass=() environment=()
while [[ $# -gt 0 ]]; do
  case $1 in
    -n | -np) ranks=${2:-}; shift 2 || bad_input "$1 needs a number" ;;
    -n=* | --ranks=*) ranks=${1#*=}; shift ;;
    --hosts=*) hosts=${1#*=}; shift ;;
    --hostfile=*) hostfile=${1#*=}; shift ;;
    --hostfile) hostfile=${2:-}; shift 2 || bad_input "$1 needs a file" ;;
    --cores-per-rank=*) cores_per_rank=${1#*=}; shift ;;
    --oversubscribe) oversubscribe=yes; shift ;;
    --restarts=*) restarts=${1#*=}; shift ;;
    --grace=*) grace=${1#*=}; shift ;;
    --mpirun=*) mpirun=${1#*=}; shift ;;
    -x) environment+=("${2:-}"); shift 2 || bad_input "-x needs NAME or NAME=VALUE" ;;
    --mca) pass+=(--mca "${2:-}" "${3:-}"); shift 3 || bad_input "--mca needs a name and a value" ;;
    --dry-run) dry_run=yes; shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --) shift; break ;;
    -*) bad_input "unknown option '$1'; --help lists them all" ;;
    *) break ;;
  esac
done

[[ $# -gt 0 ]] || bad_input "which program? e.g. launch/mpirun.sh -n 4 bazel-bin/launch/lycia train --config=FILE"
[[ $ranks =~ ^[1-9][0-9]*$ ]] || bad_input "-n RANKS is needed, a number from 1; got '$ranks'"
is_count "$restarts" || bad_input "--restarts takes a number; got '$restarts'"
is_count "$grace" || bad_input "--grace takes whole seconds; got '$grace'"
[[ -z $cores_per_rank ]] || is_count "$cores_per_rank" || bad_input "--cores-per-rank takes a number; got '$cores_per_rank'"
[[ -z $hosts || -z $hostfile ]] || bad_input "--hosts and --hostfile exclude each other"
[[ -z $hostfile || -r $hostfile ]] || bad_input "cannot read the host file '$hostfile'"
command -v "$1" >/dev/null || bad_input "there is no program '$1'; build it: bazel build //launch:lycia"
command -v "$mpirun" >/dev/null || bad_input "there is no '$mpirun'; run ./launch/setup, or start ranks as threads: $1 train --ranks=$ranks ..."
"$mpirun" --version 2>/dev/null | grep -q "Open MPI" || bad_input "'$mpirun' is not Open MPI; start $1 with it by hand"

command=("$mpirun" --quiet -n "$ranks" --mca odls_base_sigkill_timeout "$grace" --mca orte_abort_on_non_zero_status 1)
if [[ $(id -u) -eq 0 ]]; then command+=(--allow-run-as-root); fi
if [[ -n $cores_per_rank ]]; then
  command+=(--map-by "slot:PE=$cores_per_rank" --bind-to core)
else
  command+=(--bind-to none)
fi

if [[ -n $hosts ]]; then
  command+=(--host "$hosts")
elif [[ -n $hostfile ]]; then
  command+=(--hostfile "$hostfile")
else
  oversubscribe=yes
fi
# What waits inside MPI leaves its core to others. Open MPI does so by itself only if it counts more ranks than slots, and a host list may
# claim any number of slots.
command+=(--mca mpi_yield_when_idle 1)
if [[ -n $oversubscribe ]]; then command+=(--oversubscribe); fi

# The ranks are the parallelism: one BLAS thread each, unless the caller says otherwise.
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
while read -r name; do environment+=("$name"); done < <(compgen -e | grep -E '^(LYCIA|OPENBLAS|OMP)_' || true)
for variable in "${environment[@]}"; do command+=(-x "$variable"); done
command+=("${pass[@]}")

program=("$@")
if [[ -n $dry_run ]]; then
  printf '%q ' "${command[@]}" "${program[@]}"
  echo
  exit 0
fi

# Killed ranks leave Open MPI's shared memory behind: on one host it lies in a folder of this run.
shared=''
if [[ -z $hosts$hostfile ]] && shared=$(mktemp -d /dev/shm/lycia_mpi.XXXXXX 2>/dev/null); then
  command+=(--mca btl_vader_backing_directory "$shared")
fi

child='' stopping=''
signal_child() { [[ -z $child ]] || kill "-$1" "$child" 2>/dev/null || true; }
checkpoint_and_stop() {
  if [[ -n $stopping && $1 == TERM ]]; then
    say "second SIGTERM: ending the ranks now"
    signal_child TERM
  else
    stopping=yes
    say "SIG$1: asking all ranks for a checkpoint (SIGUSR1)"
    signal_child USR1
  fi
}
trap 'checkpoint_and_stop TERM' TERM
trap 'checkpoint_and_stop USR1' USR1
trap 'stopping=yes; signal_child INT' INT
trap 'signal_child TERM; [[ -z $shared ]] || rm -rf "$shared"' EXIT

# children PID: how many children this mpirun has, zombies included, and how many of them live.
children() {
  local pid state all=0 living=0
  # shellcheck disable=SC2013  # the file is one line of numbers
  for pid in $(cat "/proc/$1"/task/*/children 2>/dev/null); do
    all=$((all + 1))
    state=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
    state=${state##*) }
    [[ ${state::1} == Z ]] || living=$((living + 1))
  done
  echo $all $living
}

# watch_over PID: kills an mpirun that outlives its ranks. Open MPI 4.1.4 can lock up for good when ranks die while they connect to it.
watch_over() {
  local seen='' alone=0 all living
  while [[ $alone -le $((2 * grace + 10)) ]]; do
    sleep 1 >/dev/null 2>&1  # may outlive this script, but holds none of its pipes
    kill -0 "$1" 2>/dev/null || return 0
    read -r all living < <(children "$1")
    if [[ $all -gt 0 ]]; then seen=yes; fi
    if [[ $living -gt 0 ]]; then
      alone=0
    elif [[ -n $seen ]]; then
      alone=$((alone + 1))
    fi
  done
  say "mpirun has outlived its ranks by $alone seconds: ending it"
  kill -KILL "$1" 2>/dev/null || true
}

# run: one life of the program; its exit code in $code. (A trapped signal ends `wait` early: wait again until mpirun is gone.)
run() {
  "${command[@]}" "${program[@]}" &
  child=$!
  watch_over "$child" &
  local watcher=$!
  disown "$watcher"
  code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  child=''
  kill "$watcher" 2>/dev/null || true
  if [[ -z $stopping && $code -gt 128 ]] && signal=$(kill -l $((code - 128)) 2>/dev/null); then
    say "ended by SIG$signal (exit code $code)"
  fi
}

for ((attempt = 0; ; attempt++)); do
  run
  case $code in
    0 | 2 | 85) exit "$code" ;;
  esac
  if [[ -n $stopping ]]; then exit "$code"; fi
  if [[ $attempt -ge $restarts ]]; then
    if [[ $restarts -gt 0 ]]; then say "exit code $code after $restarts restarts: giving up"; fi
    exit "$code"
  fi
  if [[ ${program[1]:-} == train && " ${program[*]} " != *" --resume "* ]]; then program+=(--resume); fi
  say "exit code $code: restart $((attempt + 1)) of $restarts"
  sleep 1 & # a signal is heard at once
  wait $! || true
  if [[ -n $stopping ]]; then exit "$code"; fi
done
