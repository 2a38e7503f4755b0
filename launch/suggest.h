// "Did you mean": the nearest valid word to a mistyped one.
#ifndef LYCIA_LAUNCH_SUGGEST_H_
#define LYCIA_LAUNCH_SUGGEST_H_

#include <span>
#include <string>
#include <string_view>

namespace lycia {

// Least number of insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
int EditDistance(std::string_view a, std::string_view b);

// The candidate at the least distance, the first of equals; "" without candidates. Compares the parts after the last '.' too, so that
// "lr" finds "train.lr" and "model.lr" does as well.
std::string Nearest(std::string_view word, std::span<const std::string> candidates);

// "; did you mean 'x'?" or, where nothing is near (distance above half of the word after its last '.'), "".
std::string DidYouMean(std::string_view word, std::span<const std::string> candidates);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_SUGGEST_H_
