#!/usr/bin/env -S python3 -B
"""The command contract: formats and numbers of `lycia schedule`, help, exit codes, and one clear line for every bad input.

Orders are those of Li & Hoefler 2021 (Figs 3, 7, 8); makespans come from an independent event simulator and the closed forms.
"""

import json
import os
import re

import harness

CELL = re.compile(r"p(\d+)\.(\d+)([FBIW])(\d+)$")

# Chimera's orders as printed in the paper: d and u are the pipes, the number counts the micro-batches of one pipe.
CHIMERA_4_4 = (
    "Fd0 Fd1 Fu0 Bu0 Fu1 Bu1 Bd0 Bd1",
    "Fd0 Fu0 Fd1 Fu1 Bu0 Bd0 Bu1 Bd1",
    "Fu0 Fd0 Fu1 Fd1 Bd0 Bu0 Bd1 Bu1",
    "Fu0 Fu1 Fd0 Bd0 Fd1 Bd1 Bu0 Bu1",
)
CHIMERA_4_8_WORKER_0 = "Fd0 Fd1 Fu0 Bu0 Fu1 Bu1 Bd0 Fd2 Bd1 Fd3 Fu2 Bu2 Fu3 Bu3 Bd2 Bd3"

# (schedule, D, N): makespan at F = 1, B = 2, bubble in %, least and most activations held by a worker.
TIMES = {
    ("gpipe", 4, 4): (21, 42.86, 4, 4), ("gpipe", 4, 8): (33, 27.27, 8, 8), ("gpipe", 4, 16): (57, 15.79, 16, 16),
    ("gpipe", 8, 8): (45, 46.67, 8, 8), ("gpipe", 8, 16): (69, 30.43, 16, 16), ("gpipe", 8, 32): (117, 17.95, 32, 32),
    ("1f1b", 4, 4): (21, 42.86, 1, 4), ("1f1b", 4, 8): (33, 27.27, 1, 4), ("1f1b", 4, 16): (57, 15.79, 1, 4),
    ("1f1b", 8, 8): (45, 46.67, 1, 8), ("1f1b", 8, 16): (69, 30.43, 1, 8), ("1f1b", 8, 32): (117, 17.95, 1, 8),
    ("1f1b", 16, 64): (237, 18.99, 1, 16),
    ("chimera", 4, 4): (16, 25.00, 3, 4), ("chimera", 4, 8): (30, 20.00, 3, 4), ("chimera", 4, 16): (58, 17.24, 3, 4),
    ("chimera", 8, 8): (36, 33.33, 5, 8), ("chimera", 8, 16): (66, 27.27, 5, 8), ("chimera", 8, 32): (126, 23.81, 5, 8),
    ("chimera", 16, 16): (76, 36.84, 9, 16), ("chimera", 16, 32): (138, 30.43, 9, 16), ("chimera", 16, 64): (262, 26.72, 9, 16),
}
# (D, pipes, N): makespan and idle time of a worker, F = 1, B = 2.
MORE_PIPES = {
    (8, 4, 8): (28, 4), (8, 4, 16): (54, 6), (8, 4, 32): (106, 10), (16, 4, 16): (60, 12), (16, 4, 32): (114, 18), (16, 4, 64): (222, 30),
    (16, 8, 16): (52, 4), (16, 8, 32): (102, 6), (16, 8, 64): (202, 10), (4, 4, 4): (12, 0),
}


def schedule(name, stages, micro_batches, *words):
    return harness.call("schedule", "--name=" + name, "--stages=%d" % stages, "--micro-batches=%d" % micro_batches, *words)


def chimera_row(order, worker, stages):
    """A row of the paper as cells: unit k gives micro-batches kD .. kD + D/2 - 1 to the down pipe, the rest of the unit to the up pipe."""
    cells, half = [], stages // 2
    for kind, pipe, count in order.split():
        unit, place = divmod(int(count), half)
        if pipe == "d":
            cells.append("p0.%d%s%d" % (worker, kind, unit * stages + place))
        else:
            cells.append("p1.%d%s%d" % (stages - 1 - worker, kind, unit * stages + half + place))
    return ",".join(cells)


