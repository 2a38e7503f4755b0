#include "runtime/io/json.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace lycia {
namespace {

constexpr const char* kKindNames[] = {"null", "a boolean", "an integer", "a number", "a string", "an array", "an object"};

// Receives the parser's events and builds the value; returning false stops the parser at once.
class Builder {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() { return Add(JsonValue{}); }
  bool boolean(bool value) {
    JsonValue v;
    v.kind = JsonValue::Kind::kBool;
    v.boolean = value;
    return Add(std::move(v));
  }
  bool number_integer(std::int64_t value) {
    JsonValue v;
    v.kind = JsonValue::Kind::kInteger;
    v.integer = value;
    v.real = static_cast<double>(value);
    return Add(std::move(v));
  }
  bool number_unsigned(std::uint64_t value) {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return Refuse("an integer is beyond 2^63 - 1");
    return number_integer(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& text) {
    if (text.find_first_of(".eE") == std::string::npos) return Refuse(absl::StrCat("integer ", text.substr(0, 40), " is beyond 64 bits"));
    JsonValue v;
    v.kind = JsonValue::Kind::kReal;
    v.real = value;
    return Add(std::move(v));
  }
  bool string(std::string& text) {
    if (!CheckLength(text)) return false;
    JsonValue v;
    v.kind = JsonValue::Kind::kString;
    v.text = std::move(text);
    return Add(std::move(v));
  }
  bool binary(std::vector<std::uint8_t>&) { return Refuse("binary data"); }  // not JSON; the parser's interface wants it
  bool start_object(std::size_t) { return Open(JsonValue::Kind::kObject); }
  bool start_array(std::size_t) { return Open(JsonValue::Kind::kArray); }
  bool key(std::string& name) {
    if (!CheckLength(name)) return false;
    if (!open_.back().keys.insert(name).second) return Refuse(absl::StrCat("key ", JsonQuote(name.substr(0, 100)), " occurs twice"));
    open_.back().value.keys.push_back(std::move(name));
    return true;
  }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    return Refuse(absl::StrCat("at byte ", position, ": ", error.what()));
  }

  const std::string& problem() const { return problem_; }
  JsonValue Take() { return std::move(root_); }

 private:
  struct Level {
    JsonValue value;
    absl::flat_hash_set<std::string> keys;
  };

  bool Refuse(std::string why) {
    if (problem_.empty()) problem_ = std::move(why);
    return false;
  }
  bool CheckLength(const std::string& text) {
    if (static_cast<std::int64_t>(text.size()) <= limits_.max_string_bytes) return true;
    return Refuse(absl::StrCat("a string of ", text.size(), " bytes is longer than ", limits_.max_string_bytes));
  }
  bool Add(JsonValue value) {
    if (++values_ > limits_.max_values) return Refuse(absl::StrCat("more than ", limits_.max_values, " values"));
    (open_.empty() ? root_ : open_.back().value.items.emplace_back()) = std::move(value);
    return true;
  }
  bool Open(JsonValue::Kind kind) {
    if (static_cast<int>(open_.size()) == limits_.max_depth) return Refuse(absl::StrCat("nesting deeper than ", limits_.max_depth));
    open_.emplace_back().value.kind = kind;
    return true;
  }
  bool Close() {
    JsonValue value = std::move(open_.back().value);
    open_.pop_back();
    return Add(std::move(value));
  }

  const JsonLimits limits_;
  std::int64_t values_ = 0;
  std::vector<Level> open_;
  JsonValue root_;
  std::string problem_;
};

}  // namespace

const JsonValue* JsonValue::Find(std::string_view key) const {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

StatusOr<const JsonValue*> JsonValue::Get(std::string_view key, Kind wanted) const {
  const JsonValue* member = Find(key);
  if (member == nullptr) return InvalidArgument("key ", JsonQuote(key), " is missing");
  if (member->kind != wanted && !(wanted == Kind::kReal && member->kind == Kind::kInteger)) {
    return InvalidArgument("key ", JsonQuote(key), " is ", kKindNames[static_cast<int>(member->kind)], " and must be ",
                           kKindNames[static_cast<int>(wanted)]);
  }
  return member;
}

StatusOr<JsonValue> ParseJson(std::string_view text, const JsonLimits& limits) {
  // The parser takes a NUL byte for the end of its input, and a mark of byte order for nothing: both would hide bytes.
  if (const std::size_t nul = text.find('\0'); nul != text.npos) return InvalidArgument("bad JSON: NUL at byte ", nul);
  if (text.substr(0, 3) == "\xEF\xBB\xBF") return InvalidArgument("bad JSON: a byte order mark stands at byte 0");
  Builder builder(limits);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return InvalidArgument("bad JSON: ", builder.problem());
  return builder.Take();
}

std::string JsonQuote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': quoted += "\\\""; break;
      case '\\': quoted += "\\\\"; break;
      case '\b': quoted += "\\b"; break;
      case '\f': quoted += "\\f"; break;
      case '\n': quoted += "\\n"; break;
      case '\r': quoted += "\\r"; break;
      case '\t': quoted += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          quoted += "\\u00";
          quoted += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
          quoted += "0123456789abcdef"[c & 15];
        } else {
          quoted += c;
        }
    }
  }
  return quoted + "\"";
}

}  // namespace lycia
