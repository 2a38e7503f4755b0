#!/usr/bin/env -S python3 -B
"""Ranks as processes without MPI: the numbers of threads, whoever starts them; who is missing, dead or stopped is named; signals, resume."""

import json
import os
import re
import signal
import subprocess
import time

import harness
import process_job

ENDLESS = {"train__steps": 1000000, "checkpoint__every": 0}
INSTRUCTION = r"\S+ of step (\d+)"


def steps_told(ranks):
    return ranks.jobs[0].err.count("\nstep ")


def start_endless(out, told, **how):
    """A job that has done some steps."""
    changes = how.pop("changes", {})
    ranks = process_job.start(harness.model(**{**ENDLESS, **changes}), out, told, **how)
    ranks.wait_for(lambda: steps_told(ranks) >= 5, "step 5")
    return ranks


class SameNumbersTest(harness.Case):
    """Bit for bit those of ranks as threads."""

    @classmethod
    def setUpClass(cls):
        cls.keys = harness.model(train__eval_every=8, train__hash_every=3)
        cls.threads = harness.folder("threads")
        harness.train(cls.keys, cls.threads)

    def check(self, told):
        out = harness.folder("processes")
        ranks = process_job.train(self.keys, out, told)
        self.assert_same_run(out, self.threads)
        self.assertEqual([job.out for job in ranks.jobs[1:]], ["", "", ""], "rank 0 alone prints")

    def test_by_flags_over_tcp(self):
        self.check(process_job.by_tcp(4))

    def test_by_flags_over_files(self):
        self.check(process_job.by_file(4))

    def test_as_torchrun_starts_them(self):
        self.check(process_job.by_torchrun(4))

    def test_as_srun_starts_them(self):
        self.check(process_job.by_srun(4))

    def test_sums_by_messages(self):
        self.check([(words, {**variables, "LYCIA_SHARED_MEMORY": "off"}) for words, variables in process_job.by_tcp(4)])

    def test_a_grid_with_replicas(self):
        keys = harness.model(parallel__schedule="1f1b", parallel__stages=1, parallel__y=2, parallel__data=2, train__micro_batch=2)
        threads, out = harness.folder("grid_threads"), harness.folder("grid")
        harness.train(keys, threads)
        process_job.train(keys, out, process_job.by_tcp(4))
        self.assert_same_run(out, threads)

    def test_mpirun_with_a_rendezvous(self):
        """The ranks of mpirun, but not its messages."""
        self.need_mpi()
        out = harness.folder("mpirun")
        place = "--rendezvous=tcp://localhost:%d" % process_job.free_port()
        harness.train(self.keys, out, mpi=True, words=[place, "--set", "parallel.transport=tcp"])
        self.assert_same_run(out, self.threads)


class OtherCommandsTest(harness.Case):
    def test_bench_step(self):
        words = ["bench", "step", "--layers=2", "--hidden=32", "--heads=2", "--sequence=16", "--vocabulary=256", "--batch=4", "--steps=2", "--warmup=1",
                 "--set", "parallel.stages=2", "--format=json"]
        ranks = process_job.Ranks(words, process_job.by_tcp(2)).wait()
        self.assertEqual(ranks.codes, [0, 0], ranks.describe())
        self.assertEqual(json.loads(ranks.jobs[0].out)["ranks"], 2)
        self.assertEqual(ranks.jobs[1].out, "")

    def test_emulate(self):
        words = ["emulate", "--name=chimera", "--stages=4", "--micro-batches=4", "--repeat=1", "--format=json"]
        ranks = process_job.Ranks(words, process_job.by_file(4)).wait()
        self.assertEqual(ranks.codes, [0] * 4, ranks.describe())
        answer = json.loads(ranks.jobs[0].out)
        self.assertEqual((answer["transport"], answer["measured_ns"]), ("tcp", [answer["simulated_ns"]]))

    def test_doctor_tells_how_a_process_was_started(self):
        words, variables = process_job.by_torchrun(3)[1]
        told = harness.Job([harness.lycia, "doctor", "--format=json", *words], variables=variables).wait()
        self.assertIn("rank 1 of 3 processes that meet at tcp://localhost:", json.loads(told.out)["transports"]["started as"])


