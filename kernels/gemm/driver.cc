#include "kernels/gemm/driver.h"

#include <algorithm>

#include "kernels/gemm/blocking.h"
#include "kernels/gemm/panels.h"
#include "runtime/core/check.h"

namespace lycia::cpu {
namespace {

// What stands across the depth is packed some rows at a time, all panels of them, so that memory is read in long runs.
constexpr std::int64_t kChunkWords = 32;
template <typename Pack>
void ForEachChunk(bool across, std::int64_t words, const Pack& pack) {
  if (!across) return pack(0, words);
  for (std::int64_t first = 0; first < words; first += kChunkWords) pack(first, std::min(kChunkWords, words - first));
}

// An operand moved by elements, or to a row and a column.
EpilogueOperand Moved(const EpilogueOperand& operand, std::int64_t elements) {
  if (operand.data == nullptr) return {};
  return {static_cast<char*>(operand.data) + elements * (operand.bf16 ? 2 : 4), operand.ld, operand.bf16};
}

// One thread's part of a product.
class Part {
 public:
  Part(const MicroKernel& kernel, const BlockedProduct& product, const GemmBlocking& blocking, bool sums_in_c, char* workspace)
      : kernel_(kernel),
        product_(product),
        blocking_(blocking),
        run_words_(RunWords(kernel, product.depth)),
        a_in_place_(product.a.find != nullptr),
        b_in_place_(product.b.find != nullptr && product.packed_b == nullptr),
        b_by_panel_(blocking.b_by_panel),
        sums_in_c_(sums_in_c),
        accumulate_(product.to.add_c),
        epilogue_(product.to) {
    a_ = workspace;
    b_ = a_ + blocking.a_bytes;
    sums_ = reinterpret_cast<float*>(b_ + blocking.b_bytes);
    epilogue_.add_c = accumulate_ && !sums_in_c;
    const bool changes = epilogue_.gelu || epilogue_.relu || epilogue_.scale.data != nullptr || epilogue_.bias.data != nullptr ||
                         epilogue_.pre.data != nullptr || epilogue_.gelu_input.data != nullptr || epilogue_.residual.data != nullptr;
    rounds_ = kernel.rounds && !changes && !accumulate_ && product.to.c.bf16 && product.grid.cols == 0 && blocking.depth_blocks() == 1 &&
              product.to.c.ld * 2 % 64 == 0;
    has_epilogue_ = changes || (!sums_in_c && !rounds_);
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
    const RowPanels panels(kernel_, rows.size());
    ForEachChunk(product_.a.across && !a_in_place_, words, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t p = 0; p < panels.count; ++p) {
        const Range panel = panels.At(p);
        char* to = a_ + p * blocking_.a_panel_bytes + (a_in_place_ ? 0 : first * kernel_.rows * kWordBytes);
        (a_in_place_ ? product_.a.find : product_.a.pack)(
            product_.a.operand, kernel_,
            {.lane = rows.begin + panel.begin,
             .lanes = panel.size(),
             .word = word + first,
             .words = count,
             .to = to,
             .room = a_in_place_ ? to + RoundUp(blocking_.a_addresses * kAddressBytes, 64) : nullptr});
      }
    });
  }