class ScheduleTest(harness.Case):
    def rows(self, *arguments):
        job = schedule(*arguments, "--format=csv")
        self.assertEqual((job.code, job.err), (0, ""))
        return job.out.splitlines()

    def json(self, *arguments):
        job = schedule(*arguments, "--format=json")
        self.assertEqual((job.code, job.err), (0, ""))
        return json.loads(job.out)

    def test_csv_is_the_papers_order(self):
        self.assertEqual(self.rows("chimera", 4, 4), [chimera_row(CHIMERA_4_4[w], w, 4) for w in range(4)])
        self.assertEqual(self.rows("chimera", 4, 8)[0], chimera_row(CHIMERA_4_8_WORKER_0, 0, 4))
        four_pipes = self.rows("chimera", 8, 8, "--pipes=4")[0]
        self.assertEqual([int(CELL.match(cell)[4]) for cell in four_pipes.split(",")], [0, 1, 6, 2, 7, 3, 4, 4, 5, 5, 2, 6, 3, 7, 0, 1])

    def test_csv_of_one_pipe(self):
        self.assertEqual(self.rows("gpipe", 2, 3), ["p0.0F0,p0.0F1,p0.0F2,p0.0B0,p0.0B1,p0.0B2",
                                                    "p0.1F0,p0.1F1,p0.1F2,p0.1B0,p0.1B1,p0.1B2"])
        self.assertEqual(self.rows("1f1b", 2, 3), ["p0.0F0,p0.0F1,p0.0B0,p0.0F2,p0.0B1,p0.0B2",
                                                   "p0.1F0,p0.1B0,p0.1F1,p0.1B1,p0.1F2,p0.1B2"])

    def test_csv_has_every_pass_once(self):
        for name, stages, micro_batches in (("chimera", 4, 6), ("chimera", 6, 1), ("chimera", 4, 3), ("1f1b", 4, 2), ("gpipe", 3, 5)):
            with self.subTest(name=name, stages=stages, micro_batches=micro_batches):
                rows = self.rows(name, stages, micro_batches)
                self.assertEqual(len(rows), stages)
                cells = [CELL.match(cell).groups() for row in rows for cell in row.split(",")]
                passes = sorted((int(stage), kind, int(micro_batch)) for _, stage, kind, micro_batch in cells)
                self.assertEqual(passes, sorted((s, k, m) for s in range(stages) for k in "BF" for m in range(micro_batches)))
                self.assertEqual(len({(pipe, micro_batch) for pipe, _, _, micro_batch in cells}), micro_batches, "one pipe a micro-batch")

    def test_json_has_the_known_times(self):
        for (name, stages, micro_batches), (makespan, bubble, least, most) in TIMES.items():
            with self.subTest(name=name, stages=stages, micro_batches=micro_batches):
                answer = self.json(name, stages, micro_batches)
                self.assertEqual(answer["makespan"], makespan)
                self.assertAlmostEqual(100 * answer["bubble_ratio"], bubble, delta=0.0051)
                self.assertEqual(len(answer["peak_activations"]), stages)
                self.assertEqual((min(answer["peak_activations"]), max(answer["peak_activations"])), (least, most))
                self.assertEqual(answer["weights_copies"], 2 if name == "chimera" else 1)

    def test_json_of_more_pipes(self):
        for (stages, pipes, micro_batches), (makespan, idle) in MORE_PIPES.items():
            with self.subTest(stages=stages, pipes=pipes, micro_batches=micro_batches):
                answer = self.json("chimera", stages, micro_batches, "--pipes=%d" % pipes)
                self.assertEqual(answer["makespan"], makespan)
                self.assertAlmostEqual(answer["bubble_ratio"], idle / makespan, delta=1e-9)
                self.assertEqual(answer["weights_copies"], pipes)

    def test_costs(self):
        """D F + (2D - 2) B for Chimera with N = D; fractions are exact; every kind is accepted by all."""
        for cost, makespan in (("F=2,B=3", 26), ("F=1/3,B=2/3", 16 / 3), ("F=0.1,B=0.2", 1.6), ("F=1,B=2,I=1,W=1", 16)):
            with self.subTest(cost=cost):
                self.assertEqual(self.json("chimera", 4, 4, "--cost=" + cost)["makespan"], makespan)
        self.assertEqual(self.json("gpipe", 1, 4, "--cost=F=1/3,B=2/3")["makespan"], 4)
        # Each boundary is crossed once by the first forward and once by the last backward.
        self.assertEqual(self.json("gpipe", 4, 4, "--latency=1")["makespan"], 21 + 6)

    def test_pictures(self):
        text = schedule("chimera", 4, 4)
        self.assertEqual(text.code, 0)
        self.assertIn("makespan 16", text.out)
        svg = schedule("chimera", 4, 4, "--format=svg").out
        self.assertTrue(svg.lstrip().startswith("<svg") or svg.lstrip().startswith("<?xml"), svg[:80])
        self.assertIn("</svg>", svg)

    def test_refusals(self):
        for words, parts in (
            (("chimera", 3, 4), ("3", "even")), (("chimera", 6, 6, "--pipes=4"), ("pipes", "4")),
            (("chimaera", 4, 4), ("chimaera", "chimera")),
            (("1f1b", 4, 4, "--cost=F=1,Q=2"), ("Q",)), (("1f1b", 4, 4, "--cost=F=1/0"), ("1/0",)),
            (("1f1b", 4, 4, "--format=pdf"), ("pdf", "svg")),
            (("1f1b", 4, 4, "--latency=-1"), ("-1",)), (("1f1b", 0, 4), ("stages", "0")), (("1f1b", 4, 4, "--pipes=2"), ("pipe",)),
        ):
            with self.subTest(words=words):
                job = schedule(*words)
                self.assertEqual((job.code, job.out), (2, ""))
                self.assert_one_line(job.err, *parts)


