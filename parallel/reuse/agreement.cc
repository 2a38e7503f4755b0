#include "parallel/reuse/agreement.h"

#include <algorithm>
#include <map>
#include <string>

namespace lycia::reuse {

Status CheckAgreement(std::int64_t next_step, std::span<const std::uint64_t> fingerprints) {
  if (std::adjacent_find(fingerprints.begin(), fingerprints.end(), std::not_equal_to<>()) == fingerprints.end()) return OkStatus();
  std::map<std::uint64_t, std::string> ranks;
  for (std::size_t rank = 0; rank < fingerprints.size(); ++rank) {
    std::string& of = ranks[fingerprints[rank]];
    of += StrCat(of.empty() ? "" : ", ", rank);
  }
  std::string text;
  for (const auto& [fingerprint, of] : ranks) {
    text += StrCat(text.empty() ? "" : "; ", absl::StrCat(absl::Hex(fingerprint, absl::kZeroPad16)), " on ranks ", of);
  }
  return absl::InternalError(StrCat("ranks disagree about computation reuse before step ", next_step + 1, ": ", text,
                                    ". All must be given the same options, predicted times and reduced observations"));
}

}  // namespace lycia::reuse