class BadInputTest(harness.Case):
    def check(self, ranks, *parts):
        ranks.wait()
        self.assertEqual(set(ranks.codes), {2}, ranks.describe())
        self.assert_one_line(ranks.err, *parts)

    def test_a_bad_key_is_told_once(self):
        keys = harness.model(train__warmup_steps=21)
        self.check(process_job.start(keys, harness.folder("bad"), process_job.by_tcp(4)), "lycia train: ", "train.warmup_steps = 21")

    def test_a_transport_that_was_not_started(self):
        keys = harness.model(parallel__transport="mpi")
        self.check(process_job.start(keys, harness.folder("bad"), process_job.by_tcp(2)),
                   'parallel.transport = "mpi", but MPI has not started these ranks', "start them with mpirun")

    def test_ranks_with_different_configurations(self):
        told = [(words + ["--set", "parallel.transport=%s" % name], variables)
                for (words, variables), name in zip(process_job.by_tcp(2), ("auto", "tcp"))]
        self.check(process_job.start(harness.model(), harness.folder("bad"), told), "parallel.transport of rank 1 is not that of rank 0")

    def test_ranks_on_different_devices(self):
        """One of them asks for a GPU, which there is or is not: no rank waits for a word that another one does not say."""
        told = [(words + ["--set", "parallel.device=%s" % name], variables) for (words, variables), name in zip(process_job.by_tcp(2), ("cuda", "cpu"))]
        begin = time.monotonic()
        self.check(process_job.start(harness.model(parallel__transport="tcp"), harness.folder("bad"), told), "lycia train: ")
        self.assertLess(time.monotonic() - begin, 60)

    def test_threads_have_no_transport(self):
        job = harness.start(harness.model(parallel__transport="tcp"), harness.folder("bad")).wait()
        self.assertEqual(job.code, 2)
        self.assert_one_line(job.err, 'parallel.transport = "tcp" is between processes')

    def test_half_of_the_flags(self):
        for words, part in ((["--rank=0", "--ranks=2"], "needs --rendezvous"), (["--rank=0", "--rendezvous=tcp://localhost:1"], "--ranks=N"),
                            (["--rendezvous=localhost:1"], "must be tcp://HOST:PORT")):
            with self.subTest(words=words):
                job = harness.Job([harness.lycia, *process_job.train_words(harness.model(), harness.folder("bad"), words)]).wait()
                self.assertEqual(job.code, 2)
                self.assert_one_line(job.err, "lycia train: ", part)


class MissingRankTest(harness.Case):
    def check(self, told, absent, naming):
        """All who came end with exit code 1 and say who did not come."""
        keys = harness.model(watchdog__start_seconds=2)
        ranks = process_job.start(keys, harness.folder("missing"), told, absent=absent).wait(30)
        self.assertEqual(set(ranks.codes), {1}, ranks.describe())
        for job in ranks.jobs:
            if job:
                self.assert_one_line(job.err, naming, "did they start")

    def test_over_tcp(self):
        self.check(process_job.by_tcp(4), (2,), "for rank 2")
        self.check(process_job.by_tcp(4), (1, 2, 3), "for ranks 1 to 3")

    def test_rank_0_over_tcp(self):
        self.check(process_job.by_tcp(3), (0,), "for rank 0")

    def test_over_files(self):
        self.check(process_job.by_file(3), (1,), "rank")  # rank 0 names rank 1; rank 2 waits for rank 0's word
        told = process_job.by_file(2)
        self.check(told, (1,), "for rank 1")
        self.check(told, (0,), "for rank 0")  # in the folder of the job before

    def test_another_number_of_ranks(self):
        told = process_job.by_tcp(2)
        told[1] = ([word.replace("--ranks=2", "--ranks=3") for word in told[1][0]], {})
        keys = harness.model(watchdog__start_seconds=2)
        ranks = process_job.start(keys, harness.folder("missing"), told).wait(30)
        self.assertEqual(ranks.codes, [1, 2], ranks.describe())
        self.assertIn("was told of 3 ranks and rank 0 of 2", ranks.jobs[1].err)