class CommandLineTest(harness.Case):
    def test_help(self):
        whole = harness.call("--help")
        self.assertEqual((whole.code, whole.err), (0, ""))
        for part in ("train", "schedule", "plan", "generate", "doctor", "85"):
            self.assertIn(part, whole.out)
        for command, parts in (
            ("train", ("--config", "--set", "--ranks", "--resume", "train.lr", "watchdog.deadline_seconds")),
            ("schedule", ("--name", "--stages", "--micro-batches", "--pipes", "--cost", "--latency", "--format", "gpipe", "chimera")),
            ("plan", ("grid", "--ranks", "--ranks-per-node", "--model", "--tokens", "--format", "gpt2-124m", "llama-7b")),
            ("generate", ("--run", "--prompt", "--seed")), ("doctor", ("--format",)),
        ):
            job = harness.call(command, "--help")
            self.assertEqual((job.code, job.err), (0, ""), command)
            for part in parts:
                self.assertIn(part, job.out, command)

    def test_bad_command_lines(self):
        for words, parts in (
            (("trian",), ("trian", "train")), (("train",), ("--config",)),
            (("train", "--config=x", "--rnks=4"), ("--rnks", "did you mean 'ranks'")),
            (("train", "--config=x", "--rank=4"), ("--rank=4 needs --rendezvous=tcp://HOST:PORT",)),
            (("train", "--config=x", "--ranks=four"), ("four",)), (("schedule", "--stages=4"), ("--name",)),
            (("doctor", "--format=xml"), ("xml",)), (("generate",), ("--run",)),
        ):
            with self.subTest(words=words):
                job = harness.call(*words)
                self.assertEqual((job.code, job.out), (2, ""))
                self.assert_one_line(job.err, *parts)
        self.assertEqual(harness.call().code, 2)

    def test_doctor(self):
        text = harness.call("doctor")
        self.assertEqual((text.code, text.err), (0, ""))
        answer = json.loads(harness.call("doctor", "--format=json").out)
        for value in (answer["blas"]["core"], answer["transports"]["mpi"], answer["machine"]["cpu"]):
            self.assertTrue(value)
            self.assertIn(value, text.out)


