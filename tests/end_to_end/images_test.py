#!/usr/bin/env -S python3 -B
"""Image models by the real `lycia`: layouts, stops, exports and metrics of runs on generated images, refusals, and MNIST where it lies."""

import json
import os
import signal
import struct
import time

import harness

STEPS = 10


def model(**changes):
    """A small network on small generated images."""
    keys = {
        "model.kind": "cnn", "model.norm_samples": 4, "model.height": 12, "model.width": 8, "model.channels": 2, "model.classes": 4,
        "data.format": "generated", "data.images": 300, "data.held_out": 0.2,
        "train.steps": STEPS, "train.batch": 16, "train.micro_batch": 4, "train.warmup_steps": 2, "train.eval_every": 4,
        "checkpoint.every": 1, "checkpoint.keep": 1000, "watchdog.deadline_seconds": 60, "log.every": 1,
    }
    for key, value in changes.items():
        keys[key.replace("__", ".")] = value
    return keys


def tensors(out):
    """model.safetensors as {name: (shape, numbers)}, all f32."""
    data = harness.read(os.path.join(out, "model.safetensors"))
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    result = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        assert entry["dtype"] == "F32", entry
        result[name] = (entry["shape"], struct.unpack("<%df" % ((end - begin) // 4), data[begin:end]))
    return result


class ImagesTest(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.keys = model(parallel__stages=2)
        cls.unbroken = harness.folder("unbroken")
        harness.train(cls.keys, cls.unbroken, ranks=2)

    def test_metrics(self):
        lines = harness.metrics(self.unbroken)
        steps = [line for line in lines if "loss" in line]
        self.assertEqual([line["step"] for line in steps], list(range(1, STEPS + 1)))
        for line in steps:
            self.assertEqual(line["images"], 16 * line["step"])
            self.assertGreater(line["images_per_second"], 0)
            self.assertGreater(line["grad_norm"], 0)
            self.assertNotIn("tokens", line)
        evaluations = [line for line in lines if "held_out_loss" in line]
        self.assertEqual([line["step"] for line in evaluations], [4, 8, STEPS])
        for line in evaluations:
            self.assertEqual(line["held_out_images"], 60)
            hits = line["held_out_accuracy"] * 60
            self.assertAlmostEqual(hits, round(hits), delta=1e-5)
            self.assertTrue(0 <= hits <= 60, line)

    def test_export_has_the_running_statistics(self):
        exported = tensors(self.unbroken)
        shapes = {name: shape for name, (shape, _) in exported.items()}
        expected = {"conv1.weight": [32, 3, 3, 2], "conv2.weight": [64, 3, 3, 32], "fc1.weight": [128, 3 * 2 * 64], "fc1.bias": [128],
                    "fc2.weight": [4, 128], "fc2.bias": [4]}
        for norm, channels in (("bn1", 32), ("bn2", 64)):
            expected.update({"%s.%s" % (norm, part): [channels] for part in ("weight", "bias", "running_mean", "running_var")})
        self.assertEqual(shapes, expected)
        for norm in ("bn1", "bn2"):
            means, variances = (exported["%s.running_%s" % (norm, part)][1] for part in ("mean", "var"))
            self.assertTrue(all(variance > 0 for variance in variances))
            self.assertGreater(len({*means, *variances}), 32, "statistics that have moved")

    def test_processes_and_one_rank_compute_the_same_bits(self):
        """One pipe and no replicas: the same sums in the same order, statistics included."""
        alone = harness.folder("alone")
        harness.train(model(), alone, ranks=1)
        self.assert_same_run(alone, self.unbroken)
        self.need_mpi()
        processes = harness.folder("processes")
        harness.train(self.keys, processes, ranks=2, mpi=True)
        self.assert_same_run(processes, self.unbroken)

    def test_replicas_agree_with_one_rank(self):
        """Other sums, so not the same bits; the first step's statistics, and so an evaluation's, are close."""
        replicas = harness.folder("replicas")
        harness.train(model(parallel__data=2, train__hash_every=1), replicas, ranks=2)
        for mine, other in zip(harness.numbers(replicas), harness.numbers(self.unbroken)):
            if "loss" in mine and mine["step"] == 1:
                self.assertAlmostEqual(mine["loss"], other["loss"], delta=1e-6)
                self.assertAlmostEqual(mine["grad_norm"], other["grad_norm"], delta=1e-4 * other["grad_norm"])

    def end(self, out, mpi, number):
        """Trains until some steps are saved, and ends the run by a signal."""
        job = harness.start(model(parallel__stages=2, train__steps=STEPS), out, ranks=2, mpi=mpi)
        job.wait_for(lambda: len(harness.steps_of(out)) >= 3, "three checkpoints")
        job.signal(number)
        job.wait()
        return job

    def test_a_stopped_run_continues_bit_for_bit(self):
        for number, mpi in ((signal.SIGUSR1, False), (signal.SIGKILL, False), (signal.SIGUSR1, True)):
            if mpi and not harness.has_mpi():
                continue
            with self.subTest(signal=number, mpi=mpi):
                out = harness.folder("stopped")
                job = self.end(out, mpi, number)
                self.assertNotIn(job.code, (0, None) if number == signal.SIGKILL else (None,), job.describe())
                last = harness.steps_of(out)[-1]
                resumed = harness.train(self.keys, out, ranks=2, mpi=mpi, words=["--resume"])
                if job.code != 0:
                    self.assertIn("continuing after step %d" % last, resumed.err)
                self.assert_same_run(out, self.unbroken)

    def test_another_layout_continues_the_run(self):
        """One rank goes on from the checkpoint of two: statistics are restored whoever saved them."""
        out = harness.folder("elsewhere")
        self.end(out, False, signal.SIGKILL)
        harness.train(model(), out, ranks=1, words=["--resume"])
        self.assert_same_run(out, self.unbroken)

    def test_every_kind_of_layout_learns(self):
        """Chimera with replicas of it: the accuracy rises well above that of the commonest class."""
        out = harness.folder("learns")
        keys = model(parallel__schedule="chimera", parallel__stages=2, parallel__data=2, train__steps=120, train__lr=2e-3, checkpoint__every=0,
                     train__recompute="layers", data__images=1000, train__eval_every=0)
        job = harness.train(keys, out, ranks=4)
        self.assertGreater(harness.metrics(out)[-1]["held_out_accuracy"], 0.6, job.describe())


class RefusalTest(harness.Case):
    def refused(self, keys, *told, ranks=1):
        out = harness.folder("refused")
        job = harness.start(keys, out, ranks=ranks).wait()
        self.assertEqual(job.code, 2, job.describe())
        self.assert_one_line(job.err, *told)
        self.assertEqual(harness.steps_of(out), [])

    def test_models_and_data_that_do_not_go_together(self):
        self.refused(harness.model(data__format="idx", parallel__stages=1), 'model.kind = "gpt" reads text, but data.format = "idx"')
        self.refused(model(data__format="text", data__files=[harness.text_file()]), 'model.kind = "cnn" reads images, but data.format = "text"',
                     "generated")

    def test_sizes(self):
        self.refused(model(model__norm_samples=3), "model.norm_samples = 3 does not divide train.micro_batch = 4", "norm_samples = 2")
        self.refused(model(train__batch=6), "train.batch = 6 is not a multiple of train.micro_batch = 4")
        self.refused(model(model__kind="vgg16"), "images of 12 x 8 are too small for this model", "at least 32 x 32")
        self.refused(model(model__classes=0, model__channels=5), "channels")
        # VGG has no batch norm that a micro-batch of one could not feed.
        self.refused(model(model__kind="vgg16", train__micro_batch=1), "images of 12 x 8 are too small for this model", "at least 32 x 32")

    def test_layouts(self):
        self.refused(model(parallel__y=3), "grid 1 x 3 x 1: the 4 samples of a micro-batch", "use a multiple of 3", ranks=3)
        self.refused(model(parallel__y=2, model__norm_samples=4), "a batch norm over 4 samples", "use model.norm_samples = 2", ranks=2)
        self.refused(model(parallel__stages=2, parallel__partition=[3, 2]), "6", ranks=2)
        self.refused(model(parallel__stages=2, parallel__partition=[6]), "2", ranks=2)
        self.refused(model(parallel__stages=7, train__batch=28), "6", "7", ranks=7)
        self.refused(model(parallel__stages=4, parallel__schedule="chimera-halving"), "chimera-halving",
                     "so that micro-batches cannot be divided; use a parallel.schedule that keeps them whole", ranks=4)

    def test_unknown_kind(self):
        self.refused(model(model__kind="cnm"), "cnn")

    def test_other_sizes_of_a_checkpoint(self):
        """A run that continues must see the same model."""
        out = harness.folder("other")
        harness.train(model(train__steps=2), out, ranks=1)
        for key, value in (("model.classes", 5), ("model.norm_samples", 2), ("data.images", 400), ("data.seed", 9), ("data.fold", 1), ("data.shift", 1)):
            with self.subTest(key=key):
                job = harness.start({**model(train__steps=3), key: value}, out, ranks=1, words=["--resume"]).wait()
                self.assertEqual(job.code, 2, job.describe())
                self.assert_one_line(job.err, "resume")


class MnistTest(harness.Case):
    def test_mnist(self):
        """A tenth of the configured run on two ranks reads more than 95 of 100 digits."""
        here = os.path.dirname(os.path.realpath(__file__))
        folders = [os.environ.get("LYCIA_MNIST", "")]
        while os.path.dirname(here) != here:
            folders.append(os.path.join(here, "shared", "data", "mnist"))
            here = os.path.dirname(here)
        files = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
        found = [folder for folder in folders if folder and all(os.path.exists(os.path.join(folder, name)) for name in files)]
        if not found:
            self.skipTest("no MNIST: put %s into shared/data/mnist above the sources, or name their folder in LYCIA_MNIST" % " and ".join(files))
        out = harness.folder("mnist")
        keys = {"model.kind": "cnn", "model.norm_samples": 16, "data.format": "idx", "data.files": [os.path.join(found[0], name) for name in files],
                "data.held_out": 0.1, "train.steps": 160, "train.batch": 64, "train.micro_batch": 16, "train.lr": 2e-3, "train.min_lr": 2e-5,
                "train.warmup_steps": 20, "train.beta2": 0.99, "train.clip": 1.0, "parallel.data": 2, "checkpoint.every": 0, "log.every": 50}
        started = time.monotonic()
        job = harness.train(keys, out, ranks=2)
        seconds = time.monotonic() - started
        last = harness.metrics(out)[-1]
        self.assertEqual(last["held_out_images"], 1000)
        self.assertGreater(last["held_out_accuracy"], 0.95, job.describe())
        print("MNIST: %.2f %% of 1000 held-out digits after 160 steps, %.1f s" % (100 * last["held_out_accuracy"], seconds))


if __name__ == "__main__":
    harness.main()
