// Which attention kernel of CUDA serves a call: Hopper's, those for the tensor cores of every chip from sm_80 on, or the plain ones.
#include <algorithm>
#include <initializer_list>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_cuda_launch.h"
#include "kernels/attention/attention_hopper_cuda.h"
#include "kernels/attention/attention_mma_cuda.h"
#include "kernels/attention/attention_mma_launch.h"
#include "kernels/attention/attention_plain_cuda.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

bool ForHopper(Stream& stream, const AttentionProblem& problem, std::initializer_list<ConstHeadsView> views) {
  return RejectHopper(problem, TargetOf(stream).capability) == nullptr &&
         std::all_of(views.begin(), views.end(), [](const ConstHeadsView& view) { return RejectHopperView(view) == nullptr; });
}

bool ForMma(const AttentionProblem& problem, std::initializer_list<ConstHeadsView> views) {
  return RejectMma(problem) == nullptr &&
         std::all_of(views.begin(), views.end(), [](const ConstHeadsView& view) { return RejectMmaView(view) == nullptr; });
}

void CheckProblem(const AttentionProblem& p, std::int64_t log_sum_exps) {
  LYCIA_CHECK(p.kv_heads > 0 && p.heads % p.kv_heads == 0) << p.kv_heads << " key heads do not divide " << p.heads << " heads ";
  LYCIA_CHECK_EQ(log_sum_exps, p.samples * p.heads * p.queries);
}

}  // namespace

void AttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  CheckProblem(args.problem, args.log_sum_exp.elements());
  if (ForHopper(stream, args.problem, {args.q, args.k, args.v, args.out})) return HopperAttentionForward(stream, args);
  if (ForMma(args.problem, {args.q, args.k, args.v, args.out})) return MmaAttentionForward(stream, args);
  PlainAttentionForward(stream, args);
}

void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  CheckProblem(args.problem, args.log_sum_exp.elements());
  if (ForHopper(stream, args.problem, {args.q, args.k, args.v, args.out, args.dout, args.dq, args.dk, args.dv})) {
    return HopperAttentionBackward(stream, args);
  }
  if (ForMma(args.problem, {args.q, args.k, args.v, args.out, args.dout, args.dq, args.dk, args.dv})) {
    return MmaAttentionBackward(stream, args);
  }
  PlainAttentionBackward(stream, args);
}

}  // namespace lycia::cuda
