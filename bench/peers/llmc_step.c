// Training steps of llm.c's CPU trainer for step.py: its own functions, our tokens. Built by step.py with the flags of its Makefile and -I
// its folder:
//   llmc_step CHECKPOINT TOKENS BATCH SEQUENCE STEPS LR BETA1 BETA2 WEIGHT_DECAY
// prints "loss milliseconds" for each step and at last the most memory it had, in kB.
#define TESTING  // leaves its main out
#include <sys/resource.h>

#include "train_gpt2.c"

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * now.tv_sec + 1e-6 * now.tv_nsec;
}

int main(int argc, char** argv) {
  if (argc != 10) {
    fprintf(stderr, "llmc_step: nine arguments, please\n");
    return 2;
  }
  const int B = atoi(argv[3]), T = atoi(argv[4]), steps = atoi(argv[5]);
  FILE* file = fopen(argv[2], "rb");
  const size_t per_step = (size_t)B * (T + 1);
  unsigned short* tokens = malloc(2 * per_step);
  int* inputs = malloc(sizeof(int) * B * T);
  int* targets = malloc(sizeof(int) * B * T);
  GPT2 model;
  gpt2_build_from_checkpoint(&model, argv[1]);
  for (int step = 0; step < steps; ++step) {
    if (file == NULL || fread(tokens, 2, per_step, file) != per_step) {
      fprintf(stderr, "llmc_step: %s is too short\n", argv[2]);
      return 2;
    }
    for (int b = 0; b < B; ++b) {
      for (int t = 0; t < T; ++t) {
        inputs[b * T + t] = tokens[b * (T + 1) + t];
        targets[b * T + t] = tokens[b * (T + 1) + t + 1];
      }
    }
    const double start = now_ms();
    gpt2_forward(&model, inputs, targets, B, T);
    gpt2_zero_grad(&model);
    gpt2_backward(&model);
    gpt2_update(&model, atof(argv[6]), atof(argv[7]), atof(argv[8]), 1e-8f, atof(argv[9]), step + 1);
    printf("step: %.7f %.3f\n", model.mean_loss, now_ms() - start);
    fflush(stdout);
  }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("memory: %ld\n", usage.ru_maxrss);
  return 0;
}
