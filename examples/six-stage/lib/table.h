/* A file of fixed-size records, written once and then only read. */
#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>

struct table {
    unsigned count, size; /* records, bytes a record */
    void *records;
};

/* Both end the program with a message that names the file when they fail. */
void table_write(const char *path, const struct table *t);
struct table table_read(const char *path, size_t size);

#endif
