#!/usr/bin/env python3
"""PyTorch's figures for bench/gpu/run, on the first GPU: one tab-separated line each: kind, case, whose, figure, unit.

torch_peers.py kernels                        matmul, scaled_dot_product_attention, convolutions; the cases of gpu_bench by the same names
torch_peers.py step --layers=12 ... [--seconds=S]   a training step of GPT-2 through torch.compile with fused AdamW
torch_peers.py llama --layers=16 ... [--seconds=S]  the same of a Llama

Random data throughout: zeros would draw less power and run faster. Medians by CUDA's events. The step has f32 weights and moments and bf16
products by autocast, as ours; then, if half of the seconds are left, weights and moments in bf16 too, which is faster and learns less.
"""

import argparse
import math
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))
import gpt2_torch
import llama_torch

WARM_UPS, LAUNCHES = 3, 10
BF16, F32 = torch.bfloat16, torch.float32
MATMULS = (("square", 8192, 8192, 8192, BF16, False), ("square, f32", 4096, 4096, 4096, F32, False), ("square, tf32", 8192, 8192, 8192, F32, True),
           ("7B attention in", 8192, 12288, 4096, BF16, False))
# samples, heads, key heads, tokens, head dimension
ATTENTIONS = ((2, 16, 16, 8192, 128), (1, 16, 16, 16384, 128), (4, 16, 16, 4096, 128), (2, 32, 32, 8192, 64), (4, 32, 8, 4096, 128), (32, 12, 12, 1024, 64))
# Of ResNet-50, those of bench_conv_cuda.cc: images' side, channels, filters, side of a filter, stride.
CONVOLUTIONS = ((224, 3, 64, 7, 2), (56, 256, 64, 1, 1), (56, 64, 64, 3, 1), (56, 64, 256, 1, 1), (56, 128, 128, 3, 2), (28, 512, 128, 1, 1),
                (28, 128, 128, 3, 1), (28, 128, 512, 1, 1), (28, 256, 256, 3, 2), (14, 1024, 256, 1, 1), (14, 256, 256, 3, 1),
                (14, 256, 1024, 1, 1), (14, 512, 512, 3, 2), (7, 2048, 512, 1, 1), (7, 512, 512, 3, 1), (7, 512, 2048, 1, 1))
IMAGES = 128


def report(kind, case, whose, figure, unit):
    print("\t".join((kind, case, whose, "%.3f" % figure, unit)), flush=True)


def median_seconds(call):
    for _ in range(WARM_UPS):
        call()
    times = []
    for _ in range(LAUNCHES):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def matmuls():
    for name, m, n, k, dtype, tf32 in MATMULS:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype)
        out = torch.empty(m, n, dtype=dtype)
        seconds = median_seconds(lambda: torch.matmul(a, b, out=out))
        report("matmul", "%s %dx%dx%d" % (name, m, n, k), "PyTorch", 2e-12 * m * n * k / seconds, "TFLOP/s")


def attentions():
    for backend, whose in ((SDPBackend.CUDNN_ATTENTION, "cuDNN"), (SDPBackend.FLASH_ATTENTION, "PyTorch's flash")):
        for batch, heads, key_heads, tokens, dim in ATTENTIONS:
            for causal in (False, True):
                q = torch.randn(batch, heads, tokens, dim, dtype=BF16, requires_grad=True)
                k, v = (torch.randn(batch, key_heads, tokens, dim, dtype=BF16, requires_grad=True) for _ in range(2))
                dout = torch.randn(batch, heads, tokens, dim, dtype=BF16)
                shared = {"enable_gqa": True} if heads != key_heads else {}
                case = "B%d H%d G%d T%d d%d %s" % (batch, heads, key_heads, tokens, dim, "causal" if causal else "full")
                work = 4e-12 * batch * heads * tokens * tokens * dim / (2 if causal else 1)
                try:
                    with sdpa_kernel(backend):
                        with torch.no_grad():
                            forward = median_seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal, **shared))
                        report("attention", "forward " + case, whose, work / forward, "TFLOP/s")
                        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, **shared)
                    backward = median_seconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
                    report("attention", "backward " + case, whose, 2.5 * work / backward, "TFLOP/s")
                except RuntimeError as error:
                    print("not run: %s, attention %s: %s" % (whose, case, str(error).splitlines()[0]), flush=True)


def convolutions():
    torch.backends.cudnn.benchmark = True
    for side, channels, filters, size, stride in CONVOLUTIONS:
        last = torch.channels_last
        x = torch.randn(IMAGES, channels, side, side, dtype=BF16).contiguous(memory_format=last)
        weight = torch.randn(filters, channels, size, size, dtype=BF16).contiguous(memory_format=last)
        pad = size // 2
        with torch.no_grad():
            dout = torch.randn_like(F.conv2d(x, weight, None, stride, pad))
            work = 2e-12 * dout.numel() * channels * size * size
            case = "%dx%dx%dx%d %dx%dx%d stride %d" % (IMAGES, side, side, channels, size, size, filters, stride)
            report("convolution", "forward " + case, "cuDNN", work / median_seconds(lambda: F.conv2d(x, weight, None, stride, pad)), "TFLOP/s")
            for use, mask in (("input_gradient", [True, False, False]), ("weight_gradient", [False, True, False])):
                seconds = median_seconds(lambda: torch.ops.aten.convolution_backward(
                    dout, x, weight, None, (stride,) * 2, (pad,) * 2, (1, 1), False, (0, 0), 1, mask))
                report("convolution", use + " " + case, "cuDNN", work / seconds, "TFLOP/s")


def step(options, pure):
    model = llama_torch.Llama(options) if options.what == "llama" else gpt2_torch.Gpt(options)
    if pure:
        model = model.to(BF16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    tokens = torch.randint(options.vocabulary, (options.batch, options.sequence + 1))
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    forward = torch.compile(model)

    def one():
        with torch.autocast("cuda", dtype=BF16, enabled=not pure):
            loss = forward(inputs, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    name = {(12, 768): "124M", (48, 1600): "1.5B", (16, 2048): "Llama 1B"}.get((options.layers, options.hidden), "%d x %d" % (options.layers, options.hidden))
    report("step", name, "torch.compile, " + ("all bf16" if pure else "autocast"), 1e3 * median_seconds(one), "ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kernels", "step", "llama"))
    for name, value in (("layers", 12), ("heads", 12), ("hidden", 768), ("vocabulary", 50257), ("batch", 8), ("sequence", 1024),
                        ("kv_heads", 8), ("ffn", 8192)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--rope_base", type=float, default=500000.0)
    parser.add_argument("--norm_eps", type=float, default=1e-5)
    parser.add_argument("--seconds", type=float, default=math.inf, help="in all, the start of this program included")
    options = parser.parse_args()
    start = time.monotonic()
    torch.manual_seed(1)
    torch.set_default_device("cuda")
    print("PyTorch %s, CUDA %s, cuDNN %s" % (torch.__version__, torch.version.cuda, torch.backends.cudnn.version()), flush=True)
    if options.what == "kernels":
        matmuls()
        attentions()
        convolutions()
        return
    options.attention, options.loss = "sdpa", "logits"
    step(options, False)
    if time.monotonic() - start < options.seconds / 2:
        step(options, True)


if __name__ == "__main__":
    main()
