// The table of all configuration keys: where each lives in Config, which values are valid, what it means. Everything that reads, writes
// or explains a configuration walks this table.
#ifndef LYCIA_LAUNCH_CONFIG_KEYS_H_
#define LYCIA_LAUNCH_CONFIG_KEYS_H_

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "launch/config.h"

namespace lycia::internal {

// Where a key's value lives.
using Place = std::variant<std::int64_t* (*)(Config&), double* (*)(Config&), bool* (*)(Config&), std::string* (*)(Config&),
                           std::vector<std::string>* (*)(Config&), std::vector<std::int64_t>* (*)(Config&)>;

inline constexpr double kSizeLimit = 1e15;  // of most sizes: beyond it a product of two would not be exact

// A single value's validity: numbers within [least, most], texts one of a list (empty: any).
struct Valid {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool above_least = false;  // least itself is not valid
  bool below_most = false;
  std::vector<std::string> one_of = {};
};

struct Key {
  std::string name;  // "section.key"
  Place place;
  Valid valid;
  std::string doc;
};

std::span<const Key> Keys();
const Key* FindKey(std::string_view name);  // nullptr: no such key
std::vector<std::string> KeyNames();

std::string TypeName(const Key& key);
// The key's value in `config` as TOML.
std::string ValueText(const Key& key, const Config& config);
// What is wrong with the key's value in `config`, "" if nothing: "must be at least 1, not 0".
std::string Problem(const Key& key, const Config& config);

}  // namespace lycia::internal

#endif  // LYCIA_LAUNCH_CONFIG_KEYS_H_
