#!/usr/bin/env -S python3 -B
"""`lycia plan grid` as a user meets it: published tables, the closed form at 512 ranks, formats, and one clear line for every bad input."""

import json
import os

import harness

# x, y, z: MB of a rank along x, y and z for a layer, forward and backward, at h = m = 8192 in two bytes on 64 ranks.
GRIDS = {
    (1, 64, 1): ("0.0", "1057.0", "0.0", "1057.0"), (8, 8, 1): ("352.3", "117.4", "0.0", "469.8"),
    (1, 8, 8): ("0.0", "117.4", "352.3", "469.8"), (4, 4, 4): ("151.0", "50.3", "151.0", "352.3"),
    (2, 8, 4): ("50.3", "117.4", "151.0", "318.8"), (4, 8, 2): ("151.0", "117.4", "50.3", "318.8"),
    (1, 1, 64): ("0.0", "0.0", "3170.9", "3170.9"),
}
# MB that leave a node of 8.
NODES = {(1, 64, 1): "1057", (1, 1, 64): "3171", (8, 8, 1): "940", (4, 4, 4): "1007", (2, 8, 4): "872", (2, 16, 2): "906", (1, 32, 2): "923"}


class PlanGridTest(harness.Case):
    SIZES = ("--hidden=8192", "--ffn=32768", "--tokens=8192", "--heads=64", "--layers=2", "--dtype=bf16")

    def grids(self, ranks, *words):
        job = harness.call("plan", "grid", "--model=gpt3-175b", "--ranks=%d" % ranks, "--ranks-per-node=8", "--format=json", *self.SIZES, *words)
        self.assertEqual((job.code, job.err), (0, ""))
        return {(grid["x"], grid["y"], grid["z"]): grid for grid in json.loads(job.out)}

    def test_table(self):
        grids = self.grids(64)
        self.assertEqual(len(grids), 28)
        for shape, expected in GRIDS.items():
            figures = tuple("%.1f" % (grids[shape]["bytes_" + key] / 1e6) for key in ("x", "y", "z", "total"))
            self.assertEqual(figures, expected, shape)
        for shape, expected in NODES.items():
            self.assertEqual("%.0f" % (grids[shape]["bytes_leaving_node"] / 1e6), expected, shape)
        best = min(grids.values(), key=lambda grid: grid["predicted_seconds"])
        self.assertEqual([shape for shape, grid in grids.items() if grid["winner"]], [(best["x"], best["y"], best["z"])])
        for grid in grids.values():
            self.assertGreater(grid["memory_bytes"], 0)
            self.assertEqual(grid["refused"], [])
            self.assertEqual(grid["counted_by"], "dry-run")

    def test_closed_form_at_512(self):
        grids = self.grids(512)
        self.assertEqual(len(grids), 55)
        for (x, y, z), grid in grids.items():
            self.assertEqual(grid["bytes_x"] * 512, 2 * 2 * 12 * 8192 * 8192 * (x - 1))
            self.assertEqual(grid["bytes_y"] * 512, 2 * 2 * 4 * 8192 * 8192 * (y - 1))
            self.assertEqual(grid["bytes_z"] * 512, 2 * 2 * 12 * 8192 * 8192 * (z - 1))
            self.assertEqual(grid["bytes_total"], grid["bytes_x"] + grid["bytes_y"] + grid["bytes_z"])
            self.assertEqual(bool(grid["refused"]), 64 % (x * y) != 0)  # 64 heads

    def test_text_and_configuration(self):
        job = harness.call("plan", "grid", "--model=gpt2-1.5b", "--ranks=8", "--batch=8")
        self.assertEqual((job.code, job.err), (0, ""))
        for part in ("Winner: ", "1,8,1 (1-D with sequence parallelism)", "x y = 2 does not divide the 25 heads, which are split by (y, x); use 20 or 32 heads, or x y = 1"):
            self.assertIn(part, job.out)
        harness.write(os.path.join(harness.work, "plan.toml"),
                      "[model]\nhidden = 48\nheads = 12\ncontext = 12\n[train]\nmicro_batch = 6\n[data]\nfiles = [\"text.txt\"]\n")
        job = harness.call("plan", "grid", "--model=plan.toml", "--ranks=8", "--format=json")
        cube = [grid for grid in json.loads(job.out) if grid["x"] == grid["y"] == grid["z"] == 2]
        self.assertEqual(cube[0]["bytes_total"], 2 * (2 * 13824 + 2 * 6912))  # f32: twice the figures for two bytes

    def test_refusals(self):
        for words, parts in (
            ((), ("plan grid",)), (("mesh", "--ranks=4"), ("plan grid", "mesh")), (("grid",), ("--ranks",)),
            (("grid", "--ranks=0", "--hidden=64"), ("--ranks=0", "1")), (("grid", "--ranks=4"), ("--model",)),
            (("grid", "--ranks=4", "--model=gpt3-176b"), ("gpt3-176b", "gpt3-175b")),
            (("grid", "--ranks=4", "--model=missing.toml"), ("missing.toml",)),
            (("grid", "--ranks=4", "--hidden=100"), ("100", "128")),
            (("grid", "--ranks=4", "--hidden=128", "--heads=3"), ("heads=3", "129")),
            (("grid", "--ranks=4", "--hidden=128", "--kv-heads=3"), ("kv-heads=3",)),
            (("grid", "--ranks=4", "--hidden=128", "--dtype=int8"), ("int8", "bf16")),
            (("grid", "--ranks=4", "--hidden=128", "--tokens=10", "--batch=4"), ("--tokens=10", "8 or 12")),
            (("grid", "--ranks=4", "--hidden=128", "--order=x,y"), ("--order", "x,y")),
            (("grid", "--ranks=4", "--hidden=128", "--flops=0"), ("--flops=0",)),
            (("grid", "--ranks=4", "--hidden=128", "--format=csv"), ("csv", "json")),
            (("grid", "--ranks=4", "--hidden=128", "--gathers=some"), ("some", "cached", "again")),
        ):
            with self.subTest(words=words):
                job = harness.call("plan", *words)
                self.assertEqual((job.code, job.out), (2, ""))
                self.assert_one_line(job.err, *parts)


if __name__ == "__main__":
    harness.main()
