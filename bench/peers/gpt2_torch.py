#!/usr/bin/env python3
"""GPT-2 training steps in PyTorch on the CPU, for a comparison with `lycia bench step`; step.py runs it. Any PyTorch since 1.13; no NumPy.

Reads weights (safetensors, Hugging Face names) and tokens (u16, little-endian; step s takes batch * (sequence + 1) of them from s * batch *
(sequence + 1), labels are the tokens after) and prints one JSON object: versions, milliseconds of every step, losses, peak memory.
"""

import argparse
import contextlib
import json
import math
import mmap
import struct
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def read_safetensors(path):
    """{name: f32 tensor} of a safetensors file."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    (header_bytes,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8:8 + header_bytes]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            sys.exit("gpt2_torch.py: %s: tensor %s is %s, not F32" % (path, name, entry["dtype"]))
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=8 + header_bytes + begin)
        tensors[name] = flat.view(entry["shape"]).clone()
    return tensors


class Block(nn.Module):
    def __init__(self, options):
        super().__init__()
        hidden = options.hidden
        self.heads, self.sdpa = options.heads, options.attention == "sdpa"
        self.ln_1, self.ln_2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.c_attn, self.attn_proj = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.c_fc, self.mlp_proj = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def attend(self, q, k, v, future):
        if self.sdpa:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = (q @ k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]))
        return F.softmax(scores.masked_fill(future, float("-inf")), -1) @ v

    def forward(self, x, future):
        batch, sequence, hidden = x.shape
        q, k, v = (part.view(batch, sequence, self.heads, hidden // self.heads).transpose(1, 2)
                   for part in self.c_attn(self.ln_1(x)).split(hidden, 2))
        heads = self.attend(q, k, v, future)
        x = x + self.attn_proj(heads.transpose(1, 2).reshape(batch, sequence, hidden))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    """GPT-2 without dropout: learned positions, norms first, the head is the token embedding."""

    def __init__(self, options):
        super().__init__()
        self.wte = nn.Embedding(options.vocabulary, options.hidden)
        self.wpe = nn.Embedding(options.sequence, options.hidden)
        self.h = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.ln_f = nn.LayerNorm(options.hidden)
        self.loss = options.loss

    def forward(self, tokens, labels):
        sequence = tokens.shape[1]
        x = self.wte(tokens) + self.wpe(torch.arange(sequence))
        future = torch.ones(sequence, sequence, dtype=torch.bool).triu(1)
        for block in self.h:
            x = block(x, future)
        x = self.ln_f(x)
        if self.loss == "fused":
            return F.linear_cross_entropy(x.flatten(0, 1), self.wte.weight, labels.flatten())
        logits = F.linear(x, self.wte.weight)
        if self.loss == "f32":
            logits = logits.float()
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def set_weights(model, weights):
    """The file's matrices are [in, out], those of nn.Linear [out, in]."""
    places = {"attn.c_attn": "c_attn", "attn.c_proj": "attn_proj", "mlp.c_fc": "c_fc", "mlp.c_proj": "mlp_proj", "ln_1": "ln_1", "ln_2": "ln_2"}
    with torch.no_grad():
        model.wte.weight.copy_(weights["wte.weight"])
        model.wpe.weight.copy_(weights["wpe.weight"])
        model.ln_f.weight.copy_(weights["ln_f.weight"])
        model.ln_f.bias.copy_(weights["ln_f.bias"])
        for index, block in enumerate(model.h):
            for name, place in places.items():
                module = getattr(block, place)
                weight = weights["h.%d.%s.weight" % (index, name)]
                module.weight.copy_(weight.t() if weight.dim() == 2 else weight)
                module.bias.copy_(weights["h.%d.%s.bias" % (index, name)])


def processor_capability():
    if hasattr(torch.backends, "cpu"):
        return torch.backends.cpu.get_cpu_capability()
    lines = [line for line in torch.__config__.show().splitlines() if "CPU capability" in line]
    return lines[0].split(":")[-1].strip() if lines else "unknown"


def forget_peak_memory():
    """The set-up does not count, as in `lycia bench step`."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_memory_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def optimizer_of(model, options):
    extra = {} if options.optimizer == "plain" else {options.optimizer: True}
    return torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(options.beta1, options.beta2), eps=1e-8,
                             weight_decay=options.weight_decay, **extra)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("layers", 12), ("heads", 12), ("hidden", 768), ("vocabulary", 50257), ("batch", 4), ("sequence", 256),
                        ("threads", 2), ("steps", 10)):
        parser.add_argument("--" + name, type=int, default=value)
    for name, value in (("lr", 1e-4), ("beta1", 0.9), ("beta2", 0.999), ("weight-decay", 0.0), ("clip", 0.0)):
        parser.add_argument("--" + name, type=float, default=value)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--precision", choices=("f32", "autocast", "bf16"), default="f32", help="autocast: f32 weights, bf16 products; bf16: all of it")
    parser.add_argument("--attention", choices=("manual", "sdpa"), default="manual")
    parser.add_argument("--optimizer", choices=("plain", "foreach", "fused"), default="plain")
    parser.add_argument("--loss", choices=("f32", "logits", "fused"), default="f32", help="logits: in their own type; fused: linear_cross_entropy")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true", help="prints where the last step's time goes to standard error")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = Gpt(options)
    set_weights(model, read_safetensors(options.weights))
    if options.precision == "bf16":
        model = model.to(torch.bfloat16)
    optimizer = optimizer_of(model, options)
    per_step = options.batch * (options.sequence + 1)
    with open(options.tokens, "rb") as file:
        data = bytearray(file.read(2 * per_step * options.steps))
    if len(data) < 2 * per_step * options.steps:
        sys.exit("gpt2_torch.py: %s has %d tokens, %d steps need %d" % (options.tokens, len(data) // 2, options.steps, per_step * options.steps))
    tokens = torch.frombuffer(data, dtype=torch.int16).to(torch.int64).bitwise_and(0xFFFF).view(options.steps, options.batch, options.sequence + 1)
    forward = torch.compile(model) if options.compile else model
    precision = torch.autocast("cpu", dtype=torch.bfloat16) if options.precision == "autocast" else contextlib.nullcontext()

    def step(index):
        inputs, labels = tokens[index, :, :-1].contiguous(), tokens[index, :, 1:].contiguous()
        start = time.perf_counter()
        with precision:
            loss = forward(inputs, labels)
        optimizer.zero_grad(set_to_none=True)
        middle = time.perf_counter()
        loss.backward()
        if options.clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        backward = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        return loss.item(), 1e3 * (end - start), 1e3 * (middle - start), 1e3 * (backward - middle), 1e3 * (end - backward)

    results = []
    for index in range(options.steps):
        if index == min(2, options.steps - 1):
            forget_peak_memory()
        results.append(step(index))
    print(json.dumps({
        "version": torch.__version__, "isa": processor_capability(), "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()), "loss": [r[0] for r in results], "step_ms": [r[1] for r in results],
        "forward_ms": [r[2] for r in results], "backward_ms": [r[3] for r in results], "optimizer_ms": [r[4] for r in results],
        "peak_rss_bytes": peak_memory_bytes()}))
    if options.profile:
        with torch.profiler.profile() as profile:
            step(options.steps - 1)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=20), file=sys.stderr)


if __name__ == "__main__":
    main()
