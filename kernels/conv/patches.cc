#include "kernels/conv/patches.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/check.h"

namespace lycia::cpu {
namespace {

constexpr std::int64_t kMostLanes = 32;                      // rows of the tallest tile
constexpr std::int64_t kMostElements = 64;                   // of depth in one part that is packed: driver.cc's chunk of 32 words
constexpr std::int64_t kMostMerged = 128;                    // elements of a row of taps that is one run
constexpr std::int64_t kFewChannels = 32;                    // where merging saves more padding than its borders cost
constexpr std::int64_t kZeroBytes = std::int64_t{16} << 10;  // the longest run whose tiles read it in place

// What lies outside an image, for tiles that read in place.
alignas(64) constexpr char kZeroRun[kZeroBytes + 64] = {};
constexpr const char* kZeros = kZeroRun;

// A pixel of an image, which may lie outside, and its first element's distance from the data.
struct Place {
  std::int64_t h = 0, w = 0, at = 0;
};

// A walk over positions: where tap (0, 0) of each lies.
class Walk {
 public:
  Walk(const Patches& patches, std::int64_t position) : p_(patches), number_(position) { Go(); }
  const Place& place() const { return place_; }
  void Next() {
    if (p_.listed != nullptr) {
      ++number_;
      return Go();
    }
    place_.w += p_.step_w;
    place_.at += p_.step_w * p_.pixel;
    if (++j_ < p_.cols) return;
    j_ = 0;
    if (++i_ == p_.rows) {
      i_ = 0;
      image_ += p_.H * p_.W;
    }
    Begin();
  }

