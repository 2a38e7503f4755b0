// Llama in Hugging Face's files: its tensors' names and shapes beside ours (docs/llama.md), and its config.json.
#ifndef LYCIA_LAUNCH_LLAMA_FILES_H_
#define LYCIA_LAUNCH_LLAMA_FILES_H_

#include <string>
#include <string_view>
#include <vector>

#include "models/gpt.h"
#include "runtime/core/tensor.h"

namespace lycia {

// A tensor of a file. Matrices of blocks are stored [out, in] there, [in, out] here, and the three of QKV and the two of the gated MLP are
// one here: then it is columns [first, first + shape[0]) of ours, transposed.
struct LlamaTensor {
  std::string name;  // "model.layers.0.self_attn.q_proj.weight"
  Shape shape;
  bool transposed = false;  // else the whole of ours, as it is
  std::int64_t first = 0;
};

// What a file calls the parts of our tensor `name`, in the order of columns. A name that no Llama has is a broken promise.
std::vector<LlamaTensor> LlamaTensorsOf(const GptConfig& model, const std::string& name);

// What LlamaForCausalLM needs beside the weights.
std::string LlamaConfigJson(const GptConfig& model);

// InvalidArgument where that file says what the configured model is not and what no shape would tell: heads, the rotary base and its
// scaling, the norms' eps, a bias, another activation. Keys that it lacks mean what they mean to Hugging Face. `where` opens messages.
Status CheckLlamaConfig(std::string_view json, const GptConfig& model, const std::string& where);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_LLAMA_FILES_H_
