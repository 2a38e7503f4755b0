#include "kernels/parts/bias.h"

namespace lycia::cpu {

void AddBias(const AddBiasArgs& args) {
  const Matrix rows = AsMatrix(args.rows);
  LYCIA_CHECK_EQ(args.bias.elements(), rows.cols);
  DispatchFloat(args.rows.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      for (std::int64_t c = 0; c < rows.cols; ++c) args.rows.as<T>()[r * rows.cols + c] += args.bias.as<T>()[c];
    }
  });
}

}  // namespace lycia::cpu
