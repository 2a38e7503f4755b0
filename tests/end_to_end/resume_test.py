#!/usr/bin/env -S python3 -B
"""A run that was stopped and continued is the run that never stopped, bit for bit; damaged checkpoints are found, told and passed over."""

import os
import shutil
import signal

import harness

STEPS = 20


def copy_run(source, name, last_step):
    """The run as it lay there after `last_step`: no later checkpoint, no weights."""
    out = harness.folder(name)
    shutil.copytree(source, out, ignore=lambda _, names: [n for n in names if n in ("model.safetensors", "config.json")])
    for step in harness.steps_of(out):
        if step > last_step:
            shutil.rmtree(harness.checkpoint(out, step))
    return out


class ResumeTest(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.keys = harness.model(train__eval_every=7)
        cls.unbroken = harness.folder("unbroken")
        harness.train(cls.keys, cls.unbroken)
        assert harness.steps_of(cls.unbroken) == list(range(1, STEPS + 1))

    def stop_after_a_step(self, out):
        """Resumes and asks for a stop as soon as it says that it continues; the step after which it stopped, or STEPS."""
        job = harness.start(self.keys, out, words=["--resume"])
        job.wait_for(lambda: "continuing after step" in job.err, "it continues")
        job.signal(signal.SIGUSR1)
        job.wait()
        self.assertIn(job.code, (0, 85), job.describe())
        return STEPS if job.code == 0 else harness.steps_of(out)[-1]

    def test_every_step_twice(self):
        """Continued after each step, stopped by SIGUSR1 on the way, continued again."""
        stops = 0
        for step in range(1, STEPS):
            with self.subTest(step=step):
                out = copy_run(self.unbroken, "resumed", step)
                stopped = self.stop_after_a_step(out)
                self.assertGreater(stopped, step)
                stops += stopped < STEPS
                job = harness.train(self.keys, out, words=["--resume"])
                self.assertIn("continuing after step %d" % stopped, job.err)
                self.assert_same_run(out, self.unbroken)
        self.assertGreater(stops, STEPS // 2, "most runs must have been stopped on the way")

    def test_resume_of_a_finished_run(self):
        out = copy_run(self.unbroken, "finished", STEPS)
        harness.train(self.keys, out, words=["--resume"])
        self.assert_same_run(out, self.unbroken)

    def test_resume_of_nothing(self):
        """--resume where there is no checkpoint yet starts at step 1: a restarted job needs no other command line."""
        out = harness.folder("nothing")
        job = harness.train(self.keys, out, words=["--resume"])
        self.assertIn("no checkpoint in %s" % out, job.err)
        self.assert_same_run(out, self.unbroken)

    def test_other_layouts_continue_the_run(self):
        """The last two steps, one trained by a tensor grid from a checkpoint of a pipeline, one by one rank from the grid's: the same but for
        the order of sums."""
        out = copy_run(self.unbroken, "elsewhere", STEPS - 2)
        grid = {**self.keys, "parallel.schedule": "1f1b", "parallel.stages": 2, "parallel.x": 2, "parallel.y": 1, "parallel.z": 2,
                "train.micro_batch": 2, "checkpoint.every": 1, "train.steps": STEPS}
        job = harness.start(grid, out, ranks=8, words=["--resume"])
        job.wait_for(lambda: "continuing after step %d" % (STEPS - 2) in job.err, "it continues")
        job.signal(signal.SIGUSR1)
        job.wait()
        self.assertIn(job.code, (0, 85), job.describe())
        alone = {**self.keys, "parallel.schedule": "1f1b", "parallel.stages": 1}
        harness.train(alone, out, ranks=1, words=["--resume"])
        mine, theirs = harness.numbers(out), harness.numbers(self.unbroken)
        self.assertEqual(mine[:-3], theirs[:-3])
        for line, expected in zip(mine[-3:-1], theirs[-3:-1]):
            self.assertAlmostEqual(line["loss"], expected["loss"], delta=1e-5)
        self.assertAlmostEqual(mine[-1]["held_out_loss"], theirs[-1]["held_out_loss"], delta=1e-4)

    def test_other_data_are_refused(self):
        for key, value, told in (("train.seed", 2, 2), ("data.seed", 2, 2), ("train.batch", 4, 4), ("train.precision", "bf16", "precision_bytes")):
            with self.subTest(key=key):
                out = copy_run(self.unbroken, "other", 3)
                job = harness.start({**self.keys, key: value}, out, words=["--resume"]).wait()
                self.assertEqual(job.code, 2, job.describe())
                self.assert_one_line(job.err, "cannot resume", str(told))


class DamageTest(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.keys = harness.model(train__steps=6)
        cls.sound = harness.folder("sound")
        harness.train(cls.keys, cls.sound)

    def damage(self, out, step, how):
        """Damages one file of a checkpoint; its path."""
        path = os.path.join(harness.checkpoint(out, step), "shard-00002-of-00004.safetensors")
        data = bytearray(harness.read(path))
        if how == "cut":
            data = data[:len(data) // 2]
        elif how == "one bit":
            data[-len(data) // 3] ^= 0x10
        elif how == "header":
            data[20] ^= 0x01
        elif how == "missing":
            os.remove(path)
            return path
        elif how == "manifest":
            path = os.path.join(harness.checkpoint(out, step), "manifest.json")
            data = bytearray(harness.read(path)[:-200])
        with open(path, "wb") as file:
            file.write(data)
        return path

    def test_the_one_before_is_used(self):
        for how in ("cut", "one bit", "header", "missing", "manifest"):
            with self.subTest(how=how):
                out = copy_run(self.sound, "damaged", 5)
                path = self.damage(out, 5, how)
                job = harness.train(self.keys, out, words=["--resume"])
                told = [line for line in job.err.splitlines() if path in line or (how == "manifest" and os.path.dirname(path) in line)]
                self.assertEqual(len(told), 1, job.err)
                self.assertIn("continuing after step 4", job.err)
                self.assert_same_run(out, self.sound)
                self.assertEqual(harness.steps_of(out), [1, 2, 3, 4, 5, 6], "the damaged one was written anew")

    def test_two_in_a_row(self):
        out = copy_run(self.sound, "damaged", 6)
        paths = [self.damage(out, 6, "one bit"), self.damage(out, 5, "cut")]
        job = harness.train(self.keys, out, words=["--resume"])
        for path in paths:
            self.assertIn(path, job.err)
        self.assertIn("continuing after step 4", job.err)
        self.assert_same_run(out, self.sound)

    def test_none_is_left(self):
        """Never a start from random numbers: the run is refused and nothing is touched."""
        out = copy_run(self.sound, "lost", 6)
        paths = [self.damage(out, step, "one bit") for step in range(1, 7)]
        before = {path: harness.read(path) for path in harness.files_below(out)}
        job = harness.start(self.keys, out, words=["--resume"]).wait()
        self.assertEqual((job.code, job.out), (2, ""), job.describe())
        self.assertIn("cannot resume", job.err.splitlines()[-1])
        for path in paths:
            self.assertIn(path, job.err)
        self.assertEqual({path: harness.read(path) for path in harness.files_below(out)}, before)


if __name__ == "__main__":
    harness.main()
