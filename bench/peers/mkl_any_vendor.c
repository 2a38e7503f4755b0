// Preloaded into a PyTorch that brings Intel's MKL: tells it that the processor is Intel's, without which it leaves AVX-512 unused on others'.
int mkl_serv_intel_cpu_true(void) { return 1; }
