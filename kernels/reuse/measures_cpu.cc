#include <cmath>

#include "kernels/gemm/gemm.h"
#include "kernels/reuse/measures.h"

namespace lycia {

double ReuseMeasures::Cosine() const {
  const double norms = std::sqrt(dense_squares * reused_squares);
  return norms > 0 ? dot / norms : 1;
}

namespace cpu {

void CountReuse(Stream& stream, const CountReuseArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "CountReuse") || args.measures == nullptr) return;
  args.measures->rows += static_cast<double>(args.map.extent);
  args.measures->clusters += *args.map.size;
  if (args.meter == nullptr) return;
  args.measures->squares += args.meter->squares;
  args.measures->error_squares += args.meter->error_squares;
}

void CompareGradients(Stream&, const CompareGradientsArgs& args) {
  LYCIA_CHECK_EQ(args.dense.elements(), args.reused.elements());
  DispatchFloat(args.dense.dtype, [&]<typename T>() {
    const T *dense = args.dense.as<T>(), *reused = args.reused.as<T>();
    double dot = 0, dense_squares = 0, reused_squares = 0;
    for (std::int64_t i = 0; i < args.dense.elements(); ++i) {
      const double a = static_cast<double>(dense[i]), b = static_cast<double>(reused[i]);
      dot += a * b;
      dense_squares += a * a;
      reused_squares += b * b;
    }
    args.measures->dot += dot;
    args.measures->dense_squares += dense_squares;
    args.measures->reused_squares += reused_squares;
  });
}

void MappedBiasGradient(Stream& stream, const MappedBiasGradientArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "MappedBiasGradient")) return;
  ConstMatrix dout = args.dout;
  dout.rows = *args.map.size;
  cpu::BiasGradient(stream, {.dout = dout, .dbias = args.dbias});
}

}  // namespace cpu
}  // namespace lycia
