#!/usr/bin/env -S python3 -B
"""Same configuration, same numbers: threads against processes, weights handed from one layout to another, and text from a finished run."""

import json
import os
import re
import shutil
import struct

import harness

CHIMERA = {"parallel__schedule": "chimera", "parallel__stages": 4}
REPLICAS = {"parallel__schedule": "1f1b", "parallel__stages": 2, "parallel__data": 2}
ONE_RANK = {"parallel__schedule": "1f1b", "parallel__stages": 1}
GRID = {"parallel__schedule": "chimera", "parallel__stages": 2, "parallel__y": 2, "parallel__z": 2, "train__micro_batch": 2}

STEP_KEYS = {"step", "loss", "lr", "grad_norm", "tokens", "tokens_per_second", "step_seconds", "mfu_or_peak_share"}


class SameNumbersTest(harness.Case):
    def test_threads_and_processes(self):
        self.need_mpi()
        for layout, ranks in ((CHIMERA, 4), (REPLICAS, 4), (GRID, 8)):
            with self.subTest(layout=layout):
                threads, processes = harness.folder("threads"), harness.folder("processes")
                keys = harness.model(**layout, train__eval_every=8, train__hash_every=3)
                harness.train(keys, threads, ranks=ranks)
                harness.train(keys, processes, ranks=ranks, mpi=True)
                self.assert_same_run(threads, processes)
                self.check_metrics(threads)

    def check_metrics(self, out):
        lines = harness.metrics(out)
        steps = [line for line in lines if "loss" in line]
        self.assertEqual([line["step"] for line in steps], list(range(1, 21)))
        for line in steps:
            self.assertEqual(set(line), STEP_KEYS)
            self.assertEqual(line["tokens"], line["step"] * 8 * 32)
            self.assertTrue(all(isinstance(value, (int, float)) for value in line.values()), line)
        self.assertEqual([line["step"] for line in lines if "held_out_loss" in line], [8, 16, 20])
        self.assertLess(steps[-1]["loss"], steps[0]["loss"] - 0.3, "it learns")
        self.assertAlmostEqual(steps[0]["loss"], 5.545, delta=0.2)  # ln 256: it starts knowing nothing

    def test_layouts_agree(self):
        """In f64, where sums in another order differ in the last digits only."""
        runs = {}
        # Two workers with two stages each, a V, eight micro-batches, written by hand.
        by_hand = harness.write(os.path.join(harness.work, "v.csv"), "".join(
            ",".join("p0.%dF%d,p0.%dF%d,p0.%dI%d,p0.%dB%d,p0.%dW%d" % (a, m, b, m, b, m, a, m, b, m) for m in range(8)) + "\n"
            for a, b in ((0, 3), (1, 2))))
        for name, layout, ranks in (
            ("one", ONE_RANK, 1), ("chimera", CHIMERA, 4), ("replicas", REPLICAS, 4),
            ("v", {"parallel__schedule": "zb-v", "parallel__stages": 2, "output__trace_step": 3}, 2),
            ("halving", {"parallel__schedule": "chimera-halving", "parallel__stages": 2, "train__micro_batch": 2, "output__trace_step": 3}, 2),
            ("file", {"parallel__schedule_file": by_hand, "parallel__stages": 2, "output__trace_step": 3}, 2),
            ("auto", {"parallel__schedule": "auto", "parallel__stages": 2, "train__micro_batch": 2}, 4),
            ("grid", {**GRID, "output__trace_step": 3}, 8),
            ("grid of one stage", {"parallel__stages": 1, "parallel__schedule": "gpipe", "parallel__x": 2, "parallel__weights_each_step": True}, 4),
            ("grid and auto", {"parallel__stages": 2, "parallel__schedule": "auto", "parallel__x": 2, "train__micro_batch": 2}, 4),
        ):
            runs[name] = harness.folder(name)
            harness.train(harness.model(**layout, train__precision="f64", train__steps=6), runs[name], ranks=ranks)
            self.assertEqual(os.path.exists(os.path.join(runs[name], "step.svg")), "output__trace_step" in layout, name)
        truth = harness.numbers(runs["one"])
        for name in runs:
            lines = harness.numbers(runs[name])
            self.assertEqual(len(lines), len(truth))
            for line, expected in zip(lines, truth):
                self.assertEqual(set(line), set(expected))
                for key, value in expected.items():
                    where = "%s: %s of step %s" % (name, key, line["step"])
                    self.assertAlmostEqual(line[key], value, delta=2e-8 * max(1, abs(value)), msg=where)

    def test_bf16_follows_f32(self):
        """In bf16 the layouts learn what f32 learns; a run goes on from its own checkpoint with the same bits."""
        exact = harness.folder("exact")
        harness.train(harness.model(**ONE_RANK), exact, ranks=1)
        truth = harness.metrics(exact)
        for name, layout, ranks in (("bf16", ONE_RANK, 1), ("bf16 chimera", CHIMERA, 4), ("bf16 grid", GRID, 8)):
            with self.subTest(layout=name):
                out = harness.folder(name)
                harness.train(harness.model(**layout, train__precision="bf16"), out, ranks=ranks)
                for line, expected in zip(harness.metrics(out), truth):
                    for key in ("loss", "held_out_loss"):
                        if key in expected:
                            self.assertAlmostEqual(line[key], expected[key], delta=0.01 * expected[key], msg="%s %s" % (name, line))
                stopped = harness.folder(name + " stopped")
                keys = harness.model(**layout, train__precision="bf16")
                shutil.copytree(out, stopped, ignore=lambda _, names: [n for n in names if n in ("model.safetensors", "config.json")])
                for step in harness.steps_of(stopped):
                    if step > 15:
                        shutil.rmtree(harness.checkpoint(stopped, step))
                harness.train(keys, stopped, ranks=ranks, words=["--resume"])
                self.assert_same_run(stopped, out)

    def test_plans_from_the_costs_that_a_traced_step_measured(self):
        keys = dict(parallel__stages=2, train__micro_batch=2, train__steps=4)
        traced = harness.train(harness.model(**keys, parallel__schedule="zb-h1", output__trace_step=2), harness.folder("traced"), ranks=2)
        costs = re.search(r'^measured costs .*\n  "(F=[0-9.]+,I=[0-9.]+,W=[0-9.]+;F=[0-9.]+,I=[0-9.]+,W=[0-9.]+)"$', traced.out, re.M)
        self.assertTrue(costs, traced.out)
        keys.update(parallel__schedule="auto", parallel__cost=costs.group(1), parallel__latency=0.01, parallel__max_activations=2)
        planned = harness.train(harness.model(**keys), harness.folder("planned"), ranks=2)
        self.assertIn("schedules, at the given costs, ms:\n", planned.err)
        self.assertRegex(planned.err, r"\n(.*) wins: makespan .*, bubble .* %")
        self.assertRegex(planned.err, r"\ngpipe +cannot run: keeps 4 activations, the limit is 2\n")


