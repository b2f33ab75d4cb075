/* Counts the bytes of its standard input. */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--version") == 0) {
    puts("count " VERSION);
    return 0;
  }
  unsigned long n = 0;
  while (getchar() != EOF) n++;
  printf("%lu\n", n);
  return 0;
}
