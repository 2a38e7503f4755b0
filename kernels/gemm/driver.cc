#include "kernels/gemm/driver.h"

#include <algorithm>

#include "kernels/gemm/blocking.h"
#include "runtime/core/check.h"

namespace lycia::cpu {
namespace {

struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};
Range PartOf(std::int64_t total, std::int64_t part, std::int64_t parts) { return {total * part / parts, total * (part + 1) / parts}; }

// Rows of panel p of a block; panels of an even_rows kernel differ by at most one row.
Range PanelRows(const MicroKernel& kernel, std::int64_t rows, std::int64_t p) {
  if (kernel.even_rows) return PartOf(rows, p, (rows + kernel.rows - 1) / kernel.rows);
  return {p * kernel.rows, std::min(rows, (p + 1) * kernel.rows)};
}

// Rows of c that a thread computes: whole panels where a part of one costs as much.
Range ThreadRows(const MicroKernel& kernel, std::int64_t m, std::int64_t part, std::int64_t parts) {
  if (kernel.even_rows) return PartOf(m, part, parts);
  const Range panels = PartOf((m + kernel.rows - 1) / kernel.rows, part, parts);
  return {panels.begin * kernel.rows, std::min(m, panels.end * kernel.rows)};
}

// Where lanes and depth of an operand stand in memory.
struct Source {
  const char* data;
  std::int64_t ld, k;
  bool k_contiguous, bf16;

  // Lanes from `lane`, words from `word` of `words`.
  PackArgs At(const MicroKernel& kernel, std::int64_t lane, std::int64_t lanes, std::int64_t word, std::int64_t words, void* to) const {
    const std::int64_t elements = kernel.pairs ? 2 : 1, first = word * elements;
    const std::int64_t at = k_contiguous ? lane * ld + first : first * ld + lane;
    return {.from = data + at * (bf16 ? 2 : 4),
            .ld = ld,
            .k_contiguous = k_contiguous,
            .bf16 = bf16,
            .lanes = lanes,
            .depth = std::max<std::int64_t>(std::min(k - first, words * elements), 0),
            .words = words,
            .to = to};
  }
};
Source SourceOfA(const GemmArgs& args) {
  return {static_cast<const char*>(args.a.data), args.a.ld, args.transpose_a ? args.a.rows : args.a.cols, !args.transpose_a,
          args.a.dtype == DType::kBF16};
}
Source SourceOfB(const ConstMatrix& b, bool transposed) {
  return {static_cast<const char*>(b.data), b.ld, transposed ? b.cols : b.rows, transposed, b.dtype == DType::kBF16};
}

// What stands across the depth is packed some rows at a time, all panels of them, so that memory is read in long runs.
constexpr std::int64_t kChunkWords = 32;
template <typename Pack>
void ForEachChunk(const Source& source, std::int64_t words, const Pack& pack) {
  if (source.k_contiguous) return pack(0, words);
  for (std::int64_t first = 0; first < words; first += kChunkWords) pack(first, std::min(kChunkWords, words - first));
}

template <typename M>
EpilogueOperand Operand(const M& matrix) {
  return {const_cast<void*>(static_cast<const void*>(matrix.data)), matrix.ld, matrix.dtype == DType::kBF16};
}
// The same, moved to a row and a column.
EpilogueOperand At(const EpilogueOperand& operand, std::int64_t row, std::int64_t col) {
  if (operand.data == nullptr) return {};
  return {static_cast<char*>(operand.data) + (row * operand.ld + col) * (operand.bf16 ? 2 : 4), operand.ld, operand.bf16};
}

// One thread's part of a product.
class Part {
 public:
  Part(const MicroKernel& kernel, const GemmArgs& args, const GemmBlocking& blocking, bool sums_in_c, char* workspace)
      : kernel_(kernel), args_(args), blocking_(blocking), sums_in_c_(sums_in_c) {
    a_ = workspace;
    b_ = a_ + blocking.a_bytes;
    sums_ = reinterpret_cast<float*>(b_ + blocking.b_bytes);
    epilogue_.c = Operand(args.c);
    epilogue_.bias = {const_cast<void*>(args.bias.data), 0, args.bias.dtype == DType::kBF16};
    epilogue_.gelu = args.gelu;
    epilogue_.pre = Operand(args.pre_activation);
    epilogue_.gelu_input = Operand(args.gelu_input);
    epilogue_.residual = Operand(args.residual);
    epilogue_.add_c = args.accumulate && !sums_in_c;
    has_epilogue_ = !sums_in_c || args.gelu || epilogue_.bias.data != nullptr || epilogue_.pre.data != nullptr ||
                    epilogue_.gelu_input.data != nullptr || epilogue_.residual.data != nullptr;
  }

