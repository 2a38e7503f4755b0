#include "kernels/conv/conv_axis.h"

#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/conv/window.h"

namespace lycia {
namespace {

template <typename F>
void ForEveryAxis(const F& f) {
  for (std::int64_t in = 1; in <= 9; ++in) {
    for (std::int64_t filter = 1; filter <= 5; ++filter) {
      for (std::int64_t stride = 1; stride <= 4; ++stride) {
        for (std::int64_t dilation = 1; dilation <= 4; ++dilation) {
          for (const auto& [before, after] : {std::pair{0, 0}, {1, 1}, {2, 0}, {0, 3}, {5, 4}}) {
            const ConvAxis axis = {
                .in = in, .filter = filter, .stride = stride, .pad_before = before, .pad_after = after, .dilation = dilation};
            SCOPED_TRACE(::testing::Message() << "in " << in << " filter " << filter << " stride " << stride << " dilation " << dilation
                                              << " pad " << before << ", " << after);
            f(axis);
          }
        }
      }
    }
  }
}

// Windows slid one by one over the padded line.
TEST(ConvAxis, OutputsAreTheWindowsThatFit) {
  ForEveryAxis([](const ConvAxis& axis) {
    std::int64_t windows = 0;
    for (std::int64_t first = -axis.pad_before; first + axis.dilation * (axis.filter - 1) < axis.in + axis.pad_after;
         first += axis.stride) {
      EXPECT_EQ(axis.InputOf(windows, 0), first);
      EXPECT_EQ(axis.InputOf(windows, axis.filter - 1), first + (axis.filter - 1) * axis.dilation);
      ++windows;
    }
    EXPECT_EQ(axis.out(), windows);
  });
}

TEST(ConvAxis, MapsAreInversesOfEachOther) {
  ForEveryAxis([](const ConvAxis& axis) {
    for (std::int64_t tap = 0; tap < axis.filter; ++tap) {
      for (std::int64_t i = 0; i < axis.in; ++i) {
        std::int64_t expected = -1;
        for (std::int64_t o = 0; o < axis.out(); ++o) {
          if (axis.InputOf(o, tap) == i) expected = o;
        }
        ASSERT_EQ(axis.OutputOf(i, tap), expected) << "tap " << tap << " input " << i;
      }
    }
  });
}

// Every input once; every pair of tap and output that sees it once, and no other.
TEST(ConvAxis, PhasesCoverEveryInputAndTapOnce) {
  ForEveryAxis([](const ConvAxis& axis) {
    std::vector<int> seen(static_cast<std::size_t>(axis.in));
    for (std::int64_t phase = 0; phase < axis.stride; ++phase) {
      const ConvPhase p = PhaseOf(axis, phase);
      for (std::int64_t n = 0; n < p.count; ++n) {
        const std::int64_t i = phase + n * axis.stride;
        ASSERT_TRUE(axis.Inside(i));
        ++seen[static_cast<std::size_t>(i)];
        std::vector<std::int64_t> outs(static_cast<std::size_t>(axis.filter), -1);
        for (std::int64_t t = 0; t < p.taps; ++t) {
          const std::int64_t tap = p.first_tap - t * p.tap_step, o = n + p.first_out + t * p.out_step;
          ASSERT_GE(tap, 0);
          ASSERT_EQ(axis.InputOf(o, tap), i);
          if (o >= 0 && o < axis.out()) outs[static_cast<std::size_t>(tap)] = o;
        }
        for (std::int64_t tap = 0; tap < axis.filter; ++tap) {
          ASSERT_EQ(outs[static_cast<std::size_t>(tap)], axis.OutputOf(i, tap)) << "input " << i << " tap " << tap;
        }
      }
    }
    for (const int times : seen) ASSERT_EQ(times, 1);
  });
}

// The same pairs of output and tap, found from either side.
TEST(ConvAxis, RangesAreWhatLiesInTheImage) {
  ForEveryAxis([](const ConvAxis& axis) {
    for (std::int64_t o = 0; o < axis.out(); ++o) {
      const cpu::TapRange taps = cpu::InsideTaps(axis, o);
      for (std::int64_t tap = 0; tap < axis.filter; ++tap) {
        const bool inside = axis.Inside(axis.InputOf(o, tap));
        ASSERT_EQ(inside, tap >= taps.begin && tap < taps.end) << "output " << o << " tap " << tap;
        const cpu::TapRange outs = cpu::OutputsOf(axis, tap);
        ASSERT_EQ(inside, o >= outs.begin && o < outs.end) << "output " << o << " tap " << tap;
      }
    }
  });
}

}  // namespace
}  // namespace lycia
