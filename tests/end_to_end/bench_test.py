#!/usr/bin/env -S python3 -B
"""`lycia bench step` and `lycia bench kernels` as a user meets them: JSON and text, the same steps on other ranks, one clear line for bad input."""

import json
import os
import struct

import harness


class BenchTest(harness.Case):
    SMALL = ("--layers=2", "--heads=2", "--hidden=32", "--vocabulary=256", "--sequence=16", "--batch=4", "--micro-batch=2", "--threads=1",
             "--steps=3", "--warmup=1")

    def step(self, *words):
        job = harness.call("bench", "step", "--format=json", *self.SMALL, *words)
        self.assertEqual((job.code, job.err), (0, ""))
        return json.loads(job.out)

    def test_step_and_its_losses_on_other_ranks(self):
        one = self.step()
        self.assertEqual((len(one["step_ms"]), len(one["loss"]), one["ranks"]), (3, 4, 1))
        self.assertAlmostEqual(one["loss"][0], 5.545, delta=0.1)  # ln 256
        self.assertGreater(one["peak_bytes"], one["planned_bytes"])
        two = self.step("--ranks=2", "--set", "parallel.stages=2")
        for mine, theirs in zip(one["loss"], two["loss"]):
            self.assertAlmostEqual(mine, theirs, delta=1e-5)

    def test_tokens_of_a_file(self):
        path = os.path.join(harness.work, "tokens.u16")
        with open(path, "wb") as file:
            file.write(struct.pack("<272H", *[7] * 272))  # 4 steps, 4 sequences, 17 tokens: always the same one
        losses = self.step("--tokens=" + path, "--set", "train.lr=0.01")["loss"]
        self.assertLess(losses[3], losses[0] - 0.2)

    def test_text(self):
        job = harness.call("bench", "step", *self.SMALL)
        self.assertEqual((job.code, job.err), (0, ""))
        for part in ("model    GPT-2 of 2 layers", "median", "tokens/s", "on registers", "forward", "GB planned", "loss     5."):
            self.assertIn(part, job.out)

    def test_kernels(self):
        job = harness.call("bench", "kernels", "--name=norms", "--dtype=f32", "--tokens=8", "--milliseconds=1", "--threads=1", "--format=json")
        self.assertEqual((job.code, job.err), (0, ""))
        rows = json.loads(job.out)
        self.assertEqual(len(rows), 8)
        self.assertEqual({row["name"] for row in rows if row["m"] == 8 and row["gbps"] > 0 and row["share_of_peak"] > 0}, {row["name"] for row in rows})

    def test_bad_input(self):
        short = harness.write(os.path.join(harness.work, "short.u16"), "ab")
        for words, part in ((("step", "--precision=f8"), "must be f32, bf16 or f16"), (("step", "--precision=f16"), "on GPUs only"), (("step", "--layers=none"), "--layers=none must be an integer"),
                            (("step", "--tokens=" + short), "has 1 tokens"), (("step", "--heads=5"), "does not divide"),
                            (("step", "--weights=/nowhere.safetensors", *self.SMALL), "/nowhere.safetensors"),
                            (("step", "--batch=5", "--micro-batch=2"), "is not a multiple"), (("step", "--set", "train.lr"), "section.key=value"),
                            (("kernels", "--name=nothing"), "give a family (gemm, attention"), (("kernels", "--tokens=6"), "multiple of 4"),
                            (("kernels", "--clock=cpu", "--threads=2"), "one thread")):
            job = harness.call("bench", *words)
            self.assertEqual((job.code, job.out), (2, ""), words)
            self.assertIn(part, job.err)
            self.assertEqual(job.err.count("\n"), 1, job.err)


if __name__ == "__main__":
    harness.main()
