#!/usr/bin/env bash
# tests/slurm/run_slurm.sh [LYCIA]: proves launch/slurm/train.sbatch against a real Slurm, started on this machine for the purpose:
# munged, slurmctld and four slurmd that pretend to be four nodes, all in a temporary folder, all ended afterwards.
#
#   apt-get install slurm-wlm munge; bazel build //launch:lycia; tests/slurm/run_slurm.sh
#
# Needs root. It submits a tiny training on four nodes (one rank each), asks it for a checkpoint while it runs (as a time limit would), expects the
# job back in the queue and then done, with --resume, at its last step. Then the same with ranks that meet without MPI; both must end with the
# same weights. A job with a bad key must fail with exit code 2, at once.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lycia=$(realpath "${1:-$root/bazel-bin/launch/lycia}")

say() { echo "run_slurm: $*"; }
die() {
  say "FAILED: $*"
  tail -n 30 "$work"/*.out 2>/dev/null || true
  tail -n 15 "$work"/slurmctld.log "$work"/node[12].log 2>/dev/null || true
  exit 1
}

[[ $(id -u) -eq 0 ]] || { say "SKIPPED: needs root to start Slurm's daemons"; exit 0; }
export PATH=$PATH:/usr/sbin:/sbin
for tool in munged slurmctld slurmd sbatch scontrol; do
  command -v "$tool" >/dev/null || { say "SKIPPED: no $tool; apt-get install slurm-wlm munge"; exit 0; }
done
[[ -x $lycia ]] || { say "no program '$lycia'; bazel build //launch:lycia"; exit 2; }

work=$(mktemp -d /tmp/lycia_slurm.XXXXXX)
daemons=()
cleanup() {
  scancel --full --signal=KILL --user=root >/dev/null 2>&1 || true
  for daemon in "${daemons[@]}"; do kill "$daemon" 2>/dev/null || true; done
  for daemon in "${daemons[@]}"; do wait "$daemon" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

# munge: its own key and socket.
mkdir -m 755 "$work/munge"
head -c 1024 /dev/urandom >"$work/munge/key"
chmod 600 "$work/munge/key"
chmod 755 "$work"
munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed" >"$work/munged.log" 2>&1 &
daemons+=($!)

host=$(hostname -s)
base=$((20000 + RANDOM % 20000))
mkdir "$work/state"
cat >"$work/slurm.conf" <<CONF
ClusterName=lycia
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$base
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
TmpFS=$work/tmp-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/linear
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SchedulerParameters=sched_interval=2
MinJobAge=600
KillWait=10
NodeName=node[1-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base + 1))-$((base + 4))] CPUs=1
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$work/slurm.conf

for _ in {1..50}; do [[ -S $work/munge/socket ]] && break; sleep 0.1; done
[[ -S $work/munge/socket ]] || die "munged did not start: $(cat "$work/munged.log" "$work/munge/log" 2>/dev/null)"
slurmctld -D -f "$work/slurm.conf" >/dev/null 2>&1 &
daemons+=($!)
for node in 1 2 3 4; do
  mkdir "$work/spool-node$node" "$work/tmp-node$node"
  slurmd -D -N "node$node" -f "$work/slurm.conf" >/dev/null 2>&1 &
  daemons+=($!)
done
for _ in {1..60}; do
  [[ $(sinfo --noheader --format=%D --states=idle 2>/dev/null) == 4 ]] && break
  sleep 0.5
done
[[ $(sinfo --noheader --format=%D --states=idle) == 4 ]] || die "the four nodes are not idle: $(sinfo 2>&1)"
say "Slurm $(slurmctld -V | cut -d' ' -f2) runs with four nodes"

# 32 KB of text that a model can learn.
for ((i = 0; i < 1024; i++)); do echo "the quick brown fox, line $((i % 97))"; done >"$work/text"
cat >"$work/tiny.toml" <<CONF
[model]
layers = 4
heads = 2
hidden = 32
context = 32
[data]
files = ["$work/text"]
[train]
steps = ${LYCIA_SLURM_STEPS:-2000}
batch = 8
eval_batches = 2
[parallel]
schedule = "chimera"
stages = 4
CONF

submit() { # submit MPI LOG ARGUMENT...: prints the job's number. Four ranks share this machine, so they give way when they wait.
  local mpi=$1 log=$2
  shift 2
  cd "$work" && LYCIA=$lycia LYCIA_SRUN_MPI=$mpi OMPI_MCA_mpi_yield_when_idle=1 sbatch --parsable --nodes=4 --ntasks-per-node=1 --time=10 --output="$work/$log" \
    "$root/launch/slurm/train.sbatch" "$@"
}
field() { scontrol --oneliner show job "$1" | grep -o "\b$2=[^ ]*" | head -n 1 | cut -d= -f2; }
wait_for() { # wait_for SECONDS WORDS COMMAND...
  local seconds=$1 words=$2
  shift 2
  for ((i = 0; i < seconds * 4; i++)); do
    if "$@"; then return; fi
    sleep 0.25
  done
  die "$words did not happen within $seconds s: $(scontrol --oneliner show job 2>&1 | cut -c1-400)"
}
steps_done() { [[ -s $1/metrics.jsonl ]] && [[ $(wc -l <"$1/metrics.jsonl") -ge $2 ]]; }
is_in_state() { [[ $(field "$1" JobState) =~ $2 ]]; }

prove() { # prove MPI: a training that is asked for a checkpoint, goes back into the queue and ends
  local mpi=$1 job last
  local run=$work/run_$mpi log=$work/train_$mpi.out
  job=$(submit "$mpi" "train_$mpi.out" "$work/tiny.toml" --set "output.dir=$run")
  say "--mpi=$mpi: job $job submitted"
  wait_for 60 "the 5th step" steps_done "$run" 5
  scancel --batch --signal=USR1 "$job"
  say "USR1 sent, as 180 s before a time limit"
  wait_for 60 "the job's return to the queue" grep -q "back into the queue" "$log"
  grep -q "exit code 85" "$log" || die "the ranks did not end with exit code 85"
  say "checkpoint written, exit code 85, queued again"

  # Slurm holds a job that was queued again for two minutes; a test does not wait for that.
  wait_for 30 "the pending state" is_in_state "$job" 'PENDING|RUNNING|COMPLETED'
  scontrol update JobId="$job" StartTime=now 2>/dev/null || true
  wait_for 400 "the end of the training" is_in_state "$job" 'COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL'
  is_in_state "$job" COMPLETED || die "job $job ended as $(field "$job" JobState), exit code $(field "$job" ExitCode)"
  [[ $(field "$job" Restarts) == 1 ]] || die "expected 1 restart, got $(field "$job" Restarts)"
  grep -q -- "restart 1: .* --resume" "$log" || die "the second life was not started with --resume"
  grep -q "train.sbatch: .* done" "$log" || die "no 'done' in the job's output"
  last=$(tail -n 1 "$run/metrics.jsonl" | grep -o '"step": *[0-9]*' | grep -o '[0-9]*$')
  say "job $job completed after one restart; last step in metrics.jsonl: $last"
  [[ $last == "${LYCIA_SLURM_STEPS:-2000}" ]] || die "the training ended at step $last"
}

kinds=(none)
if "$lycia" doctor --format=json | grep -q '"mpi": "not in this build"'; then say "this build has no MPI: --mpi=none only"; else kinds=(pmix none); fi
for kind in "${kinds[@]}"; do prove "$kind"; done
if [[ ${#kinds[@]} -eq 2 ]]; then
  cmp "$work/run_pmix/model.safetensors" "$work/run_none/model.safetensors" || die "ranks of MPI and ranks over TCP end with different weights"
  say "the same weights with MPI and without"
fi

bad=$(submit "${kinds[0]}" bad.out "$work/tiny.toml" --set "output.dir=$work/bad" --set train.stepz=1)
wait_for 60 "the end of the bad job" is_in_state "$bad" 'COMPLETED|FAILED|CANCELLED|TIMEOUT'
[[ $(field "$bad" ExitCode) == 2:0 ]] || die "a bad key must end with exit code 2, got $(field "$bad" ExitCode)"
[[ $(field "$bad" Restarts) == 0 ]] || die "bad input must not be tried again"
say "a bad key ends the job with exit code 2, without a restart"
say "PASSED"
