// What the examples share: a file in memory on the boundary an image needs.
#ifndef FILE_H
#define FILE_H

#include "qsc.h"

#include <stdio.h>
#include <stdlib.h>

// The whole file, or the end of the program; free() it.
static void *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0) {
        size = ftell(file);
    }
    if (size < 0 || fseek(file, 0, SEEK_SET) != 0) {
        perror(path);
        exit(1);
    }
    *bytes = (size_t)size;
    // aligned_alloc wants a multiple of the alignment.
    size_t room = (*bytes / QSC_IMAGE_ALIGNMENT + 1) * QSC_IMAGE_ALIGNMENT;
    void *data = aligned_alloc(QSC_IMAGE_ALIGNMENT, room);
    if (data == NULL) {
        perror("aligned_alloc");
        exit(1);
    }
    if (fread(data, 1, *bytes, file) != *bytes) {
        fprintf(stderr, "%s: could not be read to its end\n", path);
        exit(1);
    }
    fclose(file);
    return data;
}

// Ends the program unless it runs with the library its header belongs to.
static void same_library(const char *program)
{
    if (!qsc_abi_matches()) {
        fprintf(stderr, "%s was compiled for another version of the library: compile it again\n", program);
        exit(1);
    }
}

// Ends the program unless the call is done.
static void done(qsc_status status, const char *what)
{
    if (status != QSC_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", what, qsc_status_text(status));
        exit(1);
    }
}

#endif
