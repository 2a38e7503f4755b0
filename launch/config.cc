#include "launch/config.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "launch/config_keys.h"
#include "launch/suggest.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace lycia {
namespace {

using internal::Key;

// Each Assign: the node's value into `to`, or false when the node has another type.
bool Assign(const toml::node& node, std::int64_t& to) {
  const auto* value = node.as_integer();
  if (value != nullptr) to = value->get();
  return value != nullptr;
}
bool Assign(const toml::node& node, double& to) {
  if (const auto* integer = node.as_integer()) {
    to = static_cast<double>(integer->get());
    return true;
  }
  const auto* value = node.as_floating_point();
  if (value != nullptr) to = value->get();
  return value != nullptr;
}
bool Assign(const toml::node& node, bool& to) {
  const auto* value = node.as_boolean();
  if (value != nullptr) to = value->get();
  return value != nullptr;
}
bool Assign(const toml::node& node, std::string& to) {
  const auto* value = node.as_string();
  if (value != nullptr) to = value->get();
  return value != nullptr;
}
// "auto" is an empty list of integers.
bool Assign(const toml::node& node, std::vector<std::int64_t>& to) {
  if (const auto* word = node.as_string(); word != nullptr && word->get() == "auto") {
    to.clear();
    return true;
  }
  const toml::array* list = node.as_array();
  if (list == nullptr || list->empty()) return false;
  std::vector<std::int64_t> values(list->size());
  for (std::size_t i = 0; i < list->size(); ++i) {
    if (!Assign(*list->get(i), values[i])) return false;
  }
  to = std::move(values);
  return true;
}
// A single string stands for a list of one.
bool Assign(const toml::node& node, std::vector<std::string>& to) {
  std::vector<std::string> values(1);
  if (!Assign(node, values[0])) {
    const toml::array* list = node.as_array();
    if (list == nullptr) return false;
    values.resize(list->size());
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (!Assign(*list->get(i), values[i])) return false;
    }
  }
  to = std::move(values);
  return true;
}

std::string KindOf(const toml::node& node) {
  if (node.is_string()) return "a string";
  if (node.is_integer()) return "an integer";
  if (node.is_floating_point()) return "a number with a fraction";
  if (node.is_boolean()) return "true or false";
  if (node.is_array()) return "a list";
  return node.is_table() ? "a table" : "a date";
}

// `where` opens every message: "run.toml:3: train.lr".
Status SetKey(const Key& key, const toml::node& node, std::string_view where, Config& config) {
  const bool assigned = std::visit([&](auto at) { return Assign(node, *at(config)); }, key.place);
  const std::string at(where);
  if (!assigned) return InvalidArgument(at, " must be ", internal::TypeName(key), ", not ", KindOf(node));
  if (const std::string problem = internal::Problem(key, config); !problem.empty()) return InvalidArgument(at, " ", problem);
  return OkStatus();
}

Status UnknownKey(const std::string& where, const std::string& name) {
  const std::vector<std::string> names = internal::KeyNames();
  return InvalidArgument(where, "unknown key '", name, "'", DidYouMean(name, names),
                         DidYouMean(name, names).empty() ? "; `lycia train --help` lists all keys" : "");
}

bool IsSection(const std::string& name) {
  for (const Key& key : internal::Keys()) {
    if (key.name.rfind(name + ".", 0) == 0) return true;
  }
  return false;
}

std::vector<std::string> Sections() {
  std::vector<std::string> sections;
  for (const Key& key : internal::Keys()) {
    const std::string section = key.name.substr(0, key.name.find('.'));
    if (sections.empty() || sections.back() != section) sections.push_back(section);
  }
  return sections;
}

// The first mistake in the file's order; tables iterate by name.
struct FirstMistake {
  std::size_t line = std::numeric_limits<std::size_t>::max();
  Status status;
  void Note(std::size_t at, const Status& mistake) {
    if (mistake.ok() || at >= line) return;
    line = at;
    status = mistake;
  }
};

