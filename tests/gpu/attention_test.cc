// The bf16 attention of CUDA against its specification in f64, over sizes that end within tiles, shared key heads, packed rows and offsets.
// An error may be twice what the formula itself makes when its tensors are rounded to bf16 and all else is exact. Outputs are poisoned and
// lie between guards. Skipped without a GPU.
#include "kernels/attention/attention.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/attention/attention_ref.h"
#include "kernels/attention/attention_rounded.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

using Values = std::vector<double>;
using Words = std::vector<std::uint16_t>;

constexpr std::uint16_t kPoison = 0x7fc1;  // a NaN that no kernel makes
constexpr std::int64_t kGuard = 64;        // elements on both sides of every output

struct Size {
  std::int64_t B, T, S, H, G, D;
};
std::string Describe(const AttentionProblem& p) {
  return StrCat("B ", p.samples, " T ", p.queries, " S ", p.keys, " H ", p.heads, " G ", p.kv_heads, " D ", p.head_dim, " causal ",
                static_cast<int>(p.mask == MaskKind::kCausal), " first ", p.first_query, " ", p.first_key);
}

class AttentionCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
    StatusOr<std::unique_ptr<Stream>> stream = device_->NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
  }

  void* Put(const void* data, std::int64_t bytes) {
    StatusOr<Buffer> buffer = device_->Allocate(bytes, MemoryKind::kDevice);
    LYCIA_CHECK_OK(buffer.status());
    buffers_.push_back(*std::move(buffer));
    stream_->Copy(buffers_.back().data(), data, bytes);
    LYCIA_CHECK_OK(stream_->Synchronize());
    return buffers_.back().data();
  }
  // A poisoned output between guards.
  Tensor Poisoned(DType dtype, Shape shape) {
    const Words poison(static_cast<std::size_t>((shape.elements() * SizeOf(dtype) + 1) / 2 + 2 * kGuard), kPoison);
    char* data = static_cast<char*>(Put(poison.data(), static_cast<std::int64_t>(poison.size() * 2)));
    return {data + kGuard * 2, dtype, shape};
  }
  Words Read(const Tensor& tensor) {
    Words words(static_cast<std::size_t>(tensor.bytes() / 2 + 2 * kGuard));
    stream_->Copy(words.data(), static_cast<char*>(tensor.data) - kGuard * 2, static_cast<std::int64_t>(words.size() * 2));
    LYCIA_CHECK_OK(stream_->Synchronize());
    for (std::size_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(words[i], kPoison) << "written " << kGuard - i << " elements before the tensor";
      EXPECT_EQ(words[words.size() - 1 - i], kPoison) << "written " << kGuard - i << " elements behind the tensor";
    }
    return Words(words.begin() + kGuard, words.end() - kGuard);
  }
  static Values Widen(const Words& words) {
    Values values;
    for (const std::uint16_t w : words) values.push_back(FromBf16(w));
    return values;
  }
  static Values Floats(const Words& words) {
    std::vector<float> floats(words.size() / 2);
    std::memcpy(floats.data(), words.data(), floats.size() * sizeof(float));
    return Values(floats.begin(), floats.end());
  }

  // The largest error and its norm.
  struct Error {
    double largest = 0, norm = 0;
    std::size_t at = 0;
  };
  static Error Compare(const Values& actual, const Values& expected) {
    LYCIA_CHECK_EQ(actual.size(), expected.size());
    Error error;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      if (actual[i] == expected[i]) continue;  // infinities too
      const double distance = std::isfinite(actual[i]) ? std::abs(actual[i] - expected[i]) : INFINITY;
      error.norm += distance * distance;
      if (distance > error.largest) error.largest = distance, error.at = i;
    }
    error.norm = std::sqrt(error.norm);
    return error;
  }
  // floor: of one element, what f32 leaves where terms of size one cancel.
  static void ExpectNear(const char* what, const Values& actual, const Values& expected, const Values& rounded, double floor = 1e-5) {
    const Error error = Compare(actual, expected), allowed = Compare(rounded, expected);
    EXPECT_LE(error.norm, 2 * allowed.norm + floor * std::sqrt(static_cast<double>(actual.size()))) << what << ", norm of the error";
    // The largest is one draw of a rounding, often that of one row's delta: twice more.
    EXPECT_LE(error.largest, 4 * allowed.largest + floor)
        << what << " element " << error.at << ": " << actual[error.at] << " instead of " << expected[error.at];
  }

  // q, k, v are the parts of packed rows where H / G and sizes allow it (T = S), else tensors of their own.
  void Check(AttentionProblem p, bool packed, int seed) {
    SCOPED_TRACE(Describe(p) + (packed ? " packed" : ""));
    const auto random = [&](const char* name, std::int64_t n, double scale) {
      const RandomStream stream(static_cast<std::uint64_t>(seed), name, 0);
      Words words(static_cast<std::size_t>(n));
      for (std::size_t i = 0; i < words.size(); ++i) words[i] = ToBf16(scale * stream.Normal(i));
      return words;
    };
    const std::int64_t row = p.heads * p.head_dim, kv_row = p.kv_heads * p.head_dim;
    const Words q = random("q", p.samples * p.queries * row, 1.5), k = random("k", p.samples * p.keys * kv_row, 1.5),
                v = random("v", p.samples * p.keys * kv_row, 1);
    const auto put = [&](const Words& words, Shape shape) {
      return ConstTensor(Put(words.data(), static_cast<std::int64_t>(words.size() * 2)), DType::kBF16, shape);
    };
    AttentionForwardArgs args{.problem = p};
    if (packed) {
      Words qkv;
      for (std::int64_t t = 0; t < p.samples * p.queries; ++t) {
        const auto add = [&](const Words& words, std::int64_t width) {
          qkv.insert(qkv.end(), words.begin() + t * width, words.begin() + (t + 1) * width);
        };
        add(q, row), add(k, kv_row), add(v, kv_row);
      }
      const auto parts = SplitQkv(put(qkv, {p.samples, p.queries, row + 2 * kv_row}), p.heads, p.kv_heads);
      args.q = parts.q, args.k = parts.k, args.v = parts.v;
    } else {
      args.q = AsHeads(put(q, {p.samples, p.queries, row}), p.heads);
      args.k = AsHeads(put(k, {p.samples, p.keys, kv_row}), p.kv_heads);
      args.v = AsHeads(put(v, {p.samples, p.keys, kv_row}), p.kv_heads);
    }
    const Tensor out = Poisoned(DType::kBF16, {p.samples, p.queries, row});
    args.out = AsHeads(out, p.heads);
    args.log_sum_exp = Poisoned(DType::kF32, {p.samples, p.heads, p.queries});
    args.scratch = Poisoned(DType::kU8, {AttentionForwardScratchBytes(p)});
    AttentionForward(*stream_, args);
    ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();

    const Words dout = random("dout", p.samples * p.queries * row, 1);
    const Values wide_q = Widen(q), wide_k = Widen(k), wide_v = Widen(v), wide_dout = Widen(dout);
    const AttentionResults rounded = RoundedAttention(p, wide_q, wide_k, wide_v, wide_dout);
    Values expected(q.size()), log_sum_exp(rounded.log_sum_exp.size());
    reference::AttentionForward(p, wide_q.data(), wide_k.data(), wide_v.data(), expected.data(), log_sum_exp.data());
    const Words first = Read(out);
    ExpectNear("out", Widen(first), expected, rounded.out);
    double largest = 1;  // log_sum_exp is f32: a few of its units of the largest score
    for (const double x : log_sum_exp) largest = std::isfinite(x) ? std::max(largest, std::abs(x)) : largest;
    ExpectNear("log_sum_exp", Floats(Read(args.log_sum_exp)), log_sum_exp, log_sum_exp, 4e-6 * largest);
    AttentionForward(*stream_, args);
    EXPECT_EQ(Read(out), first);  // bit for bit

    const Tensor dq = Poisoned(DType::kBF16, {p.samples, p.queries, row});
    Tensor dk = Poisoned(DType::kBF16, {p.samples, p.keys, kv_row}), dv = Poisoned(DType::kBF16, {p.samples, p.keys, kv_row});
    const AttentionBackwardArgs backward{.problem = p,
                                         .q = args.q,
                                         .k = args.k,
                                         .v = args.v,
                                         .out = args.out,
                                         .dout = AsHeads(put(dout, {p.samples, p.queries, row}), p.heads),
                                         .log_sum_exp = args.log_sum_exp,
                                         .dq = AsHeads(dq, p.heads),
                                         .dk = AsHeads(dk, p.kv_heads),
                                         .dv = AsHeads(dv, p.kv_heads),
                                         .scratch = Poisoned(DType::kU8, {AttentionBackwardScratchBytes(p)})};
    AttentionBackward(*stream_, backward);
    ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();
    Values expected_dq(q.size()), expected_dk(k.size()), expected_dv(v.size());
    reference::AttentionBackward(p, wide_q.data(), wide_k.data(), wide_v.data(), wide_dout.data(), expected_dq.data(), expected_dk.data(),
                                 expected_dv.data());
    const Words gradients[] = {Read(dq), Read(dk), Read(dv)};
    ExpectNear("dq", Widen(gradients[0]), expected_dq, rounded.dq);
    ExpectNear("dk", Widen(gradients[1]), expected_dk, rounded.dk);
    ExpectNear("dv", Widen(gradients[2]), expected_dv, rounded.dv);
    AttentionBackward(*stream_, backward);
    EXPECT_EQ(Read(dq), gradients[0]);  // bit for bit
    EXPECT_EQ(Read(dk), gradients[1]);
    EXPECT_EQ(Read(dv), gradients[2]);
    Read(backward.scratch);  // its guards
    buffers_.clear();
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> buffers_;
};

