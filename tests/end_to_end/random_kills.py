#!/usr/bin/env -S python3 -B
"""kill -9 of random ranks at random moments, saves included, while launch/mpirun.sh restarts the run: it must end with the weights, losses
and checkpoints of the run that was never killed.

random_kills.py LYCIA MPIRUN_SH [RUNS [SEED]]: prints a line a run and a summary; exit code 1 if a run ended otherwise.
"""

import dataclasses
import os
import random
import signal
import sys
import time

import harness
import processes

RANKS = 4
KILLS_A_RUN = 2  # wanted; a run may end before the last one
OPTIONS = ("--restarts=4", "--grace=0")


@dataclasses.dataclass
class Summary:
    runs: int = 0
    kills: int = 0
    in_saves: int = 0      # a checkpoint was under construction
    in_set_up: int = 0     # before the first step of that life
    failures: list = dataclasses.field(default_factory=list)


def under_construction(out):
    path = os.path.join(out, "checkpoints")
    return os.path.isdir(path) and any(name.endswith(".tmp") for name in os.listdir(path))


def kill_at(job, rank, delay, out, summary):
    """Kills a rank `delay` seconds after all ranks of a life of the job are there; False when the job ended first."""
    ranks = processes.rank_pids(harness.lycia)
    while len(ranks) < RANKS:
        if job.process.poll() is not None:
            return False
        time.sleep(0.005)
        ranks = processes.rank_pids(harness.lycia)
    steps = job.err.count("\nstep ")
    time.sleep(delay)
    saving = under_construction(out)
    started = job.err.count("\nstep ") > steps
    try:
        os.kill(ranks[rank], signal.SIGKILL)
    except ProcessLookupError:
        return False
    summary.kills += 1
    summary.in_saves += saving
    summary.in_set_up += not started
    while processes.rank_pids(harness.lycia).get(rank) == ranks[rank]:
        time.sleep(0.005)  # the next life has other processes
    return True


def run_many(runs, seed):
    """Does it `runs` times in harness.work, which must be set up."""
    rng, summary = random.Random(seed), Summary()
    keys = harness.model(train__steps=40, checkpoint__keep=3)
    unbroken = harness.folder("unbroken")
    job = harness.start(keys, unbroken, mpi=True)
    job.wait_for(lambda: len(processes.rank_pids(harness.lycia)) == RANKS, "all ranks are there")
    started = time.monotonic()
    if job.wait().code != 0:
        raise AssertionError("the unbroken run fails: " + job.describe())
    lifetime = time.monotonic() - started
    for run in range(runs):
        out = harness.folder("killed")
        plan = [(rng.randrange(RANKS), rng.uniform(0, lifetime)) for _ in range(KILLS_A_RUN)]
        job = harness.start(keys, out, mpi=True, options=OPTIONS)
        before = summary.kills
        for rank, delay in plan:
            if not kill_at(job, rank, delay, out, summary):
                break
        job.wait()
        summary.runs += 1
        problem = ""
        if job.code != 0:
            problem = "exit code %d\n%s" % (job.code, job.describe())
        elif harness.weights(out) != harness.weights(unbroken):
            problem = "other weights"
        elif harness.numbers(out) != harness.numbers(unbroken):
            problem = "other metrics"
        elif harness.steps_of(out) != harness.steps_of(unbroken):
            problem = "checkpoints %s instead of %s" % (harness.steps_of(out), harness.steps_of(unbroken))
        elif under_construction(out):
            problem = "an unfinished checkpoint is left"
        left = processes.leftovers()
        if left and not problem:
            problem = "left behind: %s" % left
        wanted = ", ".join("rank %d after %.2f s" % kill for kill in plan)
        print("run %d: %d of these kills: %s: %s" % (run + 1, summary.kills - before, wanted, problem or "the same"), flush=True)
        if problem:
            summary.failures.append("run %d: %s" % (run + 1, problem))
    return summary


def main():
    harness.set_up(sys.argv[1], sys.argv[2])
    try:
        runs = int(sys.argv[3]) if len(sys.argv) > 3 else 50
        seed = int(sys.argv[4]) if len(sys.argv) > 4 else time.time_ns() % 1000000
        started = time.monotonic()
        summary = run_many(runs, seed)
        same = summary.runs - len(summary.failures)
        print("%d of %d runs ended with the unbroken weights; %d kills, %d inside a save, %d before a first step; seed %d, %.0f s"
              % (same, summary.runs, summary.kills, summary.in_saves, summary.in_set_up, seed, time.monotonic() - started))
    finally:
        harness.clean_up()
    sys.exit(1 if summary.failures else 0)


if __name__ == "__main__":
    main()