  void PackB(const Range& panels, std::int64_t word, std::int64_t words) {
    if (b_in_place_) {
      const std::int64_t first = ColumnsOf(kernel_, product_.cols, panels.begin).run;
      const std::int64_t last = ColumnsOf(kernel_, product_.cols, panels.end - 1).run;
      for (std::int64_t run = first; run <= last; ++run) {
        product_.b.find(product_.b.operand, kernel_, {.run = run, .word = word, .words = words, .to = AddressesOfB(run - first)});
      }
      return;
    }
    ForEachChunk(product_.b.across, words, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        const Columns at = ColumnsOf(kernel_, product_.cols, p);
        char* to = b_ + ((p - panels.begin) * words + first) * kernel_.cols * kWordBytes;
        product_.b.pack(product_.b.operand, kernel_,
                        {.run = at.run, .lane = at.lane, .lanes = at.lanes, .word = word + first, .words = count, .to = to});
      }
    });
  }
  const char** AddressesOfB(std::int64_t run) const { return reinterpret_cast<const char**>(b_) + run * blocking_.b_addresses; }

  void ComputeBlock(const Range& rows, const Range& panels) {
    const bool packed = product_.packed_b != nullptr;
    const RowPanels panels_of_rows(kernel_, rows.size());
    const std::int64_t blocks = blocking_.depth_blocks(), row_panels = panels_of_rows.count;
    const std::int64_t first_run = ColumnsOf(kernel_, product_.cols, panels.begin).run;
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t word = block * blocking_.block_words, words = std::min(blocking_.block_words, blocking_.words - word);
      if (!blocking_.whole_a) PackA(rows, word, words);
      const std::int64_t b_panel_bytes = kernel_.cols * (packed ? blocking_.words : words) * kWordBytes;
      const std::int64_t most_bytes = b_by_panel_ ? std::min(kSmallB, blocking_.b_bytes - kSlackBytes) : kSmallB;
      const bool small_b = blocks == 1 && panels.size() * b_panel_bytes <= most_bytes;
      const bool by_panel = b_by_panel_ && !small_b;
      if (!packed && !by_panel) PackB(panels, word, words);
      const char* b =
          packed ? static_cast<const char*>(product_.packed_b) + panels.begin * b_panel_bytes + word * kernel_.cols * kWordBytes : b_;
      const std::int64_t soon_bytes = words * kernel_.cols * kWordBytes / row_panels / 64 * 64;
      const bool last = block + 1 == blocks;
      // Where a stands in place: the first piece of this block of the depth, within what was asked of `find`.
      const std::int64_t groups = a_in_place_ && kernel_.group_rows > 0 ? kernel_.rows / kernel_.group_rows : 0;
      const std::int64_t in_run = a_in_place_ ? word % run_words_ : 0, first_words = run_words_ - in_run;
      const std::int64_t first_group = groups > 0 && blocking_.whole_a ? word / run_words_ * groups : 0;
      const std::int64_t skip_words = blocking_.whole_a ? in_run : 0;
      TileArgs tile = {.words = words, .add = block > 0 || (sums_in_c_ && accumulate_), .run_words = run_words_, .soon_bytes = soon_bytes};
      const auto compute = [&](std::int64_t j, std::int64_t p) {
        const Columns at = ColumnsOf(kernel_, product_.cols, j);
        const Range panel = panels_of_rows.At(p);
        const char *a = a_ + p * blocking_.a_panel_bytes, *b_panel = b + (by_panel ? 0 : (j - panels.begin) * b_panel_bytes);
        tile.a = a + (blocking_.whole_a ? word : 0) * kernel_.rows * kWordBytes;
        tile.b = b_panel;
        tile.rows = static_cast<int>(panel.size());
        tile.cols = static_cast<int>(at.lanes);
        tile.soon = packed && j + 1 < panels.end ? b_panel + b_panel_bytes + p * soon_bytes : nullptr;
        if (a_in_place_) {
          tile.first_words = first_words;
          tile.soon_bytes = soon_bytes;
          if (groups > 0) {
            tile.a_groups = reinterpret_cast<const RowGroup*>(a) + first_group;
            tile.skip_words = skip_words;
          } else {
            tile.a_rows = reinterpret_cast<const char* const*>(a);
            if (j == panels.begin && p + 1 < row_panels) FetchSoon(tile, a + blocking_.a_panel_bytes, word, words);
          }
        }
        if (b_in_place_) {
          tile.b_elements = AddressesOfB(at.run - first_run);
          tile.b_offset = at.lane * (kernel_.pairs ? 2 : 4);
        }
        if (sums_in_c_) {
          tile.c = static_cast<float*>(product_.to.c.data) + (rows.begin + panel.begin) * product_.to.c.ld + at.col;
          tile.ld = product_.to.c.ld;
        } else {
          const std::int64_t slot = blocks == 1 ? 0 : (j - panels.begin) * row_panels + p;
          tile.c = sums_ + slot * kernel_.rows * kernel_.cols;
          tile.ld = kernel_.cols;
          if (rounds_) {
            const EpilogueOperand& to = product_.to.c;
            tile.rounded = static_cast<char*>(to.data) + ((rows.begin + panel.begin) * to.ld + at.col) * 2;
            tile.rounded_ld = to.ld;
          }
          if (last && product_.grid.cols == 0) FetchC(rows.begin + panel.begin, at.col, panel.size());
        }
        (a_in_place_ ? kernel_.tile_rows : b_in_place_ ? kernel_.tile_columns : kernel_.tile)(tile);
        if (has_epilogue_ && last) Finish(tile, rows.begin + panel.begin, at.col);
      };
      // The longer loop outside reads its operand once. All of a small b stays near, and then rows of c are written whole.
      if (small_b) {
        for (std::int64_t p = 0; p < row_panels; ++p) {
          for (std::int64_t j = panels.begin; j < panels.end; ++j) compute(j, p);
        }
        continue;
      }
      for (std::int64_t j = panels.begin; j < panels.end; ++j) {
        if (by_panel) PackB({j, j + 1}, word, words);
        for (std::int64_t p = 0; p < row_panels; ++p) {
          if (by_panel && j + 1 < panels.end) FetchB(j + 1, word, words, p, row_panels);
          compute(j, p);
        }
      }
    }
  }

  // Part `part` of `parts` of what the next panel of b will be packed from.
  void FetchB(std::int64_t panel, std::int64_t word, std::int64_t words, std::int64_t part, std::int64_t parts) const {
    const Columns at = ColumnsOf(kernel_, product_.cols, panel);
    product_.b.fetch(product_.b.operand, kernel_, {.run = at.run, .lane = at.lane, .lanes = at.lanes, .word = word, .words = words}, part,
                     parts);
  }

  // Rows of the next panel of a that is read in place: those of its last piece, if they lie side by side, as pixels do.
  void FetchSoon(TileArgs& tile, const char* next, std::int64_t word, std::int64_t words) const {
    const std::int64_t piece = (word % run_words_ + words - 1) / run_words_, bytes = std::min(words, run_words_) * kWordBytes;
    const auto* rows = reinterpret_cast<const char* const*>(next) + piece * kernel_.rows;
    if (tile.rows < 2 || rows[1] - rows[0] != bytes || words == 0) return;
    tile.soon = rows[0];
    tile.soon_bytes = std::max<std::int64_t>(tile.rows * bytes / words, 1) * words;
  }

  // c that is written through sums: it should be there when the tile is done.
  void FetchC(std::int64_t row, std::int64_t col, std::int64_t rows) const {
    const EpilogueOperand& c = product_.to.c;
    const std::int64_t bytes = c.bf16 ? 2 : 4;
    for (std::int64_t i = 0; i < rows; ++i) __builtin_prefetch(static_cast<const char*>(c.data) + ((row + i) * c.ld + col) * bytes, 1);
  }

  void Finish(const TileArgs& tile, std::int64_t row, std::int64_t col) const {
    EpilogueArgs e = epilogue_;
    e.cols = tile.cols;
    e.sum_ld = tile.ld;
    e.scale = Moved(e.scale, col);
    e.bias = Moved(e.bias, col);
    const RowGrid& grid = product_.grid;
    for (int done = 0; done < tile.rows; done += e.rows) {
      const std::int64_t at = row + done, j = grid.cols > 0 ? at % grid.cols : 0, line = grid.cols > 0 ? at / grid.cols : 0;
      e.rows = grid.cols > 0 ? static_cast<int>(std::min<std::int64_t>(tile.rows - done, grid.cols - j)) : tile.rows;
      e.sum = tile.c + done * tile.ld;
      const auto place = [&](const EpilogueOperand& operand) {
        if (grid.cols == 0) return at * operand.ld + col;
        return line / grid.rows * grid.plane + line % grid.rows * grid.down + j * operand.ld + col;
      };
      e.c = Moved(epilogue_.c, place(epilogue_.c));
      e.pre = Moved(epilogue_.pre, place(epilogue_.pre));
      e.gelu_input = Moved(epilogue_.gelu_input, place(epilogue_.gelu_input));
      e.residual = Moved(epilogue_.residual, place(epilogue_.residual));
      kernel_.epilogue(e);
    }
  }

  const MicroKernel& kernel_;
  const BlockedProduct& product_;
  const GemmBlocking& blocking_;
  const std::int64_t run_words_;
  const bool a_in_place_, b_in_place_, b_by_panel_, sums_in_c_, accumulate_;
  bool has_epilogue_;
  // Sums that are only rounded, and come from one block of the depth, leave the registers so; where rows begin at cache lines, since one
  // store would touch two of them elsewhere.
  bool rounds_;
  char *a_, *b_;
  float* sums_;
  EpilogueArgs epilogue_;
};

}  // namespace

