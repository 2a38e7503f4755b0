#include "runtime/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <memory>

#include "runtime/io/json.h"
#include "runtime/io/safetensors_dtype.h"

namespace lycia {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian numbers");

constexpr std::int64_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";
using Kind = JsonValue::Kind;

// a * b, or nothing where it leaves int64; both are >= 0.
std::optional<std::int64_t> CheckedProduct(std::int64_t a, std::int64_t b) {
  std::int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

Status CheckKeys(const JsonValue& info) {
  if (info.kind != Kind::kObject) return InvalidArgument("its entry is not an object");
  for (const std::string& key : info.keys) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") return InvalidArgument("unknown key ", JsonQuote(key));
  }
  return OkStatus();
}

// One entry; offset is still relative to the data.
StatusOr<TensorView> ParseTensor(const std::string& name, const JsonValue& info) {
  TensorView view;
  view.name = name;
  if (name.empty() || static_cast<std::int64_t>(name.size()) > kSafetensorsMaxNameBytes) {
    return InvalidArgument("its name has ", name.size(), " bytes; 1 to ", kSafetensorsMaxNameBytes, " are allowed");
  }
  LYCIA_RETURN_IF_ERROR(CheckKeys(info));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* dtype, info.Get("dtype", Kind::kString));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* shape, info.Get("shape", Kind::kArray));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* offsets, info.Get("data_offsets", Kind::kArray));
  const SafetensorsDType* type = FindSafetensorsDType(dtype->text);
  if (type == nullptr) return InvalidArgument("unknown dtype ", JsonQuote(dtype->text.substr(0, 40)));
  view.dtype_name = type->name;
  view.dtype = type->dtype;
  if (shape->items.size() > static_cast<std::size_t>(Shape::kMaxRank)) {
    return InvalidArgument("rank ", shape->items.size(), " is above ", Shape::kMaxRank, ", the most Lycia supports");
  }
  std::optional<std::int64_t> bits = type->bits;
  for (const JsonValue& dim : shape->items) {
    if (dim.kind != Kind::kInteger || dim.integer < 0) return InvalidArgument("its shape is not a list of whole numbers >= 0");
    view.shape.push_back(dim.integer);
    if (bits) bits = CheckedProduct(*bits, dim.integer);
    if (!bits) return InvalidArgument("shape ", view.shape.ToString(), " of ", type->name, " overflows 64 bits");
  }
  if (*bits % 8 != 0) return InvalidArgument("its ", *bits, " bits are not whole bytes");
  if (offsets->items.size() != 2 || offsets->items[0].kind != Kind::kInteger || offsets->items[1].kind != Kind::kInteger) {
    return InvalidArgument("data_offsets are not two whole numbers");
  }
  const std::int64_t begin = offsets->items[0].integer, end = offsets->items[1].integer;
  if (begin < 0 || end < begin) return InvalidArgument("data_offsets [", begin, ", ", end, "] are out of order");
  view.offset = begin;
  view.bytes = end - begin;
  if (view.bytes != *bits / 8) {
    return InvalidArgument("data_offsets [", begin, ", ", end, "] hold ", view.bytes, " bytes, but ", type->name, view.shape.ToString(),
                           " needs ", *bits / 8);
  }
  return view;
}

}  // namespace

StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, std::int64_t file_bytes) {
  if (json.empty() || json[0] != '{') return InvalidArgument("the header does not begin with '{'");
  JsonLimits limits;
  limits.max_depth = 3;  // header, tensor, list
  LYCIA_ASSIGN_OR_RETURN(const JsonValue root, ParseJson(json, limits));
  SafetensorsHeader header;
  for (std::size_t i = 0; i < root.keys.size(); ++i) {
    const std::string& name = root.keys[i];
    if (name != kMetadataKey) {
      StatusOr<TensorView> view = ParseTensor(name, root.items[i]);
      if (!view.ok()) return Annotate(view.status(), absl::StrCat("tensor ", JsonQuote(name.substr(0, 200))));
      header.tensors.push_back(*std::move(view));
      continue;
    }
    if (root.items[i].kind != Kind::kObject) return InvalidArgument("__metadata__ is not an object");
    for (std::size_t k = 0; k < root.items[i].keys.size(); ++k) {
      const JsonValue& value = root.items[i].items[k];
      const std::string& key = root.items[i].keys[k];
      if (value.kind != Kind::kString) return InvalidArgument("__metadata__ value of ", JsonQuote(key), " is not a string");
      header.metadata.emplace_back(key, value.text);
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorView& a, const TensorView& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes != b.bytes ? a.bytes < b.bytes : a.name < b.name;
  });
  const std::int64_t data_start = kLengthBytes + static_cast<std::int64_t>(json.size());
  const std::int64_t data_bytes = file_bytes - data_start;
  std::int64_t covered = 0;
  for (TensorView& view : header.tensors) {
    if (view.offset != covered) {
      return InvalidArgument("tensor ", JsonQuote(view.name), " begins at data byte ", view.offset, ", the one before ends at ", covered,
                             view.offset < covered ? " (overlap)" : " (gap)");
    }
    if (view.bytes > data_bytes - covered) {
      return InvalidArgument("tensor ", JsonQuote(view.name), " needs data bytes ", view.offset, " to ", view.offset + view.bytes,
                             " but the file holds ", data_bytes, "; it is truncated");
    }
    covered += view.bytes;
    view.offset += data_start;
  }
  if (covered != data_bytes) return InvalidArgument(data_bytes - covered, " bytes after the last tensor belong to none");
  return header;
}

StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path, const Options& options) {
  LYCIA_ASSIGN_OR_RETURN(ReadableFile file, ReadableFile::Open(path, options.symlinks));
  const std::string what = absl::StrCat("safetensors file ", path);
  if (file.size() < kLengthBytes) return InvalidArgument(what, ": ", file.size(), " bytes are too few for a header");
  std::uint64_t length = 0;
  LYCIA_RETURN_IF_ERROR(file.ReadAt(0, &length, kLengthBytes));
  if (length > static_cast<std::uint64_t>(options.max_header_bytes)) {
    return InvalidArgument(what, ": header of ", length, " bytes is above the limit of ", options.max_header_bytes);
  }
  if (static_cast<std::int64_t>(length) > file.size() - kLengthBytes) {
    return InvalidArgument(what, ": header of ", length, " bytes, but the file holds ", file.size(), "; it is truncated");
  }
  std::string json(length, '\0');
  LYCIA_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, json.data(), static_cast<std::int64_t>(length)));
  StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(json, file.size());
  if (!header.ok()) return Annotate(header.status(), what);
  return SafetensorsFile(std::move(file), *std::move(header));
}

SafetensorsFile::SafetensorsFile(ReadableFile file, SafetensorsHeader header) : file_(std::move(file)), header_(std::move(header)) {
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_of_.emplace(header_.tensors[i].name, static_cast<int>(i));
}

const TensorView* SafetensorsFile::Find(std::string_view name) const {
  const auto found = index_of_.find(absl::string_view(name.data(), name.size()));
  return found == index_of_.end() ? nullptr : &header_.tensors[static_cast<std::size_t>(found->second)];
}

Status SafetensorsFile::Read(const TensorView& tensor, std::int64_t begin, std::int64_t end, void* to) const {
  LYCIA_CHECK(tensor.dtype.has_value()) << tensor.name << " is " << tensor.dtype_name << " ";
  LYCIA_CHECK(0 <= begin && begin <= end && end <= tensor.shape.elements()) << tensor.name << " [" << begin << ", " << end << ") ";
  const std::int64_t size = SizeOf(*tensor.dtype);
  return file_.ReadAt(tensor.offset + begin * size, to, (end - begin) * size);
}

}  // namespace lycia
