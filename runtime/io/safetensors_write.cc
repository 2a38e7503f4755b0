#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "runtime/io/checksum.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/safetensors_dtype.h"

namespace lycia {
namespace {

constexpr std::int64_t kBlockBytes = 4 << 20;  // read, hashed and written at once: fits a second-level cache

// Sizes are ours, but a negative or overflowing one must not become an offset.
Status CheckSpec(const TensorSource& source) {
  std::int64_t bytes = SizeOf(source.spec.dtype);
  for (int i = 0; i < source.spec.shape.rank(); ++i) {
    if (source.spec.shape[i] < 0 || __builtin_mul_overflow(bytes, source.spec.shape[i], &bytes)) {
      return InvalidArgument("tensor ", source.name, ": shape ", source.spec.shape.ToString(), " is negative or overflows 64 bits");
    }
  }
  return OkStatus();
}

}  // namespace

std::string_view SafetensorsName(DType dtype) { return FindSafetensorsDType(dtype).name; }

StatusOr<std::string> SafetensorsPrefix(absl::Span<const TensorSource> tensors, const SafetensorsMetadata& metadata,
                                        std::vector<int>* order) {
  order->resize(tensors.size());
  std::iota(order->begin(), order->end(), 0);
  std::sort(order->begin(), order->end(), [&](int i, int j) {
    const TensorSource &a = tensors[static_cast<std::size_t>(i)], &b = tensors[static_cast<std::size_t>(j)];
    const SafetensorsDType *type_a = &FindSafetensorsDType(a.spec.dtype), *type_b = &FindSafetensorsDType(b.spec.dtype);
    return type_a != type_b ? type_a > type_b : a.name < b.name;  // later in the table first
  });
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) absl::StrAppend(&json, json.back() == '{' ? "" : ",", JsonQuote(key), ":", JsonQuote(value));
    json += "}";
  }
  std::int64_t offset = 0;
  for (const int i : *order) {
    const TensorSource& source = tensors[static_cast<std::size_t>(i)];
    LYCIA_RETURN_IF_ERROR(CheckSpec(source));
    if (source.spec.bytes() > std::numeric_limits<std::int64_t>::max() / 2 - offset) {
      return InvalidArgument("tensor ", source.name, ": the file would overflow 63 bits");
    }
    absl::StrAppend(&json, json.size() == 1 ? "" : ",", JsonQuote(source.name), ":{\"dtype\":\"");
    json += SafetensorsName(source.spec.dtype);
    json += "\",\"shape\":[";
    for (int d = 0; d < source.spec.shape.rank(); ++d) absl::StrAppend(&json, d == 0 ? "" : ",", source.spec.shape[d]);
    absl::StrAppend(&json, "],\"data_offsets\":[", offset, ",", offset + source.spec.bytes(), "]}");
    offset += source.spec.bytes();
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (static_cast<std::int64_t>(json.size()) > kSafetensorsMaxHeaderBytes) {
    return InvalidArgument("a header of ", json.size(), " bytes is above the format's ", kSafetensorsMaxHeaderBytes, "; use several files");
  }
  // What a reader would refuse (a name twice, too long, not UTF-8) must not be written.
  const std::int64_t file_bytes = 8 + static_cast<std::int64_t>(json.size()) + offset;
  LYCIA_RETURN_IF_ERROR(ParseSafetensorsHeader(json, file_bytes).status());
  const std::uint64_t length = json.size();
  std::string prefix(8, '\0');
  std::memcpy(prefix.data(), &length, 8);
  return prefix + json;
}

StatusOr<SafetensorsSummary> WriteSafetensors(const std::string& path, absl::Span<const TensorSource> tensors,
                                              const SafetensorsMetadata& metadata) {
  std::vector<int> order;
  StatusOr<std::string> prefix = SafetensorsPrefix(tensors, metadata, &order);
  if (!prefix.ok()) return Annotate(prefix.status(), absl::StrCat("cannot write ", path));
  SafetensorsSummary summary;
  summary.bytes = static_cast<std::int64_t>(prefix->size());
  for (const TensorSource& source : tensors) summary.bytes += source.spec.bytes();
  summary.tensor_checksums.resize(tensors.size());

  LYCIA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path, summary.bytes));
  Checksum file_checksum;
  const auto append = [&](const void* data, std::int64_t bytes) {
    file_checksum.Update(data, bytes);
    return file.Append(data, bytes);
  };
  LYCIA_RETURN_IF_ERROR(append(prefix->data(), static_cast<std::int64_t>(prefix->size())));
  std::vector<char> block;
  for (const int i : order) {
    const TensorSource& source = tensors[static_cast<std::size_t>(i)];
    LYCIA_CHECK((source.data != nullptr) != static_cast<bool>(source.read) || source.spec.bytes() == 0) << source.name << " has no data ";
    Checksum tensor_checksum;
    for (std::int64_t done = 0; done < source.spec.bytes();) {
      const std::int64_t bytes = std::min(kBlockBytes, source.spec.bytes() - done);
      const char* from = static_cast<const char*>(source.data) + done;
      if (source.read) {
        block.resize(static_cast<std::size_t>(bytes));
        LYCIA_RETURN_IF_ERROR(source.read(done, bytes, block.data()));
        from = block.data();
      }
      tensor_checksum.Update(from, bytes);
      LYCIA_RETURN_IF_ERROR(append(from, bytes));
      done += bytes;
    }
    summary.tensor_checksums[static_cast<std::size_t>(i)] = tensor_checksum.Hex();
  }
  LYCIA_RETURN_IF_ERROR(file.Commit());
  summary.checksum = file_checksum.Hex();
  return summary;
}

}  // namespace lycia
