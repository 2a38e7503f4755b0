#!/usr/bin/env -S python3 -B
"""model.kv_heads: heads that share keys and values, through `lycia train`, its files, and back. Four heads of 8 features on two of k and v."""

import array
import json
import os
import struct

import harness

GROUPED = {"model__heads": 4, "model__kv_heads": 2, "train__precision": "f64", "train__steps": 6, "train__eval_batches": 4}
ONE_RANK = {"parallel__schedule": "1f1b", "parallel__stages": 1}
STILL = {"train__steps": 1, "train__lr": 0, "train__min_lr": 0, "train__warmup_steps": 0}
HIDDEN, HEADS, KV_HEADS, SIZE = 32, 4, 2, 8


def tensors(raw):
    """{name: (shape, doubles)} of a safetensors file of F64 tensors."""
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    return {name: (e["shape"], array.array("d", raw[start + e["data_offsets"][0]:start + e["data_offsets"][1]])) for name, e in header.items()}


def safetensors(content):
    header, data = {}, b""
    for name, (shape, values) in content.items():
        header[name] = {"dtype": "F64", "shape": shape, "data_offsets": [len(data), len(data) + 8 * len(values)]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def repeated(shape, values):
    """The columns q, k, v of c_attn with each head of k and v as often as query heads use it."""
    width = shape[-1]
    out = array.array("d")
    for row in range(len(values) // width):
        line = values[row * width:(row + 1) * width]
        out += line[:HIDDEN]
        for part in range(2 * KV_HEADS):
            head = line[HIDDEN + part * SIZE:HIDDEN + (part + 1) * SIZE]
            for _ in range(HEADS // KV_HEADS):
                out += head
    return shape[:-1] + [3 * HIDDEN], out


class GroupedQueriesTest(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.out = harness.folder("grouped")
        os.mkdir(cls.out)
        harness.write(os.path.join(cls.out, "config.json"), "{}")  # of an earlier run
        cls.job = harness.train(harness.model(**ONE_RANK, **GROUPED), cls.out, ranks=1)
        cls.file = os.path.join(cls.out, "model.safetensors")

    def test_learns_and_says_what_it_wrote(self):
        steps = [line["loss"] for line in harness.metrics(self.out) if "loss" in line]
        self.assertLess(steps[-1], steps[0] - 0.1)
        self.assertIn("4 heads on 2 key/value heads", self.job.err)
        self.assertIn("kv_heads = 2", harness.read(os.path.join(self.out, "config.toml")).decode())
        self.assertIn("no config.json: Hugging Face's GPT-2 cannot have 2 key/value heads for 4 heads", self.job.out)
        self.assertFalse(os.path.exists(os.path.join(self.out, "config.json")))
        content = tensors(harness.weights(self.out))
        self.assertEqual(content["h.0.attn.c_attn.weight"][0], [32, 64])
        self.assertEqual(content["h.1.attn.c_attn.bias"][0], [64])

    def test_other_layouts_agree(self):
        for layout in ({"parallel__schedule": "chimera", "parallel__stages": 4}, {"parallel__data": 2, "parallel__stages": 2}):
            with self.subTest(layout=layout):
                out = harness.folder("layout")
                harness.train(harness.model(**{"parallel__schedule": "1f1b", **layout}, **GROUPED), out)
                for line, expected in zip(harness.numbers(out), harness.numbers(self.out), strict=True):
                    for key, value in expected.items():
                        self.assertAlmostEqual(line[key], value, delta=2e-8 * max(1, abs(value)), msg=key)

    def test_weights_come_back(self):
        out = harness.folder("again")
        harness.train(harness.model(**ONE_RANK, **{**GROUPED, **STILL}, init__from=self.file), out, ranks=1)
        self.assertTrue(harness.weights(out) == harness.weights(self.out))
        job = harness.call("generate", "--run=" + self.out, "--prompt=the ", "--tokens=20")
        self.assertEqual((job.code, job.err), (0, ""))
        self.assertEqual(len(harness.read(job.out_path)), len("the ") + 20 + 1)

    def test_repeated_heads_are_the_same_gpt2(self):
        """docs/numerics.md: with k and v repeated it is an ordinary GPT-2 with the same loss."""
        content = {name: repeated(*entry) if ".attn.c_attn." in name else entry for name, entry in tensors(harness.weights(self.out)).items()}
        ordinary = os.path.join(harness.work, "ordinary.safetensors")
        with open(ordinary, "wb") as file:
            file.write(safetensors(content))
        out = harness.folder("ordinary")
        harness.train(harness.model(**ONE_RANK, **{**GROUPED, **STILL, "model__kv_heads": 0}, init__from=ordinary), out, ranks=1)
        held_out, expected = (harness.metrics(run)[-1]["held_out_loss"] for run in (out, self.out))
        self.assertAlmostEqual(held_out, expected, delta=1e-12 * expected)
        self.assertTrue(os.path.exists(os.path.join(out, "config.json")))

    def test_what_does_not_fit_is_refused(self):
        for changes, parts in (
            ({"model__kv_heads": 3}, ("model.kv_heads = 3", "model.heads = 4", "use kv_heads = 2")),
            ({"model__kv_heads": 1, "init__from": self.file}, (self.file, "attn.c_attn.bias has shape [64]", "needs [48]", "[model]")),
            ({"model__kv_heads": -1}, ("model.kv_heads",)),
        ):
            with self.subTest(changes=changes):
                out = harness.folder("refused")
                job = harness.start(harness.model(**{**ONE_RANK, **GROUPED, **changes}), out, ranks=1).wait()
                self.assertEqual(job.code, 2, job.describe())
                self.assert_one_line(job.err, "lycia train: ", *parts)

    def test_resumes_with_its_own_heads_only(self):
        out = harness.folder("resumed")
        harness.train(harness.model(**ONE_RANK, **{**GROUPED, "train__steps": 4}), out, ranks=1)
        job = harness.start(harness.model(**ONE_RANK, **{**GROUPED, "model__kv_heads": 4}), out, ranks=1, words=("--resume",)).wait()
        self.assertEqual(job.code, 2, job.describe())
        self.assert_one_line(job.err, "attn.c_attn.", "f64[64]" if "bias" in job.err else "f64[32, 64]", "resume with the model")
        harness.train(harness.model(**ONE_RANK, **GROUPED), out, ranks=1, words=("--resume",))
        self.assertEqual(harness.metrics(out)[-1]["step"], 6)


if __name__ == "__main__":
    harness.main()
