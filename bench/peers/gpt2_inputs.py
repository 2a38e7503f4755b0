"""The same random GPT-2 for every contestant of step.py: weights as safetensors (Hugging Face names) and in llm.c's layout, and tokens."""

import json
import struct
import sys

try:
    import numpy
except ModuleNotFoundError:
    sys.exit("%s has no NumPy, which makes the inputs: apt-get install python3-numpy, or take an interpreter that has it" % sys.executable)

# llm.c's CPU checkpoint: 256 i32 of header, then f32 tensors, all layers of one kind together, matrices [out, in].
LLMC_MAGIC, LLMC_VERSION, LLMC_HEADER = 20240326, 3, 256
LLMC_ORDER = ("ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias", "ln_2.weight",
              "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")


def initial_weights(layers, hidden, vocabulary, sequence, seed):
    """{name: f32 array}; matrices [in, out]. Biases and norms are random too, so that a model that forgets one has another loss."""
    random = numpy.random.default_rng(seed)

    def normal(shape, std=0.02, mean=0.0):
        return random.standard_normal(shape, dtype=numpy.float32) * numpy.float32(std) + numpy.float32(mean)

    weights = {"wte.weight": normal((vocabulary, hidden)), "wpe.weight": normal((sequence, hidden), 0.01)}
    for layer in range(layers):
        for name, shape in (("attn.c_attn", (hidden, 3 * hidden)), ("attn.c_proj", (hidden, hidden)), ("mlp.c_fc", (hidden, 4 * hidden)),
                            ("mlp.c_proj", (4 * hidden, hidden))):
            std = 0.02 / (2 * layers) ** 0.5 if name.endswith("c_proj") else 0.02
            weights["h.%d.%s.weight" % (layer, name)] = normal(shape, std)
            weights["h.%d.%s.bias" % (layer, name)] = normal(shape[1], 0.01)
        for name in ("ln_1", "ln_2"):
            weights["h.%d.%s.weight" % (layer, name)] = normal(hidden, 0.02, 1.0)
            weights["h.%d.%s.bias" % (layer, name)] = normal(hidden, 0.01)
    weights["ln_f.weight"], weights["ln_f.bias"] = normal(hidden, 0.02, 1.0), normal(hidden, 0.01)
    return weights


def write_safetensors(path, weights):
    header, offset = {}, 0
    for name, array in weights.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in weights.values():
            file.write(numpy.ascontiguousarray(array).tobytes())


def write_llmc(path, weights, layers, heads, hidden, vocabulary, sequence):
    padded = -(-vocabulary // 128) * 128
    header = numpy.zeros(LLMC_HEADER, numpy.int32)
    header[:8] = [LLMC_MAGIC, LLMC_VERSION, sequence, vocabulary, layers, heads, hidden, padded]
    with open(path, "wb") as file:
        file.write(header.tobytes())
        file.write(weights["wte.weight"].tobytes())
        file.write(numpy.zeros((padded - vocabulary, hidden), numpy.float32).tobytes())
        file.write(weights["wpe.weight"].tobytes())
        for name in LLMC_ORDER:
            for layer in range(layers):
                array = weights["h.%d.%s" % (layer, name)]
                file.write(numpy.ascontiguousarray(array.T).tobytes())
        file.write(weights["ln_f.weight"].tobytes())
        file.write(weights["ln_f.bias"].tobytes())


def write_tokens(path, vocabulary, count, seed):
    """u16, little-endian. Not uniform: a model that trains has something to learn."""
    random = numpy.random.default_rng(seed)
    spread = random.random(count) ** 2 * vocabulary
    numpy.minimum(spread, vocabulary - 1).astype("<u2").tofile(path)
