// Values of keys as texts, and what is wrong with them; and what walks all keys: the help, and a configuration as TOML.
#include <charconv>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launch/config_keys.h"

namespace lycia::internal {
namespace {

std::string Text(std::int64_t value) { return absl::StrCat(value); }
std::string Text(bool value) { return value ? "true" : "false"; }

// The shortest text that reads back to the same number, with a '.' or an exponent so that it stays a float.
std::string Text(double value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  std::string text(digits, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string Text(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (c == '\n') {
      text += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04X", byte);
      text += escape;
    } else {
      text += c;
    }
  }
  return text + "\"";
}

template <typename T>
std::string Text(const std::vector<T>& values) {
  std::vector<std::string> texts;
  for (const T& value : values) texts.push_back(Text(value));
  return absl::StrCat("[", absl::StrJoin(texts, ", "), "]");
}

// A bound without a fraction prints as an integer: 1048576, not 1.04858e+06.
std::string BoundText(double bound) {
  return bound == std::floor(bound) && std::fabs(bound) <= kSizeLimit ? absl::StrCat(static_cast<std::int64_t>(bound)) : Text(bound);
}

std::string NumberProblem(const Valid& valid, double value, const std::string& text) {
  if (!std::isfinite(value)) return absl::StrCat("must be finite, not ", text);
  if (value < valid.least) return absl::StrCat("must be at least ", BoundText(valid.least), ", not ", text);
  if (valid.above_least && value == valid.least) return absl::StrCat("must be above ", BoundText(valid.least), ", not ", text);
  if (value > valid.most) return absl::StrCat("must be at most ", BoundText(valid.most), ", not ", text);
  if (valid.below_most && value == valid.most) return absl::StrCat("must be below ", BoundText(valid.most), ", not ", text);
  return "";
}

std::string ProblemOf(const Valid& valid, std::int64_t value) { return NumberProblem(valid, static_cast<double>(value), Text(value)); }
std::string ProblemOf(const Valid& valid, double value) { return NumberProblem(valid, value, Text(value)); }
std::string ProblemOf(const Valid&, bool) { return ""; }
std::string ProblemOf(const Valid& valid, const std::string& value) {
  if (valid.one_of.empty()) return "";
  for (const std::string& word : valid.one_of) {
    if (word == value) return "";
  }
  return absl::StrCat("must be one of ", absl::StrJoin(valid.one_of, ", "), ", not '", value, "'");
}
std::string ProblemOf(const Valid&, const std::vector<std::string>&) { return ""; }
std::string ProblemOf(const Valid& valid, const std::vector<std::int64_t>& values) {
  for (const std::int64_t value : values) {
    if (std::string problem = ProblemOf(valid, value); !problem.empty()) return problem;
  }
  return "";
}

}  // namespace

std::string TypeName(const Key& key) {
  static constexpr const char* kNames[] = {"an integer", "a number",          "true or false",
                                           "a string",   "a list of strings", "a list of integers"};
  return kNames[key.place.index()];
}

std::string ValueText(const Key& key, const Config& config) {
  Config& readable = const_cast<Config&>(config);  // places are written for both directions; nothing is changed here
  return std::visit(
      [&](auto at) {
        const auto& value = *at(readable);
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::vector<std::int64_t>>) {
          if (value.empty()) return std::string("\"auto\"");
        }
        return Text(value);
      },
      key.place);
}

std::string Problem(const Key& key, const Config& config) {
  return std::visit([&](auto at) { return ProblemOf(key.valid, *at(const_cast<Config&>(config))); }, key.place);
}

}  // namespace lycia::internal

namespace lycia {

std::vector<ConfigKey> ConfigKeys() {
  std::vector<ConfigKey> keys;
  const Config defaults;
  for (const internal::Key& key : internal::Keys()) {
    keys.push_back({key.name, internal::TypeName(key), internal::ValueText(key, defaults), key.doc});
    if (!key.valid.one_of.empty()) keys.back().doc += absl::StrCat(" (", absl::StrJoin(key.valid.one_of, ", "), ")");
  }
  return keys;
}

std::string ConfigKeysHelp() {
  std::string text;
  for (const ConfigKey& key : ConfigKeys()) {
    char line[64];
    std::snprintf(line, sizeof line, "  %-26s %-12s ", key.name.c_str(), key.default_value.c_str());
    absl::StrAppend(&text, line, key.doc, "\n");
  }
  return text;
}

std::string ToToml(const Config& config) {
  std::string text, section;
  for (const internal::Key& key : internal::Keys()) {
    const std::size_t dot = key.name.find('.');
    if (const std::string of = key.name.substr(0, dot); of != section) {
      absl::StrAppend(&text, section.empty() ? "" : "\n", "[", of, "]\n");
      section = of;
    }
    absl::StrAppend(&text, key.name.substr(dot + 1), " = ", internal::ValueText(key, config), "\n");
  }
  return text;
}

}  // namespace lycia
