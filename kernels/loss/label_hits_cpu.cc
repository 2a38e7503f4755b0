#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/loss/label_hits.h"

namespace lycia::cpu {

void LabelHits(Stream& stream, const LabelHitsArgs& args) {
  LYCIA_CHECK_EQ(args.logits.shape.rank(), 3);
  const std::int64_t B = args.logits.shape[0], T = args.logits.shape[1], V = args.logits.shape[2];
  LYCIA_CHECK_EQ(args.labels.elements(), B * T);
  const std::int32_t* labels = args.labels.as<std::int32_t>();
  DispatchStored(args.logits.dtype, [&]<typename N>() {
    const N* logits = args.logits.as<N>();
    const Work work{.count = B, .bytes_each = T * V * static_cast<std::int64_t>(sizeof(N))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t b = begin; b < end; ++b) {
        std::int64_t hits = 0;
        for (std::int64_t i = b * T; i < (b + 1) * T; ++i) {
          if (labels[i] < 0) continue;
          const N* row = logits + i * V;
          const auto at_label = static_cast<Arithmetic<N>>(row[labels[i]]);
          hits += std::all_of(row, row + V, [&](N logit) { return static_cast<Arithmetic<N>>(logit) <= at_label; }) ? 1 : 0;
        }
        args.sample_hits[b] = static_cast<double>(hits);
      }
    });
  });
}

}  // namespace lycia::cpu
