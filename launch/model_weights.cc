#include "launch/model_weights.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "launch/llama_files.h"
#include "runtime/io/file.h"

namespace lycia {
namespace {

constexpr std::string_view kWeight = "weight/", kM = "adam_m/", kV = "adam_v/", kState = "state/";

bool IsWeightType(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kBF16 || dtype == DType::kF16; }

template <typename From>
void ConvertTo(const std::vector<char>& bytes, const Tensor& to) {
  DispatchFloat(to.dtype, [&]<typename T>() {
    for (std::int64_t i = 0; i < to.elements(); ++i) {
      From value;
      std::memcpy(&value, bytes.data() + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
      to.as<T>()[i] = static_cast<T>(static_cast<Arithmetic<From>>(value));
    }
  });
}

Piece WholeState(const Trainer::OwnState& of) {
  return {.name = StrCat(kState, of.spec->name),
          .dtype = of.state.dtype,
          .logical_shape = of.stored.shape,
          .begin = 0,
          .end = of.state.elements(),
          .data = of.state.data,
          .block = of.stored.block};
}

}  // namespace

std::vector<Piece> CheckpointPieces(Trainer& trainer) {
  std::vector<Piece> pieces;
  for (const Trainer::OwnPart& part : trainer.OwnParts()) {
    const auto add = [&](std::string_view kind, const Tensor& tensor) {
      pieces.push_back({.name = StrCat(kind, part.stored.tensor),
                        .dtype = tensor.dtype,
                        .logical_shape = part.stored.shape,
                        .begin = part.stored.begin + part.begin,
                        .end = part.stored.begin + part.end,
                        .data = tensor.data,
                        .block = part.stored.block});
    };
    add(kWeight, part.weight);
    add(kM, part.m);
    add(kV, part.v);
  }
  for (const Trainer::OwnState& of : trainer.States()) {
    if (of.owner) pieces.push_back(WholeState(of));
  }
  return pieces;
}

Status LoadCheckpoint(const Checkpoint& checkpoint, Trainer& trainer) {
  std::vector<Piece> pieces = CheckpointPieces(trainer);
  for (const Trainer::OwnState& of : trainer.States()) {
    if (!of.owner) pieces.push_back(WholeState(of));
  }
  for (Piece& piece : pieces) {
    LYCIA_RETURN_IF_ERROR(trainer.host().Write(Tensor{piece.data, piece.dtype, {piece.end - piece.begin}}, [&](const Tensor& host) {
      piece.data = host.data;
      return checkpoint.Load(absl::MakeConstSpan(&piece, 1));
    }));
  }
  return OkStatus();
}

Status ReadModelTensor(const SafetensorsModel& model, const std::string& name, const Shape& shape, const Tensor& to) {
  StatusOr<SafetensorsModel::Entry> entry = model.Find(name);
  if (!entry.ok()) entry = model.Find("transformer." + name);
  if (!entry.ok())
    return InvalidArgument("the model file has no tensor ", name, " (nor transformer.", name, ")",
                           name == "lm_head.weight" ? "; a file without it has a tied head: set model.tied = true" : "");
  const TensorView& view = *entry->tensor;
  if (!(view.shape == shape)) {
    return InvalidArgument(entry->file->path(), ": tensor ", view.name, " has shape ", view.shape.ToString(),
                           ", the configured model needs ", shape.ToString(), "; change [model] to fit the file");
  }
  if (!view.dtype.has_value() || !IsWeightType(*view.dtype))
    return InvalidArgument(entry->file->path(), ": tensor ", view.name, " has type ", view.dtype_name, ", which is no weight type");
  std::vector<char> bytes(static_cast<std::size_t>(view.bytes));
  LYCIA_RETURN_IF_ERROR(entry->file->Read(view, 0, shape.elements(), bytes.data()));
  DispatchAnyStored(*view.dtype, [&]<typename From>() { ConvertTo<From>(bytes, to); });
  return OkStatus();
}

Status ReadWeight(const SafetensorsModel& file, const GptConfig& config, const std::string& name, const Shape& shape, const Tensor& to) {
  if (config.family != GptFamily::kLlama) return ReadModelTensor(file, name, shape, to);
  for (const LlamaTensor& part : LlamaTensorsOf(config, name)) {
    if (!part.transposed) return ReadModelTensor(file, part.name, shape, to);
    std::vector<char> bytes(static_cast<std::size_t>(part.shape.elements() * SizeOf(to.dtype)));
    LYCIA_RETURN_IF_ERROR(ReadModelTensor(file, part.name, part.shape, Tensor{bytes.data(), to.dtype, part.shape}));
    const std::int64_t out = part.shape[0], in = part.shape[1], columns = shape[1];
    DispatchFloat(to.dtype, [&]<typename T>() {
      const T* from = reinterpret_cast<const T*>(bytes.data());
      T* const at = to.as<T>() + part.first;
      for (std::int64_t o = 0; o < out; ++o) {
        for (std::int64_t i = 0; i < in; ++i) at[i * columns + o] = from[o * in + i];
      }
    });
  }
  return OkStatus();
}

namespace {

Status RefuseLearnedPositions(const SafetensorsModel& model) {
  for (const char* name : {"wpe.weight", "transformer.wpe.weight"}) {
    const StatusOr<SafetensorsModel::Entry> entry = model.Find(name);
    if (!entry.ok()) continue;
    return InvalidArgument(entry->file->path(), " has learned positions (", name,
                           "), the configured model rotary ones; set model.position = \"learned\"");
  }
  return OkStatus();
}

// The config.json in the folder of the weights, if there is one.
Status CheckLlamaFolder(const std::string& path, const GptConfig& config) {
  constexpr std::int64_t kMostBytes = 1 << 20;
  std::error_code error;  // what cannot be looked at is as what is not there
  std::filesystem::path folder = path;
  if (!std::filesystem::is_directory(folder, error)) folder = folder.parent_path();
  const std::string json = (folder / "config.json").string();
  if (!std::filesystem::exists(json, error)) return OkStatus();
  LYCIA_ASSIGN_OR_RETURN(const std::string text, ReadFile(json, kMostBytes));
  return CheckLlamaConfig(text, config, json);
}

// Stored elements [begin, end) from the model's file.
Status ReadStored(const SafetensorsModel& model, Trainer& trainer, const Trainer::Stored& stored, std::int64_t begin, std::int64_t end,
                  const Tensor& to) {
  const std::int64_t element_bytes = SizeOf(to.dtype);
  std::vector<char> whole(static_cast<std::size_t>(stored.shape.elements() * element_bytes));
  const Tensor read{whole.data(), to.dtype, stored.shape};
  const auto* gpt = std::get_if<GptConfig>(&trainer.model());
  LYCIA_RETURN_IF_ERROR(gpt != nullptr ? ReadWeight(model, *gpt, stored.tensor, stored.shape, read)
                                       : ReadModelTensor(model, stored.tensor, stored.shape, read));
  return trainer.host().Write(to, [&](const Tensor& host) {
    PlaceRuns(stored.block.rows.empty() ? WholeTensor(stored.count) : stored.block, {.tensor = whole.data(),
                                                                                    .to = host.data,
                                                                                    .begin = stored.begin + begin,
                                                                                    .end = stored.begin + end,
                                                                                    .element_bytes = element_bytes});
    return OkStatus();
  });
}

}  // namespace

Status CheckModelFile(const std::string& path, const SafetensorsModel& model, const GptConfig& config) {
  if (config.family == GptFamily::kGpt2) return config.rotary() ? RefuseLearnedPositions(model) : OkStatus();
  if (const StatusOr<SafetensorsModel::Entry> head = model.Find("lm_head.weight"); config.tied && head.ok()) {
    return InvalidArgument(head->file->path(),
                           " has a head (lm_head.weight), the configured model's is its embedding; set model.tied = false");
  }
  return CheckLlamaFolder(path, config);
}

Status LoadModelWeights(const std::string& path, Trainer& trainer) {
  StatusOr<SafetensorsModel> model = SafetensorsModel::Open(path);
  if (!model.ok()) return InvalidArgument("init.from: ", std::string(model.status().message()));
  const auto* gpt = std::get_if<GptConfig>(&trainer.model());
  if (gpt != nullptr) LYCIA_RETURN_IF_ERROR(CheckModelFile(path, *model, *gpt));
  for (const Trainer::OwnPart& part : trainer.OwnParts()) {
    LYCIA_RETURN_IF_ERROR(ReadStored(*model, trainer, part.stored, part.begin, part.end, part.weight));
  }
  for (const Trainer::OwnState& of : trainer.States()) {
    LYCIA_RETURN_IF_ERROR(ReadStored(*model, trainer, of.stored, 0, of.state.elements(), of.state));
  }
  return OkStatus();
}

namespace {

// The tensor of a checkpoint that was asked for last, whole: what a transposed part of it is made from.
struct WholeTensorCache {
  std::string name;
  std::vector<char> bytes;
};

// Reads bytes of a Llama's tensor, which is columns of `tensor` [in, columns], transposed.
auto ReadTransposed(const Checkpoint& checkpoint, const LogicalTensor& tensor, const LlamaTensor& part,
                    const std::shared_ptr<WholeTensorCache>& cache) {
  return
      [&checkpoint, cache, name = tensor.name, spec = tensor.spec, part](std::int64_t first_byte, std::int64_t bytes, void* to) -> Status {
        if (cache->name != name) {
          cache->bytes.resize(static_cast<std::size_t>(spec.bytes()));
          LYCIA_RETURN_IF_ERROR(checkpoint.ReadRange(name, 0, spec.elements(), cache->bytes.data()));
          cache->name = name;
        }
        const std::int64_t size = SizeOf(spec.dtype), in = part.shape[1], columns = spec.shape[1];
        for (std::int64_t i = first_byte / size; i < (first_byte + bytes) / size; ++i, to = static_cast<char*>(to) + size) {
          std::memcpy(to, cache->bytes.data() + (i % in * columns + part.first + i / in) * size, static_cast<std::size_t>(size));
        }
        return OkStatus();
      };
}

}  // namespace

Status ExportModel(const Checkpoint& checkpoint, const Model& model, const std::string& path) {
  std::vector<TensorSource> sources;
  const auto* gpt = std::get_if<GptConfig>(&model);
  const bool llama = gpt != nullptr && gpt->family == GptFamily::kLlama;
  const auto cache = std::make_shared<WholeTensorCache>();
  for (const LogicalTensor& tensor : checkpoint.tensors()) {
    const std::string_view kind = tensor.name.starts_with(kWeight) ? kWeight : kState;
    if (!tensor.name.starts_with(kind)) continue;
    const std::int64_t element_bytes = SizeOf(tensor.spec.dtype);
    const std::string name = tensor.name.substr(kind.size());
    const auto read = [&checkpoint, name = tensor.name, element_bytes](std::int64_t first_byte, std::int64_t bytes, void* to) {
      return checkpoint.ReadRange(name, first_byte / element_bytes, (first_byte + bytes) / element_bytes, to);
    };
    if (!llama) {
      sources.push_back({.name = name, .spec = tensor.spec, .read = read});
      continue;
    }
    for (const LlamaTensor& part : LlamaTensorsOf(*gpt, name)) {
      sources.push_back({.name = part.name, .spec = {tensor.spec.dtype, part.shape}});
      if (part.transposed) {
        sources.back().read = ReadTransposed(checkpoint, tensor, part, cache);
      } else {
        sources.back().read = read;
      }
    }
  }
  LYCIA_RETURN_IF_ERROR(WriteSafetensors(path, sources, {{"format", "pt"}}).status());
  return OkStatus();
}

}  // namespace lycia
