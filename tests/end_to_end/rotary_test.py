#!/usr/bin/env -S python3 -B
"""model.position = "rotary" through `lycia train` on several layouts, its files, and back. Heads of 16 features, G key/value heads as many as heads."""

import json
import os
import struct

import harness

ROTARY = {"model__position": "rotary", "model__rope_base": 500, "train__precision": "f64", "train__steps": 6, "train__eval_batches": 4}
ONE_RANK = {"parallel__schedule": "1f1b", "parallel__stages": 1}
STILL = {"train__steps": 1, "train__lr": 0, "train__min_lr": 0, "train__warmup_steps": 0}


def names(raw):
    header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
    header.pop("__metadata__", None)
    return set(header)


class RotaryTest(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.out = harness.folder("rotary")
        os.mkdir(cls.out)
        harness.write(os.path.join(cls.out, "config.json"), "{}")  # of an earlier run
        cls.job = harness.train(harness.model(**ONE_RANK, **ROTARY), cls.out, ranks=1)
        cls.file = os.path.join(cls.out, "model.safetensors")
        cls.learned = harness.folder("learned")
        harness.train(harness.model(**ONE_RANK, **{**ROTARY, "model__position": "learned"}), cls.learned, ranks=1)

    def refused(self, out, *parts, words=(), **changes):
        job = harness.start(harness.model(**{**ONE_RANK, **ROTARY, **changes}), out, ranks=1, words=words).wait()
        self.assertEqual(job.code, 2, job.describe())
        self.assert_one_line(job.err, "lycia train: ", *parts)

    def test_learns_and_says_what_it_wrote(self):
        steps = [line["loss"] for line in harness.metrics(self.out) if "loss" in line]
        self.assertLess(steps[-1], steps[0] - 0.1)
        self.assertIn("rotary positions", self.job.err)
        self.assertIn('position = "rotary"', harness.read(os.path.join(self.out, "config.toml")).decode())
        self.assertIn("no config.json: Hugging Face's GPT-2 cannot have rotary positions", self.job.out)
        self.assertFalse(os.path.exists(os.path.join(self.out, "config.json")))
        self.assertEqual(names(harness.weights(self.learned)) - names(harness.weights(self.out)), {"wpe.weight"})
        self.assertEqual(names(harness.weights(self.out)) - names(harness.weights(self.learned)), set())

    def test_other_layouts_agree(self):
        for layout, ranks in (({"parallel__schedule": "chimera", "parallel__stages": 4}, 4), ({"parallel__data": 2, "parallel__stages": 2}, 4),
                              ({"parallel__stages": 1, "parallel__x": 2, "parallel__z": 2, "train__micro_batch": 2}, 4)):
            with self.subTest(layout=layout):
                out = harness.folder("layout")
                harness.train(harness.model(**{"parallel__schedule": "1f1b", **ROTARY, **layout}), out, ranks=ranks)
                for line, expected in zip(harness.numbers(out), harness.numbers(self.out), strict=True):
                    for key, value in expected.items():
                        self.assertAlmostEqual(line[key], value, delta=2e-8 * max(1, abs(value)), msg=key)

    def test_weights_come_back(self):
        out = harness.folder("again")
        harness.train(harness.model(**ONE_RANK, **{**ROTARY, **STILL}, init__from=self.file), out, ranks=1)
        self.assertTrue(harness.weights(out) == harness.weights(self.out))
        held_out, expected = (harness.metrics(run)[-1]["held_out_loss"] for run in (out, self.out))
        self.assertEqual(held_out, expected)
        job = harness.call("generate", "--run=" + self.out, "--prompt=the ", "--tokens=50")  # beyond the context
        self.assertEqual((job.code, job.err), (0, ""))
        self.assertEqual(len(harness.read(job.out_path)), len("the ") + 50 + 1)

    def test_learned_positions_are_refused(self):
        file = os.path.join(self.learned, "model.safetensors")
        self.refused(harness.folder("refused"), file, "wpe.weight", 'model.position = "learned"', init__from=file)
        self.refused(harness.folder("refused"), "no tensor wpe.weight", model__position="learned", init__from=self.file)
        job = harness.call("generate", "--run=" + self.out, "--weights=" + file, "--prompt=the ")
        self.assertEqual(job.code, 2, job.describe())
        self.assert_one_line(job.err, "wpe.weight", 'model.position = "learned"')

    def test_what_does_not_fit_is_refused(self):
        out = harness.folder("refused")
        self.refused(out, 'model.position = "rotary"', "33 / 3 = 11 is odd", "hidden = 36", model__hidden=33, model__heads=3)
        self.refused(out, "model.position", model__position="alibi")
        self.refused(out, "model.rope_base", model__rope_base=0)

    def test_resumes_with_its_own_positions_only(self):
        out = harness.folder("resumed")
        harness.train(harness.model(**ONE_RANK, **{**ROTARY, "train__steps": 4}), out, ranks=1)
        self.refused(out, "rope_base_millionths is 500000000", "10000000000", words=("--resume",), model__rope_base=10000)
        self.refused(out, "wpe.weight", words=("--resume",), model__position="learned")
        harness.train(harness.model(**ONE_RANK, **ROTARY), out, ranks=1, words=("--resume",))
        self.assertEqual(harness.metrics(out)[-1]["step"], 6)
        out = harness.folder("learned_resumed")
        harness.train(harness.model(**ONE_RANK, **{**ROTARY, "train__steps": 4, "model__position": "learned"}), out, ranks=1)
        self.refused(out, "its positions are learned", 'model.position = "learned"', words=("--resume",))


if __name__ == "__main__":
    harness.main()
