"""Who takes part in step.py: how each is run, and how its best settings are found."""

import json
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
TUNED = ("OPENBLAS_", "BLIS_", "OMP_", "KMP_", "GOMP_", "ONEDNN_", "DNNL_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", "ATEN_CPU_CAPABILITY", "LD_PRELOAD")
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "17179869184", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}


class Contestant:
    """`settings` is {"environment": {...}, "arguments": [...]}; run() gives step_ms, uncounted, loss, isa, peak_rss_bytes, or None."""

    rounds = None  # as many as asked for

    def __init__(self, name, key, settings=None):
        self.name, self.key, self.settings, self.error = name, key, settings, ""

    def choose(self, options, known):
        if known is not None:
            self.settings = known

    def settings_text(self):
        if not self.settings:
            return "as found"
        words = ["%s=%s" % item for item in sorted(self.settings["environment"].items())] + self.settings["arguments"]
        return " ".join(words) or "as found"

    def start(self, command, wrap=()):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(TUNED)}
        environment.update((self.settings or {"environment": {}})["environment"])
        if wrap:  # what is preloaded is meant for the rival alone
            command = list(wrap) + ["env"] + ["%s=%s" % item for item in environment.items() if item[0] in self.settings["environment"]] + command
            environment = {key: value for key, value in environment.items() if key not in self.settings["environment"]}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        self.error = done.stderr[-2000:]
        return done.stdout if done.returncode == 0 else None


class Lycia(Contestant):
    def __init__(self, options, inputs):
        super().__init__("lycia " + options.precision, "lycia", {"environment": {}, "arguments": []})
        self.options = options
        self.command = [options.lycia, "bench", "step", "--format=json", "--weights=" + inputs.weights, "--tokens=" + inputs.tokens]
        self.command += ["--%s=%s" % (name, getattr(options, name)) for name in ("layers", "heads", "hidden", "vocabulary", "batch", "sequence",
                                                                                 "threads", "precision", "steps", "warmup")]
        for key in ("lr", "beta1", "beta2", "weight_decay", "clip"):
            self.command += ["--set", "train.%s=%r" % (key, getattr(options, key))]

    def run(self, wrap=()):
        text = self.start(self.command, wrap)
        if text is None:
            return None
        result = json.loads(text)
        result.update(uncounted=0, peak_rss_bytes=result["peak_bytes"],
                      isa="%s, %s; %.1f GFLOP/s, %.1f%% of the peak on registers" %
                      (result["isa"], result["vectors"], result["gflops"], 100 * result["share_of_peak"]))
        return result


class LlmC(Contestant):
    def __init__(self, options, inputs, folder):
        super().__init__("llm.c f32", "llmc", {"environment": {"OMP_NUM_THREADS": str(options.threads)}, "arguments": []})
        self.rounds, self.warmup = 1 if options.llmc_steps < options.steps + options.warmup else None, min(options.warmup, options.llmc_steps - 1)
        program = os.path.join(folder, "llmc_step")
        flags = ["-Ofast", "-march=native", "-fopenmp", "-DOMP", "-Wno-unused-result", "-Wno-unknown-pragmas"]
        subprocess.run([options.cc] + flags + ["-I" + options.llmc, os.path.join(HERE, "llmc_step.c"), "-o", program, "-lm"], check=True)
        self.command = [program, inputs.llmc, inputs.tokens] + [str(value) for value in (
            options.batch, options.sequence, options.llmc_steps, options.lr, options.beta1, options.beta2, options.weight_decay)]
        self.isa = "%s %s" % (options.cc, " ".join(flags[:4]))

    def run(self, wrap=()):
        text = self.start(self.command, wrap)
        if text is None:
            return None
        steps = [line.split()[1:] for line in text.splitlines() if line.startswith("step:")]
        memory = [int(line.split()[1]) for line in text.splitlines() if line.startswith("memory:")]
        return {"loss": [float(loss) for loss, _ in steps], "step_ms": [float(ms) for _, ms in steps], "uncounted": self.warmup, "isa": self.isa,
                "peak_rss_bytes": 1024 * memory[0]}


def mkl_any_vendor(compiler):
    """The library, built; where it stays, because --settings may name it in a later run."""
    folder = os.path.expanduser("~/.cache/lycia/peers")
    os.makedirs(folder, exist_ok=True)
    library = os.path.join(folder, "mkl_any_vendor.so")
    if not os.path.exists(library):
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", os.path.join(HERE, "mkl_any_vendor.c"), "-o", library], check=True)
    return library


