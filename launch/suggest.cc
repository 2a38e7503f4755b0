#include "launch/suggest.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace lycia {
namespace {

std::string_view LastPart(std::string_view word) {
  const std::size_t dot = word.rfind('.');
  return dot == std::string_view::npos ? word : word.substr(dot + 1);
}

// The whole words, or, for a candidate in another section, the last parts and one for the section.
int Distance(std::string_view word, std::string_view candidate) {
  const int whole = EditDistance(word, candidate);
  if (candidate.find('.') == std::string_view::npos) return whole;
  return std::min(whole, EditDistance(LastPart(word), LastPart(candidate)) + 1);
}

}  // namespace

int EditDistance(std::string_view a, std::string_view b) {
  // Optimal string alignment: rows i - 2, i - 1 and i of the table of prefixes.
  std::vector<int> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) above[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

std::string Nearest(std::string_view word, std::span<const std::string> candidates) {
  const auto nearest = std::min_element(candidates.begin(), candidates.end(), [word](const std::string& a, const std::string& b) {
    return Distance(word, a) < Distance(word, b);
  });
  return nearest == candidates.end() ? std::string() : *nearest;
}

std::string DidYouMean(std::string_view word, std::span<const std::string> candidates) {
  const std::string nearest = Nearest(word, candidates);
  if (nearest.empty() || 2 * Distance(word, nearest) > static_cast<int>(std::max(LastPart(word).size(), std::size_t{2}))) return "";
  return "; did you mean '" + nearest + "'?";
}

}  // namespace lycia
