#include "lib/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "ALMANAC1";

static void die(const char *path, const char *why) {
    fprintf(stderr, "almanac: %s: %s\n", path, why);
    exit(1);
}

void table_write(const char *path, const struct table *t) {
    FILE *f = fopen(path, "wb");
    if (!f) die(path, "cannot be written");
    fwrite(magic, sizeof magic, 1, f);
    fwrite(&t->count, sizeof t->count, 1, f);
    fwrite(&t->size, sizeof t->size, 1, f);
    fwrite(t->records, t->size, t->count, f);
    if (ferror(f) || fclose(f)) die(path, "cannot be written");
}

struct table table_read(const char *path, size_t size) {
    struct table t;
    char head[sizeof magic];
    FILE *f = fopen(path, "rb");
    if (!f) die(path, "cannot be read");
    if (fread(head, sizeof head, 1, f) != 1 || memcmp(head, magic, sizeof magic)) die(path, "is no table");
    if (fread(&t.count, sizeof t.count, 1, f) != 1 || fread(&t.size, sizeof t.size, 1, f) != 1 || t.size != size)
        die(path, "is a table of something else");
    t.records = calloc(t.count, t.size);
    if (!t.records || fread(t.records, t.size, t.count, f) != t.count) die(path, "is cut short");
    fclose(f);
    return t;
}