Status ReadTables(const toml::table& root, const std::string& file, Config& config) {
  FirstMistake first;
  for (const auto& [section_name, section] : root) {
    const std::string name(section_name.str());
    const std::size_t line = section_name.source().begin.line;
    const std::string where = absl::StrCat(file, ":", line, ": ");
    if (!section.is_table()) {
      first.Note(line, IsSection(name) ? InvalidArgument(where, "'", name, "' is a section; write [", name, "] and its keys below")
                                       : UnknownKey(where, name));
      continue;
    }
    if (!IsSection(name)) {
      first.Note(line, InvalidArgument(where, "unknown section [", name, "]", DidYouMean(name, Sections())));
      continue;
    }
    for (const auto& [key_name, node] : *section.as_table()) {
      const std::string full = absl::StrCat(name, ".", std::string(key_name.str()));
      const std::size_t key_line = key_name.source().begin.line;
      const std::string key_where = absl::StrCat(file, ":", key_line, ": ");
      const Key* key = internal::FindKey(full);
      first.Note(key_line, key == nullptr ? UnknownKey(key_where, full) : SetKey(*key, node, key_where + full, config));
    }
  }
  return first.status;
}

// The value part of an override: TOML; a string key also takes anything else as it stands, unless it is quoted.
StatusOr<toml::table> ParseValue(const Key& key, const std::string& value, const std::string& where) {
  const bool quoted = !value.empty() && (value[0] == '"' || value[0] == '\'');
  const bool text = std::holds_alternative<std::string* (*)(Config&)>(key.place);
  if (!(text && !quoted)) {
    toml::parse_result parsed = toml::parse(absl::StrCat("value = ", value));
    if (parsed && parsed.table().size() == 1) return std::move(parsed).table();
    const bool bare = !value.empty() && !quoted && value[0] != '[' && value[0] != '{' && value.find('\n') == std::string::npos;
    if (!bare) {
      return InvalidArgument(where, " has no valid TOML value after '='; e.g. ", key.name, "=", internal::ValueText(key, Config()));
    }
  }
  return toml::table{{"value", value}};
}

Status ApplyOverride(const std::string& text, Config& config) {
  std::string where = absl::StrCat("--set ", text, ":");
  std::replace(where.begin(), where.end(), '\n', ' ');  // a message is one line
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) return InvalidArgument(where, " write it as section.key=value, e.g. --set train.lr=0.001");
  const std::string name = text.substr(0, equals);
  const Key* key = internal::FindKey(name);
  if (key == nullptr) return UnknownKey(absl::StrCat(where, " "), name);
  LYCIA_ASSIGN_OR_RETURN(const toml::table parsed, ParseValue(*key, text.substr(equals + 1), where));
  return SetKey(*key, *parsed.get("value"), absl::StrCat(where, " ", name), config);
}

}  // namespace

std::int64_t ModelConfig::ffn_or_default() const {
  constexpr std::int64_t kMultiple = 256;  // as Touvron et al. 2023 round 2/3 of 4 hidden up
  if (ffn != 0) return ffn;
  return kind == "llama" ? (8 * hidden / 3 + kMultiple - 1) / kMultiple * kMultiple : 4 * hidden;
}

StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return InvalidArgument("configuration ", path, " is missing, empty or cannot be read; give a TOML file with --config");
  }
  return ParseConfig(text.str(), path, overrides);
}

StatusOr<Config> ParseConfig(std::string_view text, std::string_view name, std::span<const std::string> overrides) {
  const std::string file(name);
  const toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) {
    return InvalidArgument(file, ":", parsed.error().source().begin.line, ": not valid TOML: ", std::string(parsed.error().description()));
  }
  Config config;
  LYCIA_RETURN_IF_ERROR(ReadTables(parsed.table(), file, config));
  for (const std::string& assignment : overrides) LYCIA_RETURN_IF_ERROR(ApplyOverride(assignment, config));
  return config;
}

}  // namespace lycia
