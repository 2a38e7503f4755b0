// Language models as a list of layers: embedding, then an attention block and an MLP block for each of L, then the head with the loss.
// GPT-2 (Radford et al. 2019) and Llama (Touvron et al. 2023), which differ in norm, activation, biases and positions. Names, shapes,
// initial values and random keys are those of docs/numerics.md.
#ifndef LYCIA_MODELS_GPT_H_
#define LYCIA_MODELS_GPT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/layer/layer.h"

namespace lycia {

// How a token's position enters: a table added to the embedding, or a rotation of queries and keys in every attention block
// (kernels/rotary).
enum class PositionEncoding : std::uint8_t { kLearned, kRotary };

// kGpt2: layer norm, GELU, biases. kLlama: RMS norm (Zhang & Sennrich 2019), SwiGLU (Shazeer 2020), no biases, rotary positions.
enum class GptFamily : std::uint8_t { kGpt2, kLlama };

struct GptConfig {
  GptFamily family = GptFamily::kGpt2;
  std::int64_t layers = 4;     // L, blocks
  std::int64_t heads = 4;      // H; divides hidden
  std::int64_t kv_heads = 0;   // G, key/value heads; divides heads; 0: as many as heads
  std::int64_t hidden = 128;   // C
  std::int64_t context = 128;  // T, tokens of a training sequence; rows of the position embedding, where it is learned
  std::int64_t vocab = 256;    // V
  std::int64_t ffn = 512;      // F, of the activation's output
  bool tied = true;            // the head's weight is wte.weight
  double dropout = 0;
  double init_std = 0.02;
  double norm_eps = 1e-5;
  PositionEncoding position = PositionEncoding::kLearned;
  double rope_base = 10000;  // of rotary angles: pair i of D / 2 turns by position rope_base^(-2 i / D)
  ReuseOptions reuse;        // of QKV and MLP products

  bool rms_norm() const { return family == GptFamily::kLlama; }       // else layer norm
  bool gated() const { return family == GptFamily::kLlama; }          // SwiGLU, else GELU
  bool biases() const { return family == GptFamily::kGpt2; }          // of the products
  std::int64_t ffn_width() const { return gated() ? 2 * ffn : ffn; }  // of the first MLP product: gate and up side by side
  bool rotary() const { return position == PositionEncoding::kRotary; }
  std::int64_t key_heads() const { return kv_heads == 0 ? heads : kv_heads; }
  std::int64_t head_dim() const { return hidden / heads; }
  std::int64_t qkv_width() const { return (heads + 2 * key_heads()) * head_dim(); }  // 3 C where G = H
};

// InvalidArgument with the numbers for sizes that do not fit.
Status Validate(const GptConfig& config);

// 2 L + 2 fresh layers: embedding, h.0.attn, h.0.mlp, ..., head. The input of the first is tokens [samples, T] i32.
std::vector<std::unique_ptr<Layer>> GptLayers(const GptConfig& config);

}  // namespace lycia

#endif  // LYCIA_MODELS_GPT_H_