  // Rows of c, and panels of columns.
  void Compute(const Range& rows, const Range& panels) {
    if (rows.size() == 0 || panels.size() == 0) return;
    if (kernel_.begin != nullptr) kernel_.begin();
    const std::int64_t block_panels = blocking_.block_cols / kernel_.cols;
    for (std::int64_t i = rows.begin; i < rows.end; i += blocking_.block_rows) {
      const Range block_rows = {i, std::min(i + blocking_.block_rows, rows.end)};
      if (blocking_.whole_a) PackA(block_rows, 0, blocking_.words);
      for (std::int64_t j = panels.begin; j < panels.end; j += block_panels) {
        ComputeBlock(block_rows, {j, std::min(j + block_panels, panels.end)});
      }
    }
    if (kernel_.end != nullptr) kernel_.end();
  }

 private:
  void PackA(const Range& rows, std::int64_t word, std::int64_t words) {
    const Source source = SourceOfA(args_);
    const std::int64_t panels = (rows.size() + kernel_.rows - 1) / kernel_.rows;
    ForEachChunk(source, words, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t p = 0; p < panels; ++p) {
        const Range panel = PanelRows(kernel_, rows.size(), p);
        char* to = a_ + p * blocking_.a_panel_bytes + first * kernel_.rows * kWordBytes;
        kernel_.pack_a(source.At(kernel_, rows.begin + panel.begin, panel.size(), word + first, count, to));
      }
    });
  }

  void PackB(const Range& panels, std::int64_t word, std::int64_t words) {
    const Source source = SourceOfB(args_.b, args_.transpose_b);
    ForEachChunk(source, words, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        const std::int64_t col = p * kernel_.cols, cols = std::min<std::int64_t>(kernel_.cols, args_.c.cols - col);
        char* to = b_ + ((p - panels.begin) * words + first) * kernel_.cols * kWordBytes;
        kernel_.pack_b(source.At(kernel_, col, cols, word + first, count, to));
      }
    });
  }

  void ComputeBlock(const Range& rows, const Range& panels) {
    const bool packed = args_.packed_b.data != nullptr;
    const std::int64_t blocks = blocking_.depth_blocks(), row_panels = (rows.size() + kernel_.rows - 1) / kernel_.rows;
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t word = block * blocking_.block_words, words = std::min(blocking_.block_words, blocking_.words - word);
      if (!blocking_.whole_a) PackA(rows, word, words);
      if (!packed) PackB(panels, word, words);
      const std::int64_t b_panel_bytes = kernel_.cols * (packed ? blocking_.words : words) * kWordBytes;
      const char* b =
          packed ? static_cast<const char*>(args_.packed_b.data) + panels.begin * b_panel_bytes + word * kernel_.cols * kWordBytes : b_;
      const std::int64_t soon_bytes = words * kernel_.cols * kWordBytes / row_panels / 64 * 64;
      for (std::int64_t j = panels.begin; j < panels.end; ++j, b += b_panel_bytes) {
        const std::int64_t col = j * kernel_.cols;
        for (std::int64_t p = 0; p < row_panels; ++p) {
          const Range panel = PanelRows(kernel_, rows.size(), p);
          TileArgs tile = {.a = a_ + p * blocking_.a_panel_bytes + (blocking_.whole_a ? word : 0) * kernel_.rows * kWordBytes,
                           .b = b,
                           .words = words,
                           .rows = static_cast<int>(panel.size()),
                           .cols = static_cast<int>(std::min<std::int64_t>(kernel_.cols, args_.c.cols - col)),
                           .add = block > 0 || (sums_in_c_ && args_.accumulate),
                           .soon = packed && j + 1 < panels.end ? b + b_panel_bytes + p * soon_bytes : nullptr,
                           .soon_bytes = soon_bytes};
          if (sums_in_c_) {
            tile.c = static_cast<float*>(args_.c.data) + (rows.begin + panel.begin) * args_.c.ld + col;
            tile.ld = args_.c.ld;
          } else {
            const std::int64_t slot = blocks == 1 ? 0 : (j - panels.begin) * row_panels + p;
            tile.c = sums_ + slot * kernel_.rows * kernel_.cols;
            tile.ld = kernel_.cols;
          }
          kernel_.tile(tile);
          if (has_epilogue_ && block + 1 == blocks) Finish(tile, rows.begin + panel.begin, col);
        }
      }
    }
  }

  void Finish(const TileArgs& tile, std::int64_t row, std::int64_t col) const {
    EpilogueArgs e = epilogue_;
    e.sum = tile.c;
    e.sum_ld = tile.ld;
    e.rows = tile.rows;
    e.cols = tile.cols;
    for (EpilogueOperand* operand : {&e.c, &e.pre, &e.gelu_input, &e.residual}) *operand = At(*operand, row, col);
    e.bias = At(e.bias, 0, col);
    kernel_.epilogue(e);
  }

  const MicroKernel& kernel_;
  const GemmArgs& args_;
  const GemmBlocking& blocking_;
  bool sums_in_c_, has_epilogue_;
  char *a_, *b_;
  float* sums_;
  EpilogueArgs epilogue_;
};

}  // namespace