class WeightsTest(harness.Case):
    """One finished run of one rank; its weights start others."""

    @classmethod
    def setUpClass(cls):
        cls.source = harness.folder("source")
        cls.keys = harness.model(**ONE_RANK)
        harness.train(cls.keys, cls.source, ranks=1)
        cls.file = os.path.join(cls.source, "model.safetensors")

    def test_init_from_keeps_every_weight(self):
        """A step with learning rate 0 on another layout: the same held-out loss, and the same file again."""
        held_out = harness.metrics(self.source)[-1]["held_out_loss"]
        still = {"train__steps": 1, "train__lr": 0, "train__min_lr": 0, "train__warmup_steps": 0, "init__from": self.file}
        for layout, ranks in ((CHIMERA, 4), (REPLICAS, 4), (GRID, 8)):
            with self.subTest(layout=layout):
                out = harness.folder("again")
                harness.train(harness.model(**layout, **still), out, ranks=ranks)
                self.assertAlmostEqual(harness.metrics(out)[-1]["held_out_loss"], held_out, delta=1e-6 * held_out)
                self.assertTrue(harness.weights(out) == harness.weights(self.source))

    def test_hugging_face_names(self):
        raw = harness.weights(self.source)
        header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
        shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
        block = {"ln_1.weight": [32], "ln_1.bias": [32], "attn.c_attn.weight": [32, 96], "attn.c_attn.bias": [96],
                 "attn.c_proj.weight": [32, 32], "attn.c_proj.bias": [32], "ln_2.weight": [32], "ln_2.bias": [32],
                 "mlp.c_fc.weight": [32, 128], "mlp.c_fc.bias": [128],
                 "mlp.c_proj.weight": [128, 32], "mlp.c_proj.bias": [32]}
        expected = {"wte.weight": [256, 32], "wpe.weight": [32, 32], "ln_f.weight": [32], "ln_f.bias": [32]}
        expected.update({"h.%d.%s" % (layer, name): shape for layer in range(2) for name, shape in block.items()})
        self.assertEqual(shapes, expected)

    def test_weights_that_do_not_fit(self):
        harness.write(os.path.join(harness.work, "cut.safetensors"), "")
        with open(os.path.join(harness.work, "cut.safetensors"), "wb") as file:
            file.write(harness.weights(self.source)[:-100])
        for changes, parts in (
            ({"model__hidden": 64}, (self.file, "has shape", "[model]")), ({"model__layers": 3}, ("no tensor h.2.",)),
            ({"init__from": os.path.join(harness.work, "cut.safetensors")}, ("cut.safetensors", "init.from")),
        ):
            with self.subTest(changes=changes):
                out = harness.folder("refused")
                job = harness.start(harness.model(**{**CHIMERA, "init__from": self.file, **changes}), out).wait()
                self.assertEqual(job.code, 2, job.describe())
                self.assert_one_line(job.err, "lycia train: ", *parts)
                self.assertEqual(harness.files_below(out), [])

    def test_generate(self):
        def text(*words):
            job = harness.call("generate", "--run=" + self.source, "--prompt=the ", "--tokens=40", *words)
            self.assertEqual((job.code, job.err), (0, ""))
            self.assertTrue(job.out.startswith("the "), job.out)
            return harness.read(job.out_path)
        self.assertEqual(text("--seed=5"), text("--seed=5"))
        self.assertNotEqual(text("--seed=5"), text("--seed=6"))
        self.assertEqual(text("--temperature=0", "--seed=5"), text("--temperature=0", "--seed=6"))
        self.assertEqual(len(text("--seed=5")), len("the ") + 40 + 1)

    def test_generate_refuses(self):
        for words, parts in (
            (("--run=/nowhere",), ("--run=/nowhere", "output.dir")), (("--run=" + self.source, "--weights=/nowhere"), ("/nowhere",)),
            (("--run=" + self.source, "--temperature=-1"), ("temperature", "-1")), (("--run=" + self.source, "--prompt="), ("prompt",)),
        ):
            with self.subTest(words=words):
                job = harness.call("generate", *words)
                self.assertEqual((job.code, job.out), (2, ""))
                self.assert_one_line(job.err, "lycia generate: ", *parts)


if __name__ == "__main__":
    harness.main()
