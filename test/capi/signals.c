/* The threads that the library starts are sent no signal of its host's. Prints the number of them. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cria.h"

enum { COUNT = 1 << 20 };

/* The signals that a thread of this process blocks, bit i of signal i + 1. */
static unsigned long long blocked_by(const char* thread) {
  char path[64], line[256];
  unsigned long long signals = 0;
  FILE* status;
  snprintf(path, sizeof path, "/proc/self/task/%.20s/status", thread);
  status = fopen(path, "r");
  while (status != NULL && fgets(line, sizeof line, status) != NULL) sscanf(line, "SigBlk: %llx", &signals);
  if (status != NULL) fclose(status);
  return signals;
}

int main(void) {
  const cria_device_options options = {sizeof options, CRIA_DEVICE_CPU, CRIA_ISA_SCALAR, 3};
  const unsigned long long wanted = 1ull << (15 - 1) | 1ull << (10 - 1) | 1ull << (2 - 1); /* TERM, USR1, INT */
  const unsigned long long faults = 1ull << (11 - 1) | 1ull << (7 - 1);                    /* SEGV, BUS */
  cria_device* device = NULL;
  float* x = calloc(COUNT, sizeof *x);
  struct dirent* entry;
  DIR* tasks;
  int started = 0;
  if (x == NULL || cria_device_open(&options, &device) != CRIA_OK || cria_add(device, COUNT, x, x, x) != CRIA_OK) {
    puts(cria_last_error());
    return 1;
  }
  tasks = opendir("/proc/self/task");
  while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
    unsigned long long signals;
    if (entry->d_name[0] == '.') continue;
    signals = blocked_by(entry->d_name);
    /* A thread that is being started blocks them all. */
    for (int tries = 0; (signals & faults) != 0 && tries < 5000; ++tries) {
      const struct timespec millisecond = {0, 1000000};
      nanosleep(&millisecond, NULL);
      signals = blocked_by(entry->d_name);
    }
    if (atoi(entry->d_name) == (int)getpid()) {
      if (signals != 0) puts("the caller's own signals are blocked");
      continue;
    }
    ++started;
    if ((signals & wanted) != wanted || (signals & faults) != 0) printf("a thread blocks %llx\n", signals);
  }
  if (tasks != NULL) closedir(tasks);
  printf("%d\n", started);
  cria_device_free(device);
  free(x);
  return 0;
}
