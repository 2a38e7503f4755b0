// Which elements of a matrix each lane of a warp holds for mma.sync.m16n8k16: D[16 x 8] = A[16 x 16] B[16 x 8] + D, operands of two bytes,
// sums in f32 (PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type"). With g = lane / 4 and t = lane % 4:
//
//   A, 8 elements:  e = 0, 1: A[g][2 t, 2 t + 1]      e = 2, 3: A[g + 8][the same]      e = 4 ... 7: the same rows, 8 columns on
//   B, 4 elements:  e = 0, 1: B[2 t, 2 t + 1][g]      e = 2, 3: 8 rows on
//   D, 4 elements:  e = 0, 1: D[g][2 t, 2 t + 1]      e = 2, 3: D[g + 8][the same]
//
// Elements of A and B lie by twos in registers, the first in the lower half. So sums of two neighbours, 16 x 16, rounded and packed, are
// the A of a following product.
#ifndef LYCIA_KERNELS_CUDA_MMA_FRAGMENT_H_
#define LYCIA_KERNELS_CUDA_MMA_FRAGMENT_H_

namespace lycia::cuda {

inline constexpr int kMmaRows = 16, kMmaColumns = 8, kMmaDepth = 16;
inline constexpr int kMmaLanes = 32;

struct MatrixPlace {
  int row = 0, column = 0;
  bool operator==(const MatrixPlace&) const = default;
};
struct FragmentPlace {
  int lane = 0, element = 0;
  bool operator==(const FragmentPlace&) const = default;
};

constexpr MatrixPlace PlaceInA(const FragmentPlace& f) {
  return {f.lane / 4 + f.element / 2 % 2 * 8, f.lane % 4 * 2 + f.element % 2 + f.element / 4 * 8};
}
constexpr MatrixPlace PlaceInB(const FragmentPlace& f) { return {f.lane % 4 * 2 + f.element % 2 + f.element / 2 * 8, f.lane / 4}; }
constexpr MatrixPlace PlaceInSums(const FragmentPlace& f) { return {f.lane / 4 + f.element / 2 * 8, f.lane % 4 * 2 + f.element % 2}; }

// Back: who holds an element.
constexpr FragmentPlace HolderInA(const MatrixPlace& m) {
  return {m.row % 8 * 4 + m.column % 8 / 2, m.column / 8 * 4 + m.row / 8 * 2 + m.column % 2};
}
constexpr FragmentPlace HolderInB(const MatrixPlace& m) { return {m.column * 4 + m.row % 8 / 2, m.row / 8 * 2 + m.row % 2}; }

// ldmatrix moves four matrices of 8 x 8 at once: lane l names row l % 8 of matrix l / 8 and receives elements 2 (l % 4) and the next of row
// l / 4 of each; transposed, of its columns. Where in a tile, from its corner, lane l points, so that what it receives are the registers of

// A of the tile's 16 rows and 16 columns (or, transposed, of its 16 columns and rows);
constexpr MatrixPlace SourceOfA(int lane) { return {lane % 16, lane / 16 * 8}; }
constexpr MatrixPlace SourceOfATransposed(int lane) { return {lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8}; }
// two Bs side by side, 16 columns of the product, where its depth runs along the tile's rows (or, transposed, down its columns).
constexpr MatrixPlace SourceOfB(int lane) { return {lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8}; }
constexpr MatrixPlace SourceOfBTransposed(int lane) { return {lane % 16, lane / 16 * 8}; }

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_MMA_FRAGMENT_H_
