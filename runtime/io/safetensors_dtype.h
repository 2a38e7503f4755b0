// The number types of the safetensors format, in its order of alignment. Shared by reader and writer; not for others.
#ifndef LYCIA_RUNTIME_IO_SAFETENSORS_DTYPE_H_
#define LYCIA_RUNTIME_IO_SAFETENSORS_DTYPE_H_

#include <optional>
#include <string_view>

#include "runtime/core/dtype.h"

namespace lycia {

struct SafetensorsDType {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;  // empty: Lycia does not compute with it
};

// Rising alignment: the reference writer sorts by this position, falling.
inline constexpr SafetensorsDType kSafetensorsDTypes[] = {
    {"BOOL", 8, {}},         {"F4", 4, {}},           {"F6_E2M3", 6, {}},        {"F6_E3M2", 6, {}},         {"U8", 8, DType::kU8},
    {"I8", 8, {}},           {"F8_E5M2", 8, {}},      {"F8_E4M3", 8, {}},        {"F8_E8M0", 8, {}},         {"I16", 16, {}},
    {"U16", 16, {}},         {"F16", 16, DType::kF16}, {"BF16", 16, DType::kBF16}, {"I32", 32, DType::kI32}, {"U32", 32, {}},
    {"F32", 32, DType::kF32}, {"C64", 64, {}},        {"F64", 64, DType::kF64},  {"I64", 64, DType::kI64},   {"U64", 64, {}},
};

inline const SafetensorsDType* FindSafetensorsDType(std::string_view name) {
  for (const SafetensorsDType& type : kSafetensorsDTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

inline const SafetensorsDType& FindSafetensorsDType(DType dtype) {
  for (const SafetensorsDType& type : kSafetensorsDTypes) {
    if (type.dtype == dtype) return type;
  }
  LYCIA_CHECK(false) << "dtype " << Name(dtype) << " has no safetensors name ";
  return kSafetensorsDTypes[0];
}

}  // namespace lycia

#endif  // LYCIA_RUNTIME_IO_SAFETENSORS_DTYPE_H_
