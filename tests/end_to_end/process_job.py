"""A job whose ranks are processes that this test starts itself, without MPI: as flags, torchrun or srun would tell them who they are."""

import os
import random
import socket

import harness


def _is_free(port):
    with socket.socket() as listener:
        try:
            listener.bind(("", port))
        except OSError:
            return False
        return True


def free_port():
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


def by_tcp(ranks):
    """[(words, variables)] of each rank: told by flags, met over TCP."""
    place = "--rendezvous=tcp://localhost:%d" % free_port()
    return [(["--rank=%d" % rank, "--ranks=%d" % ranks, place], {}) for rank in range(ranks)]


def by_file(ranks):
    """Met in a folder; 127.0.0.1 because a machine's own name need not resolve."""
    place = "--rendezvous=file:" + os.path.join(harness.work, "meet%d" % random.randrange(10**9))
    return [(["--rank=%d" % rank, "--ranks=%d" % ranks, place], {"LYCIA_ADDRESS": "127.0.0.1"}) for rank in range(ranks)]


def by_torchrun(ranks):
    port = free_port()
    return [([], {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost",
                  "MASTER_PORT": str(port)}) for rank in range(ranks)]


def by_srun(ranks):
    """The variables that srun sets; the port follows from job and step (launch/rendezvous.h)."""
    while True:
        job = random.randrange(1, 100000)
        if _is_free(15000 + 7 * job % 16000):
            break
    common = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(ranks), "SLURM_NTASKS": str(ranks),
              "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost"}
    return [([], {**common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}) for rank in range(ranks)]


class Ranks:
    """Started ranks: jobs[r] is rank r's Job, None where it was left out."""

    def __init__(self, words, told, absent=(), prefix=None):
        """told: what by_...() gives; prefix(rank): words before the program, such as those that make it another host's."""
        self.jobs = [None if rank in absent else harness.Job([*(prefix(rank) if prefix else []), harness.lycia, *words, *more], variables=variables)
                     for rank, (more, variables) in enumerate(told)]

    @property
    def err(self):
        return "".join(job.err for job in self.jobs if job)

    @property
    def codes(self):
        """By rank, after wait()."""
        return [job.code for job in self.jobs if job]

    def wait(self, patience=harness.PATIENCE):
        for job in self.jobs:
            if job:
                job.wait(patience)
        return self

    def wait_for(self, condition, what):
        try:
            self.jobs[0].wait_for(condition, what)
        except AssertionError as failure:
            raise AssertionError("%s\nall ranks: %s" % (failure, self.describe())) from failure

    def pid(self, rank):
        return self.jobs[rank].process.pid

    def describe(self):
        return "\n".join(job.describe() for job in self.jobs if job)


def train_words(keys, out, words=()):
    return ["train", "--config=" + harness.config_file({**keys, "output.dir": out}), *words]


def start(keys, out, told, words=(), **how):
    return Ranks(train_words(keys, out, words), told, **how)


def train(keys, out, told, **how):
    """To its end, which must be a success on every rank."""
    ranks = start(keys, out, told, **how).wait()
    if any(ranks.codes):
        raise AssertionError("expected success: " + ranks.describe())
    return ranks
