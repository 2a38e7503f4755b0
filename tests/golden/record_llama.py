#!/usr/bin/env python3
"""Records what PyTorch computes for the Llama of docs/numerics.md: three AdamW steps of small models, into llama_*.json beside this file.

    OMP_NUM_THREADS=1 python3 tests/golden/record_llama.py          (torch, numpy, transformers 4.38)

Files are like record_gpt2.py's. The formulas are written out here, because Hugging Face's LlamaForCausalLM computes norms and angles in f32
whatever its type; it is held against them in f32, and llama_full.json has besides
  hugging_face   tensors: the initial weights by Hugging Face's names {shape, value}, in f32; tokens [batch, sequence] of step 0; what its
                 model makes of them: logits [batch, sequence, vocabulary], and greedy, tokens that follow tokens[0].
"""

import math
import os

import numpy as np
import torch
import torch.nn.functional as F
import transformers

import record_gpt2 as gpt2

CONFIGS = {
    "grouped": dict(blocks=3, width=24, heads=6, kv_heads=2, ffn=20, context=14, sequence=13, vocabulary=29, batch=4, tied=False, dropout=0.1,
                    std=0.15, clip=0.3, lr=0.01, min_lr=0.001, warmup=1, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, seed=21, masked=True,
                    rope_base=10000.0, norm_eps=1e-5),
    "tied": dict(blocks=2, width=20, heads=5, kv_heads=5, ffn=33, context=9, sequence=9, vocabulary=37, batch=3, tied=True, dropout=0.0, std=0.2,
                 clip=0.0, lr=0.003, min_lr=0.0, warmup=0, weight_decay=0.01, beta1=0.8, beta2=0.999, eps=1e-6, seed=22, masked=False,
                 rope_base=500.0, norm_eps=1e-6),
    "full": dict(blocks=2, width=8, heads=2, kv_heads=1, ffn=7, context=6, sequence=6, vocabulary=11, batch=3, tied=False, dropout=0.0, std=0.4,
                 clip=0.0, lr=0.05, min_lr=0.01, warmup=0, weight_decay=0.2, beta1=0.7, beta2=0.9, eps=1e-8, seed=23, masked=True, rope_base=30.0,
                 norm_eps=0.01, full=True),
}
GREEDY = 8  # tokens