class BadInputTest(harness.Case):
    """Each is refused with exit code 2 and one line, by ranks as threads and by processes, and no file is written."""

    def refuse(self, name, keys, *parts, ranks=4, words=(), transports=("threads", "mpi"), out=None):
        out = out or harness.folder("refused")
        for transport in transports:
            with self.subTest(name=name, transport=transport):
                if transport == "mpi":
                    self.need_mpi()
                before = harness.files_below(out)
                job = harness.start(keys, out, ranks=ranks, words=words, mpi=transport == "mpi").wait()
                self.assertEqual((job.code, job.out), (2, ""), job.describe())
                self.assert_one_line(job.err, "lycia train: ", *parts)
                self.assertEqual(harness.files_below(out), before)

    def test_keys(self):
        self.refuse("unknown key", harness.model(train__lrr=1), "train.lrr", "did you mean 'train.lr'", "config.toml:")
        self.refuse("unknown override", harness.model(), "modle.layers", "model.layers", words=("--set", "modle.layers=3"),
                    transports=("threads",))
        self.refuse("unknown flag", harness.model(), "--resum", "did you mean 'resume'", words=("--resum",))
        self.refuse("wrong type", harness.model(train__steps="many"), "train.steps", "integer", transports=("threads",))
        self.refuse("out of range", harness.model(model__dropout=1.5), "model.dropout", "1.5", transports=("threads",))
        self.refuse("no such schedule", harness.model(parallel__schedule="chimaera"), "chimaera", "chimera", transports=("threads",))

    def test_files(self):
        self.refuse("no data file", harness.model(data__files=["/nowhere/book.txt"]), "/nowhere/book.txt", "missing", "data.files")
        self.refuse("no data", harness.model(data__files=[]), "data.files", transports=("threads",))
        short = harness.write(os.path.join(harness.work, "short.txt"), "too short " * 10)
        self.refuse("text shorter than a batch", harness.model(data__files=[short]), "100 bytes", "needs 257")
        self.refuse("no weights", harness.model(init__from="/nowhere/model.safetensors"), "init.from", "/nowhere/model.safetensors")
        for words in (["--ranks=4"], [harness.mpirun_sh, "-n", "4", "--grace=1"]):
            if len(words) > 1 and not harness.has_mpi():
                continue
            command = [harness.lycia, "train", "--config=/nowhere/run.toml"]
            job = harness.Job(command + words if len(words) == 1 else words + command).wait()
            self.assertEqual(job.code, 2)
            self.assert_one_line(job.err, "/nowhere/run.toml", "missing")

    def test_sizes(self):
        self.refuse("heads", harness.model(model__heads=3), "model.heads = 3", "model.hidden = 32", "use heads = 2")
        self.refuse("batch", harness.model(train__micro_batch=3), "train.batch = 8", "train.micro_batch = 3", "use batch = 6 or 9")
        self.refuse("odd depth", harness.model(parallel__stages=3), "3", "even", ranks=3)
        self.refuse("ranks", harness.model(), "3 ranks", "parallel.stages = 4", "start 4", ranks=3)
        self.refuse("replicas", harness.model(parallel__data=2), "8 ranks", "there are 4", transports=("threads",))
        self.refuse("more stages than layers", harness.model(parallel__stages=8), "8", ranks=8, transports=("threads",))
        self.refuse("partition", harness.model(parallel__partition=[1, 1]), "parallel.partition", transports=("threads",))

    def test_output_folder(self):
        file = harness.write(os.path.join(harness.work, "file"), "not a folder")
        self.refuse("below a file", harness.model(), file, "output.dir", out=os.path.join(file, "run"))
        out = harness.folder("taken")
        harness.train(harness.model(train__steps=2, train__warmup_steps=1), out)
        self.refuse("checkpoints without --resume", harness.model(), "step 2", "--resume", "output.dir", out=out)

    def test_ranks_under_mpirun(self):
        self.refuse("--ranks", harness.model(), "--ranks starts ranks as threads", "a launcher has started", words=("--ranks=4",), transports=("mpi",))


if __name__ == "__main__":
    harness.main()
