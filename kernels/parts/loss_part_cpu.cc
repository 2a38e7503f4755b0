#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/parts/loss_part.h"

namespace lycia::cpu {

void RowLargest(const RowLargestArgs& args) {
  const ConstMatrix logits = AsMatrix(args.logits);
  LYCIA_CHECK_EQ(args.largest.elements(), logits.rows);
  DispatchFloat(args.logits.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < logits.rows; ++r) {
      T largest = -std::numeric_limits<T>::infinity();
      for (std::int64_t v = 0; v < args.part.valid; ++v) largest = std::max(largest, args.logits.as<T>()[r * logits.cols + v]);
      args.largest.as<T>()[r] = largest;
    }
  });
}

void RowExpSums(Stream& stream, const RowExpSumsArgs& args) {
  const ConstMatrix logits = AsMatrix(args.logits);
  LYCIA_CHECK(args.labels.elements() == logits.rows && args.sums.elements() == 2 * logits.rows) << logits.rows << " rows ";
  const std::int32_t* labels = args.labels.as<std::int32_t>();
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    if (labels[r] >= -1 && labels[r] < args.part.vocabulary) continue;
    return stream.Fail(InvalidArgument("label ", labels[r], " at place ", r, " of the micro-batch is outside [-1, ", args.part.vocabulary,
                                       "); tokenize the data with the model's tokenizer, or raise the model's vocabulary"));
  }
  DispatchFloat(args.logits.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < logits.rows; ++r) {
      const T* row = args.logits.as<T>() + r * logits.cols;
      const T largest = args.largest.as<T>()[r];
      T sum = 0;
      for (std::int64_t v = 0; v < args.part.valid; ++v) sum += std::exp(row[v] - largest);
      const std::int64_t label = labels[r] - args.part.first;
      args.sums.as<T>()[r] = sum;
      args.sums.as<T>()[logits.rows + r] = labels[r] >= 0 && label >= 0 && label < args.part.valid ? row[label] : T(0);
    }
  });
}

void CrossEntropyPart(const CrossEntropyPartArgs& args) {
  const ConstMatrix logits = AsMatrix(args.logits);
  const std::int32_t* labels = args.labels.as<std::int32_t>();
  if (args.sample_losses != nullptr) std::fill_n(args.sample_losses, args.samples, 0.0);
  DispatchFloat(args.logits.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < logits.rows; ++r) {
      const T largest = args.largest.as<T>()[r], sum = args.sums.as<T>()[r], at_label = args.sums.as<T>()[logits.rows + r];
      if (labels[r] >= 0 && args.sample_losses != nullptr && args.reports) {
        args.sample_losses[(args.first_row + r) / args.length] +=
            std::log(static_cast<double>(sum)) + static_cast<double>(largest) - static_cast<double>(at_label);
      }
      if (args.dlogits.data == nullptr) continue;
      const T* row = args.logits.as<T>() + r * logits.cols;
      T* gradient = args.dlogits.as<T>() + r * logits.cols;
      const T factor = labels[r] < 0 ? T(0) : static_cast<T>(args.scale / static_cast<double>(sum));
      for (std::int64_t v = 0; v < logits.cols; ++v) gradient[v] = v < args.part.valid ? std::exp(row[v] - largest) * factor : T(0);
      const std::int64_t label = labels[r] - args.part.first;
      if (labels[r] >= 0 && label >= 0 && label < args.part.valid) gradient[label] -= static_cast<T>(args.scale);
    }
  });
}

}  // namespace lycia::cpu
