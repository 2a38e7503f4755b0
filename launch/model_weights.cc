#include "launch/model_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lycia {
namespace {

constexpr std::string_view kWeight = "weight/", kM = "adam_m/", kV = "adam_v/", kState = "state/";

float FromF16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1F, mantissa = bits & 0x3FF;
  float value;
  if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), -24);
  } else if (exponent == 31) {
    value = mantissa == 0 ? INFINITY : NAN;
  } else {
    value = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

template <typename From, typename Convert>
void ConvertTo(const std::vector<char>& bytes, const Tensor& to, Convert convert) {
  DispatchFloat(to.dtype, [&]<typename T>() {
    for (std::int64_t i = 0; i < to.elements(); ++i) {
      From value;
      std::memcpy(&value, bytes.data() + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
      to.as<T>()[i] = static_cast<T>(convert(value));
    }
  });
}

Piece WholeState(const Trainer::OwnState& of) {
  return {.name = StrCat(kState, of.spec->name),
          .dtype = of.state.dtype,
          .logical_shape = of.spec->shape,
          .begin = 0,
          .end = of.state.elements(),
          .data = of.state.data};
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
  if (!view.dtype.has_value())
    return InvalidArgument(entry->file->path(), ": tensor ", view.name, " has type ", view.dtype_name, ", which is no weight type");
  std::vector<char> bytes(static_cast<std::size_t>(view.bytes));
  LYCIA_RETURN_IF_ERROR(entry->file->Read(view, 0, shape.elements(), bytes.data()));
  switch (*view.dtype) {
    case DType::kF32:
      ConvertTo<float>(bytes, to, [](float v) { return v; });
      return OkStatus();
    case DType::kF64:
      ConvertTo<double>(bytes, to, [](double v) { return v; });
      return OkStatus();
    case DType::kBF16:
      ConvertTo<BFloat16>(bytes, to, [](BFloat16 v) { return static_cast<float>(v); });
      return OkStatus();
    case DType::kF16:
      ConvertTo<std::uint16_t>(bytes, to, FromF16);
      return OkStatus();
    default:
      break;
  }
  return InvalidArgument(entry->file->path(), ": tensor ", view.name, " has type ", view.dtype_name, ", which is no weight type");
}

Status RefuseLearnedPositions(const SafetensorsModel& model) {
  for (const char* name : {"wpe.weight", "transformer.wpe.weight"}) {
    const StatusOr<SafetensorsModel::Entry> entry = model.Find(name);
    if (!entry.ok()) continue;
    return InvalidArgument(entry->file->path(), " has learned positions (", name,
                           "), the configured model rotary ones; set model.position = \"learned\"");
  }
  return OkStatus();
}

Status LoadModelWeights(const std::string& path, Trainer& trainer) {
  StatusOr<SafetensorsModel> model = SafetensorsModel::Open(path);
  if (!model.ok()) return InvalidArgument("init.from: ", std::string(model.status().message()));
  const auto is_position = [](const PlacedParameter& p) { return p.spec.name.starts_with("wpe.weight"); };
  const bool learned =
      std::ranges::any_of(trainer.groups().groups, [&](const auto& group) { return std::ranges::any_of(group.parameters, is_position); });
  if (!learned) LYCIA_RETURN_IF_ERROR(RefuseLearnedPositions(*model));
  for (const Trainer::OwnPart& part : trainer.OwnParts()) {
    const Trainer::Stored& stored = part.stored;
    const std::int64_t element_bytes = SizeOf(part.weight.dtype);
    std::vector<char> whole(static_cast<std::size_t>(stored.shape.elements() * element_bytes));
    LYCIA_RETURN_IF_ERROR(ReadModelTensor(*model, stored.tensor, stored.shape, Tensor{whole.data(), part.weight.dtype, stored.shape}));
    LYCIA_RETURN_IF_ERROR(trainer.host().Write(part.weight, [&](const Tensor& host) {
      PlaceRuns(stored.block.rows.empty() ? WholeTensor(stored.count) : stored.block, {.tensor = whole.data(),
                                                                                       .to = host.data,
                                                                                       .begin = stored.begin + part.begin,
                                                                                       .end = stored.begin + part.end,
                                                                                       .element_bytes = element_bytes});
      return OkStatus();
    }));
  }
  for (const Trainer::OwnState& of : trainer.States()) {
    LYCIA_RETURN_IF_ERROR(
        trainer.host().Write(of.state, [&](const Tensor& host) { return ReadModelTensor(*model, of.spec->name, of.spec->shape, host); }));
  }
  return OkStatus();
}

Status ExportModel(const Checkpoint& checkpoint, const std::string& path) {
  std::vector<TensorSource> sources;
  for (const LogicalTensor& tensor : checkpoint.tensors()) {
    const std::string_view kind = tensor.name.starts_with(kWeight) ? kWeight : kState;
    if (!tensor.name.starts_with(kind)) continue;
    const std::int64_t element_bytes = SizeOf(tensor.spec.dtype);
    sources.push_back({.name = tensor.name.substr(kind.size()),
                       .spec = tensor.spec,
                       .read = [&checkpoint, name = tensor.name, element_bytes](std::int64_t first_byte, std::int64_t bytes, void* to) {
                         return checkpoint.ReadRange(name, first_byte / element_bytes, (first_byte + bytes) / element_bytes, to);
                       }});
  }
  LYCIA_RETURN_IF_ERROR(WriteSafetensors(path, sources, {{"format", "pt"}}).status());
  return OkStatus();
}

}  // namespace lycia
