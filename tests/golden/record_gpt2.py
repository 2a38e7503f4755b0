#!/usr/bin/python3
"""Records what PyTorch computes for the GPT-2 of docs/numerics.md: three AdamW steps of small models, into gpt2_*.json beside this file.

    OMP_NUM_THREADS=1 /usr/bin/python3 tests/golden/record_gpt2.py          (Debian: python3-torch, python3-numpy)

Nothing here is shared with the C++ sources, so that an error cannot hide in both. A file holds
  config     sizes and hyperparameters; the tests build the same model from them;
  lr         learning rate of each step;
  f64, f32   losses and gradient norms (before clipping) of each step, gradients of step 0 before clipping, weights after the last step.
A tensor is {shape, sum, abs_sum, norm, index, value}: sums and 2-norm in f64 over all elements, and up to five of its elements (all of them
in the config with "full") by row-major index. f32 has no weights: Adam turns the rounding noise of a zero gradient into full updates.
"""

import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

STEPS = 3

# Sizes in one config differ pairwise, so that a swapped axis cannot go unnoticed. `sequence` is the length of the samples, up to `context`.
CONFIGS = {
    "tied": dict(blocks=3, width=24, heads=2, ffn=96, context=10, sequence=10, vocabulary=31, batch=6, tied=True, dropout=0.1, std=0.15,
                 clip=0.3, lr=0.01, min_lr=0.001, warmup=1, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, seed=1, masked=True),
    "untied": dict(blocks=2, width=20, heads=5, ffn=28, context=9, sequence=9, vocabulary=37, batch=3, tied=False, dropout=0.0, std=0.2,
                   clip=0.0, lr=0.003, min_lr=0.0, warmup=0, weight_decay=0.01, beta1=0.8, beta2=0.999, eps=1e-6, seed=2, masked=False),
    "short": dict(blocks=4, width=18, heads=3, ffn=40, context=16, sequence=11, vocabulary=23, batch=5, tied=False, dropout=0.3, std=0.1,
                  clip=0.5, lr=0.02, min_lr=0.002, warmup=2, weight_decay=0.0, beta1=0.9, beta2=0.99, eps=1e-8, seed=3, masked=True),
    "full": dict(blocks=1, width=6, heads=2, ffn=14, context=7, sequence=5, vocabulary=11, batch=4, tied=True, dropout=0.2, std=0.3,
                 clip=1000.0, lr=0.05, min_lr=0.01, warmup=0, weight_decay=0.2, beta1=0.7, beta2=0.9, eps=1e-8, seed=4, masked=True,
                 full=True),
    "rotary": dict(blocks=3, width=24, heads=3, ffn=52, context=14, sequence=13, vocabulary=29, batch=4, tied=True, dropout=0.1, std=0.15,
                   clip=0.4, lr=0.01, min_lr=0.001, warmup=1, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, seed=5, masked=True,
                   rope_base=10000.0),
    "rotary_full": dict(blocks=1, width=8, heads=2, ffn=13, context=6, sequence=6, vocabulary=11, batch=3, tied=False, dropout=0.0, std=0.3,
                        clip=0.0, lr=0.05, min_lr=0.01, warmup=0, weight_decay=0.2, beta1=0.7, beta2=0.9, eps=1e-8, seed=6, masked=True,
                        rope_base=30.0, full=True),
}

MASK64 = (1 << 64) - 1


def philox(key, low, high):
    """Philox4x32-10 (Salmon et al., SC'11): key and `high` are 64-bit integers, `low` a uint64 array; returns uint32 [len(low), 4]."""
    word = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    low = np.asarray(low, dtype=np.uint64)
    high = np.full_like(low, high)
    c0, c1, c2, c3 = low & word, low >> shift, high & word, high >> shift
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ np.uint64(k0), p1 & word, (p0 >> shift) ^ c3 ^ np.uint64(k1), p0 & word
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


