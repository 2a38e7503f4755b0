"""Drives the real `lycia` for the tests of this folder: runs with ranks as threads or under launch/mpirun.sh, and what they leave behind.

A test file is started as `x_test.py LYCIA MPIRUN_SH [unittest name...]`, by Bazel or by hand. Everything is written below one temporary
folder. This process adopts orphans, so whatever a run started is found among its descendants.
"""

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import processes
import report

PATIENCE = 120  # seconds until a run that should have ended is a failure; the machine may be busy

lycia = None  # paths, set by main()
mpirun_sh = None
work = None  # everything is written here; short, for Open MPI puts sockets below it


def model(**changes):
    """The configuration of the small model, with keys changed: model(train__steps=3) sets train.steps."""
    keys = {
        "model.layers": 2, "model.heads": 2, "model.hidden": 32, "model.context": 32, "model.dropout": 0.1,
        "data.files": [text_file()],
        "train.steps": 20, "train.batch": 8, "train.micro_batch": 1, "train.warmup_steps": 4, "train.eval_batches": 2,
        "parallel.schedule": "chimera", "parallel.stages": 4,
        "checkpoint.every": 1, "checkpoint.keep": 1000,
        "watchdog.deadline_seconds": 60, "log.every": 1, "generate.tokens": 8,
    }
    for key, value in changes.items():
        keys[key.replace("__", ".")] = value
    return keys


def text_file():
    """20 kB of words in a seeded order."""
    path = os.path.join(work, "text.txt")
    if not os.path.exists(path):
        rng = random.Random(1)
        words = "the quick brown fox jumps over a lazy dog while seven small goats sleep".split()
        write(path, " ".join(rng.choice(words) for _ in range(4000)))
    return path


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


def folder(name):
    """A path below the temporary folder where nothing is."""
    path = os.path.join(work, name)
    shutil.rmtree(path, ignore_errors=True)
    return path


def config_file(keys):
    """Writes keys {"section.key": value} as TOML; JSON's numbers, strings and lists are TOML's."""
    lines = ["%s = %s" % (key, json.dumps(value)) for key, value in keys.items()]
    return write(os.path.join(work, "config.toml"), "\n".join(lines) + "\n")


class Job:
    """A started program with its output in files. After the end: code, out, err, seconds."""

    count = 0

    def __init__(self, words, cwd=None, variables=None):
        Job.count += 1
        stem = os.path.join(work, "job%d" % Job.count)
        self.words, self.err_path, self.out_path = words, stem + ".err", stem + ".out"
        self.code, self.started = None, time.monotonic()
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd or work,
                                            env={**environment(), **(variables or {})})

    @property
    def out(self):
        return read(self.out_path).decode("utf-8", "replace")

    @property
    def err(self):
        return read(self.err_path).decode("utf-8", "replace")

    def wait(self, patience=PATIENCE):
        try:
            self.code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError("still running after %d s: %s" % (patience, self.describe())) from None
        finally:
            self.seconds = time.monotonic() - self.started
        return self

    def wait_for(self, condition, what):
        """Until condition() is true; a failure when the program ends before."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError("ended or too slow before %s: %s" % (what, self.describe()))
            time.sleep(0.002)

    def signal(self, number):
        self.process.send_signal(number)

    def describe(self):
        return "%s\nexit code %s\n%s%s" % (" ".join(self.words), self.process.poll(), self.out, self.err)


def environment():
    """Where Open MPI keeps its files, and no leftover of a launcher that may have started this test."""
    launchers = ("OMPI_", "PMIX_", "PMI_", "SLURM_", "TORCHELASTIC_", "LYCIA_")
    torchrun = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(launchers) and name not in torchrun}
    return {"HOME": work, **kept, "TMPDIR": work, "OPENBLAS_NUM_THREADS": "1"}


def call(*words):
    return Job([lycia, *words]).wait()


def start(keys, out, ranks=4, mpi=False, words=(), options=("--grace=1",)):
    """Starts `lycia train` with its results in `out`."""
    train = [lycia, "train", "--config=" + config_file({**keys, "output.dir": out}), *words]
    if mpi:
        return Job([mpirun_sh, "-n", str(ranks), *options, *train])
    return Job([*train, "--ranks=%d" % ranks])


def train(keys, out, **how):
    """The same to its end, which must be a success."""
    job = start(keys, out, **how).wait()
    if job.code != 0:
        raise AssertionError("expected success: " + job.describe())
    return job


def metrics(out):
    """The lines of metrics.jsonl as dictionaries."""
    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def numbers(out):
    """What must not depend on how a run was started or interrupted: everything in the metrics but times."""
    times = ("tokens_per_second", "images_per_second", "step_seconds", "mfu_or_peak_share")
    return [{key: value for key, value in line.items() if key not in times} for line in metrics(out)]


def steps_of(out):
    """Steps of the checkpoints of a run."""
    path = os.path.join(out, "checkpoints")
    names = os.listdir(path) if os.path.isdir(path) else []
    return sorted(int(name[5:]) for name in names if name.startswith("step_") and "." not in name)


def checkpoint(out, step):
    return os.path.join(out, "checkpoints", "step_%08d" % step)


def weights(out):
    return read(os.path.join(out, "model.safetensors"))


def files_below(path):
    return sorted(os.path.join(where, name) for where, _, names in os.walk(path) for name in names)


class Case(unittest.TestCase):
    """Each test leaves no process behind."""

    def tearDown(self):
        self.assertEqual(processes.leftovers(), [], "processes left behind")

    def need_mpi(self):
        if not has_mpi():
            self.skipTest("no MPI in this build, or no mpirun on this machine")

    def assert_one_line(self, text, *parts):
        """Exactly one line, which has all parts."""
        self.assertEqual(text.count("\n"), 1, text)
        for part in parts:
            self.assertIn(part, text)

    def assert_same_run(self, a, b):
        """Two finished runs have the same numbers and weights, bit for bit."""
        self.assertEqual(numbers(a), numbers(b))
        self.assertTrue(weights(a) == weights(b), "model.safetensors differs between %s and %s" % (a, b))


@functools.lru_cache(maxsize=None)
def has_mpi():
    built = "not in this build" not in json.loads(call("doctor", "--format=json").out)["transports"]["mpi"]
    return built and shutil.which("mpirun") is not None


def set_up(lycia_path, mpirun_path):
    """What main() does before the first test. The caller removes `work` at the end."""
    global lycia, mpirun_sh, work
    lycia, mpirun_sh = os.path.abspath(lycia_path), os.path.abspath(mpirun_path)
    work = tempfile.mkdtemp(prefix="lycia_e2e.", dir="/tmp")
    processes.adopt_orphans()


def clean_up():
    processes.leftovers(0)
    shutil.rmtree(work, ignore_errors=True)


def main():
    set_up(sys.argv[1], sys.argv[2])
    try:
        passed = report.run(sys.argv[3:])
    finally:
        clean_up()
    sys.exit(0 if passed else 1)