AttentionProblem ProblemOf(const Size& z, MaskKind mask) {
  return {.dtype = DType::kBF16,
          .samples = z.B,
          .queries = z.T,
          .keys = z.S,
          .heads = z.H,
          .kv_heads = z.G,
          .head_dim = z.D,
          .scale = 1 / std::sqrt(static_cast<double>(z.D)),
          .mask = mask};
}

// Around the tiles of 64, 128, 160 and 192, one of everything, and more tiles than multiprocessors.
constexpr Size kSizes[] = {{1, 1, 1, 1, 1, 128},     {1, 64, 64, 1, 1, 128},  {1, 128, 128, 1, 1, 64},   {2, 127, 127, 2, 1, 64},
                           {1, 129, 129, 3, 3, 128}, {2, 161, 161, 4, 2, 64}, {2, 321, 321, 2, 2, 128},  {1, 515, 515, 2, 1, 128},
                           {1, 600, 600, 2, 1, 64},  {3, 33, 33, 40, 8, 128}, {6, 140, 140, 24, 24, 64}, {1, 1000, 1000, 1, 1, 64}};

class AttentionCudaSizeTest : public AttentionCudaTest, public ::testing::WithParamInterface<int> {};

TEST_P(AttentionCudaSizeTest, EqualsTheReference) {
  const Size& size = kSizes[GetParam()];
  Check(ProblemOf(size, MaskKind::kFull), GetParam() % 2 == 1, GetParam());
  Check(ProblemOf(size, MaskKind::kCausal), GetParam() % 2 == 0, 50 + GetParam());
}
INSTANTIATE_TEST_SUITE_P(Sizes, AttentionCudaSizeTest, ::testing::Range(0, static_cast<int>(std::size(kSizes))));

