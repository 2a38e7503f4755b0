// Which attention kernel of CUDA serves a call.
#include <algorithm>
#include <initializer_list>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_cuda_launch.h"
#include "kernels/attention/attention_hopper_cuda.h"
#include "kernels/attention/attention_plain_cuda.h"
#include "runtime/core/check.h"

namespace lycia::cuda {
namespace {

bool ForHopper(const AttentionProblem& problem, std::initializer_list<ConstHeadsView> views) {
  return RejectHopper(problem) == nullptr &&
         std::all_of(views.begin(), views.end(), [](const ConstHeadsView& view) { return RejectHopperView(view) == nullptr; });
}

void CheckProblem(const AttentionProblem& p, std::int64_t log_sum_exps) {
  LYCIA_CHECK(p.kv_heads > 0 && p.heads % p.kv_heads == 0) << p.kv_heads << " key heads do not divide " << p.heads << " heads ";
  LYCIA_CHECK_EQ(log_sum_exps, p.samples * p.heads * p.queries);
}

}  // namespace

void AttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  CheckProblem(args.problem, args.log_sum_exp.elements());
  if (ForHopper(args.problem, {args.q, args.k, args.v, args.out})) return HopperAttentionForward(stream, args);
  PlainAttentionForward(stream, args);
}

void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  CheckProblem(args.problem, args.log_sum_exp.elements());
  if (ForHopper(args.problem, {args.q, args.k, args.v, args.out, args.dout, args.dq, args.dk, args.dv})) {
    return HopperAttentionBackward(stream, args);
  }
  PlainAttentionBackward(stream, args);
}

}  // namespace lycia::cuda