void MultiplyBlocked(const MicroKernel& kernel, const GemmArgs& args, ThreadPool& pool) {
  const std::int64_t workspace_bytes = static_cast<std::int64_t>(pool.workspace(0).size());
  LYCIA_CHECK_GE(workspace_bytes, kLeastGemmWorkspace) << "the stream's workspace (CpuOptions) is too small for Gemm ";
  const bool sums_in_c = args.c.dtype == DType::kF32;
  const GemmBlocking blocking = ChooseBlocking(kernel,
                                               {.m = args.c.rows,
                                                .n = args.c.cols,
                                                .k = args.transpose_a ? args.a.rows : args.a.cols,
                                                .packed_b = args.packed_b.data != nullptr,
                                                .sums_in_c = sums_in_c,
                                                .threads = pool.threads()},
                                               workspace_bytes);
  LYCIA_CHECK_LE(blocking.a_bytes + blocking.b_bytes + blocking.sum_bytes, workspace_bytes);
  pool.Run([&](int thread) {
    const Range rows = ThreadRows(kernel, args.c.rows, thread / blocking.col_parts, blocking.row_parts);
    const Range panels = PartOf(PanelsOf(kernel, args.c.cols), thread % blocking.col_parts, blocking.col_parts);
    Part(kernel, args, blocking, sums_in_c, pool.workspace(thread).data()).Compute(rows, panels);
  });
}

std::int64_t PackedBytes(const MicroKernel& kernel, std::int64_t k, std::int64_t n) {
  return PanelsOf(kernel, n) * kernel.cols * WordsOf(kernel, k) * kWordBytes;
}

void PackBlocked(const MicroKernel& kernel, const PackMatrixArgs& args, ThreadPool& pool) {
  const Source source = SourceOfB(args.b, args.transpose_b);
  const std::int64_t words = WordsOf(kernel, args.to.k), panel_bytes = kernel.cols * words * kWordBytes;
  pool.Run([&](int thread) {
    const Range panels = PartOf(PanelsOf(kernel, args.to.n), thread, pool.threads());
    ForEachChunk(source, words, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        const std::int64_t col = p * kernel.cols, cols = std::min<std::int64_t>(kernel.cols, args.to.n - col);
        char* to = static_cast<char*>(args.to.data) + p * panel_bytes + first * kernel.cols * kWordBytes;
        kernel.pack_b(source.At(kernel, col, cols, first, count, to));
      }
    });
  });
}

}  // namespace lycia::cpu
