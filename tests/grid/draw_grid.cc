// Prints the picture of docs/tensor_grid.md: bazel run //tests/grid:draw_grid > docs/tensor_grid.svg
#include <cstdio>

#include "tests/grid/picture_for_test.h"

int main() {
  std::fputs(lycia::WorkedExampleSvg().c_str(), stdout);
  return 0;
}
