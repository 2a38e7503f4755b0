// One tile of queries of one head of one sample: what the threads of a call go through (attention_cpu.cc). Instances for f32 and f64.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_HEAD_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_HEAD_H_

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_scratch.h"
#include "kernels/attention/attention_turns.h"

namespace lycia::cpu {

template <typename T>
void ForwardTile(const AttentionForwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h, const ForwardScratch<T>& scratch);

// dq = the tile's gradient; dk and dv of its key head += its, in turn.
template <typename T>
void BackwardTile(const AttentionBackwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h, const BackwardScratch<T>& scratch,
                  const KeyTurns& turns);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_HEAD_H_
