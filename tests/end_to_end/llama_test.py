#!/usr/bin/env -S python3 -B
"""model.kind = "llama" through `lycia train` on several layouts, its files with Hugging Face's names, and back. Four heads on two key/value heads."""

import array
import json
import os
import random
import struct

import harness

LLAMA = {"model__kind": "llama", "model__heads": 4, "model__kv_heads": 2, "model__ffn": 44, "model__rope_base": 500, "model__norm_eps": 0.01,
         "model__dropout": 0, "train__steps": 6, "train__eval_batches": 4}
ONE_RANK = {"parallel__schedule": "1f1b", "parallel__stages": 1}
STILL = {"train__steps": 1, "train__lr": 0, "train__min_lr": 0, "train__warmup_steps": 0}
C, F, V, KV = 32, 44, 256, 16


def shapes(layers=2):
    """A tied Llama's tensors as Hugging Face stores them."""
    result = {"model.embed_tokens.weight": [V, C], "model.norm.weight": [C]}
    for i in range(layers):
        layer = "model.layers.%d." % i
        result.update({layer + "input_layernorm.weight": [C], layer + "post_attention_layernorm.weight": [C],
                       layer + "self_attn.q_proj.weight": [C, C], layer + "self_attn.k_proj.weight": [KV, C],
                       layer + "self_attn.v_proj.weight": [KV, C], layer + "self_attn.o_proj.weight": [C, C],
                       layer + "mlp.gate_proj.weight": [F, C], layer + "mlp.up_proj.weight": [F, C], layer + "mlp.down_proj.weight": [C, F]})
    return result


def tensors(raw):
    """{name: (shape, bytes)} of a safetensors file."""
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    return {name: (e["shape"], raw[start + e["data_offsets"][0]:start + e["data_offsets"][1]]) for name, e in header.items()}


def random_file(path):
    """Random F32 tensors of that model; returns what tensors() would."""
    rng = random.Random(5)
    header, data, content = {}, b"", {}
    for name, shape in shapes().items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        values = array.array("f", (rng.gauss(0, 0.1) for _ in range(count))).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
        content[name] = (shape, values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    return content


class LlamaTest(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.out = harness.folder("llama")
        cls.job = harness.train(harness.model(**ONE_RANK, **LLAMA, train__precision="f64"), cls.out, ranks=1)

    def refused(self, *parts, **changes):
        job = harness.start(harness.model(**{**ONE_RANK, **LLAMA, **changes}), harness.folder("refused"), ranks=1).wait()
        self.assertEqual(job.code, 2, job.describe())
        self.assert_one_line(job.err, "lycia train: ", *parts)

    def test_learns_and_says_what_it_wrote(self):
        steps = [line["loss"] for line in harness.metrics(self.out) if "loss" in line]
        self.assertLess(steps[-1], steps[0] - 0.01)
        self.assertIn("model: llama", self.job.err)
        self.assertIn("weights (Hugging Face Llama names)", self.job.out)
        self.assertEqual({name: shape for name, (shape, _) in tensors(harness.weights(self.out)).items()}, shapes())
        config = json.loads(harness.read(os.path.join(self.out, "config.json")))
        for key, value in (("model_type", "llama"), ("num_key_value_heads", 2), ("intermediate_size", F), ("rope_theta", 500), ("rms_norm_eps", 0.01),
                           ("tie_word_embeddings", True), ("vocab_size", V)):
            self.assertEqual(config[key], value, key)
        self.assertIn('position = "rotary"', harness.read(os.path.join(self.out, "config.toml")).decode())

    def test_other_layouts_agree(self):
        for layout, ranks in (({"parallel__schedule": "chimera", "parallel__stages": 4}, 4), ({"parallel__data": 2, "parallel__stages": 2}, 4),
                              ({"parallel__stages": 1, "parallel__x": 2, "parallel__y": 2, "train__micro_batch": 2}, 4)):
            with self.subTest(layout=layout):
                out = harness.folder("layout")
                harness.train(harness.model(**{"parallel__schedule": "1f1b", "train__precision": "f64", **LLAMA, **layout}), out, ranks=ranks)
                for line, expected in zip(harness.numbers(out), harness.numbers(self.out), strict=True):
                    for key, value in expected.items():
                        self.assertAlmostEqual(line[key], value, delta=2e-8 * max(1, abs(value)), msg=key)

    def test_a_file_comes_back_bit_for_bit(self):
        file = os.path.join(harness.work, "hugging_face.safetensors")
        content = random_file(file)
        for layout, ranks in ((ONE_RANK, 1), ({"parallel__schedule": "1f1b", "parallel__stages": 2, "parallel__y": 2, "parallel__x": 2}, 8)):
            with self.subTest(layout=layout):
                out = harness.folder("again")
                harness.train(harness.model(**{**LLAMA, **STILL, **layout}, init__from=file), out, ranks=ranks)
                self.assertTrue(tensors(harness.weights(out)) == content)
        job = harness.call("generate", "--run=" + out, "--prompt=the ", "--tokens=20")
        self.assertEqual((job.code, job.err), (0, ""))
        self.assertEqual(len(harness.read(job.out_path)), len("the ") + 20 + 1)

    def test_resumes_its_own_kind_only(self):
        out = harness.folder("resumed")
        harness.train(harness.model(**ONE_RANK, **{**LLAMA, "train__precision": "f64", "train__steps": 4}), out, ranks=1)
        for changes, part in (({"model__norm_eps": 1e-5}, "norm_eps"), ({"model__kind": "gpt", "model__position": "rotary"}, "resume")):
            job = harness.start(harness.model(**ONE_RANK, **{**LLAMA, "train__precision": "f64", **changes}), out, ranks=1, words=("--resume",)).wait()
            self.assertEqual(job.code, 2, job.describe())
            self.assert_one_line(job.err, part)
        harness.train(harness.model(**{"parallel__schedule": "1f1b", "parallel__stages": 2, "train__precision": "f64", **LLAMA}), out, ranks=2,
                      words=("--resume",))
        self.assertEqual(harness.metrics(out)[-1]["step"], 6)

    def test_what_does_not_fit_is_refused(self):
        exported = os.path.join(self.out, "model.safetensors")
        self.refused("rotary positions", 'kind = "gpt"', model__position="learned")
        self.refused("model.kv_heads = 3", model__kv_heads=3)
        self.refused("config.json", "num_attention_heads = 4", "set model.heads = 4", model__heads=8, init__from=exported)
        self.refused("rope_theta = 500", model__rope_base=10000, init__from=exported)
        self.refused("no tensor h.0.", model__kind="gpt", model__kv_heads=0, init__from=exported)


if __name__ == "__main__":
    harness.main()
