"""Llama in PyTorch, for a comparison with `lycia bench step`: RMS norms, rotary positions, grouped queries, SwiGLU, no biases, tied head.

Its products are those of Hugging Face's LlamaForCausalLM: q, k, v apart, gate and up apart.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class RmsNorm(nn.Module):
    def __init__(self, hidden, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(hidden)), eps

    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def turned(x, cosines, sines):
    """x [B, H, T, D]: features i and i + D/2 of token t turned by the angle of t and i."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cosines - b * sines, b * cosines + a * sines), -1)


class Block(nn.Module):
    def __init__(self, options):
        super().__init__()
        hidden, self.heads, self.kv_heads = options.hidden, options.heads, options.kv_heads
        kv = hidden // self.heads * self.kv_heads
        self.norm_1, self.norm_2 = RmsNorm(hidden, options.norm_eps), RmsNorm(hidden, options.norm_eps)
        self.q, self.o = (nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(hidden, kv, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(hidden, options.ffn, bias=False) for _ in range(2))
        self.down = nn.Linear(options.ffn, hidden, bias=False)

    def forward(self, x, cosines, sines):
        batch, sequence, hidden = x.shape
        normed = self.norm_1(x)
        q, k, v = (part(normed).view(batch, sequence, -1, hidden // self.heads).transpose(1, 2) for part in (self.q, self.k, self.v))
        shared = {"enable_gqa": True} if self.heads != self.kv_heads else {}
        q, k = turned(q, cosines.to(q.dtype), sines.to(q.dtype)), turned(k, cosines.to(k.dtype), sines.to(k.dtype))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, **shared)
        x = x + self.o(mixed.transpose(1, 2).reshape(batch, sequence, hidden))
        normed = self.norm_2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Llama(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.embedding = nn.Embedding(options.vocabulary, options.hidden)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = RmsNorm(options.hidden, options.norm_eps)
        dim = options.hidden // options.heads
        frequencies = options.rope_base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles = torch.outer(torch.arange(options.sequence, dtype=torch.float64), frequencies)
        self.register_buffer("cosines", angles.cos().float(), persistent=False)
        self.register_buffer("sines", angles.sin().float(), persistent=False)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0, 0.02)

    def forward(self, tokens, labels):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosines, self.sines)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())
