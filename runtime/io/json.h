// JSON from files we do not trust: bounded depth, count and string length, duplicate keys refused, integers kept exact.
#ifndef LYCIA_RUNTIME_IO_JSON_H_
#define LYCIA_RUNTIME_IO_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

struct JsonValue {
  enum class Kind : std::uint8_t { kNull, kBool, kInteger, kReal, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  std::int64_t integer = 0;      // kInteger; a whole number outside int64 is refused by ParseJson
  double real = 0;               // kReal, and kInteger converted
  std::string text;              // kString
  std::vector<std::string> keys; // kObject, in file order, unique; keys[i] names items[i]
  std::vector<JsonValue> items;  // kArray, kObject

  // The member of an object; nullptr where there is none or this is no object.
  const JsonValue* Find(std::string_view key) const;
  // A member that must be there and of that kind; InvalidArgument names the key otherwise. Get(key, kReal) accepts kInteger too.
  StatusOr<const JsonValue*> Get(std::string_view key, Kind wanted) const;
};

struct JsonLimits {
  int max_depth = 16;
  std::int64_t max_values = 4'000'000;  // about 100 bytes each in memory
  std::int64_t max_string_bytes = 16 << 20;
};

// The whole text must be one value, valid UTF-8, without NUL bytes. InvalidArgument tells the byte and what is wrong there.
StatusOr<JsonValue> ParseJson(std::string_view text, const JsonLimits& limits = {});

// With quotes, escaped as short as JSON allows; bytes above 127 are kept.
std::string JsonQuote(std::string_view text);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_IO_JSON_H_