class DeadOrStoppedRankTest(harness.Case):
    def test_a_dead_rank_ends_all(self):
        for number in (signal.SIGKILL, signal.SIGSEGV):
            for rank in (3, 0):
                with self.subTest(signal=number.name, rank=rank):
                    ranks = start_endless(harness.folder("dead"), process_job.by_tcp(4))
                    pid = ranks.pid(rank)
                    os.kill(pid, number)
                    ranks.wait(30)
                    self.assertEqual([job.code for r, job in enumerate(ranks.jobs) if r != rank], [1, 1, 1], ranks.describe())
                    # Lines of rank 0's progress aside, one line in the job.
                    told = re.findall("^lycia.*$", ranks.err, re.MULTILINE)
                    self.assertEqual(len(told), 1, told)
                    self.assertRegex(told[0], r"lycia: rank %d \(host \S+, pid %d\) has died; its last instruction was %s" % (rank, pid, INSTRUCTION))

    def test_a_stopped_rank_is_named(self):
        deadline = 2
        ranks = start_endless(harness.folder("stopped"), process_job.by_tcp(4), changes={"watchdog__deadline_seconds": deadline})
        rank, pid = 2, ranks.pid(2)
        os.kill(pid, signal.SIGSTOP)
        try:
            for r in (0, 1, 3):
                ranks.jobs[r].wait(30)
                self.assertEqual(ranks.jobs[r].code, 1)
            who = r"rank %d \(host \S+, pid %d\) is stopped or dead" % (rank, pid)
            self.assertRegex(ranks.err, who + ".*its last instruction was " + INSTRUCTION)
            self.assertEqual(len(re.findall("^lycia: the job hangs", ranks.err, re.MULTILINE)), 1, "told once")
        finally:
            os.kill(pid, signal.SIGCONT)
        ranks.wait(30)  # it finds the others gone
        self.assertEqual(ranks.jobs[rank].code, 1)

    def test_nothing_is_left_in_shared_memory(self):
        before = set(os.listdir("/dev/shm"))
        ranks = start_endless(harness.folder("shared"), process_job.by_tcp(4))
        os.kill(ranks.pid(1), signal.SIGKILL)
        ranks.wait(30)
        time.sleep(0.1)
        self.assertEqual({name for name in set(os.listdir("/dev/shm")) - before if name.startswith("lycia-")}, set())

    def on_two_hosts(self, killed):
        """Ranks 2 and 3 believe to be on another host, to which the board goes over TCP. What the job says once `killed` are, and their pids."""
        name = "elsewhere-" + "x" * 30  # longer than what the board shows
        def other_host(rank):
            return [] if rank < 2 else ["unshare", "--uts", "bash", "-c", 'hostname %s && exec "$0" "$@"' % name]
        if subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no permission to give a process another host name")
        ranks = start_endless(harness.folder("hosts"), process_job.by_tcp(4), prefix=other_host)
        pids = [ranks.pid(rank) for rank in killed]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ranks.wait(30)
        self.assertEqual({job.code for rank, job in enumerate(ranks.jobs) if rank not in killed}, {1}, ranks.describe())
        return re.findall("^lycia.*$", ranks.err, re.MULTILINE), pids

    def test_a_dead_rank_of_another_host(self):
        """A rank there sees the death."""
        told, pids = self.on_two_hosts(killed=(3,))
        self.assertEqual(len(told), 1, told)
        self.assertRegex(told[0], r"lycia: rank 3 \(host elsewhere-x+, pid %d\) has died" % pids[0])

    def test_a_dead_host(self):
        """The first one, which settles who tells of it: the other does."""
        told, _ = self.on_two_hosts(killed=(0, 1))
        self.assertEqual(len(told), 1, told)
        self.assertRegex(told[0], r"lycia: rank [23] on elsewhere-x+: .*rank [01] has ended in the middle of its work")


class StopSignalTest(harness.Case):
    STEPS = 200

    @classmethod
    def setUpClass(cls):
        cls.keys = harness.model(train__steps=cls.STEPS, checkpoint__every=0)
        cls.unbroken = harness.folder("unbroken")
        harness.train(cls.keys, cls.unbroken)

    def check(self, to, number):
        """Ranks `to` are told: all write a checkpoint after the same step, and go on from there as if nothing had been."""
        out = harness.folder("signalled")
        ranks = process_job.start(self.keys, out, process_job.by_tcp(4))
        ranks.wait_for(lambda: steps_told(ranks) >= 5, "step 5")
        for rank in to:
            os.kill(ranks.pid(rank), number)
        ranks.wait(60)
        self.assertEqual(ranks.codes, [85] * 4, ranks.describe())
        self.assertRegex(ranks.err, r"lycia train: stopped by a signal after step \d+; checkpoint in .*--resume\n")
        steps = harness.steps_of(out)
        self.assertEqual(len(steps), 1)
        resumed = process_job.train(self.keys, out, process_job.by_tcp(4), words=["--resume"])
        self.assertIn("continuing after step %d" % steps[0], resumed.err)
        self.assert_same_run(out, self.unbroken)

    def test_all_are_told(self):
        self.check(range(4), signal.SIGTERM)

    def test_one_is_told(self):
        self.check((2,), signal.SIGUSR1)

    def test_a_killed_job_is_resumed(self):
        keys = {**self.keys, "checkpoint.every": 4}
        out = harness.folder("killed")
        ranks = process_job.start(keys, out, process_job.by_srun(4))
        ranks.wait_for(lambda: harness.steps_of(out), "a checkpoint")
        os.kill(ranks.pid(1), signal.SIGKILL)
        ranks.wait(30)
        process_job.train(keys, out, process_job.by_file(4), words=["--resume"])
        self.assert_same_run(out, self.unbroken)


if __name__ == "__main__":
    harness.main()