def parameter_shapes(c):
    C, ffn, V = c["width"], c["ffn"], c["vocabulary"]
    qkv = (c["heads"] + 2 * c["kv_heads"]) * (C // c["heads"])
    shapes = {"wte.weight": (V, C)}
    for i in range(c["blocks"]):
        block = {"ln_1.weight": (C,), "attn.c_attn.weight": (C, qkv), "attn.c_proj.weight": (C, C), "ln_2.weight": (C,),
                 "mlp.c_fc.weight": (C, 2 * ffn), "mlp.c_proj.weight": (ffn, C)}
        shapes.update({"h.%d.%s" % (i, name): shape for name, shape in block.items()})
    shapes["ln_f.weight"] = (C,)
    if not c["tied"]:
        shapes["lm_head.weight"] = (V, C)
    return shapes


def logits_of(c, w, step, tokens):
    B, T = tokens.shape
    C, H, G = c["width"], c["heads"], c["kv_heads"]
    D, dtype = C // H, w["wte.weight"].dtype

    def dropout(x, name):
        if c["dropout"] == 0.0:
            return x
        uniform = torch.from_numpy(gpt2.RandomStream(c["seed"], "dropout/" + name, step).uniform(x.numel())).reshape(x.shape)
        return torch.where(uniform >= c["dropout"], x / (1.0 - c["dropout"]), torch.zeros((), dtype=dtype))

    def norm(x, name):
        return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + c["norm_eps"]) * w[name + ".weight"]

    frequencies = 1.0 / c["rope_base"] ** (torch.arange(0, D, 2, dtype=torch.float64) / D)
    angles = torch.outer(torch.arange(T, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=1)

    def turned(x):
        rotated_half = torch.cat((-x[..., D // 2:], x[..., :D // 2]), dim=3)
        return x * angles.cos().to(dtype) + rotated_half * angles.sin().to(dtype)

    causal = torch.ones(T, T, dtype=torch.bool).tril()
    x = dropout(w["wte.weight"][tokens], "embedding")
    for i in range(c["blocks"]):
        h = "h.%d." % i
        q, k, v = (norm(x, h + "ln_1") @ w[h + "attn.c_attn.weight"]).split([H * D, G * D, G * D], dim=2)
        q, k, v = (part.reshape(B, T, -1, D).transpose(1, 2) for part in (q, k, v))
        k, v = turned(k).repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)
        scores = (turned(q) @ k.transpose(2, 3) / math.sqrt(D)).masked_fill(~causal, float("-inf"))
        mixed = (dropout(scores.softmax(dim=3), h + "attn") @ v).transpose(1, 2).reshape(B, T, C)
        x = x + dropout(mixed @ w[h + "attn.c_proj.weight"], h + "attn_out")
        gate, up = (norm(x, h + "ln_2") @ w[h + "mlp.c_fc.weight"]).split(c["ffn"], dim=2)
        x = x + dropout((F.silu(gate) * up) @ w[h + "mlp.c_proj.weight"], h + "mlp_out")
    return norm(x, "ln_f") @ w["wte.weight" if c["tied"] else "lm_head.weight"].T


def loss_of(c, w, step, tokens, labels):
    logits = logits_of(c, w, step, tokens)
    return F.cross_entropy(logits.reshape(-1, c["vocabulary"]), labels.reshape(-1), ignore_index=-1)


def hugging_face(c, w):
    """Its model with these weights."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=c["vocabulary"], hidden_size=c["width"], intermediate_size=c["ffn"], num_hidden_layers=c["blocks"],
        num_attention_heads=c["heads"], num_key_value_heads=c["kv_heads"], max_position_embeddings=c["context"], rms_norm_eps=c["norm_eps"],
        rope_theta=c["rope_base"], tie_word_embeddings=c["tied"], attention_bias=False, bos_token_id=None, eos_token_id=None))
    D = c["width"] // c["heads"]
    q, kv = c["heads"] * D, c["kv_heads"] * D
    state = {"model.embed_tokens.weight": w["wte.weight"], "model.norm.weight": w["ln_f.weight"],
             "lm_head.weight": w["wte.weight" if c["tied"] else "lm_head.weight"]}
    for i in range(c["blocks"]):
        ours, theirs = "h.%d." % i, "model.layers.%d." % i
        qkv = w[ours + "attn.c_attn.weight"].T
        fc = w[ours + "mlp.c_fc.weight"].T
        state.update({
            theirs + "input_layernorm.weight": w[ours + "ln_1.weight"], theirs + "post_attention_layernorm.weight": w[ours + "ln_2.weight"],
            theirs + "self_attn.q_proj.weight": qkv[:q], theirs + "self_attn.k_proj.weight": qkv[q:q + kv],
            theirs + "self_attn.v_proj.weight": qkv[q + kv:], theirs + "self_attn.o_proj.weight": w[ours + "attn.c_proj.weight"].T,
            theirs + "mlp.gate_proj.weight": fc[:c["ffn"]], theirs + "mlp.up_proj.weight": fc[c["ffn"]:],
            theirs + "mlp.down_proj.weight": w[ours + "mlp.c_proj.weight"].T})
    with torch.no_grad():
        model.load_state_dict({name: value.detach().clone() for name, value in state.items()}, strict=True)
    return model.eval()


def record_hugging_face(c):
    """Its logits, after a look that they are those of the formulas above."""
    w = gpt2.initial_weights(c, torch.float32, parameter_shapes)
    tokens = gpt2.batch_of(c, 0)[0]
    model = hugging_face(c, w)
    with torch.no_grad():
        logits = model(tokens).logits
        ours = logits_of(dict(c, dropout=0.0), {name: value.detach().double() for name, value in w.items()}, 0, tokens)
        greedy = tokens[:1]
        for _ in range(GREEDY):
            greedy = torch.cat((greedy, model(greedy[:, -c["context"]:]).logits[:, -1:].argmax(dim=2)), dim=1)
    error = float((logits.double() - ours).abs().max() / ours.abs().max())
    assert error < 2e-6, error
    if not c.get("full"):
        return {}
    tensors = {name: dict(shape=list(value.shape), value=[float(np.format_float_positional(x, unique=True)) for x in value.numpy().reshape(-1)])
               for name, value in model.state_dict().items()}
    return dict(hugging_face=dict(tensors=tensors, tokens=tokens.tolist(), logits=[float(x) for x in logits.reshape(-1)],
                                  greedy=greedy[0, tokens.shape[1]:].tolist()))


def main():
    gpt2.check_philox()
    torch.set_num_threads(1)
    for name, c in CONFIGS.items():
        golden = dict(config=c, torch=torch.__version__, lr=[gpt2.learning_rate(c, step) for step in range(gpt2.STEPS)],
                      f64=gpt2.run(c, torch.float64, parameter_shapes, loss_of), f32=gpt2.run(c, torch.float32, parameter_shapes, loss_of),
                      **record_hugging_face(c))
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "llama_%s.json" % name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(gpt2.to_json(golden) + "\n")
        print("%-28s %7d bytes  losses %s  norms %s" % (os.path.basename(path), os.path.getsize(path), golden["f64"]["losses"],
                                                        golden["f64"]["grad_norms"]))


if __name__ == "__main__":
    main()
