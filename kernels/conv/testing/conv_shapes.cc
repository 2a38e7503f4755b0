#include "kernels/conv/testing/conv_shapes.h"

namespace lycia::testing {

std::vector<ConvShape> ConvShapes() {
  struct Channels {
    std::int64_t C, K, groups;
  };
  const Channels kChannels[] = {{1, 5, 1},   {3, 8, 1}, {16, 6, 1},   {65, 10, 1}, {32, 64, 1},
                                {16, 32, 2}, {3, 6, 3}, {65, 65, 65}, {64, 64, 2}};
  std::vector<ConvShape> shapes;
  for (const Channels& channels : kChannels) {
    for (const std::int64_t stride : {1, 2, 3}) {
      for (const std::int64_t pad : {0, 1, 2}) {
        for (const std::int64_t dilation : {1, 2}) {
          const auto i = static_cast<std::int64_t>(shapes.size());
          ConvShape s = {.N = 2, .C = channels.C, .K = channels.K, .groups = channels.groups};
          s.height = {.in = 7, .filter = 1 + i % 3, .stride = stride, .pad_before = pad, .pad_after = pad, .dilation = dilation};
          // The other side differs in everything now and then.
          s.width = {.in = 5 + i % 4,
                     .filter = 3 - i / 2 % 3,
                     .stride = i % 5 == 0 ? 1 : stride,
                     .pad_before = i % 7 == 0 ? 0 : pad,
                     .pad_after = pad,
                     .dilation = i % 4 == 0 ? 1 : dilation};
          if (CheckConvShape(s).ok()) shapes.push_back(s);
        }
      }
    }
  }
  // ResNet's stem, a layer whose patches are deeper than one block of the depth, VGG's first.
  shapes.push_back({.N = 1,
                    .C = 3,
                    .K = 33,
                    .height = {.in = 15, .filter = 7, .stride = 2, .pad_before = 3, .pad_after = 3},
                    .width = {.in = 17, .filter = 7, .stride = 2, .pad_before = 3, .pad_after = 3}});
  shapes.push_back({.N = 2,
                    .C = 128,
                    .K = 96,
                    .height = {.in = 6, .filter = 3, .pad_before = 1, .pad_after = 1},
                    .width = {.in = 9, .filter = 3, .pad_before = 1, .pad_after = 1}});
  shapes.push_back({.N = 1,
                    .C = 3,
                    .K = 64,
                    .height = {.in = 10, .filter = 3, .pad_before = 1, .pad_after = 1},
                    .width = {.in = 10, .filter = 3, .pad_before = 1, .pad_after = 1}});
  return shapes;
}

}  // namespace lycia::testing