class Torch(Contestant):
    def __init__(self, options, inputs, python, precision, version):
        label = {"f32": "f32", "autocast": "autocast", "bf16": "pure bf16"}[precision]
        super().__init__("torch %s %s" % (version.split("+")[0], label), "torch %s %s T%d" % (python, precision, options.sequence))
        self.options, self.precision, self.version = options, precision, version
        self.command = [python, os.path.join(HERE, "gpt2_torch.py"), "--weights", inputs.weights, "--tokens", inputs.tokens, "--precision", precision]
        for name in ("layers", "heads", "hidden", "vocabulary", "batch", "sequence", "threads"):
            self.command += ["--" + name, str(getattr(options, name))]
        for name in ("lr", "beta1", "beta2", "weight_decay", "clip"):
            self.command += ["--" + name.replace("_", "-"), repr(getattr(options, name))]

    def run(self, wrap=(), steps=None):
        steps = steps or self.options.steps + self.options.warmup
        text = self.start(self.command + ["--steps", str(steps)] + self.settings["arguments"], wrap)
        if text is None:
            return None
        result = json.loads(text)
        result.update(uncounted=self.options.warmup, isa="PyTorch %s, %s, %d threads" % (result["version"], result["isa"], result["threads"]))
        return result

    def choose(self, options, known):
        """One choice after the other, each tried on top of the winners so far."""
        if known is not None:
            self.settings = known
            for library in known["environment"].get("LD_PRELOAD", "").split(":"):
                if library and not os.path.exists(library):
                    raise SystemExit("step.py: --settings preloads %s into %s, but it is not there; delete the file of settings" % (library, self.name))
            return
        self.settings = {"environment": dict(KEPT_MEMORY), "arguments": []}
        if options.shim:
            self.settings["environment"]["LD_PRELOAD"] = os.path.abspath(options.shim)
        best, winner = self.time_of(self.settings), self.settings
        for choice in self.choices():
            for environment, arguments in choice:
                tried = {"environment": dict(self.settings["environment"]), "arguments": self.settings["arguments"] + arguments}
                for key, value in environment.items():
                    before = tried["environment"].get(key, "")
                    tried["environment"][key] = before + ":" + value if key == "LD_PRELOAD" and before else value
                speed = self.time_of(tried)
                print("    %s: %s %s" % (self.name, "%.1f ms" % speed if speed else "dies", self.text_of(environment, arguments)), flush=True)
                if speed and (best is None or speed < best):
                    best, winner = speed, tried
            self.settings = winner
        if best is None:
            raise SystemExit("step.py: %s dies with every setting:\n%s" % (self.name, self.error))

    @staticmethod
    def text_of(environment, arguments):
        return " ".join(["%s=%s" % item for item in environment.items()] + arguments)

    def time_of(self, settings):
        self.settings, before = settings, self.settings
        if "--compile" in settings["arguments"]:
            self.run(steps=1)  # compiles, which is not measured and must not be held up by --wrap; later runs find it in PyTorch's cache
        result = self.run(self.options.wrap, self.options.tries + self.options.warmup)
        self.settings = before
        return min(result["step_ms"][self.options.warmup:]) if result else None

    def choices(self):
        """Each a list of (environment, arguments) of which at most one is kept."""
        newest = not self.version.startswith("1.")
        found = []
        if newest:
            if self.precision == "f32":
                found.append([({"LD_PRELOAD": mkl_any_vendor(self.options.cc)}, [])])
            found.append([({}, ["--optimizer", "fused"]), ({}, ["--optimizer", "foreach"])])
            found.append([({}, ["--attention", "sdpa"])])
        else:
            passive = {"OMP_WAIT_POLICY": "passive"}
            found.append([(dict(passive), []), (dict(passive, OPENBLAS_CORETYPE="SkylakeX"), []), (dict(passive, OPENBLAS_CORETYPE="Zen"), []),
                          ({"OPENBLAS_CORETYPE": "SkylakeX"}, [])])
            found.append([({"ATEN_CPU_CAPABILITY": "avx512"}, [])])
            found.append([({}, ["--optimizer", "foreach"])])
        losses = (["--loss", "logits"],) if self.precision == "bf16" else ()
        losses += (["--loss", "fused"],) if newest else ()
        if losses:
            found.append([({}, list(loss)) for loss in losses])
        found.append([({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, [])])
        if newest and not self.options.no_compile:
            found.append([({}, ["--compile"])])
        return found


def all_of(options, inputs, folder):
    everyone = [Lycia(options, inputs)]
    for python in options.torch:
        asked = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
        if asked.returncode != 0:
            raise SystemExit("step.py: --torch %s has no PyTorch that can be imported: %s" % (python, asked.stderr.strip().split("\n")[-1]))
        for precision in ("f32",) if options.precision == "f32" else ("autocast", "bf16"):
            everyone.append(Torch(options, inputs, python, precision, asked.stdout.strip()))
    if options.llmc:
        if options.precision != "f32":
            print("  llm.c is left out: its CPU trainer computes in f32 only")
        else:
            everyone.append(LlmC(options, inputs, folder))
    return everyone
