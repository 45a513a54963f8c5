// predict IMAGE ROWS [BACKEND]: the outputs of a model for rows of raw float32, one by one and as a batch.
//
// A line for each row: the bits of its raw outputs and of its outputs, in hexadecimal.
#include "file.h"

#include <inttypes.h>
#include <string.h>

static void *room(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL) {
        perror("malloc");
        exit(1);
    }
    return memory;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s IMAGE ROWS [BACKEND]\n", argv[0]);
        return 64;
    }
    same_library(argv[0]);
    size_t image_bytes, rows_bytes;
    void *image = read_file(argv[1], &image_bytes);
    float *rows = read_file(argv[2], &rows_bytes);

    void *memory = room(qsc_model_bytes());
    qsc_model *model;
    done(qsc_model_init(memory, qsc_model_bytes(), image, image_bytes, &model), argv[1]);
    if (argc > 3) {
        done(qsc_model_set_backend(model, argv[3]), argv[3]);
    }
    qsc_model_facts facts;
    done(qsc_model_describe(model, &facts), argv[1]);
    fprintf(stderr, "%.*s on %.*s: %zu features, %zu steps, %zu outputs\n", (int)facts.name.len, facts.name.data,
            (int)facts.backend.len, facts.backend.data, facts.n_features, facts.seq_len, facts.n_outputs);

    void *scratch = room(facts.scratch_bytes);
    done(qsc_model_check_golden(model, scratch, facts.scratch_bytes), "golden vectors");

    if (rows_bytes % (facts.row_len * sizeof(float)) != 0) {
        fprintf(stderr, "%s: its last row is torn: a row is %zu float32\n", argv[2], facts.row_len);
        free(scratch);
        free(memory);
        free(rows);
        free(image);
        return 64;
    }
    size_t n = rows_bytes / sizeof(float) / facts.row_len;
    double *raw = room((n + 1) * facts.n_raw * sizeof(double));
    float *values = room((n + 1) * facts.n_outputs * sizeof(float));
    void *batch_scratch = room(facts.batch_scratch_bytes);
    done(qsc_model_predict_batch(model, rows, n * facts.row_len, raw, n * facts.n_raw, values,
                                 n * facts.n_outputs, batch_scratch, facts.batch_scratch_bytes), "batch");

    // One by one into the last row, and what came of the batch beside it.
    double *one_raw = raw + n * facts.n_raw;
    float *one = values + n * facts.n_outputs;
    for (size_t row = 0; row < n; row++) {
        done(qsc_model_predict(model, rows + row * facts.row_len, facts.row_len, one_raw, facts.n_raw, one,
                               facts.n_outputs, scratch, facts.scratch_bytes), "row");
        if (memcmp(one_raw, raw + row * facts.n_raw, facts.n_raw * sizeof(double)) != 0
            || memcmp(one, values + row * facts.n_outputs, facts.n_outputs * sizeof(float)) != 0) {
            fprintf(stderr, "row %zu: the batch gives other bits\n", row);
            return 1;
        }
        for (size_t at = 0; at < facts.n_raw; at++) {
            uint64_t bits;
            memcpy(&bits, &one_raw[at], sizeof bits);
            printf("%016" PRIx64 " ", bits);
        }
        for (size_t at = 0; at < facts.n_outputs; at++) {
            uint32_t bits;
            memcpy(&bits, &one[at], sizeof bits);
            printf("%08" PRIx32 "%c", bits, at + 1 < facts.n_outputs ? ' ' : '\n');
        }
    }
    free(batch_scratch);
    free(values);
    free(raw);
    free(scratch);
    free(memory);
    free(rows);
    free(image);
    return 0;
}
