#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/loss/loss_row.h"
#include "kernels/parts/loss_part.h"

namespace lycia::cpu {

void RowLargest(Stream& stream, const RowLargestArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.logits);
  LYCIA_CHECK_EQ(args.largest.elements(), matrix.rows);
  DispatchStored(args.logits.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* logits = args.logits.as<T>();
    A* largest = args.largest.as<A>();
    const Work work{.count = matrix.rows, .bytes_each = 1 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        for (std::int64_t r = begin; r < end; ++r) {
          largest[r] = LargestLogit<Vector<A, decltype(isa)::value>>(logits + r * matrix.cols, args.part.valid);
        }
      });
    });
  });
}

void RowExpSums(Stream& stream, const RowExpSumsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.logits);
  LYCIA_CHECK(args.labels.elements() == matrix.rows && args.sums.elements() == 2 * matrix.rows) << matrix.rows << " rows ";
  const std::int32_t* labels = args.labels.as<std::int32_t>();
  for (std::int64_t r = 0; r < matrix.rows; ++r) {
    if (labels[r] >= -1 && labels[r] < args.part.vocabulary) continue;
    return stream.Fail(InvalidArgument("label ", labels[r], " at place ", r, " of the micro-batch is outside [-1, ", args.part.vocabulary,
                                       "); tokenize the data with the model's tokenizer, or raise the model's vocabulary"));
  }
  DispatchStored(args.logits.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* logits = args.logits.as<T>();
    const A* largest = args.largest.as<A>();
    A* sums = args.sums.as<A>();
    const Work work{.count = matrix.rows, .bytes_each = 1 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        for (std::int64_t r = begin; r < end; ++r) {
          const T* row = logits + r * matrix.cols;
          const std::int64_t label = labels[r] - args.part.first;
          sums[r] = ExpSum<Vector<A, decltype(isa)::value>>(row, args.part.valid, largest[r]);
          sums[matrix.rows + r] = labels[r] >= 0 && label >= 0 && label < args.part.valid ? static_cast<A>(row[label]) : A(0);
        }
      });
    });
  });
}

void CrossEntropyPart(Stream& stream, const CrossEntropyPartArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.logits);
  const std::int32_t* labels = args.labels.as<std::int32_t>();
  if (args.sample_losses != nullptr) std::fill_n(args.sample_losses, args.samples, 0.0);
  if (args.sample_hits != nullptr) std::fill_n(args.sample_hits, args.samples, 0.0);
  DispatchStored(args.logits.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const A *largest = args.largest.as<A>(), *sums = args.sums.as<A>();
    if (args.sample_losses != nullptr && args.reports) {
      for (std::int64_t r = 0; r < matrix.rows; ++r) {
        if (labels[r] < 0) continue;
        args.sample_losses[(args.first_row + r) / args.length] +=
            std::log(static_cast<double>(sums[r])) + static_cast<double>(largest[r]) - static_cast<double>(sums[matrix.rows + r]);
      }
    }
    if (args.sample_hits != nullptr && args.reports) {
      for (std::int64_t r = 0; r < matrix.rows; ++r) {
        const bool hit = labels[r] >= 0 && sums[matrix.rows + r] >= largest[r];
        args.sample_hits[(args.first_row + r) / args.length] += hit ? 1 : 0;
      }
    }
    if (args.dlogits.data == nullptr) return;
    const T* logits = args.logits.as<T>();
    T* dlogits = args.dlogits.as<T>();
    const std::int64_t valid = args.part.valid;
    const Work work{.count = matrix.rows, .bytes_each = 2 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        for (std::int64_t r = begin; r < end; ++r) {
          T* gradient = dlogits + r * matrix.cols;
          const std::int64_t zeros_from = labels[r] < 0 ? 0 : valid;  // the padding, or a row that is no loss token
          if (labels[r] >= 0) {
            WriteLossGradient<Vector<A, decltype(isa)::value>>(logits + r * matrix.cols, valid, largest[r], static_cast<double>(sums[r]),
                                                               labels[r] - args.part.first, args.scale, gradient);
          }
          for (std::int64_t v = zeros_from; v < matrix.cols; ++v) gradient[v] = T(A(0));
        }
      });
    });
  });
}

}  // namespace lycia::cpu