std::int64_t RunWords(const MicroKernel& kernel, const Runs& depth) {
  const std::int64_t words = kernel.pairs ? (depth.length + 1) / 2 : depth.length;
  return RoundUp(words, kernel.run_unit);
}
std::int64_t AllWords(const MicroKernel& kernel, const Runs& depth) {
  return RoundUp(depth.count * RunWords(kernel, depth), kernel.word_unit);
}
std::int64_t RunPanels(const MicroKernel& kernel, const Runs& cols) {
  return std::max<std::int64_t>((cols.length + kernel.cols - 1) / kernel.cols, 1);
}

void MultiplyBlocked(const MicroKernel& kernel, const BlockedProduct& product, ThreadPool& pool) {
  const std::int64_t workspace_bytes = static_cast<std::int64_t>(pool.workspace(0).size());
  LYCIA_CHECK_GE(workspace_bytes, kLeastGemmWorkspace) << "the stream's workspace (CpuOptions) is too small for a product ";
  const bool sums_in_c = !product.to.c.bf16 && product.grid.cols == 0;
  const std::int64_t panels = AllPanels(kernel, product.cols);
  const GemmBlocking blocking = ChooseBlocking(kernel,
                                               {.m = product.rows,
                                                .n = product.cols.count * product.cols.length,
                                                .k = product.depth.count * product.depth.length,
                                                .packed_b = product.packed_b != nullptr,
                                                .sums_in_c = sums_in_c,
                                                .threads = pool.threads(),
                                                .words = AllWords(kernel, product.depth),
                                                .run_words = RunWords(kernel, product.depth),
                                                .panels = panels,
                                                .run_panels = RunPanels(kernel, product.cols),
                                                .a_in_place = product.a.find != nullptr,
                                                .b_in_place = product.b.find != nullptr && product.packed_b == nullptr,
                                                .b_by_panel = product.b.fetch != nullptr && product.packed_b == nullptr},
                                               workspace_bytes);
  LYCIA_CHECK_LE(blocking.a_bytes + blocking.b_bytes + blocking.sum_bytes, workspace_bytes);
  pool.Run([&](int thread) {
    const Range rows = ThreadRows(kernel, product.rows, thread / blocking.col_parts, blocking.row_parts);
    const Range part = PartOf(panels, thread % blocking.col_parts, blocking.col_parts);
    Part(kernel, product, blocking, sums_in_c, pool.workspace(thread).data()).Compute(rows, part);
  });
}

std::int64_t PackedBytes(const MicroKernel& kernel, const Runs& cols, const Runs& depth) {
  return AllPanels(kernel, cols) * kernel.cols * AllWords(kernel, depth) * kWordBytes;
}

void PackBlocked(const MicroKernel& kernel, const PackedOperand& operand, ThreadPool& pool) {
  const std::int64_t words = AllWords(kernel, operand.depth), panel_bytes = kernel.cols * words * kWordBytes;
  pool.Run([&](int thread) {
    const Range panels = PartOf(AllPanels(kernel, operand.cols), thread, pool.threads());
    ForEachChunk(operand.b.across, words, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        const Columns at = ColumnsOf(kernel, operand.cols, p);
        char* to = static_cast<char*>(operand.to) + p * panel_bytes + first * kernel.cols * kWordBytes;
        operand.b.pack(operand.b.operand, kernel,
                       {.run = at.run, .lane = at.lane, .lanes = at.lanes, .word = first, .words = count, .to = to});
      }
    });
  });
}

}  // namespace lycia::cpu
