// tl2cgen: entries are overwritten by ranks where thresholds are quantized, so each call needs new ones.
#include "header.h"

int engine_start(void) { return 0; }

int engine_predict(const float *row, float *out) {
    union Entry entries[FEATURES];
    for (int i = 0; i < FEATURES; i++) {
        if (row[i] == row[i])
            entries[i].fvalue = row[i];
        else
            entries[i].missing = -1;
    }
    for (int i = 0; i < OUTPUTS; i++) out[i] = 0;
    predict(entries, 0, out);
    return 0;
}
