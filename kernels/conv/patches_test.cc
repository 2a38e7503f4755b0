// What tiles are told to read in place of a packed panel, element by element, against windows slid by hand.
#include "kernels/conv/patches.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace lycia::cpu {
namespace {

// An image whose element is its own number, in bf16's 16 bits: 0 is kept for what lies outside.
std::vector<std::uint16_t> Numbers(std::int64_t count) {
  std::vector<std::uint16_t> numbers(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::uint16_t>(i % 65535 + 1);
  return numbers;
}

// The element of a position's patch, by its definition: run `run` is a tap.
std::uint16_t Element(const Patches& p, std::int64_t position, std::int64_t run, std::int64_t element) {
  const std::int64_t j = position % p.cols, i = position / p.cols % p.rows, n = position / p.cols / p.rows;
  const std::int64_t h = p.first_h + i * p.step_h + run / p.taps_w * p.tap_h, w = p.first_w + j * p.step_w + run % p.taps_w * p.tap_w;
  if (h < 0 || h >= p.H || w < 0 || w >= p.W) return 0;
  std::uint16_t value = 0;
  std::memcpy(&value, p.data + (((n * p.H + h) * p.W + w) * p.pixel + element) * 2, 2);
  return value;
}

struct Found {
  std::vector<RowGroup> groups;
  std::vector<char> room;  // and a guard behind it
  bool Copied(std::int64_t group) const {
    const char* at = groups[static_cast<std::size_t>(group)].first;
    return at >= room.data() && at < room.data() + room.size();
  }
};
Found Find(const MicroKernel& kernel, const PatchesByPosition& patches, PanelPart part) {
  const std::int64_t run_words = RunWords(kernel, patches.patches.runs());
  Found found;
  found.groups.resize(static_cast<std::size_t>((part.words / run_words + 2) * kernel.rows / kernel.group_rows));
  constexpr std::size_t kGuard = 64;
  constexpr char kUntouched = 0x55;
  const auto room = static_cast<std::size_t>(kernel.rows * part.words * kWordBytes);
  found.room.assign(room + kGuard, kUntouched);
  part.to = found.groups.data();
  part.room = found.room.data();
  patches.Find(kernel, part);
  for (std::size_t i = room; i < room + kGuard; ++i) EXPECT_EQ(found.room[i], kUntouched);
  return found;
}

ConvShape Square(std::int64_t N, std::int64_t C, std::int64_t side, std::int64_t filter, std::int64_t stride) {
  const ConvAxis axis = {.in = side, .filter = filter, .stride = stride, .pad_before = filter / 2, .pad_after = filter / 2};
  return {.N = N, .C = C, .K = C, .height = axis, .width = axis};
}

// Every word that a tile would load from the groups, for any part of the depth and any panel.
void ExpectTheDefinition(const MicroKernel& kernel, const PatchesByPosition& by_position, std::mt19937_64& random) {
  const Patches& patches = by_position.patches;
  const Runs depth = patches.runs();
  const std::int64_t run_words = RunWords(kernel, depth), all_words = AllWords(kernel, depth);
  for (std::int64_t lane = 0; lane < patches.positions(); lane += kernel.rows) {
    PanelPart part = {.lane = lane, .lanes = std::min<std::int64_t>(kernel.rows, patches.positions() - lane)};
    part.word = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(all_words / kernel.word_unit)) * kernel.word_unit;
    part.words = all_words - part.word;
    if (random() % 2 == 0) part.words = std::max(part.words / 2 / kernel.word_unit, std::int64_t{1}) * kernel.word_unit;
    const Found found = Find(kernel, by_position, part);
    const RowGroup* group = found.groups.data();
    for (std::int64_t word = part.word; word < part.word + part.words;) {
      const std::int64_t run = word / run_words, from = word % run_words, words = std::min(run_words - from, part.word + part.words - word);
      for (std::int64_t l = 0; l < part.lanes; ++l) {
        const RowGroup& of = group[l / kernel.group_rows];
        const char* row = of.first + l % kernel.group_rows * of.distance;
        for (std::int64_t e = 0; e < 2 * words; ++e) {
          std::uint16_t value = 0;
          std::memcpy(&value, row + e * 2, 2);
          ASSERT_EQ(value, Element(patches, lane + l, run, from * 2 + e)) << "position " << lane + l << " run " << run << " element " << e;
        }
      }
      group += kernel.rows / kernel.group_rows;
      word += words;
    }
  }
}

TEST(PatchGroups, AreThePatches) {
  const MicroKernel& kernel = AmxKernel();
  std::mt19937_64 random(5);
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  for (int i = 0; i < 200 && !HasFailure(); ++i) {
    ConvShape shape = {.N = pick(1, 3), .C = 32 * pick(1, 3), .K = 32 * pick(1, 2)};
    for (ConvAxis* axis : {&shape.height, &shape.width}) {
      *axis = {.in = pick(5, 21),
               .filter = pick(1, 3),
               .stride = pick(1, 3),
               .pad_before = pick(0, 2),
               .pad_after = pick(0, 2),
               .dilation = pick(1, 2)};
    }
    SCOPED_TRACE(shape.ToString());
    const std::vector<std::uint16_t> in = Numbers(shape.N * shape.H() * shape.W() * shape.C);
    const PatchesByPosition input = {PatchesOfInput(shape, in.data(), true, 0)};
    ASSERT_TRUE(input.InPlace(kernel));
    ExpectTheDefinition(kernel, input, random);
    const std::vector<std::uint16_t> dout = Numbers(shape.N * shape.P() * shape.Q() * shape.K);
    for (std::int64_t y = 0; y < shape.height.stride; ++y) {
      for (std::int64_t x = 0; x < shape.width.stride; ++x) {
        const PatchesByPosition output = {PatchesOfOutput(shape, PhaseOf(shape.height, y), PhaseOf(shape.width, x), dout.data(), true, 0)};
        if (output.patches.positions() == 0 || output.patches.runs().count == 0) continue;
        ExpectTheDefinition(kernel, output, random);
      }
    }
  }
}

// Lines of an image follow each other in memory: nothing but the border is copied where the grid is as wide as the image.
TEST(PatchGroups, OnlyWhatTheBorderCutsIsCopied) {
  const MicroKernel& kernel = AmxKernel();
  const ConvShape shape = Square(1, 64, 56, 3, 1);
  const std::vector<std::uint16_t> in = Numbers(56 * 56 * 64);
  const PatchesByPosition patches = {PatchesOfInput(shape, in.data(), true, 0)};
  const std::int64_t words = AllWords(kernel, patches.patches.runs());
  std::vector<std::int64_t> copied(9);
  for (std::int64_t lane = 0; lane < 56 * 56; lane += kernel.rows) {
    const Found found = Find(kernel, patches, {.lane = lane, .lanes = kernel.rows, .words = words});
    for (std::int64_t tap = 0; tap < 9; ++tap) copied[static_cast<std::size_t>(tap)] += found.Copied(2 * tap) + found.Copied(2 * tap + 1);
  }
  // Of 196 groups of 16, the taps to the left cut one in each of 56 lines, those to the right others; where the tap above or below leaves
  // the image, three whole groups are zeros and a fourth is cut (by the first line's last pixel, to the right of it, already).
  EXPECT_EQ(copied, (std::vector<std::int64_t>{55, 1, 56, 56, 0, 56, 56, 1, 55}));
}

TEST(PatchGroups, OneByOneFiltersCopyNothing) {
  const MicroKernel& kernel = AmxKernel();
  const std::vector<std::uint16_t> in = Numbers(2 * 7 * 7 * 96);
  const PatchesByPosition patches = {PatchesOfInput(Square(2, 96, 7, 1, 1), in.data(), true, 0)};
  for (std::int64_t lane = 0; lane + kernel.rows <= 98; lane += kernel.rows) {
    const Found found = Find(kernel, patches, {.lane = lane, .lanes = kernel.rows, .words = 48});
    EXPECT_FALSE(found.Copied(0));
    EXPECT_FALSE(found.Copied(1));
  }
}

TEST(PatchGroups, WholeStepsOfBf16Only) {
  const MicroKernel& kernel = AmxKernel();
  const char data[64] = {};
  const auto in_place = [&](std::int64_t C, bool bf16) {
    return PatchesByPosition{PatchesOfInput(Square(1, C, 9, 3, 1), data, bf16, 0)}.InPlace(kernel);
  };
  for (const std::int64_t C : {32, 64, 96, 1024}) EXPECT_TRUE(in_place(C, true)) << C;
  for (const std::int64_t C : {3, 33, 48, 65}) EXPECT_FALSE(in_place(C, true)) << C;
  EXPECT_FALSE(in_place(64, false));
  EXPECT_FALSE(in_place(2048, true)) << "pixels 4 KiB apart fall into one set of the nearest cache";
  PatchesByPosition listed = {PatchesOfInput(Square(1, 64, 9, 3, 1), data, true, 0)};
  const std::int32_t positions[] = {3, 1};
  listed.patches.listed = positions;
  listed.patches.num_listed = 2;
  EXPECT_FALSE(listed.InPlace(kernel));
}

}  // namespace
}  // namespace lycia::cpu
