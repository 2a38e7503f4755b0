// One matrix product through a CBLAS, timed: c [m, n] = a [m, k] b [k, n], f32, b stored plain or transposed, whichever is faster.
//   cblas_gemm M N K MILLISECONDS
// prints the library's core and the median GFLOP/s. Linked once with each BLAS (bench/peers/gemm.py); threads as their environment says.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { kRowMajor = 101, kPlain = 111, kTransposed = 112 };
void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                 int ldb, float beta, float* c, int ldc);

#ifdef PEER_OPENBLAS
char* openblas_get_corename(void);
static const char* Core(void) { return openblas_get_corename(); }
#else
int bli_arch_query_id(void);
char* bli_arch_string(int id);
void bli_init(void);
static const char* Core(void) {
  bli_init();
  return bli_arch_string(bli_arch_query_id());
}
#endif

static double Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static int Ascending(const void* x, const void* y) {
  const double a = *(const double*)x, b = *(const double*)y;
  return (a > b) - (a < b);
}
static float* Matrix(size_t count) {
  float* values = aligned_alloc(64, (count * 4 + 63) / 64 * 64);
  for (size_t i = 0; i < count; ++i) values[i] = (float)(rand() % 2001 - 1000) / 1000.0f;
  return values;
}

int main(int argc, char** argv) {
  if (argc != 5) return fprintf(stderr, "usage: cblas_gemm M N K MILLISECONDS\n"), 2;
  const int m = atoi(argv[1]), n = atoi(argv[2]), k = atoi(argv[3]);
  const double seconds = atof(argv[4]) / 1000;
  float *a = Matrix((size_t)m * k), *b = Matrix((size_t)k * n), *c = Matrix((size_t)m * n);
  double best = 0;
  for (int transposed = 0; transposed < 2; ++transposed) {
#define CALL() \
  cblas_sgemm(kRowMajor, kPlain, transposed ? kTransposed : kPlain, m, n, k, 1, a, k, b, transposed ? k : n, 0, c, n)
    CALL();
    const double first = Now();
    CALL();
    const double once = Now() - first;
    const int group = once < 2e-3 ? (int)(2e-3 / once) + 1 : 1;
    static double times[100000];
    int count = 0;
    for (const double start = Now(); count < 3 || (Now() - start < seconds && count < 100000); ++count) {
      const double begin = Now();
      for (int i = 0; i < group; ++i) CALL();
      times[count] = (Now() - begin) / group;
    }
    qsort(times, (size_t)count, sizeof *times, Ascending);
    const double gflops = 2.0 * m * n * k / times[count / 2] / 1e9;
    if (gflops > best) best = gflops;
  }
  printf("%s %.2f\n", Core(), best);
  return 0;
}
