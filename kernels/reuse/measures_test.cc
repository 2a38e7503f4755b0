#include "kernels/reuse/measures.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/reuse/build_index_map.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::CpuStream;
using testing::TestTensor;

// A map of rows, with its memory.
struct BuiltMap {
  BuiltMap(Stream& stream, const TestTensor& rows) : memory(DType::kU8, {IndexMapBytes(rows.tensor().shape.dim(0))}) {
    const std::int64_t M = rows.tensor().shape.dim(0);
    map = IndexMapIn(memory.tensor().data, MapDim::kM, MapKind::kPartition, M);
    const TestTensor workspace(DType::kU8, {BuildIndexMapBytes({}, rows.tensor().dtype, M)});
    BuildIndexMap(stream, {.rows = AsMatrix(rows.tensor()), .map = map, .workspace = workspace.tensor().data});
    EXPECT_TRUE(stream.Synchronize().ok());
  }
  TestTensor memory;
  IndexMap map;
};

TEST(ReuseMeasuresTest, AddUpOverMaps) {
  const CpuStream stream;
  const TestTensor rows(DType::kF32, {4, 1}, {1, 2, 1, 1}), distinct(DType::kF32, {2, 1}, {1, 2});
  const BuiltMap a(*stream, rows), b(*stream, distinct);
  ReuseMeasures measures;
  const ReuseMeter meter{.squares = 16, .error_squares = 4};
  CountReuse(*stream, {.map = a.map, .measures = &measures});
  CountReuse(*stream, {.map = b.map, .meter = &meter, .measures = &measures});
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(measures.rows, 6);
  EXPECT_EQ(measures.clusters, 4);
  EXPECT_DOUBLE_EQ(measures.UniqueRatio(), 4.0 / 6);
  EXPECT_DOUBLE_EQ(measures.RelativeError(), 0.5);
}

TEST(ReuseMeasuresTest, NothingCountedIsNoReuseAndNoError) {
  const ReuseMeasures none;
  EXPECT_EQ(none.UniqueRatio(), 1);
  EXPECT_EQ(none.RelativeError(), 0);
  EXPECT_EQ(none.Cosine(), 1);
}

TEST(ReuseMeasuresTest, CosineOfGradients) {
  const CpuStream stream;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    ReuseMeasures measures;
    const TestTensor dense(dtype, {3}, {1, 2, 3}), reused(dtype, {3}, {3, 2, 1});
    CompareGradients(*stream, {.dense = dense, .reused = reused, .measures = &measures});
    ASSERT_TRUE(stream->Synchronize().ok());
    EXPECT_DOUBLE_EQ(measures.Cosine(), 10.0 / 14);
    CompareGradients(*stream, {.dense = dense, .reused = dense, .measures = &measures});
    EXPECT_DOUBLE_EQ(measures.Cosine(), 24.0 / 28) << "of both pairs as one vector each";
  }
}

TEST(MappedBiasGradientTest, AddsTheClustersRowsAlone) {
  const CpuStream stream;
  const TestTensor rows(DType::kF32, {4, 1}, {5, 6, 5, 6});
  const BuiltMap built(*stream, rows);
  const TestTensor dout(DType::kF32, {4, 2}, {1, 2, 3, 4, 100, 100, 100, 100}), dbias(DType::kF32, {2}, {10, 20});
  MappedBiasGradient(*stream, {.map = built.map, .dout = AsMatrix(dout.tensor()), .dbias = dbias});
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_EQ(dbias.values(), (std::vector<double>{14, 26}));
}

}  // namespace
}  // namespace lycia