 private:
  void Go() {
    if (p_.listed != nullptr && number_ >= p_.num_listed) return;
    const std::int64_t position = p_.listed != nullptr ? p_.listed[number_] : number_;
    j_ = position % p_.cols;
    i_ = position / p_.cols % p_.rows;
    image_ = position / p_.cols / p_.rows * p_.H * p_.W;
    Begin();
  }
  void Begin() {
    place_.h = p_.first_h + i_ * p_.step_h;
    place_.w = p_.first_w + j_ * p_.step_w;
    place_.at = (image_ + place_.h * p_.W + place_.w) * p_.pixel;
  }
  const Patches& p_;
  std::int64_t number_, i_ = 0, j_ = 0, image_ = 0;
  Place place_;
};

bool Within(std::int64_t x, std::int64_t limit) { return static_cast<std::uint64_t>(x) < static_cast<std::uint64_t>(limit); }

// The taps of a run, as seen from tap (0, 0): its first pixel.
Place TapsOf(const Patches& p, std::int64_t run) {
  const std::int64_t r = (p.whole_rows ? run : run / p.taps_w) * p.tap_h, s = p.whole_rows ? 0 : run % p.taps_w * p.tap_w;
  return {r, s, (r * p.W + s) * p.pixel};
}

// A run of a position: its address, null where all of it lies outside the image. A row of taps that lies there in part is copied to
// `copy`, kMostMerged elements, with zeros for what is outside.
const char* RunOf(const Patches& p, const Place& place, const Place& taps, char* copy) {
  const std::int64_t bytes = p.element_bytes(), at = place.at + taps.at;
  if (!Within(place.h + taps.h, p.H)) return nullptr;
  if (!p.whole_rows) return Within(place.w + taps.w, p.W) ? p.data + at * bytes : nullptr;
  const std::int64_t begin = std::max<std::int64_t>(-place.w, 0), end = std::min(p.W - place.w, p.taps_w);
  if (begin >= end) return nullptr;
  if (begin == 0 && end == p.taps_w) return p.data + at * bytes;
  LYCIA_CHECK(copy != nullptr) << "rows of taps are packed ";
  std::memset(copy, 0, static_cast<std::size_t>(p.taps_w * p.channels * bytes));
  std::memcpy(copy + begin * p.channels * bytes, p.data + (at + begin * p.channels) * bytes,
              static_cast<std::size_t>((end - begin) * p.channels * bytes));
  return copy;
}

// f(run, first word within the run, words, words before) for each piece of a part that lies in one run of depth; runs beyond the last are
// padding.
template <typename F>
void ForEachPiece(std::int64_t run_words, const PanelPart& part, const F& f) {
  for (std::int64_t done = 0; done < part.words;) {
    const std::int64_t word = part.word + done, from = word % run_words, words = std::min(run_words - from, part.words - done);
    f(word / run_words, from, words, done);
    done += words;
  }
}

// Elements of a run that stand in `words` words from word `from` on.
std::int64_t DepthOf(const MicroKernel& kernel, const Runs& depth, std::int64_t run, std::int64_t from, std::int64_t words) {
  if (run >= depth.count) return 0;
  const std::int64_t elements = kernel.pairs ? 2 : 1;
  return std::clamp<std::int64_t>(depth.length - from * elements, 0, words * elements);
}

}  // namespace

Patches PatchesOfInput(const ConvShape& shape, const void* in, bool bf16, std::int64_t group) {
  const ConvAxis &y = shape.height, &x = shape.width;
  Patches p = {.data = static_cast<const char*>(in) + group * shape.group_C() * (bf16 ? 2 : 4),
               .bf16 = bf16,
               .H = y.in,
               .W = x.in,
               .pixel = shape.C,
               .channels = shape.group_C(),
               .images = shape.N,
               .rows = y.out(),
               .cols = x.out(),
               .first_h = -y.pad_before,
               .first_w = -x.pad_before,
               .step_h = y.stride,
               .step_w = x.stride,
               .taps_h = y.filter,
               .taps_w = x.filter,
               .tap_h = y.dilation,
               .tap_w = x.dilation};
  p.whole_rows = x.filter > 1 && x.dilation == 1 && shape.groups == 1 && shape.C < kFewChannels && x.filter * shape.C <= kMostMerged;
  return p;
}

Patches PatchesOfOutput(const ConvShape& shape, const ConvPhase& height, const ConvPhase& width, const void* dout, bool bf16,
                        std::int64_t group) {
  return {.data = static_cast<const char*>(dout) + group * shape.group_K() * (bf16 ? 2 : 4),
          .bf16 = bf16,
          .H = shape.P(),
          .W = shape.Q(),
          .pixel = shape.K,
          .channels = shape.group_K(),
          .images = shape.N,
          .rows = height.count,
          .cols = width.count,
          .first_h = height.first_out,
          .first_w = width.first_out,
          .taps_h = height.taps,
          .taps_w = width.taps,
          .tap_h = height.out_step,
          .tap_w = width.out_step};
}

void PatchesByPosition::Pack(const MicroKernel& kernel, const PanelPart& part) const {
  const Runs depth = patches.runs();
  Place places[kMostLanes];
  Walk walk(patches, part.lane);
  for (std::int64_t l = 0; l < part.lanes; ++l, walk.Next()) places[l] = walk.place();
  alignas(64) char copies[kMostLanes][kMostMerged * 4];
  ForEachPiece(RunWords(kernel, depth), part, [&](std::int64_t run, std::int64_t from, std::int64_t words, std::int64_t done) {
    const char* rows[kMostLanes] = {};
    if (run < depth.count) {
      const Place taps = TapsOf(patches, run);
      for (std::int64_t l = 0; l < part.lanes; ++l) {
        const char* row = RunOf(patches, places[l], taps, copies[l]);
        rows[l] = row == nullptr ? nullptr : row + from * (kernel.pairs ? 4 : patches.element_bytes());
      }
    }
    kernel.pack_a({.rows = rows,
                   .k_contiguous = true,
                   .bf16 = patches.bf16,
                   .lanes = part.lanes,
                   .depth = DepthOf(kernel, depth, run, from, words),
                   .words = words,
                   .to = static_cast<char*>(part.to) + done * kernel.rows * kWordBytes});
  });
}

void PatchesByPosition::Find(const MicroKernel& kernel, const PanelPart& part) const {
  if (kernel.group_rows > 0) return FindGroups(kernel, part);
  const Runs depth = patches.runs();
  Place places[kMostLanes];
  Walk walk(patches, part.lane);
  for (std::int64_t l = 0; l < part.lanes; ++l, walk.Next()) places[l] = walk.place();
  auto* to = static_cast<const char**>(part.to);
  ForEachPiece(RunWords(kernel, depth), part, [&](std::int64_t run, std::int64_t from, std::int64_t, std::int64_t) {
    const Place taps = TapsOf(patches, run);
    for (std::int64_t l = 0; l < part.lanes; ++l) {
      const char* row = run < depth.count ? RunOf(patches, places[l], taps, nullptr) : nullptr;
      to[l] = row == nullptr ? kZeros : row + from * kWordBytes;
    }
    to += kernel.rows;
  });
}

// Neighbouring positions are pixels at even distances, also from the end of one line of the image to the next where the grid is as wide as
// the image: only groups that the border cuts, or the end of a shorter line, are copied.
void PatchesByPosition::FindGroups(const MicroKernel& kernel, const PanelPart& part) const {
  const std::int64_t group_rows = kernel.group_rows;
  Place places[kMostLanes];
  Walk walk(patches, part.lane);
  for (std::int64_t l = 0; l < part.lanes; ++l, walk.Next()) places[l] = walk.place();
  auto* to = static_cast<RowGroup*>(part.to);
  auto* copy = static_cast<char*>(part.room);
  ForEachPiece(RunWords(kernel, patches.runs()), part, [&](std::int64_t run, std::int64_t from, std::int64_t words, std::int64_t) {
    const Place taps = TapsOf(patches, run);
    const std::int64_t bytes = words * kWordBytes;
    for (std::int64_t first = 0; first < kernel.rows; first += group_rows, ++to) {
      const char* rows[kMostLanes];  // null: zeros, and those beyond the last lane
      bool none = true, even = true;
      for (std::int64_t l = 0; l < group_rows; ++l) {
        const char* row = first + l < part.lanes ? RunOf(patches, places[first + l], taps, nullptr) : nullptr;
        rows[l] = row == nullptr ? nullptr : row + from * kWordBytes;
        none = none && row == nullptr;
        even = even && row != nullptr && (l < 2 || rows[l] - rows[l - 1] == rows[1] - rows[0]);
      }
      if (none) {
        *to = {kZeros, 0};
      } else if (even) {
        *to = {rows[0], rows[1] - rows[0]};
      } else {
        *to = {copy, bytes};
        for (std::int64_t l = 0; l < group_rows; ++l, copy += bytes) {
          if (rows[l] != nullptr) {
            std::memcpy(copy, rows[l], static_cast<std::size_t>(bytes));
          } else {
            std::memset(copy, 0, static_cast<std::size_t>(bytes));
          }
        }
      }
    }
  });
}

bool PatchesByPosition::InPlace(const MicroKernel& kernel) const {
  // Rows a multiple of 4 KiB apart fall into one set of the nearest cache: a tile's would push each other out.
  constexpr std::int64_t kAlias = 4096;
  const std::int64_t bytes = patches.channels * patches.element_bytes();
  // Groups: of whole steps of the tile's, and of positions that follow each other.
  if (kernel.group_rows > 0 && (bytes % (kernel.run_unit * kWordBytes) != 0 || patches.listed != nullptr)) return false;
  return kernel.tile_rows != nullptr && kernel.pairs == patches.bf16 && !patches.whole_rows && bytes % kWordBytes == 0 && bytes >= 32 &&
         bytes <= kZeroBytes && patches.step_w * patches.pixel * patches.element_bytes() % kAlias != 0;
}

void PatchesByChannel::Pack(const MicroKernel& kernel, const PanelPart& part) const {
  const std::int64_t elements = kernel.pairs ? 2 : 1, first = part.word * elements;
  const std::int64_t depth = std::clamp<std::int64_t>(patches.positions() - first, 0, part.words * elements);
  const char* rows[kMostElements];
  alignas(64) char copies[kMostElements][kMostMerged * 4];
  const Place taps = TapsOf(patches, part.run);
  Walk walk(patches, first);
  for (std::int64_t k = 0; k < depth; ++k, walk.Next()) {
    const char* row = RunOf(patches, walk.place(), taps, copies[k]);
    rows[k] = row == nullptr ? nullptr : row + part.lane * patches.element_bytes();
  }
  kernel.pack_b({.rows = rows, .bf16 = patches.bf16, .lanes = part.lanes, .depth = depth, .words = part.words, .to = part.to});
}

void PatchesByChannel::Find(const MicroKernel& kernel, const PanelPart& part) const {
  const std::int64_t elements = kernel.pairs ? 2 : 1, first = part.word * elements;
  const std::int64_t depth = std::clamp<std::int64_t>(patches.positions() - first, 0, part.words * elements);
  const auto to = static_cast<const char**>(part.to);
  const Place taps = TapsOf(patches, part.run);
  Walk walk(patches, first);
  for (std::int64_t k = 0; k < depth; ++k, walk.Next()) {
    const char* row = RunOf(patches, walk.place(), taps, nullptr);
    to[k] = row == nullptr ? kZeros : row;
  }
  std::fill(to + depth, to + (part.words + kAheadWords) * elements, kZeros);
}

bool PatchesByChannel::InPlace(const MicroKernel& kernel) const {
  return kernel.tile_columns != nullptr && kernel.pairs == patches.bf16 && !patches.whole_rows && patches.channels % kernel.cols == 0 &&
         patches.channels * patches.element_bytes() <= kZeroBytes;
}

void FilterRuns::Pack(const MicroKernel& kernel, const PanelPart& part) const {
  const std::int64_t element_bytes = bf16 ? 2 : 4;
  ForEachPiece(RunWords(kernel, depth), part, [&](std::int64_t run, std::int64_t from, std::int64_t words, std::int64_t done) {
    const std::int64_t element = from * (kernel.pairs ? 2 : 1);
    const std::int64_t in_run = k_contiguous ? part.lane * ld + element : element * ld + part.lane;
    const std::int64_t begin = run < depth.count ? run / taps_w * down + run % taps_w * right + in_run : 0;
    kernel.pack_b({.from = data + begin * element_bytes,
                   .ld = ld,
                   .k_contiguous = k_contiguous,
                   .bf16 = bf16,
                   .lanes = part.lanes,
                   .depth = DepthOf(kernel, depth, run, from, words),
                   .words = words,
                   .to = static_cast<char*>(part.to) + done * kernel.cols * kWordBytes});
  });
}

}  // namespace lycia::cpu