// Queries that are the last positions, as when generating; queries that see no key; keys that nobody sees.
TEST_F(AttentionCudaTest, OffsetsMoveTheMask) {
  AttentionProblem p = ProblemOf({2, 70, 300, 2, 1, 128}, MaskKind::kCausal);
  Check(p, false, 100);
  p.first_query = 230;
  Check(p, false, 101);
  p.first_query = 0, p.first_key = 200;
  Check(p, false, 102);
  p = ProblemOf({1, 500, 90, 2, 2, 64}, MaskKind::kCausal);
  Check(p, false, 103);
  p.first_key = 130;
  Check(p, false, 104);
  p.mask = MaskKind::kFull;
  Check(p, false, 105);
}

class AttentionCudaRandomTest : public AttentionCudaTest, public ::testing::WithParamInterface<int> {};

TEST_P(AttentionCudaRandomTest, EqualsTheReference) {
  constexpr int kShapes = 5;
  const RandomStream random(11, "shapes", 0);
  for (int i = GetParam() * kShapes; i < (GetParam() + 1) * kShapes; ++i) {
    const auto draw = [&](int k, std::int64_t below) {
      return static_cast<std::int64_t>(random.Uniform(static_cast<std::uint64_t>(8 * i + k)) * static_cast<double>(below));
    };
    const std::int64_t G = 1 + draw(0, 3), H = G * (1 + draw(1, 4)), T = 1 + draw(2, 400);
    const bool same = draw(3, 2) == 0;
    AttentionProblem p = ProblemOf({1 + draw(4, 3), T, same ? T : 1 + draw(5, 400), H, G, draw(6, 2) == 0 ? 64 : 128},
                                   draw(7, 2) == 0 ? MaskKind::kFull : MaskKind::kCausal);
    Check(p, same && i % 2 == 0, 200 + i);
    if (HasFatalFailure()) return;
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionCudaRandomTest, ::testing::Range(0, 5));

TEST_F(AttentionCudaTest, LargeScoresDoNotOverflow) {
  AttentionProblem p = ProblemOf({1, 300, 300, 1, 1, 128}, MaskKind::kCausal);
  p.scale = 4;
  Check(p, false, 300);
}

}  // namespace
}  // namespace lycia
