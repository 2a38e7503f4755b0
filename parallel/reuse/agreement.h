// Whether all ranks have decided alike: a rank that reuses where another does not would compute another model, or wait for ever.
#ifndef LYCIA_PARALLEL_REUSE_AGREEMENT_H_
#define LYCIA_PARALLEL_REUSE_AGREEMENT_H_

#include <cstdint>
#include <span>

#include "runtime/core/status.h"

namespace lycia::reuse {

// fingerprints[r]: Controller::Fingerprint() of rank r before `next_step`. Internal where they differ, with the ranks of each.
Status CheckAgreement(std::int64_t next_step, std::span<const std::uint64_t> fingerprints);

}  // namespace lycia::reuse

#endif  // LYCIA_PARALLEL_REUSE_AGREEMENT_H_
