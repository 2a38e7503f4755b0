#!/usr/bin/env -S python3 -B
"""What goes wrong while a run is under way: a stopped rank, a dead rank, signals, and kills at random moments with automatic restarts."""

import os
import re
import signal
import time

import harness
import processes
import random_kills

ENDLESS = {"train__steps": 1000000, "checkpoint__every": 0}  # far longer than any test
INSTRUCTION = r"\S+ of step (\d+)"
SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


def step_count(job):
    return job.err.count("\nstep ")


def start_endless(out, mpi, **changes):
    """A run that has done some steps."""
    job = harness.start(harness.model(**{**ENDLESS, **changes}), out, mpi=mpi)
    job.wait_for(lambda: step_count(job) >= 5, "step 5")
    return job


class DeadOrStoppedRankTest(harness.Case):
    """Always a rank other than 0, which prints most, and the last one."""

    def setUp(self):
        self.need_mpi()

    def test_a_stopped_rank_is_named(self):
        deadline = 2
        job = start_endless(harness.folder("stopped"), mpi=True, watchdog__deadline_seconds=deadline)
        rank, pid = 2, processes.rank_pids(harness.lycia)[2]
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        job.wait_for(lambda: "the job hangs" in job.err, "the hang is told")
        self.assertLess(time.monotonic() - stopped, deadline + 4, "told late")
        job.wait()
        self.assertNotIn(job.code, (0, 2, 85), job.describe())
        who = r"rank %d \(host \S+, pid %d\) is stopped or dead" % (rank, pid)
        named = re.search(who + ".*its last instruction was " + INSTRUCTION, job.err)
        self.assertTrue(named, job.err)
        self.assertEqual(len(re.findall("^lycia: the job hangs", job.err, re.MULTILINE)), 1, "told once")
        table = re.findall(r"^ +(\d) +\S+ +(\d+) +(\d+) ", job.err, re.MULTILINE)
        self.assertEqual([int(row[0]) for row in table], [0, 1, 2, 3], "every rank's instruction is shown")
        self.assertEqual(int(table[rank][2]), int(named[1]))

    def test_a_dead_rank_ends_all(self):
        for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV):
            with self.subTest(signal=number.name):
                job = start_endless(harness.folder("dead"), mpi=True)
                rank, pid = 3, processes.rank_pids(harness.lycia)[3]
                os.kill(pid, number)
                job.wait(30)
                self.assertEqual(job.code, 128 + number, job.describe())
                who = r"lycia: rank %d \(host \S+, pid %d\) has died" % (rank, pid)
                self.assertRegex(job.err, who + "; its last instruction was " + INSTRUCTION)
                self.assertIn("ended by %s" % number.name, job.err)
                self.assertEqual(processes.leftovers(), [])

    def test_no_shared_memory_is_left(self):
        def boards():
            return {name for name in os.listdir("/dev/shm") if name.startswith("lycia-")}
        before = boards()
        job = start_endless(harness.folder("shared"), mpi=True)
        words = next(words for _, _, words in processes.descendants().values() if words.startswith("mpirun ")).split()
        shared = words[words.index("btl_vader_backing_directory") + 1]
        self.assertTrue(os.path.isdir(shared))
        os.kill(processes.rank_pids(harness.lycia)[1], signal.SIGKILL)
        job.wait()
        self.assertFalse(os.path.exists(shared))
        # Another run on this machine may be opening its own board just now; that name lives for moments.
        left = boards() - before
        for _ in range(50):
            left &= boards()
            if not left:
                break
            time.sleep(0.1)
        self.assertEqual(left, set(), "a board has no name once all have joined it")


class StopSignalTest(harness.Case):
    """A signal ends the run in order: a checkpoint, exit code 85, and --resume goes on as if nothing had been."""

    STEPS = 400

    @classmethod
    def setUpClass(cls):
        cls.keys = harness.model(train__steps=cls.STEPS, checkpoint__every=0)
        cls.unbroken = harness.folder("unbroken")
        harness.train(cls.keys, cls.unbroken)

    def check(self, mpi, number):
        out = harness.folder("signalled")
        job = harness.start(self.keys, out, mpi=mpi)
        job.wait_for(lambda: step_count(job) >= 5, "step 5")
        job.signal(number)
        job.wait(60)
        self.assertEqual(job.code, 85, job.describe())
        self.assertRegex(job.err, r"lycia train: stopped by a signal after step \d+; checkpoint in .*--resume\n")
        steps = harness.steps_of(out)
        self.assertEqual(len(steps), 1)
        self.assertLess(steps[0], self.STEPS)
        resumed = harness.train(self.keys, out, mpi=mpi, words=["--resume"])
        self.assertIn("continuing after step %d" % steps[0], resumed.err)
        self.assert_same_run(out, self.unbroken)

    def test_threads(self):
        for number in SIGNALS:
            with self.subTest(signal=number.name):
                self.check(mpi=False, number=number)

    def test_processes(self):
        self.need_mpi()
        for number in SIGNALS:
            with self.subTest(signal=number.name):
                self.check(mpi=True, number=number)

    def test_one_rank_alone(self):
        """One rank was told: all agree on the step."""
        self.need_mpi()
        out = harness.folder("one")
        job = harness.start(self.keys, out, mpi=True)
        job.wait_for(lambda: step_count(job) >= 5, "step 5")
        os.kill(processes.rank_pids(harness.lycia)[1], signal.SIGUSR1)
        job.wait(60)
        self.assertEqual(job.code, 85, job.describe())
        harness.train(self.keys, out, words=["--resume"])  # as threads
        self.assert_same_run(out, self.unbroken)


class RandomKillTest(harness.Case):
    def test_killed_runs_end_with_the_unbroken_weights(self):
        self.need_mpi()
        seed = int(os.environ.get("LYCIA_KILL_SEED", time.time_ns() % 1000000))
        print("LYCIA_KILL_SEED=%d" % seed)
        summary = random_kills.run_many(runs=5, seed=seed)
        self.assertEqual(summary.failures, [])
        self.assertGreater(summary.kills, 0)


if __name__ == "__main__":
    harness.main()
