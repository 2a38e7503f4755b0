#include "launch/llama_files.h"

#include <cmath>

#include "absl/strings/str_format.h"
#include "runtime/core/check.h"
#include "runtime/io/json.h"

namespace lycia {
namespace {

constexpr double kHuggingFaceEps = 1e-6, kHuggingFaceBase = 10000;  // of a config.json that does not say

// "h.12.attn.c_attn.weight" -> "12", "attn.c_attn.weight".
struct BlockName {
  std::string_view block, rest;
};
BlockName SplitBlock(std::string_view name) {
  const std::size_t dot = name.find('.', 2);
  LYCIA_CHECK(name.starts_with("h.") && dot != std::string_view::npos) << name << " ";
  return {name.substr(2, dot - 2), name.substr(dot + 1)};
}

Status Differs(const std::string& where, const char* key, const std::string& file, const std::string& model, const std::string& use) {
  return InvalidArgument(where, " has ", key, " = ", file, ", the configured model ", model, "; ", use);
}

// A whole number of the file, where it must be `mine`.
Status CheckInteger(const JsonValue& root, const std::string& where, const char* key, std::int64_t mine, const char* our_key) {
  const JsonValue* value = root.Find(key);
  if (value == nullptr || value->kind == JsonValue::Kind::kNull) return OkStatus();
  if (value->kind != JsonValue::Kind::kInteger) return InvalidArgument(where, ": ", key, " is no integer");
  if (value->integer == mine) return OkStatus();
  return Differs(where, key, StrCat(value->integer), StrCat(mine), StrCat("set ", our_key, " = ", value->integer));
}

Status CheckReal(const JsonValue& root, const std::string& where, const char* key, double otherwise, double mine, const char* our_key) {
  double stated = otherwise;
  if (const JsonValue* value = root.Find(key); value != nullptr && value->kind != JsonValue::Kind::kNull) {
    if (value->kind != JsonValue::Kind::kReal && value->kind != JsonValue::Kind::kInteger) {
      return InvalidArgument(where, ": ", key, " is no number");
    }
    stated = value->real;
  }
  if (std::abs(stated - mine) <= 1e-9 * std::abs(mine)) return OkStatus();
  return Differs(where, key, absl::StrFormat("%g", stated), absl::StrFormat("%g", mine), absl::StrFormat("set %s = %g", our_key, stated));
}

// The base of the rotary angles and nothing else: keys of the file's own, or, from transformers 5 on, of an object of it.
Status CheckRope(const JsonValue& root, const std::string& where, const GptConfig& model) {
  const JsonValue *scaling = root.Find("rope_scaling"), *inner = root.Find("rope_parameters");
  const JsonValue* const type = inner == nullptr ? nullptr : inner->Find("rope_type");
  const bool typed = type != nullptr && type->text != "default";
  if (typed || (scaling != nullptr && scaling->kind != JsonValue::Kind::kNull)) {
    return InvalidArgument(where, " has ", typed ? "a rope_type other than default" : "rope_scaling",
                           ", which changes the rotary angles and is not supported; use weights without it");
  }
  const bool moved = inner != nullptr && inner->Find("rope_theta") != nullptr;
  return CheckReal(moved ? *inner : root, where, "rope_theta", kHuggingFaceBase, model.rope_base, "model.rope_base");
}

bool IsTrue(const JsonValue& root, const char* key) {
  const JsonValue* value = root.Find(key);
  return value != nullptr && value->kind == JsonValue::Kind::kBool && value->boolean;
}

}  // namespace

std::vector<LlamaTensor> LlamaTensorsOf(const GptConfig& model, const std::string& name) {
  const std::int64_t C = model.hidden, V = model.vocab, F = model.ffn, kv = model.key_heads() * model.head_dim();
  if (name == "wte.weight") return {{.name = "model.embed_tokens.weight", .shape = {V, C}}};
  if (name == "lm_head.weight") return {{.name = name, .shape = {V, C}}};
  if (name == "ln_f.weight") return {{.name = "model.norm.weight", .shape = {C}}};
  const auto [block, rest] = SplitBlock(name);
  const std::string layer = StrCat("model.layers.", block, ".");
  if (rest == "ln_1.weight") return {{.name = layer + "input_layernorm.weight", .shape = {C}}};
  if (rest == "ln_2.weight") return {{.name = layer + "post_attention_layernorm.weight", .shape = {C}}};
  if (rest == "attn.c_attn.weight") {
    return {{.name = layer + "self_attn.q_proj.weight", .shape = {C, C}, .transposed = true},
            {.name = layer + "self_attn.k_proj.weight", .shape = {kv, C}, .transposed = true, .first = C},
            {.name = layer + "self_attn.v_proj.weight", .shape = {kv, C}, .transposed = true, .first = C + kv}};
  }
  if (rest == "attn.c_proj.weight") return {{.name = layer + "self_attn.o_proj.weight", .shape = {C, C}, .transposed = true}};
  if (rest == "mlp.c_fc.weight") {
    return {{.name = layer + "mlp.gate_proj.weight", .shape = {F, C}, .transposed = true},
            {.name = layer + "mlp.up_proj.weight", .shape = {F, C}, .transposed = true, .first = F}};
  }
  LYCIA_CHECK(rest == "mlp.c_proj.weight") << name << " ";
  return {{.name = layer + "mlp.down_proj.weight", .shape = {C, F}, .transposed = true}};
}

std::string LlamaConfigJson(const GptConfig& model) {
  return absl::StrFormat(
      "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\",\n  \"hidden_act\": \"silu\",\n"
      "  \"hidden_size\": %d,\n  \"num_hidden_layers\": %d,\n  \"num_attention_heads\": %d,\n  \"num_key_value_heads\": %d,\n"
      "  \"intermediate_size\": %d,\n  \"max_position_embeddings\": %d,\n  \"vocab_size\": %d,\n  \"rms_norm_eps\": %.17g,\n"
      "  \"rope_theta\": %.17g,\n  \"attention_bias\": false,\n  \"mlp_bias\": false,\n  \"tie_word_embeddings\": %s\n}\n",
      model.hidden, model.layers, model.heads, model.key_heads(), model.ffn, model.context, model.vocab, model.norm_eps, model.rope_base,
      model.tied ? "true" : "false");
}

Status CheckLlamaConfig(std::string_view json, const GptConfig& model, const std::string& where) {
  const StatusOr<JsonValue> root = ParseJson(json);
  if (!root.ok()) return Annotate(root.status(), where);
  if (root->kind != JsonValue::Kind::kObject)
    return InvalidArgument(where, " is no JSON object, as a config.json is; correct or remove it");
  if (const JsonValue* type = root->Find("model_type");
      type != nullptr && type->kind == JsonValue::Kind::kString && type->text != "llama") {
    return InvalidArgument(where, " is of a model of type ", type->text,
                           ", the configured one is a Llama; use another file, or model.kind");
  }
  LYCIA_RETURN_IF_ERROR(CheckInteger(*root, where, "num_hidden_layers", model.layers, "model.layers"));
  LYCIA_RETURN_IF_ERROR(CheckInteger(*root, where, "num_attention_heads", model.heads, "model.heads"));
  LYCIA_RETURN_IF_ERROR(CheckInteger(*root, where, "num_key_value_heads", model.key_heads(), "model.kv_heads"));
  if (const JsonValue* size = root->Find("head_dim");
      size != nullptr && size->kind == JsonValue::Kind::kInteger && size->integer != model.head_dim()) {
    return InvalidArgument(where, " has heads of ", size->integer, " features, but model.hidden / model.heads = ", model.head_dim(),
                           "; heads of another size than that are not supported");
  }
  LYCIA_RETURN_IF_ERROR(CheckReal(*root, where, "rms_norm_eps", kHuggingFaceEps, model.norm_eps, "model.norm_eps"));
  LYCIA_RETURN_IF_ERROR(CheckRope(*root, where, model));
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (IsTrue(*root, key))
      return InvalidArgument(where, " has ", key, " = true, but a model of kind llama has no biases; use other weights");
  }
  if (const JsonValue* act = root->Find("hidden_act"); act != nullptr && act->kind == JsonValue::Kind::kString && act->text != "silu") {
    return InvalidArgument(where, " has hidden_act = ", act->text, ", but a model of kind llama has silu; use other weights");
  }
  return OkStatus();
}

}  // namespace lycia
