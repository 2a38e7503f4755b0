// One head of one sample: what the loops over heads (attention_cpu.cc) call. Instances for f32 and f64.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_HEAD_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_HEAD_H_

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_scratch.h"

namespace lycia::cpu {

template <typename T>
void ForwardHead(const AttentionForwardArgs& args, std::int64_t b, std::int64_t h, const ForwardScratch<T>& scratch);

// dq = the head's gradient; dk and dv of its key head += theirs.
template <typename T>
void BackwardHead(const AttentionBackwardArgs& args, std::int64_t b, std::int64_t h, const BackwardScratch<T>& scratch);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_HEAD_H_