class RandomStream:
    """The random numbers (seed, name, step, index) of runtime/core/philox.h; elements 0 .. n-1 at once."""

    def __init__(self, seed, name, step):
        fnv = 0xCBF29CE484222325
        for byte in name.encode():
            fnv = ((fnv ^ byte) * 0x100000001B3) & MASK64
        self.key, self.step = splitmix64(fnv ^ splitmix64(seed)), step

    def bits(self, n):
        return philox(self.key, np.arange((n + 3) // 4), self.step).reshape(-1)[:n]

    def uniform(self, n):
        return (self.bits(n).astype(np.float64) + 0.5) * 2.0**-32

    def normal(self, n):
        u = self.uniform(2 * n).reshape(n, 2)
        return np.sqrt(-2.0 * np.log(u[:, 0])) * np.cos(2.0 * math.pi * u[:, 1])


def check_philox():
    """The known answers that Random123 publishes for philox4x32-10: (key, counter low, counter high, output)."""
    pi_words = (0x299F31D0A4093822, 0x85A308D3243F6A88, 0x0370734413198A2E)
    for key, low, high, expected in [
        (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (MASK64, MASK64, MASK64, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (*pi_words, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]:
        actual = " ".join("%08x" % word for word in philox(key, np.array([low], dtype=np.uint64), high)[0])
        assert actual == expected, (actual, expected)


def parameter_shapes(c):
    C, ffn, V = c["width"], c["ffn"], c["vocabulary"]
    shapes = {"wte.weight": (V, C)}
    if "rope_base" not in c:
        shapes["wpe.weight"] = (c["context"], C)
    for i in range(c["blocks"]):
        block = {
            "ln_1.weight": (C,), "ln_1.bias": (C,), "attn.c_attn.weight": (C, 3 * C), "attn.c_attn.bias": (3 * C,),
            "attn.c_proj.weight": (C, C), "attn.c_proj.bias": (C,), "ln_2.weight": (C,), "ln_2.bias": (C,),
            "mlp.c_fc.weight": (C, ffn), "mlp.c_fc.bias": (ffn,), "mlp.c_proj.weight": (ffn, C), "mlp.c_proj.bias": (C,),
        }
        shapes.update({"h.%d.%s" % (i, name): shape for name, shape in block.items()})
    shapes.update({"ln_f.weight": (C,), "ln_f.bias": (C,)})
    if not c["tied"]:
        shapes["lm_head.weight"] = (V, C)
    return shapes


def is_matrix(name):
    return name.endswith(".weight") and ".ln_" not in "." + name


def initial_weights(c, dtype, shapes=parameter_shapes):
    weights = {}
    for name, shape in shapes(c).items():
        if is_matrix(name):
            std = c["std"] / math.sqrt(2 * c["blocks"]) if name.endswith("c_proj.weight") else c["std"]
            value = std * RandomStream(c["seed"], "init/" + name, 0).normal(int(np.prod(shape)))
        else:
            value = np.full(shape, 1.0 if name.endswith(".weight") else 0.0)
        weights[name] = torch.tensor(value.reshape(shape), dtype=dtype).requires_grad_()
    return weights


def batch_of(c, step):
    """tokens and labels [batch, sequence]: a stream of batch * (sequence + 1) tokens; a label is the next token, one in five masked."""
    B, T = c["batch"], c["sequence"]
    tokens = RandomStream(7, "golden/tokens", step).bits(B * (T + 1)).reshape(B, T + 1).astype(np.int64) % c["vocabulary"]
    labels = tokens[:, 1:].copy()
    if c["masked"]:
        labels[RandomStream(7, "golden/mask", step).bits(B * T).reshape(B, T) % 5 == 0] = -1
    return torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(labels)


def forward(c, w, step, tokens, labels):
    B, T = tokens.shape
    C, H, D = c["width"], c["heads"], c["width"] // c["heads"]
    dtype = w["wte.weight"].dtype

    def dropout(x, name):
        if c["dropout"] == 0.0:
            return x
        uniform = torch.from_numpy(RandomStream(c["seed"], "dropout/" + name, step).uniform(x.numel())).reshape(x.shape)
        return torch.where(uniform >= c["dropout"], x / (1.0 - c["dropout"]), torch.zeros((), dtype=dtype))

    def norm(x, name):
        return F.layer_norm(x, (C,), w[name + ".weight"], w[name + ".bias"], 1e-5)

    def linear(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def turned(x):
        """x [B, H, T, D] with rotary positions as in Hugging Face's Llama: x cos + rotate_half(x) sin, angles repeated for both halves."""
        if "rope_base" not in c:
            return x
        frequencies = 1.0 / c["rope_base"] ** (torch.arange(0, D, 2, dtype=torch.float64) / D)
        angles = torch.outer(torch.arange(T, dtype=torch.float64), frequencies)
        angles = torch.cat((angles, angles), dim=1)
        rotated_half = torch.cat((-x[..., D // 2:], x[..., :D // 2]), dim=3)
        return x * angles.cos().to(dtype) + rotated_half * angles.sin().to(dtype)

    causal = torch.ones(T, T, dtype=torch.bool).tril()
    x = w["wte.weight"][tokens]
    x = dropout(x if "rope_base" in c else x + w["wpe.weight"][:T], "embedding")
    for i in range(c["blocks"]):
        h = "h.%d." % i
        q, k, v = (part.reshape(B, T, H, D).transpose(1, 2) for part in linear(norm(x, h + "ln_1"), h + "attn.c_attn").split(C, dim=2))
        scores = (turned(q) @ turned(k).transpose(2, 3) / math.sqrt(D)).masked_fill(~causal, float("-inf"))
        mixed = dropout(scores.softmax(dim=3), h + "attn") @ v
        x = x + dropout(linear(mixed.transpose(1, 2).reshape(B, T, C), h + "attn.c_proj"), h + "attn_out")
        hidden = F.gelu(linear(norm(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh")
        x = x + dropout(linear(hidden, h + "mlp.c_proj"), h + "mlp_out")
    logits = norm(x, "ln_f") @ w["wte.weight" if c["tied"] else "lm_head.weight"].T
    return F.cross_entropy(logits.reshape(B * T, -1), labels.reshape(-1), ignore_index=-1)


def learning_rate(c, step):
    if step < c["warmup"]:
        return c["lr"] * (step + 1) / c["warmup"]
    progress = (step - c["warmup"]) / max(1, STEPS - c["warmup"])
    return c["min_lr"] + (c["lr"] - c["min_lr"]) * (1.0 + math.cos(math.pi * progress)) / 2.0


def summary(c, name, tensor):
    value = tensor.detach().to(torch.float64).numpy().reshape(-1)
    index = range(value.size)
    if not c.get("full"):
        index = sorted({0, value.size - 1, *(int(b) % value.size for b in RandomStream(7, "golden/sample/" + name, 0).bits(3))})
    return dict(shape=list(tensor.shape), sum=float(value.sum()), abs_sum=float(np.abs(value).sum()),
                norm=float(np.sqrt((value * value).sum())), index=list(index), value=[float(value[i]) for i in index])


def run(c, dtype, shapes=parameter_shapes, loss_of=forward):
    w = initial_weights(c, dtype, shapes)
    groups = [dict(params=[p for name, p in w.items() if is_matrix(name)], weight_decay=c["weight_decay"]),
              dict(params=[p for name, p in w.items() if not is_matrix(name)], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, betas=(c["beta1"], c["beta2"]), eps=c["eps"])
    result = dict(losses=[], grad_norms=[], gradients={})
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(c, step)
        optimizer.zero_grad()
        loss = loss_of(c, w, step, *batch_of(c, step))
        loss.backward()
        if step == 0:
            result["gradients"] = {name: summary(c, name, p.grad) for name, p in w.items()}
        limit = c["clip"] if c["clip"] > 0.0 else float("inf")  # infinity: measure the norm, clip nothing
        result["losses"].append(float(loss))
        result["grad_norms"].append(float(torch.nn.utils.clip_grad_norm_(list(w.values()), limit)))
        optimizer.step()
    if dtype == torch.float64:
        result["weights"] = {name: summary(c, name, p) for name, p in w.items()}
    return result


def to_json(value, indent=""):
    """Objects of objects one entry a line, everything below on that line; floats with the digits that give them back exactly."""
    if not isinstance(value, dict) or not any(isinstance(v, (dict, list)) for v in value.values()) or "shape" in value:
        return json.dumps(value)
    inner = indent + " "
    return "{\n" + ",\n".join("%s%s: %s" % (inner, json.dumps(k), to_json(v, inner)) for k, v in value.items()) + "\n" + indent + "}"


def main():
    check_philox()
    torch.set_num_threads(1)
    for name, c in CONFIGS.items():
        golden = dict(config=c, torch=torch.__version__, lr=[learning_rate(c, step) for step in range(STEPS)],
                      f64=run(c, torch.float64), f32=run(c, torch.float32))
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpt2_%s.json" % name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(to_json(golden) + "\n")
        print("%-28s %7d bytes  losses %s  norms %s" % (os.path.basename(path), os.path.getsize(path), golden["f64"]["losses"],
                                                        golden["f64"]["grad_norms"]))


if __name__ == "__main__":
    main()
